"""A worktree to try something in, at a commit and on no branch, away from where agents work.

It has a fixed place per purpose, so that the next run finds and removes what a killed one left.
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
        with git.changing(home, project.path):
            _remove(project.path, path)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            args = ("worktree", "add", "--quiet", "--detach", "--", path, commit)
            git.out(project.path, *QUIET, *args, limit="git-write")
        yield path
    finally:
        with git.changing(home, project.path):
            _remove(project.path, path)


def _remove(repository: str, path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if os.path.exists(path):
        raise AoError(f"cannot remove the scratch worktree '{path}': something still writes there")
    git.run(repository, "worktree", "remove", "--force", "--force", "--", path)
