"""Questions to git, and the lock under which a repository is changed.

Values from outside (branches, paths) always follow `--` or a full ref name, so that none can be read as an option.
Two `git worktree add` in one repository at once fail, so whatever changes a repository runs inside `changing`.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from lib import proc, store
from lib.errors import AoError

REPOSITORY_PATIENCE = 300.0  # seconds; 20 spawns at once wait for each other's `git worktree add`
HEADS = "refs/heads/"
MERGED = "refs/ao/merged/"  # heads of pull requests whose commits were rewritten by their merge
# What a hook, an alias or the person's environment must not change under us: `git rev-parse --local-env-vars`.
LOCAL_VARIABLES = frozenset(
    ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
    + ("GIT_IMPLICIT_WORK_TREE", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS")
    + ("GIT_CONFIG_COUNT", "GIT_GRAFT_FILE", "GIT_NAMESPACE", "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE")
    + ("GIT_SHALLOW_FILE", "GIT_QUARANTINE_PATH")
)


def run(
    folder: str, *args: str, limit: str = "git", input: str | None = None, extra: Mapping[str, str] | None = None
) -> proc.Result:
    """`git ARGS` in `folder`, whatever its exit code. `extra` is added to git's environment.

    Raises proc.TimedOut and proc.Missing.
    """
    env = environment()
    env.update(extra or {})
    return proc.run(limit, ["git", *args], cwd=folder, env=env, input=input, changes=limit == "git-write")


def out(
    folder: str, *args: str, limit: str = "git", input: str | None = None, extra: Mapping[str, str] | None = None
) -> str:
    """What `git ARGS` printed, without the last newline; AoError with git's own reason when it failed."""
    result = run(folder, *args, limit=limit, input=input, extra=extra)
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
    env = {key: value for key, value in os.environ.items() if key not in LOCAL_VARIABLES}
    env.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_EDITOR="true", GIT_OPTIONAL_LOCKS="0")
    return env


def common_dir(folder: str) -> str:
    """The real path of the repository that `folder` belongs to, the same for all of its worktrees."""
    return os.path.realpath(out(folder, "rev-parse", "--path-format=absolute", "--git-common-dir"))


def top(folder: str) -> str:
    """The folder of the checkout that `folder` is in."""
    return out(folder, "rev-parse", "--show-toplevel")


def commit(folder: str, name: str) -> str | None:
    """The SHA of the commit that `name` means, None when it means none."""
    result = run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
    return result.out.strip() if result.code == 0 else None


@contextlib.contextmanager
def changing(home: str, folder: str) -> Iterator[None]:
    """Hold the lock of the repository that `folder` belongs to, the same for whatever AO_HOME works in it."""
    with store.lock(os.path.join(common_dir(folder), "ao"), REPOSITORY_PATIENCE, lasts=True):
        yield


def moved_away(path: str) -> list[str]:
    """Move a folder out of the way in one step; it and what earlier runs left undeleted, for the caller to delete.

    A worktree is there whole or not at all: one that was half deleted when its process died would look like work. A
    program that still writes into it does so somewhere else from now on.
    """
    folder, name = os.path.split(path)
    prefix = f".removed-{name}-"
    if os.path.lexists(path):
        os.rename(path, tempfile.mkdtemp(prefix=prefix, dir=folder))  # over the empty folder
    return glob.glob(os.path.join(glob.escape(folder), glob.escape(prefix) + "*"))


def branches(folder: str) -> dict[str, str]:
    """The SHA of the tip of every local branch, in one call."""
    lines = out(folder, "for-each-ref", "--format=%(objectname) %(refname)", HEADS).splitlines()
    return {name.removeprefix(HEADS): sha for sha, _, name in (line.partition(" ") for line in lines)}


def remotes(folder: str) -> dict[str, str]:
    """The URL of every remote."""
    result = run(folder, "config", "--get-regexp", r"^remote\..*\.url$")
    lines = (line.partition(" ") for line in result.out.splitlines())
    return {key.removeprefix("remote.").removesuffix(".url"): url for key, _, url in lines}


