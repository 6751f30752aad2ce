"""The turns of a session's life after its spawn: kill, restore, clean up, prune, archive, and what a crash left open.

All of them say what should be, not what should happen: a terminal or worktree that is gone already is success. Each
keeps its intent in the record's `doing` while it is under way, so that `settle` can finish what a dead process began.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from lib import config, deliver, effects, git, launch, merge, paths, plugins, prompts, sessions, spawn, status, store
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Unknown
from lib.tracker import Issue

Session = dict[str, Any]
PATIENCE = 30.0  # seconds that a person's command waits for an effect that is under way


def kill(home: str, session: Session, clock: Clock) -> Session:
    """End the agent and record that a person ended it; worktree and record stay."""
    with _doing(home, session, "kill", clock) as record:
        _stop(home, record)
        return sessions.update(home, record, lambda fresh: _killed(fresh, clock), clock)


def clean_up(home: str, project: Project, session: Session, prune_too: bool, clock: Clock) -> Session:
    """End the agent of a merged session, as `lifecycle.on_merge` wants it."""
    with _doing(home, session, "cleanup", clock) as record:
        _stop(home, record)
        if prune_too:
            _remove_workspace(home, project, record, clock)
        return sessions.update(home, record, lambda fresh: _stopped(fresh, clock), clock)


def restore(home: str, project: Project, session: Session, clock: Clock, workspace: str | None = None) -> Session:
    """Start the agent again: in its conversation where it can resume that, else with its task."""
    if session["status"] not in status.RESTORABLE and not status.has_ended(session):
        raise AoError(
            f"cannot restore '{session['id']}': it is {session['status']}; see: ao-status --why {session['id']}"
        )
    with _doing(home, session, "restore", clock) as record:
        try:
            return _start_again(home, project, record, workspace, clock)
        except BaseException:
            sessions.update(home, record, lambda fresh: fresh.update(doing=None), clock)
            raise


def prune(home: str, project: Project, session: Session, clock: Clock) -> tuple[int, str | None]:
    """Remove the worktree of a terminal session; returns the bytes freed and the ref under which work was saved."""
    if session["status"] not in status.TERMINAL:
        raise AoError(
            f"cannot prune '{session['id']}': it is {session['status']}; end it first: ao-kill {session['id']}"
        )
    with _doing(home, session, "prune", clock) as record:
        _stop(home, record)
        freed, ref = _remove_workspace(home, project, record, clock)
        sessions.update(home, record, lambda fresh: _stopped(fresh, clock), clock)
        return freed, ref


def archive(home: str, session: Session) -> None:
    """Move the record of a session to the archive, where it is still found by its id."""
    source = paths.session(home, session["project_id"], session["id"])
    target = paths.archived(home, session["project_id"], session["id"])
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    with store.lock(source), effects.effect("archive.record"):
        if os.path.exists(source):
            os.replace(source, target)


def settle(home: str, project: Project, session: Session, clock: Clock) -> None:
    """Finish or undo an effect whose process died: its intent is there and its lock is free."""
    with effects.hold(home, session):
        record = sessions.find(home, session["id"])
        effect = (record.get("doing") or {}).get("effect")
        if effect == "spawn":
            _settle_spawn(home, project, record, clock)
        elif effect in ("kill", "cleanup", "prune"):
            _stop(home, record)
            if effect == "prune":
                _remove_workspace(home, project, record, clock)
            finish = _killed if effect == "kill" else _stopped
            sessions.update(home, record, lambda fresh: finish(fresh, clock), clock)
        elif effect == "merge":
            merge.settle(home, project, record, clock)
        elif effect == "restore":  # the next look tells whether the agent was started
            sessions.update(home, record, lambda fresh: fresh.update(doing=None), clock)


def _settle_spawn(home: str, project: Project, record: Session, clock: Clock) -> None:
    runtime = plugins.load("runtime", record["runtime"])
    if record["runtime_handle"] in runtime.look(home):
        sessions.update(home, record, spawn.adopt, clock)
        return
    spawn.roll_back(home, project, record)
    error = "its spawn was interrupted and has been undone"
    fields: Session = {"doing": None, "outcome": "errored", "error": error, "runtime_state": "gone", "inbox": []}
    sessions.update(home, record, lambda fresh: fresh.update(fields), clock)


@contextlib.contextmanager
def _doing(home: str, session: Session, effect: str, clock: Clock) -> Iterator[Session]:
    """Hold the session's effect lock with the intent in its record; yields the newest record."""

    def intend(record: Session) -> None:
        if (record.get("doing") or {}).get("effect") == "spawn":
            raise AoError(f"cannot {effect} '{record['id']}': its spawn was interrupted; run: ao-tick")
        record["doing"] = {"effect": effect, "at": clock.iso}

    with effects.hold(home, session, PATIENCE):
        yield sessions.update(home, session, intend, clock)


