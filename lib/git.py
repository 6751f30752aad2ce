"""Questions to git, and the lock under which a repository is changed.

Values from outside (branches, paths) always follow `--` or a full ref name, so that none can be read as an option.
Two `git worktree add` in one repository at once fail, so whatever changes a repository runs inside `changing`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator

from lib import paths, proc, store
from lib.errors import AoError

REPOSITORY_PATIENCE = 300.0  # seconds; 20 spawns at once wait for each other's `git worktree add`
# What a hook, an alias or the person's environment must not change under us.
_SCRUBBED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")


def run(folder: str, *args: str, limit: str = "git", input: str | None = None) -> proc.Result:
    """`git ARGS` in `folder`, whatever its exit code. Raises proc.TimedOut and proc.Missing."""
    return proc.run(limit, ["git", *args], cwd=folder, env=environment(), input=input)


def out(folder: str, *args: str, limit: str = "git") -> str:
    """What `git ARGS` printed, without the last newline; AoError with git's own reason when it failed."""
    result = run(folder, *args, limit=limit)
    if result.code:
        raise AoError(f"git {args[0]} failed in '{folder}': {reason(result)}")
    return result.out.rstrip("\n")


def reason(result: proc.Result) -> str:
    """The line of git's message that says why."""
    lines = [line.strip() for line in (result.err or result.out).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (told or lines or [f"exit code {result.code}"])[0].removeprefix("fatal: ").removeprefix("error: ")


def environment() -> dict[str, str]:
    """The environment for git: English messages, no prompt for a password, no editor, none of a hook's variables."""
    env = {key: value for key, value in os.environ.items() if key not in _SCRUBBED}
    env.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_EDITOR="true", GIT_OPTIONAL_LOCKS="0")
    return env


def common_dir(folder: str) -> str:
    """The real path of the repository that `folder` belongs to, the same for all of its worktrees."""
    return os.path.realpath(out(folder, "rev-parse", "--path-format=absolute", "--git-common-dir"))


def commit(folder: str, name: str) -> str | None:
    """The SHA of the commit that `name` means, None when it means none."""
    result = run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
    return result.out.strip() if result.code == 0 else None


@contextlib.contextmanager
def changing(home: str, folder: str) -> Iterator[None]:
    """Hold the lock of the repository that `folder` belongs to. The only lock that may be held over git calls."""
    key = hashlib.sha256(common_dir(folder).encode()).hexdigest()[:16]
    with store.lock(paths.lock(home, "repo", key), REPOSITORY_PATIENCE):
        yield
