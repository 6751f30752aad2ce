"""A project with an agent of its own, for tests of sessions' lives: scripts called in it, records read from it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NamedTuple
from unittest import mock

import forging
import scripts
from conftest import ROOT

from lib import config, loop, paths, rounds, sessions
from lib.config import Project
from lib.runtime import tmux

AGENT = [sys.executable, os.path.join(ROOT, "tests", "demo", "agent.py")]
CAT = ["cat"]  # the cheapest program that stays


class World(NamedTuple):
    home: str
    folder: str  # holds repo and ao.yaml

    @property
    def repo(self) -> str:
        return os.path.join(self.folder, "repo")

    @property
    def project(self) -> Project:
        return config.load(os.path.join(self.folder, "ao.yaml")).projects["shop"]

    def call(self, name: str, *args: str, **options: Any) -> scripts.Called:
        return scripts.call(name, *args, cwd=options.pop("cwd", self.folder), **options)

    def ok(self, name: str, *args: str, **options: Any) -> scripts.Called:
        done = self.call(name, *args, **options)
        assert done.code == 0, done
        return done

    def spawn(self, *args: str) -> dict[str, Any]:
        return dict(json.loads(self.ok("ao-spawn", *(args or ("--task", "work")), "--json").out)[0])

    def record(self, id: str) -> dict[str, Any]:
        return sessions.find(self.home, id)

    def records(self) -> list[dict[str, Any]]:
        return sessions.everything(self.home).records

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            assert rounds.look(self.home) == []

    def change(self, id: str, **fields: Any) -> None:
        sessions.update(self.home, self.record(id), lambda record: record.update(fields), loop.clock(self.home))

    def git(self, *args: str) -> str:
        return forging.git(self.repo, *args)

    def issue(self, number: int, title: str, body: str = "Do it.") -> None:
        path = os.path.join(self.repo, "docs", "issues", f"{number:04}-x.md")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(f"# {title}\n\n{body}\n")

    def traces(self, path: str | None = None) -> dict[str, Any]:
        """Everything that a spawn makes; the same before and after one that failed. `path` has git and tmux."""
        with mock.patch.dict(os.environ, PATH=path or os.environ["PATH"]):
            return self._traces()

    def _traces(self) -> dict[str, Any]:
        found = {
            "records": [one["id"] for one in self.records()],
            "branches": self.git("for-each-ref", "--format=%(refname)", "refs/heads"),
            "worktrees": self.git("worktree", "list", "--porcelain"),
            "panes": sorted(tmux.look(self.home)),
        }
        for name in ("worktrees", "launch"):
            folder = os.path.join(self.home, name, "shop")
            found[name + " folder"] = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return found


def make(home: str, folder: Any, command: list[str] | None = None, branch: str = "main", **settings: Any) -> World:
    """A repository with one commit and its project `shop`, whose agent is `command`."""
    repo = os.path.join(str(folder), "repo")
    os.makedirs(repo)
    forging.git(repo, "init", "--quiet", "--initial-branch", branch)
    forging.git(repo, "config", "user.name", "Grace")
    forging.git(repo, "config", "user.email", "grace@example.org")
    forging.commit(repo, "a.txt", "one\n", "first")
    world = World(home, str(folder))
    configure(world, command, **settings)
    return world


def configure(world: World, command: list[str] | None = None, **settings: Any) -> None:
    agent = {"command": command or CAT, "ready": "^> $", "question": "\\(y/n\\) ?$"}
    values = {"path": world.repo, "agent_config": agent, **settings}
    with open(os.path.join(world.folder, "ao.yaml"), "w") as file:
        json.dump({"projects": {"shop": values}}, file)


def launched(world: World, id: str) -> dict[str, Any]:
    """What the launcher of a session was given."""
    with open(paths.launch(world.home, "shop", id)) as file:
        return dict(json.load(file))


def pull(world: World, session: dict[str, Any], name: str = "b.txt") -> None:
    """Commit in the session's worktree and open its pull request."""
    forging.commit(session["workspace_path"], name, "new\n", **forging.PERSON)
    world.ok("ao-pr", "open", "--title", f"Add {name}", cwd=session["workspace_path"])
