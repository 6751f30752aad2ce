"""Source code management: pull requests, checks, reviews. An scm is a module with the functions of `Scm`.

The shape of a pull request (`Pull`), the `pr` field of a session record:
`number url title owner repo branch base_branch base_sha head_sha is_draft state(open|merged|closed) from_fork
ci_status(pending|passing|failing|none) ci_checks[{name, status(pending|running|passed|failed|skipped), url,
conclusion}] failing_checks failing_check_names review_decision(approved|changes_requested|pending|none) approved_by[]
mergeable(true, false, null = unknown) additions deletions threads[ids of unresolved comments and requests for changes
by people] bot_threads[the same by bots]`; where the forge knows them also `head_seen_at expected_checks[names]
forge_blockers[sentences]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError

Session = Mapping[str, Any]
Pull = dict[str, Any]
Said = Mapping[str, Any]  # a review: {decision(approved, changes_requested, commented) author body file line}
UNASKED: Pull = {}  # in place of a pull request: it was not asked about now, and what is recorded of it holds


class Blocked(AoError):
    """The forge says no to a merge, for a reason that trying again at once will not change."""


class Moved(Blocked):
    """The head or the base is not what was planned with any more: nothing has failed, it must be looked at again."""


class Failure(NamedTuple):
    """A failed check, with what its agent needs to mend it."""

    name: str
    url: str
    step: str
    log: str  # the last lines, escape sequences stripped


class Comment(NamedTuple):
    """Something a reviewer wrote that is not settled."""

    id: str
    author: str
    is_bot: bool
    body: str
    url: str
    file: str = ""
    line: int = 0


def ci(checks: Sequence[Mapping[str, Any]]) -> Pull:
    """What of a pull request's shape its checks tell."""
    statuses = {check["status"] for check in checks}
    failed = sorted(check["name"] for check in checks if check["status"] == "failed")
    waits, passes = statuses & {"pending", "running"}, "passing" if "passed" in statuses else "none"
    return {
        "ci_status": "failing" if failed else "pending" if waits else passes,
        "ci_checks": checks,
        "failing_checks": len(failed),
        "failing_check_names": failed[:5],
    }


def threads(said: Sequence[Comment]) -> Pull:
    """What of a pull request's shape its open comments tell."""
    return {
        "threads": [one.id for one in said if not one.is_bot],
        "bot_threads": [one.id for one in said if one.is_bot],
    }


class Scm(Protocol):
    # The pull requests of these sessions (one project, so one repository), batched. None is a definite "no pull
    # request"; an error, or no answer for a session, is unknown. Raises Unknown when nothing can be said. A forge that
    # may not be asked all the time answers UNASKED for those who can wait, but not when it must be `fresh`.
    def look(
        self, home: str, project: Project, sessions: Sequence[Session], clock: Clock, fresh: bool = False
    ) -> dict[str, Pull | AoError | None]: ...

    # What is behind the red checks of the session's pull request.
    def failures(self, home: str, project: Project, session: Session) -> list[Failure]: ...

    # What reviewers wrote and nobody settled; without what the session itself wrote.
    def comments(self, home: str, project: Project, session: Session) -> list[Comment]: ...

    # What those wrote who approve.
    def approvals(self, home: str, project: Project, session: Session) -> list[Comment]: ...

    # Everything that merge needs and that must be known before it: saved in the intent. actor is the session that
    # asks, "" for a person or ao itself. Raises Blocked or Unknown.
    def plan_merge(
        self, home: str, project: Project, session: Session, method: str, actor: str = ""
    ) -> dict[str, str]: ...

    # Carry out a planned merge of exactly the head that was seen. Raises Blocked, Unknown or AoError.
    def merge(self, home: str, project: Project, session: Session, plan: Mapping[str, str]) -> None: ...

    # Whether a planned merge has happened. Raises Unknown.
    def is_merged(self, home: str, project: Project, session: Session, plan: Mapping[str, str]) -> bool: ...

    # Delete a merged branch where `merge.delete_branch` says so, if it still is what was merged and nobody has it
    # checked out; whether it is gone. Absent is success. One from a fork is deleted here alone.
    def delete_branch(
        self, home: str, project: Project, branch: str, merged_sha: str, from_fork: bool = False
    ) -> bool: ...

    # The session's pull request as it was last seen. AoError when there is none.
    def pull(self, home: str, project: Project, session: Session) -> Pull: ...

    # The project's pull requests, newest first, with `ended` merged and closed ones too; and what could not be read.
    def pulls(self, home: str, project: Project, ended: bool) -> tuple[list[Pull], list[str]]: ...

    # Goal-state: `close` without merging, `reopen`, or `ready` when it is a draft no longer.
    def set_state(self, home: str, project: Project, session: Session, word: str, now: str) -> Pull: ...

    # Add a review.
    def review(self, home: str, project: Project, session: Session, said: Said, actor: str, now: str) -> Pull: ...

    # Settle a comment.
    def resolve(self, home: str, project: Project, session: Session, thread: str) -> Pull: ...

    # The command by which an agent opens the pull request of its session.
    def opening(self, project: Project, session: Session) -> str: ...

    # Bring the branch of a pull request into the repository, where that is kept elsewhere; its name here. AoError when
    # it is in a repository that cannot be pushed to.
    def fetch(self, home: str, project: Project, pull: Pull) -> str: ...

    # Make an open pull request the session's own work, once its branch is checked out in the session's worktree.
    def take_over(self, home: str, project: Project, session: Session, number: int) -> Pull: ...

    # Goal-state, repeated when it was cut off: what the session has committed is at the forge, in its open pull request
    # or in a new one with this title and body.
    def publish(self, home: str, project: Project, session: Session, title: str, body: str, now: str) -> None: ...

    # Whether ao has to run checks for this pull request itself (ao-ci), because its forge runs none.
    def ci_wanted(self, pull: Pull, project: Project) -> bool: ...

    # The program that must be installed, for ao-doctor; None when git is all it takes.
    def program(self, project: Project) -> str | None: ...
