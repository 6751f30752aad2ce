"""The turns of a session's life after its spawn: kill, restore, claim, clean up, prune, and what a crash left open.

All of them say what should be, not what should happen: a terminal or worktree that is gone already is success. Each
keeps its intent in the record's `doing` while it is under way, so that `settle` can finish what a dead process began.
What is refused is refused on the newest record under the effect lock: a person may have been faster.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

from lib import (
    config,
    deliver,
    effects,
    launch,
    merge,
    paths,
    plugins,
    projects,
    prompts,
    resume,
    sessions,
    spawn,
    status,
)
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Busy, Unknown

Session = dict[str, Any]
PATIENCE = 30.0  # seconds that a person's command waits for an effect that is under way
BRING_BACK = "bring it back into a worktree of its branch: git restore --source={ref} -- ."


def kill(home: str, session: Session, clock: Clock) -> Session:
    """End the agent and record that a person ended it; worktree and record stay."""
    if is_archived(home, session):
        return session
    with _doing(home, session, "kill", clock) as record:
        return _end(home, record, clock)[0]


def clean_up(home: str, project: Project, session: Session, prune_too: bool, clock: Clock) -> Session:
    """End the agent of a merged session, as `lifecycle.on_merge` wants it."""
    with _doing(home, session, "cleanup", clock, _check_over, prune=prune_too) as record:
        return _end(home, record, clock, project)[0]


def prune(
    home: str, project: Project, session: Session, clock: Clock, archive_too: bool = False
) -> tuple[int, str | None]:
    """Remove the worktree of a terminal session; returns the bytes freed and the ref under which work was saved.

    With `archive_too` its record moves to the archive, where it is still found by its id.
    """
    if is_archived(home, session):
        return 0, None
    with _doing(home, session, "prune", clock, check_prunable, prune=True) as record:
        record, freed, ref = _end(home, record, clock, project)
        if archive_too:
            with effects.effect("archive.record"):
                launch.forget(home, record)
                sessions.archive(home, record)
        return freed, ref


def check_prunable(session: Session) -> None:
    """Raise AoError for a session whose worktree is still needed."""
    if session["status"] not in status.TERMINAL:
        why = f"it is {session['status']}; end it first: ao-kill {session['id']}"
        raise AoError(f"cannot prune '{session['id']}': {why}")


def restore(home: str, project: Project, session: Session, clock: Clock, workspace: str | None = None) -> Session:
    """Start the agent again: in its conversation where it can resume that, else with its task.

    One that runs in that workspace stays as it is.
    """
    runs = session["runtime_handle"] in plugins.load("runtime", session["runtime"]).look(home)
    is_there = workspace is None or os.path.realpath(workspace) == session["workspace_path"]
    if runs and is_there and not session.get("doing"):
        return session
    with _doing(home, session, "restore", clock, _check_restorable) as record:
        return resume.start_again(home, project, record, workspace, clock)


def claim(home: str, project: Project, session: Session, number: int, clock: Clock) -> Session:
    """Let a session go on with an open pull request: its branch is checked out in the worktree, its agent is told."""
    spawn.claimable(home, project, number, session["id"])
    with _doing(home, session, "claim", clock, _check_claiming, number=number) as record:
        return _take_over(home, project, record, clock)


def lost(home: str) -> list[Session]:
    """The sessions that went with their terminals, as in a reboot: an agent that ends by itself has an exit code.

    Nobody needs to have looked since: where not one terminal is left, none that ran then does.
    """

    @functools.cache
    def is_empty(runtime: str) -> bool:
        try:
            return not plugins.load("runtime", runtime).look(home)
        except Unknown:
            return False

    def is_gone(one: Session) -> bool:
        was_alive = one["runtime_state"] == "alive" and launch.ended(home, one) is None
        return one["runtime_state"] == "gone" or (was_alive and is_empty(one["runtime"]))

    return [one for one in sessions.everything(home).records if not status.is_over(one) and is_gone(one)]


@contextlib.contextmanager
def hold(home: str, session: Session, clock: Clock) -> Iterator[Session]:
    """Hold a session's effect lock; yields its newest record, with what a dead process left open settled."""
    with effects.hold(home, session, PATIENCE):
        record = sessions.find(home, session["id"])
        if record.get("doing"):
            _settle(home, projects.Settings().project(record), record, clock)
        yield sessions.find(home, session["id"])


