"""Notifiers: how a person hears of something. A notifier is a module with the functions of `Notifier`.

A notification is a mapping `{id, at, priority, session_id, project_id, reaction_key, status, message, pr_url,
issue_url, summary}`; summary is a table for a person, or null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Notification = Mapping[str, Any]


class Notifier(Protocol):
    # Deliver one notification; raises AoError or Unknown when it did not arrive. settings are `notifiers.<name>`.
    def send(self, home: str, notification: Notification, settings: Mapping[str, Any]) -> None: ...

    # Whether the notification with this id was delivered; None when that cannot be known.
    def has(self, home: str, id: str) -> bool | None: ...

    # What is missing from the settings, "" when nothing is.
    def problem(self, settings: Mapping[str, Any]) -> str: ...
