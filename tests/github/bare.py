"""Bare repositories: what git says of them, the merges that GitHub makes, and `git http-backend` for clone and push."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Any

NOBODY = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
SHORT = "--format=%(objectname) %(refname:strip=2)"


def git(path: str, *args: str, input: str = "", by: str = "GitHub", check: bool = True) -> str:
    """What git prints; with check=False an empty text where it refuses."""
    who = {"GIT_AUTHOR_NAME": by, "GIT_AUTHOR_EMAIL": f"{by}@example.org"}
    who |= {"GIT_COMMITTER_NAME": by, "GIT_COMMITTER_EMAIL": f"{by}@example.org"}
    env = {"PATH": os.environ["PATH"], "HOME": os.devnull, **NOBODY, **who}
    done = subprocess.run(["git", *args], cwd=path, env=env, input=input, capture_output=True, text=True, check=False)
    if done.returncode and check:
        raise AssertionError(f"git {' '.join(args)}: {done.stderr}")
    return "" if done.returncode else done.stdout.strip()


def init(path: str, branch: str) -> None:
    os.makedirs(path)
    git(path, "init", "--quiet", "--bare", "--initial-branch", branch)
    for key, value in (("http.receivepack", "true"), ("receive.denyDeleteCurrent", "ignore"), ("gc.auto", "0")):
        git(path, "config", key, value)
    git(path, "config", "uploadpack.allowAnySHA1InWant", "true")


def branches(path: str) -> dict[str, str]:
    lines = git(path, "for-each-ref", SHORT, "refs/heads").splitlines()
    return {name: sha for sha, _, name in (line.partition(" ") for line in lines)}


def commit(path: str, branch: str, start: str, files: Mapping[str, str | None], message: str, by: str) -> str:
    """A commit on a branch that begins at `start` (empty: with nothing); a file that is None is deleted."""
    lines = [f"commit refs/heads/{branch}", f"committer {by} <{by}@example.org> now"]
    lines += [f"data {len(message.encode())}", message, *([f"from {start}"] if start else [])]
    for name, text in files.items():
        lines += [f"D {name}"] if text is None else [f"M 100644 inline {name}", f"data {len(text.encode())}", text]
    git(path, "fast-import", "--quiet", "--force", "--date-format=now", input="\n".join(lines) + "\n")
    return git(path, "rev-parse", f"refs/heads/{branch}")


def move(path: str, branch: str, new: str, old: str) -> bool:
    """Move a branch that is at `old`; whether it was."""
    git(path, "update-ref", f"refs/heads/{branch}", new, old, check=False)
    return git(path, "rev-parse", f"refs/heads/{branch}") == new


def remembered(function: Any) -> Any:
    """For what depends on nothing but commits, which never change: large fleets are looked at often."""
    known: dict[tuple[str, ...], Any] = {}

    @functools.wraps(function)
    def ask(*key: str) -> Any:
        if key not in known:
            known[key] = function(*key)
        return known[key]

    ask.known = known  # type: ignore[attr-defined]
    return ask


@remembered
def merged_tree(path: str, base: str, head: str) -> str:
    """The tree of the merge, or empty when they conflict."""
    return git(path, "merge-tree", "--write-tree", base, head, check=False).partition("\n")[0]


@remembered
def is_ancestor(path: str, old: str, new: str) -> bool:
    return git(path, "merge-base", old, new, check=False) == old


@remembered
def changes(path: str, base: str, head: str) -> list[tuple[str, int, int]]:
    """Each file that the head changes since it left the base, with added and deleted lines."""
    lines = git(path, "diff", "--numstat", f"{base}...{head}", check=False).splitlines()
    rows = [line.split("\t", 2) for line in lines]
    return [(name, int(added.replace("-", "0")), int(gone.replace("-", "0"))) for added, gone, name in rows]


@remembered
def commits(path: str, base: str, head: str) -> list[str]:
    return git(path, "rev-list", "--reverse", f"{base}..{head}", check=False).split()


@remembered
def message(path: str, sha: str) -> str:
    return git(path, "log", "-1", "--format=%B", sha)


def fleet(path: str, base: str, files: Mapping[str, str]) -> dict[str, str]:
    """The heads of new branches, each with a new file on top of the base; git need not be asked about them later."""
    stream = []
    for branch, name in files.items():
        stream += [f"commit refs/heads/{branch}", "committer ada <ada@example.org> now", f"data {len(name)}", name]
        stream += [f"from {base}", f"M 100644 inline {name}", f"data {len(name)}", name]
    git(path, "fast-import", "--quiet", "--date-format=now", input="\n".join(stream) + "\n")
    heads = {branch: sha for branch, sha in branches(path).items() if branch in files}
    for branch, sha in heads.items():
        merged_tree.known[(path, base, sha)] = f"{sha}^{{tree}}"
        is_ancestor.known[(path, base, sha)], is_ancestor.known[(path, sha, base)] = True, False
        changes.known[(path, base, sha)], commits.known[(path, base, sha)] = [(files[branch], 1, 0)], [sha]
        message.known[(path, sha)] = files[branch]
    return heads


def land(path: str, method: str, base: str, head: str, text: str, by: str) -> str:
    """The commit that a merge puts on top of the base, or empty when it conflicts."""
    if method == "rebase":
        return _rebase(path, base, head, by)
    tree = merged_tree(path, base, head)
    parents = ["-p", base] + (["-p", head] if method == "merge" else [])
    return tree and git(path, "commit-tree", tree, *parents, "-m", text, by=by)


def _rebase(path: str, base: str, head: str, by: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        place = os.path.join(folder, "tree")
        git(path, "worktree", "add", "--quiet", "--detach", place, base)
        try:
            done = git(place, "cherry-pick", "--no-merges", f"{base}..{head}", by=by, check=False)
            return done and git(place, "rev-parse", "HEAD")
        finally:
            git(path, "worktree", "remove", "--force", place)


def serve(root: str, path: str, method: str, query: str, headers: Mapping[str, str], body: bytes, user: str) -> bytes:
    """What `git http-backend` answers to a request of git, as CGI: headers, an empty line, the body."""
    env = {
        "PATH": os.environ["PATH"],
        **NOBODY,
        "GIT_PROJECT_ROOT": root,
        "GIT_HTTP_EXPORT_ALL": "1",
        "PATH_INFO": path,
        "REQUEST_METHOD": method,
        "QUERY_STRING": query,
        "CONTENT_TYPE": headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": headers.get("Git-Protocol", ""),
        "REMOTE_USER": user,
        "REMOTE_ADDR": "127.0.0.1",
    }
    return subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=False).stdout
