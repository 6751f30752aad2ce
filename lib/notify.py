"""Tell a person: which notifiers hear of what, and what became of it.

A priority that routes nowhere falls back to `defaults.notifiers` and then to stdout, never to nobody. One notifier
that fails or hangs does not keep the others from being asked.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lib import config, effects, events, plugins, threads
from lib.clock import Clock
from lib.errors import reason
from lib.rules import digest

Notification = dict[str, Any]

PATIENCE = 10.0  # seconds that one notifier has for all that it is to tell in a round


def notification(
    key: str,
    priority: str,
    message: str,
    clock: Clock,
    project_id: str,
    session: Mapping[str, Any] | None = None,
    news: Sequence[str] = (),
) -> Notification:
    """What a person is told about a session, or about a whole project.

    `news` tells this news from all others. When it is not known whether it arrived it comes again, under the same id,
    by which a notifier knows what it has sent.
    """
    facts = session or {}
    pr = facts.get("pr") or {}
    return {
        "id": "n-" + digest(project_id, str(facts.get("id")), key, *news),
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


def route(file: config.Config, priority: str) -> list[str]:
    """The notifiers for a priority."""
    routing: list[str] | None = config.setting(file, "notification_routing").get(priority)
    return routing or config.setting(file, "defaults.notifiers") or ["stdout"]


def send(home: str, waiting: Sequence[tuple[config.Config, Notification]], clock: Clock) -> dict[str, str]:
    """Hand notifications to their notifiers: by id "", or why none of them took it. Single failures become events.

    The notifiers work side by side, each through its own queue. After a crash the same notification comes again; a
    notifier that can tell that it has it does not send it again.
    """
    queues: dict[str, dict[str, tuple[config.Config, Notification]]] = {}
    for file, told in waiting:
        for name in route(file, told["priority"]):
            queues.setdefault(name, {})[told["id"]] = (file, told)
    failed = {name: dict.fromkeys(queue, f"no answer within {PATIENCE:g} s") for name, queue in queues.items()}
    end = time.monotonic() + PATIENCE
    jobs = {name: functools.partial(_work, home, name, queues[name], failed[name], end) for name in queues}
    threads.each(jobs, PATIENCE)
    lost: list[dict[str, Any]] = []
    answers: dict[str, str] = {}
    for file, told in waiting:
        names = route(file, told["priority"])
        why = {name: failed[name][told["id"]] for name in names if told["id"] in failed[name]}
        about = {"project_id": told["project_id"], "session_id": told["session_id"], "notification_id": told["id"]}
        lost += [{"type": "notify_failed", "notifier": name, "message": text, **about} for name, text in why.items()]
        answers[told["id"]] = "; ".join(f"{name}: {text}" for name, text in why.items()) * (len(why) == len(names))
    events.append(home, clock, lost)
    return answers


def _work(
    home: str, name: str, queue: Mapping[str, tuple[config.Config, Notification]], failed: dict[str, str], end: float
) -> None:
    """Send a notifier's queue until its time is up; what was sent leaves `failed`."""
    for id, (file, told) in queue.items():
        if time.monotonic() >= end:
            return  # nobody waits for it any more: it is tried again later
        try:
            notifier = plugins.load("notifier", name)
            if not notifier.has(home, id):
                with effects.effect("notify.send"):
                    notifier.send(home, told, config.setting(file, "notifiers").get(name) or {})
            del failed[id]
        except Exception as error:
            failed[id] = reason(error)