def _stop(home: str, record: Session) -> None:
    with effects.effect("kill.pane"):
        plugins.load("runtime", record["runtime"]).stop(home, record["runtime_handle"])


def _killed(record: Session, clock: Clock) -> None:
    _stopped(record, clock)
    if not status.is_merged(record):
        record["outcome"] = "killed"


def _stopped(record: Session, clock: Clock) -> None:
    record["doing"] = None
    if record["runtime_state"] not in status.ENDED:
        record.update(runtime_state="exited", ended_at=clock.iso)
    if record["activity"] != "exited":
        record.update(activity="exited", activity_since=clock.iso, activity_source="ao")
    for message in record["inbox"]:
        if message["state"] not in sessions.FINAL:
            message.update(state="failed", waiting_for="the session has ended")


def _remove_workspace(home: str, project: Project, record: Session, clock: Clock) -> tuple[int, str | None]:
    """Save what would be lost, remove the worktree, and the branch too once it is merged."""
    workspace, path = plugins.load("workspace", record["workspace"]), record["workspace_path"]
    ref = None
    if workspace.state(home, project, path).exists:
        with effects.effect("backup.ref"):
            ref = workspace.backup(home, project, record["id"], path, clock.iso)
    with effects.effect("prune.worktree"):
        freed = workspace.remove(home, project, path)
    if status.is_merged(record):
        pull = record["pr"]
        scm = plugins.load("scm", config.setting(project, "scm"))
        scm.delete_branch(home, project, pull["branch"], pull["head_sha"])
    return freed, ref


def _start_again(home: str, project: Project, record: Session, workspace: str | None, clock: Clock) -> Session:
    path = _workspace_for(home, project, record, workspace)
    agent = plugins.load("agent", record["agent"])
    runtime = plugins.load("runtime", record["runtime"])
    if record["runtime_handle"] in runtime.look(home):
        raise AoError(f"cannot restore '{record['id']}': its terminal is still there; see: ao-attach {record['id']}")
    record["workspace_path"] = path
    agent.prepare(project, record)
    found = agent.resume(project, record)
    prompt = None if found else _what_it_knew(home, project, record)
    found = found or agent.launch(project, record, prompt)
    launch.prepare(home, project, record, found)

    def begin(fresh: Session) -> list[dict[str, Any]]:
        if prompt and not found.has_prompt:
            fresh["inbox"].insert(0, deliver.message(prompt, "ao", clock))
        fresh.update(_blank_life(fresh), workspace_path=path)
        return [{"type": "session_restored", "status": "spawning"}]

    sessions.update(home, record, begin, clock)
    with effects.effect("restore.pane"):
        launch.start(home, record)
    return sessions.update(home, record, lambda fresh: fresh.update(doing=None), clock)


def _blank_life(record: Session) -> dict[str, Any]:
    return {
        "outcome": None,
        "error": None,
        "exit_code": None,
        "ended_at": None,
        "runtime_state": "starting",
        "missed_looks": None,
        "activity": None,
        "activity_since": None,
        "activity_source": None,
        "report": None,
        "screen": None,
    }


def _workspace_for(home: str, project: Project, record: Session, given: str | None) -> str:
    if given:
        path = os.path.realpath(given)
        if not os.path.isdir(path) or git.common_dir(path) != git.common_dir(project.path):
            raise AoError(f"cannot work in '{given}': it is not a worktree of '{project.path}'")
        return path
    path = str(record["workspace_path"])
    if not os.path.isdir(path):
        workspace = plugins.load("workspace", record["workspace"])
        return str(workspace.reopen(home, project, record["id"], record["branch"]))
    return path


def _what_it_knew(home: str, project: Project, record: Session) -> str:
    """For an agent that cannot resume: its task again, with what it was told and has not acted upon."""
    issue = _issue(home, project, record)
    text = prompts.task(project, record, issue, prompts.rules(project), spawn.OPEN_PR)
    told = {condition["intent"]["id"] for condition in record["conditions"].values() if condition.get("intent")}
    open_ones = [message["text"] for message in record["inbox"] if message["id"] in told]
    return "\n\n".join([text, "You have worked on this before; look at git log and git status first.", *open_ones])


def _issue(home: str, project: Project, record: Session) -> Issue | None:
    if not record.get("issue_id"):
        return None
    try:
        found: Issue = plugins.load("tracker", config.setting(project, "tracker")).get(
            home, project, record["issue_id"]
        )
        return found
    except Unknown:
        return Issue(record["issue_id"], record["issue_title"] or "", "", record["issue_url"] or "", "open", [])