def default_branch(folder: str) -> str | None:
    """The branch that work starts from: the remote's default, else what is checked out; None without any commit."""
    remote = run(folder, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD").out.strip()
    current = run(folder, "symbolic-ref", "--quiet", "--short", "HEAD").out.strip()
    known = branches(folder)
    guesses = (remote.removeprefix("origin/"), current, "main", "master", *known)
    return next((name for name in guesses if name in known), None)


def contains(folder: str, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` is `commit` or in its history."""
    result = run(folder, "merge-base", "--is-ancestor", ancestor, commit)
    if result.code > 1:
        raise AoError(f"cannot compare commits in '{folder}': {reason(result)}")
    return result.code == 0


def merge_base(folder: str, one: str, other: str) -> str | None:
    """The newest commit that both histories have, None when they share none."""
    result = run(folder, "merge-base", one, other)
    if result.code > 1:
        raise AoError(f"cannot compare commits in '{folder}': {reason(result)}")
    return result.out.strip() or None


def merge_tree(folder: str, base: str, head: str) -> str | None:
    """The tree that merging commit `head` into commit `base` gives, None when they conflict. Touches no ref or file."""
    result = run(folder, "merge-tree", "--write-tree", "--name-only", "--no-messages", base, head)
    if (result.code == 1 and result.out) or "unrelated histories" in result.err:
        return None  # a commit that is missing makes it 1 too, but then it prints no tree
    if result.code:
        raise AoError(f"cannot merge '{head[:12]}' in '{folder}': {reason(result)}")
    return result.out.split()[0]


def commit_tree(folder: str, tree: str, parents: Sequence[str], message: str, author: Mapping[str, str]) -> str:
    """Make a commit that no ref points to and return its SHA. `author` holds GIT_AUTHOR_* variables; {} is oneself."""
    args = [word for parent in parents for word in ("-p", parent)]
    extra = {**identity(folder), **author}
    return out(folder, "commit-tree", tree, *args, "-F", "-", input=message, extra=extra)


def author(folder: str, commit: str) -> dict[str, str]:
    """Who wrote a commit, and when, as the variables that give another commit the same author."""
    name, email, date = out(folder, "show", "--no-patch", "--format=%an%n%ae%n%aI", commit).split("\n")[:3]
    return {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_AUTHOR_DATE": date}


def identity(folder: str) -> dict[str, str]:
    """Variables that let git commit where nobody has told it a name; {} where somebody has."""
    if run(folder, "var", "GIT_COMMITTER_IDENT").code == 0 and run(folder, "var", "GIT_AUTHOR_IDENT").code == 0:
        return {}
    name, email = "ao", "ao@localhost"
    people = ("GIT_COMMITTER", "GIT_AUTHOR")
    return {f"{who}_{what}": value for who in people for what, value in (("NAME", name), ("EMAIL", email))}


def checkouts(folder: str) -> dict[str, str]:
    """The branches that are checked out and where: every branch of a worktree whose folder exists."""
    found, path = {}, ""
    for line in out(folder, "worktree", "list", "--porcelain", "-z").split("\0"):
        key, _, value = line.partition(" ")
        if key == "worktree":
            path = value
        elif key == "branch" and os.path.isdir(path):
            found[value.removeprefix(HEADS)] = path
    return found


def git_dir(folder: str) -> str | None:
    """Where git keeps what belongs to the checkout `folder`, read from its `.git`; None when that leads nowhere."""
    path = os.path.join(folder, ".git")
    if not os.path.isdir(path):
        pointer = _text(path)
        if pointer is None or not pointer.startswith("gitdir: "):
            return None
        path = os.path.join(folder, pointer.removeprefix("gitdir: "))
    return path if os.path.isdir(path) else None


def head(folder: str) -> tuple[str, str] | None:
    """(branch, or "" when detached; SHA, or "" before the first commit) of a checkout; None when there is none.

    Read from git's files: a look at a thousand sessions cannot start a thousand processes. Only a repository that keeps
    its refs in another format is asked through git.
    """
    private = git_dir(folder)
    text = _text(os.path.join(private, "HEAD")) if private else None
    if private is None or text is None:
        return None
    if not text.startswith("ref: "):
        return "", text
    ref = text.removeprefix("ref: ")
    if ref == "refs/heads/.invalid":  # what the reftable format leaves here
        return run(folder, "branch", "--show-current").out.strip(), commit(folder, "HEAD") or ""
    shared = os.path.normpath(os.path.join(private, _text(os.path.join(private, "commondir")) or ""))
    return ref.removeprefix(HEADS), _text(os.path.join(shared, ref)) or _packed(shared).get(ref, "")


def _packed(repository: str) -> Mapping[str, str]:
    path = os.path.join(repository, "packed-refs")
    try:
        info = os.stat(path)
    except OSError:
        return {}
    return _packed_refs(path, info.st_mtime_ns, info.st_size, info.st_ino)


@functools.lru_cache(maxsize=8)
def _packed_refs(path: str, *_version: int) -> Mapping[str, str]:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        lines = (line.rstrip("\n").partition(" ") for line in file if line[:1] not in "#^")
        return {ref: sha for sha, _, ref in lines}


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None
