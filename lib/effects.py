"""What ao does to the world: every effect by name, the lock that it runs under, and the points where it can be cut off.

A side effect's intent is saved before it and its result after it. A process that dies in between leaves the intent, and
the kernel frees the lock once the programs that it has started have ended too; whoever finds an intent whose lock is
free asks the world whether the effect happened. While the lock is held, the effect is under way and is left alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from lib import cli, faults, paths, store
from lib.errors import Busy

EFFECTS = {
    "spawn.record": "reserve the id by creating the session's record",
    "spawn.worktree": "make the branch and the worktree",
    "spawn.post-create": "run the project's set-up commands in the worktree",
    "spawn.pane": "start the agent's terminal",
    "spawn.inbox": "finish the spawn of an agent that runs",
    "deliver.paste": "paste a message into the agent's terminal",
    "deliver.enter": "press Enter behind a pasted message",
    "pull.publish": "bring an agent's commits to the forge, and open their pull request",
    "hold.interrupt": "interrupt the turn of an agent whose budget is used up",
    "notify.send": "tell a person through one notifier",
    "merge.merge": "merge a pull request at the forge",
    "ci.start": "start the checks of a pull request in a process of their own",
    "issue.assign": "assign the issue to whoever uses ao",
    "ci.run": "run the checks of a pull request in a scratch checkout",
    "issue.close": "close the issue whose work is merged",
    "kill.pane": "end the agent's terminal",
    "restore.pane": "start the agent's terminal again",
    "claim.branch": "check out the branch of another's pull request",
    "claim.pull": "make that pull request the session's own",
    "backup.ref": "save a worktree's work under refs/ao/backup",
    "prune.worktree": "remove a worktree and its branch",
    "archive.record": "move a record to the archive",
}
_held: dict[str, int] = {}  # the effect locks that this process holds, and the thread that took each


@contextlib.contextmanager
def hold(home: str, session: Mapping[str, Any], patience: float = 0.0) -> Iterator[None]:
    """Hold the effect lock of a session. Raises Busy when an effect on it is under way in another process."""
    path = _lock_path(home, session)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(store.lock(path, patience, lasts=True))
        except Busy as error:
            raise Busy(f"something is being done about '{session['id']}' just now; try again in a moment") from error
        _held[path] = threading.get_ident()
        held.callback(_held.pop, path)
        yield


def finish() -> None:
    """Wait for the effects that threads of this process are still at: ending now would be a kill -9 to them."""
    while _held:
        time.sleep(0.02)


def is_under_way(home: str, session: Mapping[str, Any]) -> bool:
    """Whether a process holds the session's effect lock at this moment."""
    return store.is_held(_lock_path(home, session))


@contextlib.contextmanager
def effect(name: str) -> Iterator[None]:
    """Mark the code that carries out one effect; the same name may mark it at one place only."""
    if name not in EFFECTS:
        raise KeyError(name)
    with faults.around(name):
        yield
        on = [os.path.basename(path) for path, thread in list(_held.items()) if thread == threading.get_ident()]
        cli.log("info", " ".join([name, *on]) + f": {EFFECTS[name]}")


def _lock_path(home: str, session: Mapping[str, Any]) -> str:
    return paths.lock(home, "effect", session["project_id"], session["id"])
