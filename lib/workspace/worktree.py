"""A workspace that is a git worktree: its own folder and branch, sharing the objects of the project's repository.

Removing one removes the folder and what git remembers about it, never its branch, and never anything outside
worktrees/<project>/. Nothing here decides whether work may go: callers save it with `backup` first.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator

from lib import config, faults, git, paths
from lib.config import Project
from lib.errors import AoError, Unknown
from lib.workspace import State, Taken

REMOVALS = 3  # attempts: a process that is just ending may still write into the folder


def create(home: str, project: Project, id: str, branch: str, base_sha: str) -> str:
    """Add a worktree with the new branch `branch` at `base_sha` and return its path; leaves nothing when it fails."""
    path = paths.worktree(home, project.id, id)
    _check_new(project, id, path, branch, base_sha)
    with git.changing(home, project.path):
        ref = git.HEADS + branch
        made = git.run(project.path, "update-ref", "-m", f"ao: {id}", ref, base_sha, "", limit="git-write")
        if made.code and git.commit(project.path, ref):
            raise Taken(f"cannot create worktree '{id}': the branch '{branch}' exists already")
        if made.code:
            raise AoError(f"cannot create worktree '{id}': {git.reason(made)}")
        try:  # the branch is certainly ours now, to be taken back too
            _add(project.path, path, branch, "--", path, branch)
        except BaseException:
            _undo(project, path, branch, base_sha)
            raise
    return path


def reopen(home: str, project: Project, id: str, branch: str) -> str:
    """Bring back the worktree of a branch that still exists and return its path, the same as before."""
    path = paths.worktree(home, project.id, id)
    if not git.commit(project.path, git.HEADS + branch):
        raise AoError(f"cannot reopen worktree '{id}': the branch '{branch}' is gone; see: git for-each-ref refs/ao")
    if _holds(path, branch):
        return path
    with git.changing(home, project.path):
        if not os.path.exists(path):
            _forget(project.path, path)
        _add(project.path, path, branch, "--", path, branch)
    return path


def state(home: str, project: Project, path: str) -> State:
    """What would be lost with the worktree. A folder that git knows no more is dirty when it holds anything."""
    if not os.path.isdir(path):
        return State(False, False, 0)
    if git.git_dir(path) is None:
        return State(True, bool(os.listdir(path)), 0)
    return State(True, _is_dirty(path), _unmerged(project, path))


def backup(home: str, project: Project, id: str, path: str, now: str) -> str | None:
    """Save what is in the worktree, committed or not, under refs/ao/backup; None when nothing would be lost.

    The commit is built in a temporary index; of the same work at the same time it is the same, so that doing it again
    after a crash changes nothing. AoError when something in it cannot be saved, such as a repository inside the
    worktree that has work of its own: then the worktree must stay.
    """
    found = state(home, project, path)
    if not found.dirty and not found.unmerged:
        return None
    ref = f"refs/ao/backup/{project.id}-{id}-{re.sub('[^0-9]', '', now)}"
    with _index(home, project, id) as index:
        sha = _snapshot(project, path, index, now, f"Work in '{id}' at {now}")
    with git.changing(home, project.path):
        while git.commit(project.path, ref) not in (None, sha):
            ref += "x"
        git.out(project.path, "update-ref", "-m", "ao: backup", ref, sha, limit="git-write")
    return ref


def remove(home: str, project: Project, path: str) -> int:
    """Remove the worktree and what git remembers of it, and return the bytes that were freed; absent is success."""
    allowed = os.path.realpath(os.path.join(home, "worktrees", paths.name(project.id, "project")))
    path = os.path.abspath(path)
    if os.path.realpath(os.path.dirname(path)) != allowed or os.path.islink(path):
        raise AoError(f"cannot remove '{path}': it is not a worktree under '{allowed}'")
    try:
        gone = git.moved_away(path)
    except OSError as error:
        raise AoError(f"cannot remove '{path}': {error.strerror}") from error
    faults.step()
    freed = sum(_delete(old) for old in gone)
    if os.path.isdir(project.path):
        with git.changing(home, project.path):
            _forget(project.path, path)
    return freed


def switch(home: str, project: Project, path: str, branch: str) -> None:
    """Check out another existing branch. AoError when the worktree is dirty, or the branch checked out elsewhere."""
    if _holds(path, branch):
        return
    found = state(home, project, path)
    if not found.exists or found.dirty:
        why = "it has changes that are not committed" if found.exists else "it is gone"
        raise AoError(f"cannot switch worktree '{path}' to '{branch}': {why}")
    with git.changing(home, project.path):
        result = git.run(path, "switch", "--quiet", "--no-guess", "--end-of-options", branch, limit="git-write")
    if result.code:
        why, other = git.reason(result), git.checkouts(project.path).get(branch)
        if other and os.path.dirname(other) == os.path.realpath(os.path.dirname(path)):
            id = os.path.basename(other)
            why = f"'{id}' has it in its worktree; when that has ended, free it with: ao-prune {id}"
        raise AoError(f"cannot switch worktree '{path}' to '{branch}': {why}")


def head(path: str) -> tuple[str, str] | None:
    """(branch, or "" when detached; head SHA), read from git's files; None when the worktree is gone."""
    return git.head(path)


