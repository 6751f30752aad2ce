"""Start the agent of a session again: in its conversation where it can resume that, else with its task anew.

Who goes on is told what its conversation lacks; who begins anew is told again what it may not have acted upon.
"""

from __future__ import annotations

import os
from typing import Any

from lib import conditions, config, deliver, effects, facts, git, launch, plugins, prompts, sessions, spawn, status
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError
from lib.rules import KEYS
from lib.tracker import Issue

Session = dict[str, Any]

NEW_LIFE = {  # the facts that belong to one life of the agent, as they are when the next one begins
    "outcome": None,
    "error": None,
    "exit_code": None,
    "ended_at": None,
    "is_lost": None,
    "runtime_state": "starting",
    "missed_looks": None,
    "activity": None,
    "activity_since": None,
    "activity_source": None,
    "report": None,
    "screen": None,
    "question": None,
    "pruned_at": None,
}


def start_again(home: str, project: Project, record: Session, workspace: str | None, clock: Clock) -> Session:
    """Carry out a restore whose intent is saved; the session's record with its agent started.

    AoError when its agent runs, or its worktree cannot be had back.
    """
    if record["runtime_handle"] in plugins.load("runtime", record["runtime"]).look(home):
        raise AoError(f"cannot restore '{record['id']}': its agent runs; see: ao-attach {record['id']}")
    record["workspace_path"] = _workspace_for(home, project, record, workspace)
    agent = plugins.load("agent", record["agent"])
    resumed = agent.resume(project, record)
    text = None if resumed else _what_it_knew(home, project, record)
    messages = spawn.equip(home, project, record, resumed, text, clock)
    has = agent.received(project, record, _typed(record), None) if resumed else {}
    if resumed and (record.get("story") or {}).get("state") == "active" and False not in has.values():
        messages = [deliver.message(facts.GO_ON["restore"], "ao", clock)]

    def begin(fresh: Session) -> list[dict[str, Any]]:
        """A task that an earlier life was not given any more would be one too many, and is no lost message."""
        missed = [one for one in fresh["inbox"] if text and one["from"] == "ao" and one["state"] != "confirmed"]
        for one in fresh["inbox"]:
            if has.get(one["id"]) is not None:
                one.update(state="confirmed" if has[one["id"]] else "queued", waiting_for=None)
        fresh["inbox"] = messages + [one for one in fresh["inbox"] if one not in missed]
        if text:
            conditions.forget_told(fresh)
        fresh.update(NEW_LIFE, workspace_path=record["workspace_path"], restored_at=clock.iso)
        fresh["agent_config"] = record["agent_config"]
        return [{"type": "session_restored", "status": "spawning"}]

    sessions.update(home, record, begin, clock)
    with effects.effect("restore.pane"):
        launch.start(home, record)
    return sessions.update(home, record, lambda fresh: fresh.update(doing=None), clock)


def _typed(record: Session) -> list[str]:
    """The messages that its agent had, or may have had, when it ended."""
    return [one["id"] for one in record["inbox"] if one["state"] not in ("queued", "failed") and not one["answer"]]


def _workspace_for(home: str, project: Project, record: Session, given: str | None) -> str:
    if given:
        path = os.path.realpath(given)
        if not os.path.isdir(path) or git.common_dir(path) != git.common_dir(project.path):
            raise AoError(f"cannot work in '{given}': it is not a worktree of '{project.path}'")
        return path
    path = str(record["workspace_path"])
    if os.path.isdir(path):
        return path
    workspace, id, branch = plugins.load("workspace", record["workspace"]), record["id"], record["branch"]
    if record["outcome"] == "errored" and git.commit(project.path, git.HEADS + branch) is None:
        path = str(workspace.create(home, project, id, branch, record["base_sha"]))  # its spawn was undone
    else:
        path = str(workspace.reopen(home, project, id, branch))
    spawn.furnish(home, project, {**record, "workspace_path": path})
    return path


def _what_it_knew(home: str, project: Project, record: Session) -> str:
    """For an agent that cannot resume: its task again, with what it was told and has perhaps not acted upon."""
    issue = _issue(home, project, record) if record["issue_id"] else None
    parts = [prompts.task(project, record, issue, prompts.rules(project), spawn.open_pr(project, record))]
    if status.has_open_pr(record):
        parts.append(prompts.claimed(project, record, record["pr"]))
    parts.append("You have worked on this before; look at git log and git status first.")
    open_ones = {condition["intent"]["id"] for condition in record["conditions"].values() if condition.get("intent")}
    for message in record["inbox"]:
        is_open = message["id"] in open_ones or message["from"] not in ("ao", *KEYS)
        if is_open and message["state"] in ("confirmed", "unconfirmed") and not message["answer"]:
            parts.append(message["text"])
    return "\n\n".join(parts)


def _issue(home: str, project: Project, record: Session) -> Issue:
    """The issue as it is now; what the record knows of it when its tracker does not have it or cannot tell."""
    try:
        found: Issue = plugins.load("tracker", config.setting(project, "tracker")).get(
            home, project, record["issue_id"]
        )
        return found
    except AoError:
        return Issue(record["issue_id"], record["issue_title"] or "", "", record["issue_url"] or "", "open", [])
