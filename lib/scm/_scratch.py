"""A worktree to try something in, at a commit and on no branch, away from where agents work.

It has a fixed place per purpose, so that the next run finds and removes what a killed one left. A program that the
killed one started may still write there, so it is deleted as far as it can be.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

from lib import git, paths
from lib.config import Project
from lib.errors import AoError

QUIET = ("-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false")  # a person's hooks are for a person


@contextlib.contextmanager
def worktree(home: str, project: Project, purpose: str, commit: str) -> Iterator[str]:
    """The path of a scratch worktree at `commit`, removed at the end. One process at a time per purpose."""
    path = os.path.join(paths.forge(home, project.id), "scratch", paths.name(purpose))
    try:
        with _making(path):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with git.changing(home, project.path):
            _remove(project.path, path)
            args = ("worktree", "add", "--quiet", "--detach", "--", path, commit)
            git.out(project.path, *QUIET, *args, limit="git-write")
        yield path
    finally:
        with git.changing(home, project.path):
            _remove(project.path, path)


@contextlib.contextmanager
def _making(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AoError(f"cannot make a checkout in '{path}': {error.strerror}") from error


def _remove(repository: str, path: str) -> None:
    with _making(path):
        for old in git.moved_away(path):
            shutil.rmtree(old, ignore_errors=True)
    git.run(repository, "worktree", "remove", "--force", "--force", "--", path, limit="git-write")