def _check_new(project: Project, id: str, path: str, branch: str, base_sha: str) -> None:
    if os.path.lexists(path):
        raise AoError(f"cannot create worktree '{id}': '{path}' exists already; see: ao-prune --dry-run")
    if git.run(project.path, "check-ref-format", git.HEADS + branch).code or branch.startswith("-"):
        raise AoError(f"cannot create worktree '{id}': '{branch}' is not a valid branch name")
    if not git.commit(project.path, base_sha):
        why = f"there is no commit '{base_sha}' in '{project.path}'"
        raise AoError(f"cannot create worktree '{id}': {why}; an empty repository needs a first commit")


def _add(repository: str, path: str, branch: str, *args: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    result = git.run(repository, "worktree", "add", "--quiet", *args, limit="git-write")
    if not _holds(path, branch):  # else it is there: a post-checkout hook that fails makes git fail after its work
        raise AoError(f"cannot create worktree '{os.path.basename(path)}': {git.reason(result)}")


def _holds(path: str, branch: str) -> bool:
    found = git.head(path)
    return found is not None and found[0] == branch


def _undo(project: Project, path: str, branch: str, base_sha: str) -> None:
    _delete(path)
    _forget(project.path, path)
    git.run(project.path, "update-ref", "-d", git.HEADS + branch, base_sha, limit="git-write")


def _forget(repository: str, path: str) -> None:
    """Drop git's metadata of one worktree whose folder is gone; others may be on a disk that is not mounted now."""
    git.run(repository, "worktree", "remove", "--force", "--force", "--", path, limit="git-write")


def _is_dirty(path: str) -> bool:
    result = git.run(path, "status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=none")
    if result.code:
        raise Unknown(f"cannot look into worktree '{path}': {git.reason(result)}")
    return bool(result.out)


def _unmerged(project: Project, path: str) -> int:
    """The commits that only this worktree's HEAD keeps: on no base branch, on no remote and not merged as others."""
    if (git.head(path) or ("", ""))[1] == "":  # a branch without commits
        return 0
    bases = [name for name in (config.setting(project, "default_branch"), git.default_branch(project.path)) if name]
    known = [git.HEADS + name for name in bases if git.commit(project.path, git.HEADS + name)]
    result = git.run(path, "rev-list", "--count", "HEAD", "--not", "--remotes", f"--glob={git.MERGED}*", *known)
    if result.code:
        raise Unknown(f"cannot count the commits in worktree '{path}': {git.reason(result)}")
    return int(result.out)


@contextlib.contextmanager
def _index(home: str, project: Project, id: str) -> Iterator[str]:
    """Where the index of a backup is built: a fixed place, where the next one removes what a killed one left."""
    path = os.path.join(os.path.dirname(paths.worktree(home, project.id, id)), f".index-{id}")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        _forget_index(path)
        yield path
    finally:
        _forget_index(path)


def _forget_index(path: str) -> None:
    for name in (path, path + ".lock"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _snapshot(project: Project, path: str, index: str, now: str, message: str) -> str:
    private = git.git_dir(path) or git.common_dir(project.path)
    parent = git.head(path)
    if git.git_dir(path):
        with contextlib.suppress(FileNotFoundError):  # what was added although it is ignored is known only here
            shutil.copyfile(os.path.join(private, "index"), index)
    extra = {"GIT_DIR": os.path.abspath(private), "GIT_WORK_TREE": path, "GIT_INDEX_FILE": index}
    git.out(path, "add", "--all", limit="git-write", extra=extra)
    _check_inner(path, git.out(path, "ls-files", "--stage", "-z", extra=extra))
    tree = git.out(path, "write-tree", extra=extra)
    dates = {"GIT_AUTHOR_DATE": now, "GIT_COMMITTER_DATE": now}
    return git.commit_tree(project.path, tree, [parent[1]] if parent and parent[1] else [], message, dates)


def _check_inner(path: str, entries: str) -> None:
    """AoError when a repository inside the worktree (a submodule, a clone) holds work that the backup would miss."""
    for entry in entries.split("\0"):
        inner = os.path.join(path, entry.partition("\t")[2])
        if not entry.startswith("160000 ") or git.git_dir(inner) is None:
            continue
        lost = git.run(inner, "rev-list", "--max-count=1", "HEAD", "--branches", "--not", "--remotes").out
        if lost or _is_dirty(inner):
            raise AoError(
                f"cannot save worktree '{path}': the repository in '{inner}' has work of its own; push it first"
            )


def _delete(path: str) -> int:
    freed = _size(path)
    for attempt in range(1, REMOVALS + 1):
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            break
        except OSError as error:
            if attempt == REMOVALS:
                raise AoError(f"cannot remove '{error.filename or path}': {error.strerror}") from error
    return freed


def _size(path: str) -> int:
    """Bytes on disk under `path`; makes its folders writable on the way, since module caches are often read-only."""
    total = 0
    for folder, folders, files in os.walk(path):
        for name in folders:
            inner = os.path.join(folder, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
    return total
