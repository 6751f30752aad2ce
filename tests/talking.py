"""A project, session records and looks for the tests of what is said to agents and people."""

from __future__ import annotations

import json
import os
from typing import Any

from lib import conditions, config, deliver, events, fleet, observe, projects, react, sessions
from lib.clock import Clock
from lib.config import Project
from lib.runtime import tmux

START = 1_700_000_000.0
SCRIPTED = {"command": ["agent"], "ready": "^> $", "busy": r"^\* working", "question": r"\(y/n\) ?\Z"}


def clock(seconds: float = 0.0) -> Clock:
    return Clock(START + seconds)


def configure(
    home: str, agent: dict[str, Any] | None = None, top: dict[str, Any] | None = None, **keys: Any
) -> Project:
    """Write the ao.yaml of the tests and return its project `shop`."""
    repository = os.path.join(home, "repo")
    os.makedirs(repository, exist_ok=True)
    project = {"path": repository, "agent_config": agent or SCRIPTED, **keys}
    path = os.path.join(home, "ao.yaml")
    with open(path, "w") as file:
        json.dump({**(top or {}), "projects": {"shop": project}}, file)
    return config.load(path).projects["shop"]


def record(home: str, id: str = "shop-1", **fields: Any) -> dict[str, Any]:
    """A session's record as spawn leaves it, its agent alive and at its prompt."""
    new = sessions.blank(id, "shop", clock())
    names = {"agent": "command", "runtime": "tmux", "workspace": "worktree", "workspace_path": home, "task": "x"}
    life = {"runtime_state": "alive", "activity": "ready", "activity_since": clock().iso}
    new.update({**names, **life, "config_path": os.path.join(home, "ao.yaml"), **fields})
    assert sessions.create(home, new, clock())
    return new


def pull(**fields: Any) -> dict[str, Any]:
    """A pull request as the local forge shows one: green, nobody asked, clean."""
    head = "a" * 40
    return {
        "number": 7, "url": "file:///7", "title": "t", "owner": "", "repo": "shop", "branch": "feat/x",
        "base_branch": "main", "base_sha": "b" * 40, "head_sha": head, "is_draft": False, "state": "open",
        "from_fork": False, "ci_status": "passing", "ci_checks": [_check("test", "passed")], "failing_checks": 0,
        "failing_check_names": [], "review_decision": "pending", "approved_by": [], "mergeable": True,
        "additions": 1, "deletions": 0, "threads": [], "bot_threads": [], "head_seen_at": clock(-600).iso,
        "observed_at": clock().iso, "blockers": ["nobody has approved it"], **fields,
    }  # fmt: skip


def red(head: str = "a" * 40, **fields: Any) -> dict[str, Any]:
    failed = {"ci_status": "failing", "ci_checks": [_check("test", "failed")], "failing_check_names": ["test"]}
    return pull(head_sha=head, red_since=clock(-600).iso, **failed, **fields)


def _check(name: str, status: str) -> dict[str, str]:
    return {"name": name, "status": status, "url": "", "conclusion": ""}


def queue(home: str, session: dict[str, Any], text: str, answer: bool = False) -> str:
    """Put a person's message into the inbox; its id."""
    message = deliver.message(text, "person", clock(), answer)
    sessions.update(home, session, lambda fresh: fresh["inbox"].append(message), clock())
    return str(message["id"])


def deliver_once(home: str, project: Project, seconds: float = 0.0, panes: Any = None, id: str = "shop-1") -> None:
    """One step for the session's open message, as ao-react takes it."""
    panes = tmux.look(home) if panes is None else panes
    deliver.advance(home, project, sessions.find(home, id), panes, clock(seconds))


def inbox(home: str, id: str = "shop-1") -> list[tuple[str, str | None]]:
    return [(one["state"], one.get("waiting_for")) for one in sessions.find(home, id)["inbox"]]


def look(home: str, seconds: float = 0.0) -> list[dict[str, Any]]:
    return observe.run(home, clock(seconds))


def logged_events(home: str, *types: str) -> list[dict[str, Any]]:
    return [event for event in events.read(home) if not types or event["type"] in types]


def change(home: str, id: str = "shop-1", seconds: float = 0.0, **facts: Any) -> dict[str, Any]:
    """Record facts as a look does, with all that follows from them."""
    session = sessions.find(home, id)
    rules = projects.rules(home, projects.Settings().project(session), clock(seconds))

    def fold(fresh: dict[str, Any]) -> None:
        fresh.update(facts)
        conditions.evaluate(fresh, rules, clock(seconds))

    return sessions.update(home, session, fold, clock(seconds))


def confirm(home: str, id: str = "shop-1", seconds: float = 0.0, state: str = "confirmed") -> None:
    """Let the agent have everything that is in its inbox, or lose it."""
    inbox = [{**one, "state": state} for one in sessions.find(home, id)["inbox"] if one["state"] != "confirmed"]
    change(home, id, seconds, inbox=inbox)


def act(home: str, seconds: float = 0.0) -> list[str]:
    """One round of acting: what was done, as `shop-1 ci-failed send-to-agent`."""
    done = react.run(home, clock(seconds)) + fleet.tell(home, clock(seconds))
    words = [(one["session_id"], one.get("reaction_key"), one.get("action"), one.get("error")) for one in done]
    return [" ".join(word for word in line if word) for line in words]


def told(home: str) -> list[str]:
    """What people were told, a line each."""
    path = os.path.join(home, "logs", "notifications.log")
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.read().splitlines()