def settle(home: str, project: Project, session: Session, clock: Clock) -> None:
    """Finish or undo an effect whose process died: its intent is there and its lock is free."""
    with effects.hold(home, session):
        _settle(home, project, sessions.find(home, session["id"]), clock)


def undo_dead_spawns(home: str, project: Project, clock: Clock) -> None:
    """Undo what killed processes left half spawned, so that it stands in nobody's way."""
    for session in sessions.everything(home, project.id).records:
        if status.is_doing(session, "spawn"):
            with contextlib.suppress(Busy, sessions.Vanished):
                settle(home, project, session, clock)


def is_archived(home: str, session: Session) -> bool:
    return not os.path.exists(paths.session(home, session["project_id"], session["id"]))


def _settle(home: str, project: Project, record: Session, clock: Clock) -> None:
    effect = (record.get("doing") or {}).get("effect")
    if effect == "spawn":
        _settle_spawn(home, project, record, clock)
    elif effect in ("kill", "cleanup", "prune"):
        _end(home, record, clock, project)
    elif effect == "merge":
        merge.settle(home, project, record, clock)
    elif effect == "claim":
        try:
            _take_over(home, project, record, clock)
        except AoError as error:  # it was merged or closed meanwhile, or the worktree has changes now
            if isinstance(error, Unknown):
                raise
            _withdraw(home, record, clock)
    elif effect:  # restore: the next look tells how far it came, and a person can ask for it again
        _withdraw(home, record, clock)


def _settle_spawn(home: str, project: Project, record: Session, clock: Clock) -> None:
    runtime = plugins.load("runtime", record["runtime"])
    if record["runtime_handle"] in runtime.look(home):
        sessions.update(home, record, lambda fresh: fresh.update(doing=None), clock)
        return
    has_run = os.path.exists(paths.launch(home, project.id, record["id"]))  # and ended before anybody looked
    ref = _save_work(home, project, record, record["workspace_path"]) if has_run else None
    spawn.roll_back(home, project, record)
    error = "its spawn was interrupted and has been undone" + (f"; what was there is saved as {ref}" if ref else "")

    def change(fresh: Session) -> None:
        _stopped(fresh, clock)
        fresh.update(outcome="errored", error=error, runtime_state="gone")

    sessions.update(home, record, change, clock)


@contextlib.contextmanager
def _doing(
    home: str,
    session: Session,
    effect: str,
    clock: Clock,
    check: Callable[[Session], None] = lambda session: None,
    **more: Any,
) -> Iterator[Session]:
    """Hold the session's effect lock with the intent in its record; yields the newest record.

    A failure takes the intent back. Where it is unknown how far it came the intent stays, and is settled later.
    """

    def intend(fresh: Session) -> None:
        check(fresh)
        fresh["doing"] = {"effect": effect, "at": clock.iso, "had_pr": fresh["claimed_pr_number"], **more}

    check(session)  # nobody waits to be refused
    with hold(home, session, clock) as before:
        try:
            yield sessions.update(home, before, intend, clock)
        except Unknown:
            raise
        except AoError:
            with contextlib.suppress(sessions.Vanished):
                _withdraw(home, before, clock)
            raise


def _withdraw(home: str, record: Session, clock: Clock) -> None:
    """Take the intent back."""
    sessions.update(home, record, lambda fresh: fresh.update(doing=None), clock)


def _end(home: str, record: Session, clock: Clock, project: Project | None = None) -> tuple[Session, int, str | None]:
    """Carry out what `doing` says: end the agent, remove the worktree if it says so. Also (bytes freed, backup)."""
    doing, freed, ref = record["doing"], 0, None
    with effects.effect("kill.pane"):
        plugins.load("runtime", record["runtime"]).stop(home, record["runtime_handle"])
    if doing.get("prune") and project:
        freed, ref = _remove_workspace(home, project, record)

    def change(fresh: Session) -> list[dict[str, Any]]:
        _stopped(fresh, clock)
        if doing["effect"] == "kill" and not status.is_merged(fresh) and fresh["outcome"] in (None, "errored"):
            fresh["outcome"] = "killed"
        if doing.get("prune"):
            fresh["pruned_at"] = clock.iso
        if ref:
            fresh["backup_ref"] = ref
        return [{"type": "work_saved", "ref": ref}] if ref else []

    return sessions.update(home, record, change, clock), freed, ref


