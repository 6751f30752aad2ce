"""Large fleets for tests and measurements: real records, worktrees and pull requests, and a tmux that only answers.

A thousand real agents need minutes to start. Everything here looks to ao as if they were at work and nothing changed.
"""

from __future__ import annotations

import glob
import json
import os
import re
import sys
import time
from typing import Any, NamedTuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import forging

from lib import clock, paths, sessions, store

ANSWERS = """#!/bin/sh
echo "$*" >> {calls}
case " $* " in
*" list-panes "*) cat {panes} ;;
*) printf '0 50 1\\nat work\\n\\n' ;;
esac
"""
QUIET_FOR = 3600.0  # seconds since anything was printed


class Fleet(NamedTuple):
    home: str
    path: str  # with the tmux that only answers in front
    calls: str  # the file that it notes its calls in

    def tmux_calls(self) -> list[str]:
        """The calls of tmux since the last time."""
        if not os.path.exists(self.calls):
            return []
        with open(self.calls) as file:
            found = file.read().splitlines()
        os.unlink(self.calls)
        return found


def make(folder: str, count: int) -> Fleet:
    """A fleet of `count` live sessions in an empty folder: every other one has a pull request that waits for review."""
    world = forging.make(folder, ci=[{"name": "test", "run": "true"}])
    base = forging.git(world.repo, "rev-parse", "HEAD")
    head = forging.commit(world.repo, "b.txt", "new\n")
    forging.git(world.repo, "reset", "--quiet", "--hard", base)
    now, ids = clock.Clock(time.time() - QUIET_FOR), [f"shop-{number}" for number in range(1, count + 1)]
    _branches(world.repo, {f"feat/{id}": head if _has_pull(id) else base for id in ids})
    for id in ids:
        _write(paths.session(world.home, "shop", id), _record(world, id, base, now))
        if _has_pull(id):
            _pull(world.home, id, base, head, now)
    return _tmux(folder, world.home, ids)


def tell(fleet: Fleet, folder: str, size: int) -> None:
    """Make Claude Code the agent of them all, each with a transcript of `size` bytes, of which most is a gap."""
    for record in sessions.everything(fleet.home).records:
        record.update(agent="claude-code", agent_config={"records": folder})
        _write(paths.session(fleet.home, "shop", record["id"]), record)
        path = transcript(folder, record["workspace_path"])
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.truncate(size)
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


def transcript(folder: str, worktree: str) -> str:
    return os.path.join(folder, "projects", re.sub("[^a-zA-Z0-9]", "-", worktree), "a.jsonl")


def grow(folder: str, turn: int) -> None:
    """Add a message of 2 kB to each transcript."""
    at = clock.iso(time.time())
    message = {"id": f"msg-{turn}", "model": "claude-sonnet-4-5", "role": "assistant", "stop_reason": "tool_use"}
    message |= {"usage": {"input_tokens": 10, "output_tokens": 20}, "content": [{"type": "text", "text": "x" * 1800}]}
    line = json.dumps({"type": "assistant", "timestamp": at, "message": message}) + "\n"
    for path in glob.glob(os.path.join(glob.escape(folder), "projects", "*", "*.jsonl")):
        with open(path, "a") as file:
            file.write(line)


def _has_pull(id: str) -> bool:
    return int(id.rpartition("-")[2]) % 2 == 0


def _record(world: forging.World, id: str, base: str, now: clock.Clock) -> dict[str, Any]:
    record = sessions.blank(id, "shop", now)
    words = f"Mend part {id} of the café's order form, which loses what was typed"
    message = {"id": f"m-{id}", "at": now.iso, "from": "spawn", "text": words * 8, "state": "confirmed", "attempts": 1}
    record.update(rev=1, status="working", activity="active", activity_since=now.iso, activity_source="screen")
    record.update(agent="command", runtime="tmux", runtime_state="alive", config_path=world.project.source)
    record.update(branch=f"feat/{id}", base_branch="main", base_sha=base, head_sha=base)
    record.update(issue_id=id, issue_title=words, task=words * 8, inbox=[message])
    return record | {"workspace": "worktree", "workspace_path": _worktree(world, id)}


def _worktree(world: forging.World, id: str) -> str:
    """What `git worktree add` leaves, without its hundredth of a second."""
    path = paths.worktree(world.home, "shop", id)
    private = os.path.join(world.repo, ".git", "worktrees", id)
    files = {"HEAD": f"ref: refs/heads/feat/{id}", "commondir": "../..", "gitdir": f"{path}/.git"}
    os.makedirs(path)
    os.makedirs(private)
    for name, text in {f"{path}/.git": f"gitdir: {private}", **{f"{private}/{n}": t for n, t in files.items()}}.items():
        with open(name, "w") as file:
            file.write(text + "\n")
    return path


def _branches(repo: str, tips: dict[str, str]) -> None:
    with open(os.path.join(repo, ".git", "packed-refs"), "w") as file:
        file.write("# pack-refs with: peeled fully-peeled sorted \n")
        file.writelines(f"{sha} refs/heads/{name}\n" for name, sha in sorted(tips.items()))


def _pull(home: str, id: str, base: str, head: str, now: clock.Clock) -> None:
    number = int(id.rpartition("-")[2])
    run = {"name": "test", "head_sha": head, "base_sha": base, "status": "passed", "conclusion": "SUCCESS"}
    against = {"head_sha": head, "base_sha": base, "mergeable": True, "additions": 1, "deletions": 0}
    record = {"number": number, "title": f"Mend {id}", "body": "It is mended.", "branch": f"feat/{id}"}
    record |= {"base_branch": "main", "session": id, "author": id, "is_draft": False, "state": "open"}
    record |= {"created_at": now.iso, "ended_at": None, "note": "", "head_sha": head, "head_seen_at": now.iso}
    record |= {"tip": head, "against": against, "planned": None, "reviews": []}
    runs = [run | {"log": "", "lines": "", "at": now.iso}]
    _write(os.path.join(paths.forge(home, "shop"), "prs", f"{number}.yaml"), {**record, "runs": runs})


def _write(path: str, record: dict[str, Any]) -> None:
    store.replace(path, store.dumps(record).encode(), durable=False)


def _tmux(folder: str, home: str, ids: list[str]) -> Fleet:
    calls, panes, program = (os.path.join(folder, name) for name in ("calls", "panes", "programs/tmux"))
    os.makedirs(os.path.dirname(program))
    quiet = int(time.time() - QUIET_FOR)
    with open(panes, "w") as file:
        file.writelines(f"{id} 0.0 {os.getpid()} 0 0 {quiet} {quiet} {id}\n" for id in ids)
    with open(program, "w") as file:
        file.write(ANSWERS.format(calls=calls, panes=panes))
    os.chmod(program, 0o755)
    return Fleet(home, os.path.dirname(program) + os.pathsep + os.environ["PATH"], calls)


if __name__ == "__main__":
    made = make(sys.argv[1], int(sys.argv[2]))
    if len(sys.argv) > 3:
        tell(made, os.path.join(sys.argv[1], "claude"), int(sys.argv[3]))
