"""Tell a person: which notifiers hear of what, and what became of it.

A priority that routes nowhere falls back to `defaults.notifiers` and then to stdout, never to nobody. One notifier
that fails does not keep the others from being asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib import config, deliver, effects, events, plugins
from lib.clock import Clock
from lib.errors import AoError

Notification = dict[str, Any]


def notification(
    key: str, priority: str, message: str, clock: Clock, project_id: str, session: Mapping[str, Any] | None = None
) -> Notification:
    """What a person is told about a session, or about a whole project."""
    facts = session or {}
    pr = facts.get("pr") or {}
    return {
        "id": "n" + deliver.new_id()[1:],
        "at": clock.iso,
        "priority": priority,
        "project_id": project_id,
        "session_id": facts.get("id"),
        "reaction_key": key,
        "status": facts.get("status"),
        "message": message,
        "pr_url": pr.get("url") or facts.get("claimed_pr_url"),
        "issue_url": facts.get("issue_url"),
        "summary": None,
    }


def event(told: Notification, action: str) -> dict[str, Any]:
    """The event that says so in the log and to the pages."""
    names = ("id", "reaction_key", "message", "priority")
    return {"type": "ui_notification", "notification": {**{name: told[name] for name in names}, "action": action}}


def route(file: config.Config | None, priority: str) -> list[str]:
    """The notifiers for a priority."""
    if file is None:
        return ["stdout"]
    routing: list[str] | None = config.setting(file, "notification_routing").get(priority)
    return routing or config.setting(file, "defaults.notifiers") or ["stdout"]


def was_sent(home: str, file: config.Config | None, id: str, priority: str) -> bool:
    """Whether some notifier is known to have delivered it: asked after a crash, so that a person hears of it once."""
    return any(plugins.load("notifier", name).has(home, id) for name in route(file, priority))


def attempt(home: str, file: config.Config | None, told: Notification, clock: Clock) -> str:
    """Hand a notification to its notifiers: "" or why none of them took it. Single failures become events."""
    failed = {}
    names = route(file, told["priority"])
    for name in names:
        settings = (config.setting(file, "notifiers") if file else {}).get(name) or {}
        try:
            with effects.effect("notify.send"):
                plugins.load("notifier", name).send(home, told, settings)
        except AoError as error:
            failed[name] = str(error)
    names_of = {"project_id": told["project_id"], "session_id": told["session_id"], "notification_id": told["id"]}
    lost = [{"type": "notify_failed", "notifier": name, "message": why, **names_of} for name, why in failed.items()]
    events.append(home, clock, lost)
    return "; ".join(f"{name}: {why}" for name, why in failed.items()) if len(failed) == len(names) else ""
