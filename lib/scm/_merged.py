"""What is left here of a merged branch, whichever forge has merged it. All of it may be done again."""

from __future__ import annotations

from collections.abc import Mapping

from lib import config, git
from lib.config import Project


def keep_head(project: Project, plan: Mapping[str, str]) -> None:
    """Keep commits that the merge has rewritten: they are on no branch then, and are no lost work either.

    The caller holds the repository's lock.
    """
    if plan["method"] != "merge" and git.commit(project.path, plan["head_sha"]):
        ref = f"{git.MERGED}{project.id}-{plan['number']}-{plan['head_sha'][:12]}"
        git.out(project.path, "update-ref", ref, plan["head_sha"], limit="git-write")


def delete_branch(home: str, project: Project, branch: str, merged_sha: str) -> bool:
    """Delete a merged branch where `merge.delete_branch` says so; whether it is gone. Absent is success.

    It stays when it has more commits than were merged, and while a worktree has it checked out.
    """
    with git.changing(home, project.path):
        is_free = branch not in git.checkouts(project.path)
        if is_free and config.setting(project, "merge.delete_branch"):
            git.run(project.path, "update-ref", "-d", git.HEADS + branch, merged_sha, limit="git-write")
        return git.commit(project.path, git.HEADS + branch) is None
