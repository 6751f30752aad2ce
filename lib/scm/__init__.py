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


class Scm(Protocol):
    # The pull requests of these sessions (one project, so one repository), batched. None is a definite "no pull
    # request"; an error, or no answer for a session, is unknown. Raises Unknown when nothing can be said.
    def look(
        self, home: str, project: Project, sessions: Sequence[Session], clock: Clock
    ) -> dict[str, Pull | AoError | None]: ...

    # What is behind the red checks of the session's pull request.
    def failures(self, home: str, project: Project, session: Session) -> list[Failure]: ...

    # What reviewers wrote and nobody settled; without what the session itself wrote.
    def comments(self, home: str, project: Project, session: Session) -> list[Comment]: ...

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
    # checked out; whether it is gone. Absent is success.
    def delete_branch(self, home: str, project: Project, branch: str, merged_sha: str) -> bool: ...

    # The session's pull request as it was last seen. AoError when there is none.
    def pull(self, home: str, project: Project, session: Session) -> Pull: ...

    # Make an open pull request the session's own work, with its branch in the repository.
    def take_over(self, home: str, project: Project, session: Session, number: int) -> Pull: ...

    # Whether ao has to run checks for this pull request itself (ao-ci), because its forge runs none.
    def ci_wanted(self, pull: Pull, project: Project) -> bool: ...

    # The program that must be installed, for ao-doctor; None when git is all it takes.
    def program(self, project: Project) -> str | None: ...
