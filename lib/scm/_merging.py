"""Merges in two steps: build the commit without moving anything, then let the base branch take it.

The built commit is what is intended, so after a crash "has it happened?" is "does the base contain it?". Building goes
through git's object store only; a rebase, which needs files, happens in a scratch worktree.
"""

from __future__ import annotations

from lib import git
from lib.config import Project
from lib.errors import AoError
from lib.scm import Blocked, Moved, _pulls, _scratch

METHODS = ("merge", "squash", "rebase")
PLAIN_REBASE = (  # what a person's settings must not do here; updateRefs would move other people's branches
    ("-c", "rebase.updateRefs=false", "-c", "rebase.autoSquash=false", "-c", "rebase.autoStash=false")
    + ("-c", "rebase.rebaseMerges=false", "-c", "commit.gpgSign=false", "-c", "rebase.missingCommitsCheck=ignore")
)


def build(home: str, project: Project, record: _pulls.Record, base: str, method: str) -> str:
    """The commit that merging the pull request's head into commit `base` gives. Raises Blocked for a conflict."""
    if method not in METHODS:
        raise AoError(f"there is no merge method '{method}' (known: {', '.join(METHODS)})")
    head = record["head_sha"]
    tree = git.merge_tree(project.path, base, head)
    if tree is None:
        raise Blocked(f"cannot merge pull request '{record['number']}': it conflicts with '{record['base_branch']}'")
    if method == "rebase":
        return _rebase(home, project, record, base)
    if method == "squash":
        message = f"{record['title']} (#{record['number']})\n\n{record.get('body') or ''}".strip() + "\n"
        return git.commit_tree(project.path, tree, [base], message, git.author(project.path, head))
    message = f"Merge pull request #{record['number']} from {record['branch']}\n\n{record['title']}\n"
    return git.commit_tree(project.path, tree, [base, head], message, {})


def land(repository: str, base_branch: str, commit: str, base: str) -> None:
    """Move `base_branch` from `base` to its descendant `commit`, with the files where it is checked out.

    Raises Blocked when changes in that checkout would be overwritten, Moved when people were faster: they use git
    without asking for a lock, so what counts is where the branch is afterwards.
    """
    checkout = git.checkouts(repository).get(base_branch)
    if checkout is None:
        args = ["update-ref", "-m", "ao: merge", git.HEADS + base_branch, commit, base]
    else:
        args = ["-c", "merge.verifySignatures=false", "merge", "--ff-only", "--quiet", "--no-autostash", commit]
    result = git.run(checkout or repository, *args, limit="git-write")
    tip = git.commit(repository, git.HEADS + base_branch)
    if tip and git.contains(repository, tip, commit):
        return
    if tip != base or not result.code:
        raise Moved(f"cannot merge into '{base_branch}': it has moved on, or its checkout has another branch by now")
    files = [line.strip() for line in result.err.splitlines() if line.startswith("\t")]
    if files:
        raise Blocked(f"base checkout has local changes: {', '.join(files)}; commit or stash them in '{checkout}'")
    raise Blocked(f"cannot merge into '{base_branch}' in '{checkout or repository}': {git.reason(result)}")


def _rebase(home: str, project: Project, record: _pulls.Record, base: str) -> str:
    number = record["number"]
    with _scratch.worktree(home, project, f"rebase-{number}", record["head_sha"]) as folder:
        who = {key: value for key, value in git.identity(folder).items() if "COMMITTER" in key}
        args = (*_scratch.QUIET, *PLAIN_REBASE, "rebase", "--quiet", base)
        result = git.run(folder, *args, limit="git-write", extra=who)
        if result.code:
            raise Blocked(f"cannot rebase pull request '{number}': {git.reason(result)}")
        return git.out(folder, "rev-parse", "HEAD")
