"""Notifications on the terminal, and always in logs/notifications.log: with cron nobody looks at a terminal.

The line goes through cli.notice, so that a script with --json keeps its stdout clean.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lib import cli, faults, paths
from lib.errors import AoError

TAIL = 262_144  # bytes at the end of the log in which a notification is looked for after a crash


def send(home: str, notification: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    path = paths.log(home, "notifications.log")
    line = f"{notification.get('at', '')} {sentence(notification)} [{notification.get('id')}]\n"
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode("utf-8", "replace"))  # one write: lines of two processes never mix
        finally:
            os.close(file)
    except OSError as error:
        raise AoError(f"cannot write '{path}': {error.strerror}") from error
    faults.step()
    cli.notice(sentence(notification))
    if notification.get("summary"):
        cli.notice(str(notification["summary"]))


def has(home: str, id: str) -> bool | None:
    try:
        with open(paths.log(home, "notifications.log"), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return f"[{id}]\n".encode() in file.read()
    except FileNotFoundError:
        return False
    except (OSError, AoError):
        return None


def problem(settings: Mapping[str, Any]) -> str:
    return ""


def sentence(notification: Mapping[str, Any]) -> str:
    """`[urgent] shop app-3 (ci_failed): message https://…`, in one line."""
    of = notification.get
    who = " ".join(str(of(key)) for key in ("project_id", "session_id") if of(key))
    status = f"({of('status')})" if of("status") else ""
    head = " ".join(filter(None, (f"[{of('priority')}]", who, status)))
    links = "".join(f" {of(key)}" for key in ("pr_url", "issue_url") if of(key))
    return cli.one_line(f"{head}: {of('message')}{links}")
