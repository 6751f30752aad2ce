"""A small world for tests of the forge: a repository with one commit, its project, and sessions that work in it."""

from __future__ import annotations

import os
import subprocess
from typing import Any, NamedTuple

from lib import config, sessions
from lib.clock import Clock
from lib.config import Project
from lib.scm import local
from lib.workspace import worktree

PERSON = {"GIT_AUTHOR_NAME": "Ada", "GIT_AUTHOR_EMAIL": "ada@example.org"}


class World(NamedTuple):
    home: str
    project: Project

    @property
    def repo(self) -> str:
        return self.project.path


def git(folder: str, *args: str, **env: str) -> str:
    done = subprocess.run(
        ["git", *args], cwd=folder, env={**os.environ, **env}, check=True, capture_output=True, text=True
    )
    return done.stdout.rstrip("\n")


def make(folder: Any, branch: str = "main", **settings: Any) -> World:
    """A world in an empty folder; `settings` are the project's."""
    repo, home = os.path.join(str(folder), "repo"), os.path.join(str(folder), "home")
    os.makedirs(repo)
    os.makedirs(home, mode=0o700)
    git(repo, "init", "--quiet", "--initial-branch", branch)
    git(repo, "config", "user.name", "Grace")
    git(repo, "config", "user.email", "grace@example.org")
    commit(repo, "a.txt", "one\ntwo\nthree\n", "first")
    return World(home, project(folder, repo, **settings))


def project(folder: Any, repo: str, **settings: Any) -> Project:
    """The project `shop` as its ao.yaml gives it."""
    import json

    path = os.path.join(str(folder), "ao.yaml")
    with open(path, "w") as file:
        agent = {"agent_config": {"command": ["cat"]}}
        json.dump({"projects": {"shop": {"path": repo, **agent, **settings}}}, file)
    return config.load(path).projects["shop"]


def commit(folder: str, name: str, text: str, message: str = "change", **env: str) -> str:
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    git(folder, "add", "--force", "--", name)
    git(folder, "commit", "--quiet", "-m", message, **env)
    return git(folder, "rev-parse", "HEAD")


def spawn(world: World, id: str = "shop-1", branch: str = "") -> dict[str, Any]:
    """A session's record with its worktree made."""
    branch, base = branch or f"feat/{id}", git(world.repo, "rev-parse", "HEAD")
    path = worktree.create(world.home, world.project, id, branch, base)
    record = sessions.blank(id, "shop", Clock(1_800_000_000.0))
    record.update(branch=branch, base_sha=base, workspace_path=path, config_path=world.project.source)
    return record


def pull(world: World, session: dict[str, Any], name: str = "b.txt", text: str = "new\n", **options: Any) -> Any:
    """Commit in the session's worktree and open a pull request for it."""
    commit(session["workspace_path"], name, text, **PERSON)
    title, body = options.get("title", "Add b"), options.get("body", "Because.")
    draft = options.get("draft", False)
    return local.open_pull(world.home, world.project, session, title, body, draft, "2026-01-01T00:00:00.000Z")[0]


def look(world: World, *sessions: dict[str, Any]) -> Any:
    """What the forge says of one session, or of several by id."""
    answer = local.look(world.home, world.project, sessions, Clock(1_800_000_000.0))
    return answer[sessions[0]["id"]] if len(sessions) == 1 else answer