def _stopped(record: Session, clock: Clock) -> None:
    record["doing"] = None
    if record["runtime_state"] not in status.ENDED:
        record.update(runtime_state="exited", ended_at=clock.iso)
    if record["activity"] != "exited":
        record.update(activity="exited", activity_since=clock.iso, activity_source="ao")
    for message in record["inbox"]:
        if message["state"] not in sessions.FINAL:
            message.update(state="failed", waiting_for="the session has ended")


def _remove_workspace(home: str, project: Project, record: Session) -> tuple[int, str | None]:
    """Save what would be lost and remove the worktree; (bytes freed, the ref that keeps the work).

    A folder of their own that somebody restored the session in stays as it is.
    """
    workspace, path = plugins.load("workspace", record["workspace"]), paths.worktree(home, project.id, record["id"])
    ref = _save_work(home, project, record, path)
    with effects.effect("prune.worktree"):
        freed = workspace.remove(home, project, path)
    if status.is_merged(record):
        scm, pull = plugins.load("scm", config.setting(project, "scm")), record["pr"]
        from_fork = bool(pull.get("from_fork"))  # then it may have another name here
        branch = record["branch"] if from_fork else pull["branch"]
        scm.delete_branch(home, project, branch, pull["head_sha"], from_fork)
    return freed, ref


def _save_work(home: str, project: Project, record: Session, path: str) -> str | None:
    """Keep what would be lost with the worktree; the ref, named after the intent, None when nothing would be."""
    with effects.effect("backup.ref"):
        workspace, begun = plugins.load("workspace", record["workspace"]), record["doing"]["at"]
        ref: str | None = workspace.backup(home, project, record["id"], path, begun)
    return ref


def _check_over(session: Session) -> None:
    if not status.is_over(session):
        raise Busy(f"cannot clean up '{session['id']}': a person has restored it")


def _take_over(home: str, project: Project, record: Session, clock: Clock) -> Session:
    """Carry out what `doing` says: the branch into the worktree, the pull request to the session, word to its agent."""
    number, is_new = record["doing"]["number"], record["doing"]["had_pr"] != record["doing"]["number"]
    pull = spawn.claimable(home, project, number, record["id"])
    fields = {"branch": pull["branch"], "base_branch": pull["base_branch"], "pr": None, "merge_failure": None}
    fields |= {"claimed_pr_number": number, "claimed_pr_url": pull["url"], "doing": None}
    fields["base_sha"] = spawn.fork_point(project, pull)
    rules = projects.rules(home, project, clock)
    with effects.effect("claim.branch"):
        workspace = plugins.load("workspace", record["workspace"])
        workspace.switch(home, project, record["workspace_path"], pull["branch"])
    with effects.effect("claim.pull"):
        pull = plugins.load("scm", config.setting(project, "scm")).take_over(home, project, record, number)
    told = [deliver.message(prompts.claimed(project, {**record, **fields}, pull), "ao", clock)] if is_new else []

    def change(fresh: Session) -> None:
        fresh.update(fields, inbox=fresh["inbox"] + told)
        merge.take_in(fresh, rules, pull, clock)  # what was open about another is over, and is not said any more

    return sessions.update(home, record, change, clock)


def _check_restorable(session: Session) -> None:
    if session["status"] in status.TERMINAL - status.RESTORABLE:
        raise AoError(f"cannot restore '{session['id']}': its pull request is merged; see: ao-spawn --help")


def _check_claiming(session: Session) -> None:
    if session["status"] in status.TERMINAL:
        why = f"it is {session['status']}; see: ao-restore {session['id']}"
        raise AoError(f"cannot take over a pull request with '{session['id']}': {why}")
