"""A project at GitHub for tests: a clone of a repository of the fake, its ao.yaml, and sessions that work in it."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import forging
import github
import living

from lib import sessions
from lib.clock import Clock
from lib.scm import github as scm

QUIET = ["cat"]


class World(NamedTuple):
    hub: github.Hub
    remote: github.Repo
    local: living.World

    @property
    def home(self) -> str:
        return self.local.home

    def session(self, id: str = "shop-1", branch: str = "", **fields: Any) -> dict[str, Any]:
        """A session with a worktree and a branch of its own, without an agent."""
        made = forging.spawn(forging.World(self.home, self.local.project), id, branch)
        record = {**sessions.blank(id, "shop", clock()), **made, "base_branch": "main", "head_sha": made["base_sha"]}
        record.update(agent="command", runtime="tmux", workspace="worktree", runtime_state="alive", **fields)
        assert sessions.create(self.home, record, clock())
        return record

    def push(self, session: dict[str, Any], name: str = "b.txt", text: str = "new\n", force: bool = False) -> str:
        """Commit in the session's worktree and push its branch."""
        head = forging.commit(session["workspace_path"], name, text)
        self.git(session, "push", "--quiet", *["--force"] * force, "-u", "origin", session["branch"])
        return head

    def git(self, session: dict[str, Any], *args: str) -> str:
        return forging.git(session["workspace_path"], *args)

    def pull(self, session: dict[str, Any], name: str = "b.txt", **options: Any) -> github.Pull:
        """Push, and open the pull request."""
        self.push(session, name)
        return self.remote.pull(session["branch"], **options)

    def look(self, *records: dict[str, Any], seconds: float = 0.0, fresh: bool = True) -> Any:
        """What a look says of these sessions, by id; of one, just that."""
        answer = scm.look(self.home, self.local.project, records, clock(seconds), fresh)
        return answer.get(records[0]["id"], "unknown") if len(records) == 1 else answer


def clock(seconds: float = 0.0) -> Clock:
    return Clock(1_800_000_000.0 + seconds)


def make(hub: github.Hub, home: str, folder: Any, **settings: Any) -> World:
    """A clone of acme/widgets with the project `shop`, whose agent does nothing."""
    remote = hub.repo()
    return World(hub, remote, clone(home, folder, remote, **settings))


def clone(home: str, folder: Any, remote: github.Repo, id: str = "shop", **settings: Any) -> living.World:
    local = living.World(home, str(folder))
    forging.git(str(folder), "clone", "--quiet", remote.remote, local.repo)
    configure(local, id, **settings)
    return local


def configure(local: living.World, id: str = "shop", **settings: Any) -> None:
    values = {"path": local.repo, "scm": "github", "tracker": "github", "agent_config": {"command": QUIET}, **settings}
    with open(os.path.join(local.folder, "ao.yaml"), "w") as file:
        json.dump({"projects": {id: values}}, file)
