"""What is on GitHub: repositories with issues, pull requests, reviews and checks, and what people and CI do with them.

Every method that changes something is what a person, a bot or CI does; the REST and GraphQL sides call the same ones.
Words are those of the REST API in lower case; GraphQL's capitals are made at the edge.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import bare

if TYPE_CHECKING:
    from .hub import Hub

Method = TypeVar("Method", bound=Callable[..., Any])
FAILED = ("failure", "timed_out", "cancelled", "action_required", "startup_failure", "stale", "error")
RUNNING = ("queued", "in_progress", "waiting", "pending", "requested")
OPINIONS = ("approved", "changes_requested", "dismissed")
CLOSES = re.compile(r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):? #(\d+)", re.I)


class Refused(Exception):
    """GitHub does not do it: a status of HTTP and its reason."""

    def __init__(self, status: int, message: str, *errors: object) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors


def change(method: Method) -> Method:
    """Under the lock; and what lagging answers show is kept from before."""

    @functools.wraps(method)
    def changed(self: Any, *args: Any, **options: Any) -> Any:
        with self.hub.changing():
            result = method(self, *args, **options)
            if isinstance(self, Issue):
                self.updated = self.hub.now()
            return result

    return changed  # type: ignore[return-value]


@functools.lru_cache(maxsize=10_000)
def iso(at: float | None) -> str | None:
    return None if at is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def gid(kind: str, thing: Any) -> str:
    """The global id of a node, from which it is found again."""
    repo = thing if isinstance(thing, Repo) else thing.repo
    key = f"{kind}:{repo.host}:{repo.full_name}:{thing.id}"
    return f"{kind}_" + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def ungid(id: str) -> tuple[str, str, str, int]:
    """Kind, host, repository and number; ValueError for what is no id."""
    text = id.partition("_")[2]
    kind, host, name, number = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(":")
    return kind, host, name, int(number)


@dataclasses.dataclass
class Thing:
    """Whatever has a number of its own, in a repository."""

    repo: Repo
    id: int
    at: float

    @property
    def hub(self) -> Hub:
        return self.repo.hub


@dataclasses.dataclass
class Comment(Thing):
    author: str | None  # None is who has deleted the account
    body: str
    on: Any  # its issue, pull request or thread
    edited: float | None = None

    @change
    def edit(self, body: str) -> None:
        self.body, self.edited = body, self.hub.now()

    @change
    def delete(self) -> None:
        self.on.comments.remove(self)


@dataclasses.dataclass
class Review(Thing):
    pull: Pull
    author: str | None
    state: str  # approved, changes_requested, commented, dismissed
    body: str
    sha: str

    @change
    def dismiss(self) -> None:
        self.state = "dismissed"


@dataclasses.dataclass
class Thread(Thing):
    pull: Pull
    review: Review
    path: str
    line: int | None
    hunk: str
    comments: list[Comment] = dataclasses.field(default_factory=list)
    resolved_by: str | None = None
    is_outdated: bool = False

    @change
    def reply(self, body: str, author: str | None = "reviewer") -> Comment:
        self.comments.append(Comment(self.repo, self.hub.next_id(), self.hub.now(), author, body, self))
        return self.comments[-1]

    @change
    def resolve(self, by: str = "reviewer") -> None:
        self.resolved_by = by

    @change
    def reopen(self) -> None:
        self.resolved_by = None


@dataclasses.dataclass
class Check(Thing):
    """A check run. One of GitHub Actions is a job of a workflow's run, with steps and a log; `id` is the job's too."""

    sha: str
    name: str
    app: str
    workflow: str
    run: int
    url: str
    status: str = "queued"
    conclusion: str | None = None
    started: float | None = None
    ended: float | None = None
    summary: str = ""
    steps: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # {name, conclusion, text, started, ended}

    @property
    def is_failed(self) -> bool:
        return self.conclusion in FAILED

    def log(self) -> str:
        """As GitHub hands it out: every line with its time, steps told apart by nothing but that and groups."""
        lines = []
        for step in self.steps:
            text = step["text"].splitlines()
            for row, line in enumerate(text):
                at = step["started"] + (step["ended"] - step["started"]) * (row + 1) / (len(text) + 2)
                part = f"{at % 1:.7f}"[1:]
                lines.append(time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f"{part}Z {line}")
        return "\ufeff" + "".join(line + "\r\n" for line in lines)


@dataclasses.dataclass
class Status(Thing):
    sha: str
    context: str
    state: str  # error, failure, pending, success
    description: str
    url: str
    author: str


@dataclasses.dataclass
class Protection:
    checks: tuple[str, ...] = ()
    reviews: int = 0
    strict: bool = False  # the head must hold the newest base
    dismiss_stale: bool = False


@dataclasses.dataclass
class Issue(Thing):
    number: int
    title: str
    body: str
    author: str | None
    labels: list[str] = dataclasses.field(default_factory=list)
    assignees: list[str] = dataclasses.field(default_factory=list)
    milestone: str | None = None
    state: str = "open"
    reason: str | None = None
    closed: float | None = None
    closed_by: str | None = None
    updated: float = 0.0
    comments: list[Comment] = dataclasses.field(default_factory=list)

    @change
    def comment(self, body: str, author: str | None = "reviewer") -> Comment:
        self.comments.append(Comment(self.repo, self.hub.next_id(), self.hub.now(), author, body, self))
        return self.comments[-1]

    @change
    def close(self, by: str = "reviewer", reason: str = "completed") -> None:
        if self.state == "open":
            self.state, self.reason, self.closed, self.closed_by = "closed", reason, self.hub.now(), by

    @change
    def reopen(self) -> None:
        self.state, self.reason, self.closed, self.closed_by = "open", "reopened", None, None

    @change
    def edit(self, **values: Any) -> None:
        for name, value in values.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    @change
    def label(self, *labels: str) -> None:
        self.labels += [label for label in labels if label not in self.labels]


@dataclasses.dataclass
class Pull(Issue):
    head_repo: Repo | None = None  # None once the fork is gone
    head: str = ""
    head_sha: str = ""
    base: str = ""
    base_sha: str = ""  # as it was at the last push to the head, like GitHub's
    is_draft: bool = False
    merged: float | None = None
    merged_by: str | None = None
    merge_sha: str | None = None
    reviews: list[Review] = dataclasses.field(default_factory=list)
    threads: list[Thread] = dataclasses.field(default_factory=list)
    unknown: tuple[int, float] = (0, 0.0)  # for how many looks, and until when, its mergeability is not known
    askers: set[int] = dataclasses.field(default_factory=set)  # the requests that have asked for it
    may_maintainers_push: bool = True

    @change
    def review(self, state: str, body: str = "", author: str | None = "reviewer") -> Review:
        assert state in (*OPINIONS, "commented"), state
        self.reviews.append(
            Review(self.repo, self.hub.next_id(), self.hub.now(), self, author, state, body, self.head_sha)
        )
        return self.reviews[-1]

    @change
    def thread(
        self,
        body: str,
        path: str = "a.txt",
        line: int | None = 1,
        author: str | None = "reviewer",
        hunk: str = "@@ -1 +1 @@\n-old\n+new",
        review: Review | None = None,
    ) -> Thread:
        """A conversation in the code; it belongs to a review, as on GitHub."""
        review = review or self.review("commented", "", author)
        thread = Thread(self.repo, self.hub.next_id(), self.hub.now(), self, review, path, line, hunk)
        self.threads.append(thread)
        thread.reply(body, author)
        return thread

    @change
    def ready(self, is_draft: bool = False) -> None:
        self.is_draft = is_draft

    @change
    def reopen(self) -> None:
        if self.merged or not self.head_repo or self.head not in self.head_repo.refs:
            raise Refused(422, "Validation Failed", {"resource": "PullRequest", "code": "invalid", "field": "state"})
        super().reopen()
        self.head_sha = self.head_repo.refs[self.head]
        self.stir()

    @change
    def stir(self) -> None:
        """Its mergeability is not known for a while."""
        self.unknown, self.askers = (self.hub.unknown_looks, self.hub.now() + self.hub.unknown_seconds), set()

    def is_known(self) -> bool:
        """Each request that asks is one look, however often it asks."""
        looks, until = self.unknown
        self.askers.add(self.hub.request_count)
        return len(self.askers) > looks and self.hub.now() >= until

    @property
    def is_open(self) -> bool:
        return self.state == "open"

    @property
    def protection(self) -> Protection:
        return self.repo.protection.get(self.base, Protection())

    @property
    def is_clean(self) -> bool:
        return bool(bare.merged_tree(self.repo.path, self.repo.refs.get(self.base, self.base_sha), self.head_sha))

    def opinions(self) -> dict[str | None, Review]:
        """The latest review of each person that says something of the whole."""
        return {review.author: review for review in self.reviews if review.state in OPINIONS}

    def decision(self) -> str | None:
        states = [review.state for review in self.opinions().values()]
        if not self.protection.reviews and not self.hub.decides_unasked:
            return None
        if "changes_requested" in states:
            return "changes_requested"
        if states.count("approved") >= max(1, self.protection.reviews):
            return "approved"
        return "review_required" if self.protection.reviews else None

    def blockers(self) -> list[str]:
        """What protection of the base has against a merge, in GitHub's words."""
        results, found = self.repo.results(self.head_sha), []
        for name in self.protection.checks:
            if name not in results:
                found.append(f'Required status check "{name}" is expected.')
            elif results[name] != "success":
                word = "failing" if results[name] == "failure" else "in progress"
                found.append(f'Required status check "{name}" is {word}.')
        if self.protection.reviews and self.decision() != "approved":
            found.append("At least 1 approving review is required by reviewers with write access.")
        return found

    def merge_state(self) -> str:
        """GraphQL's mergeStateStatus and REST's mergeable_state."""
        results = set(self.repo.results(self.head_sha).values())
        base = self.repo.refs.get(self.base, self.base_sha)
        states = (
            ("dirty", not self.is_clean),
            ("draft", self.is_draft),
            ("blocked", bool(self.blockers())),
            ("behind", self.protection.strict and not bare.is_ancestor(self.repo.path, base, self.head_sha)),
            ("unstable", bool(results - {"success"})),
            ("clean", True),
        )
        return next(name for name, holds in states if holds)

    @change
    def merge(self, method: str = "merge", sha: str = "", by: str = "reviewer", text: str = "") -> str:
        """Merge it as GitHub does, with a real commit on the base."""
        if sha and sha != self.head_sha:
            raise Refused(409, "Head branch was modified. Review and try the merge again.")
        if not self.repo.methods[method]:
            raise Refused(405, f"{method.capitalize()} merges are not allowed on this repository.")
        if self.is_draft:
            raise Refused(405, "Pull Request is still a draft")
        if not self.is_open or not self.is_clean:
            raise Refused(405, "Pull Request is not mergeable")
        if blockers := self.blockers():
            raise Refused(405, blockers[0])
        if self.merge_state() == "behind":
            raise Refused(405, "Head branch is out of date. Review and try the merge again.")
        title = f"Merge pull request #{self.number} from {self.head}" if method == "merge" else self.title
        base = self.repo.refs[self.base]
        new = bare.land(self.repo.path, method, base, self.head_sha, text or f"{title} (#{self.number})", by)
        if not new:
            raise Refused(
                405, "This branch can't be rebased" if method == "rebase" else "Pull Request is not mergeable"
            )
        if not bare.move(self.repo.path, self.base, new, base):
            raise Refused(405, "Base branch was modified. Review and try the merge again.")
        self._landed(new, by)
        self.repo.refresh()
        if self.repo.deletes_merged and self.head_repo:
            self.head_repo.delete(self.head)
        return new

    def _landed(self, sha: str, by: str) -> None:
        self.state, self.merged, self.merged_by, self.merge_sha = "closed", self.hub.now(), by, sha
        self.closed, self.updated = self.merged, self.merged
        for issue in self.closes():
            issue.close(by)

    def closes(self) -> list[Issue]:
        """The issues that its text says it closes."""
        numbers = CLOSES.findall(self.body) if self.base == self.repo.default_branch else ()
        return [self.repo.issues[int(number)] for number in numbers if int(number) in self.repo.issues]


class Repo:
    """A repository with its bare one on disk."""

    def __init__(self, hub: Hub, host: str, name: str, branch: str, fork_of: Repo | None = None) -> None:
        self.hub, self.host, self.fork_of, self.default_branch = hub, host, fork_of, branch
        self.owner, self.name = name.split("/")
        self.id, self.at = hub.next_id(), hub.now()
        self.path = os.path.join(hub.folder, "git", host, f"{name}.git")
        self.issues: dict[int, Issue] = {}  # pull requests too: they share numbers
        self.checks: list[Check] = []
        self.statuses: list[Status] = []
        self.protection: dict[str, Protection] = {}
        self.labels = {"bug", "documentation", "enhancement"}
        self.methods = {"merge": True, "squash": True, "rebase": True}
        self.roles = {} if fork_of else {hub.me: "admin"}  # login -> admin, write or read
        self.deletes_merged, self.is_archived, self.is_private, self.has_issues = False, False, False, True
        self.refs: dict[str, str] = {}
        bare.init(self.path, branch)
        if fork_of:
            self._bring(fork_of)
        else:
            bare.commit(self.path, branch, "", {"a.txt": "one\ntwo\nthree\n"}, "first", self.owner)
        self.refs = bare.branches(self.path)

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def url(self) -> str:
        return f"https://{self.host}/{self.full_name}"

    @property
    def remote(self) -> str:
        """What `git clone` takes."""
        return f"http://{self.host}/{self.full_name}.git"

    def role(self, login: str) -> str:
        return "admin" if login == self.owner else self.roles.get(login, "read")

    def lets_push(self, login: str, branches: set[str]) -> bool:
        """A fork lets in who writes to what it is a fork of: to the branches of open pull requests that allow it."""
        open_ones = [pull for repo in self.hub.repos() for pull in repo.pulls() if pull.is_open]
        allowed = {
            pull.head
            for pull in open_ones
            if pull.head_repo is self and pull.may_maintainers_push and pull.repo.role(login) != "read"
        }
        return not self.is_archived and (self.role(login) != "read" or (bool(allowed) and branches <= allowed))

    def resolve(self, name: str) -> str:
        """The commit of a branch or a SHA, or empty."""
        known = self.refs.get(name.removeprefix("heads/"))
        return known or bare.git(self.path, "rev-parse", "-q", "--verify", f"{name}^0", check=False)

    def pulls(self) -> list[Pull]:
        return [issue for issue in self.issues.values() if isinstance(issue, Pull)]

    @change
    def issue(self, title: str, body: str = "", author: str | None = "reporter", **values: Any) -> Issue:
        """Also: labels, assignees, milestone, number."""
        number = values.pop("number", None) or max(self.issues, default=0) + 1
        now = self.hub.now()
        issue = Issue(self, self.hub.next_id(), now, number, title, body, author, updated=now, **values)
        self.labels |= set(issue.labels)
        self.issues[number] = issue
        return issue

    @change
    def commit(
        self,
        branch: str,
        files: Mapping[str, str | None],
        message: str = "change",
        author: str = "ada",
        start: str = "",
    ) -> str:
        """A commit straight into the bare repository, as if it were pushed; a new branch begins at `start`."""
        start = start or self.refs.get(branch) or self.refs[self.default_branch]
        sha = bare.commit(self.path, branch, start, files, message, author)
        self.refresh()
        return sha

    @change
    def delete(self, branch: str) -> None:
        if branch not in self.refs:
            raise Refused(422, "Reference does not exist")
        bare.git(self.path, "update-ref", "-d", f"refs/heads/{branch}")
        self.refresh()

    @change
    def rename(self, old: str, new: str) -> None:
        """Pull requests from it are closed, those into it follow."""
        bare.git(self.path, "update-ref", f"refs/heads/{new}", self.refs[old])
        for pull in self.pulls():
            if pull.base == old:
                pull.base = new
        self.delete(old)

    @change
    def fork(self, owner: str) -> Repo:
        return self.hub.repo(f"{owner}/{self.name}", self.host, self.default_branch, fork_of=self)

    @change
    def pull(
        self,
        head: str,
        title: str = "",
        body: str = "",
        author: str | None = None,
        base: str = "",
        draft: bool = False,
        head_repo: Repo | None = None,
        number: int = 0,
    ) -> Pull:
        """Open a pull request from a branch that is there, here or in a fork."""
        source, base = head_repo or self, base or self.default_branch
        invalid = {"resource": "PullRequest", "code": "invalid"}
        for field, branches, name in (("head", source.refs, head), ("base", self.refs, base)):
            if name not in branches:
                raise Refused(422, "Validation Failed", {**invalid, "field": field})
        for other in self.pulls():
            if other.is_open and (other.head_repo, other.head, other.base) == (source, head, base):
                text = f"A pull request already exists for {source.owner}:{head}."
                raise Refused(422, "Validation Failed", {**invalid, "code": "custom", "message": text})
        self._bring(source)
        sha, base_sha, now = source.refs[head], self.refs[base], self.hub.now()
        if bare.is_ancestor(self.path, sha, base_sha):
            text = f"No commits between {base} and {head}"
            raise Refused(422, "Validation Failed", {**invalid, "code": "custom", "message": text})
        number = number or max(self.issues, default=0) + 1
        title, author = (
            title or bare.message(self.path, sha).partition("\n")[0],
            self.hub.me if author is None else author,
        )
        pull = Pull(self, self.hub.next_id(), now, number, title, body, author, updated=now)
        pull.head_repo, pull.head, pull.head_sha = source, head, sha
        pull.base, pull.base_sha, pull.is_draft = base, base_sha, draft
        self.issues[number] = pull
        bare.git(self.path, "update-ref", f"refs/pull/{number}/head", sha)
        pull.stir()
        return pull

    @change
    def fleet(self, count: int) -> list[Pull]:
        """Many pull requests, quickly: from branches pull-0, pull-1, …"""
        files = {f"pull-{row}": f"file-{row}.txt" for row in range(count)}
        bare.fleet(self.path, self.refs[self.default_branch], files)
        self.refresh()
        return [self.pull(branch) for branch in files]

    @change
    def protect(self, branch: str = "", **rules: Any) -> Protection:
        """checks, reviews, strict, dismiss_stale; none: not protected."""
        rule = Protection(**{**rules, "checks": tuple(rules.get("checks", ()))})
        self.protection[branch or self.default_branch] = rule
        return rule

    @change
    def check(
        self,
        on: Pull | str,
        name: str,
        result: str = "success",
        log: str | Mapping[str, str] = "",
        app: str = "github-actions",
        workflow: str = "CI",
        url: str = "",
        summary: str = "",
    ) -> Check:
        """CI says something of a commit: queued, in_progress, success, failure, cancelled, skipped, …

        It goes on with an unfinished run of that name; after a finished one it is a new run, and the old stays listed.
        `log` is the text of the step "Run tests", or the text of each step by name; the last of them decides.
        """
        sha, now = on.head_sha if isinstance(on, Pull) else on, self.hub.now()
        same = [check for check in self.checks if (check.sha, check.name, check.app) == (sha, name, app)]
        check = same[-1] if same and same[-1].status != "completed" else self._new_check(sha, name, app, workflow, url)
        check.summary, check.status = summary, result if result in RUNNING else "completed"
        check.started = check.started or (None if result == "queued" else now)
        if check.status == "completed":
            check.conclusion, check.ended = result, now
            check.steps = _steps({"Run tests": log} if isinstance(log, str) else log, result, now)
            check.started = check.steps[0]["started"]
        return check

    @change
    def status(
        self,
        on: Pull | str,
        context: str,
        state: str = "success",
        description: str = "",
        url: str = "",
        author: str = "ci",
    ) -> Status:
        """A commit status, the old form of a check."""
        sha = on.head_sha if isinstance(on, Pull) else on
        status = Status(self, self.hub.next_id(), self.hub.now(), sha, context, state, description, url, author)
        self.statuses.append(status)
        return status

    def contexts(self, sha: str) -> list[Check | Status]:
        """All check runs of a commit, and the newest status of each context."""
        statuses = {status.context: status for status in self.statuses if status.sha == sha}
        return [check for check in self.checks if check.sha == sha] + list(statuses.values())

    def results(self, sha: str) -> dict[str, str]:
        """success, failure or pending by name; the newest run counts."""
        found = {}
        for each in self.contexts(sha):
            name, result = (each.context, each.state) if isinstance(each, Status) else (each.name, each.conclusion)
            word = "failure" if result in FAILED else "pending" if result in (None, "pending") else "success"
            found[name] = word
        return found

    @change
    def refresh(self) -> None:
        """Take notice of what a push has changed in the bare repository."""
        before, self.refs = self.refs, bare.branches(self.path)
        for branch in sorted(before.keys() | self.refs.keys()):
            if before.get(branch) != self.refs.get(branch):
                self._moved(branch, self.refs.get(branch))

    def _moved(self, branch: str, new: str | None) -> None:
        for pull in [pull for repo in self.hub.repos() for pull in repo.pulls() if pull.is_open]:
            if (pull.head_repo, pull.head) == (self, branch):
                pull.repo._pushed(pull, new)
            if (pull.repo, pull.base) == (self, branch) and pull.is_open:
                if not new:
                    pull.close()
                elif bare.is_ancestor(self.path, pull.head_sha, new):
                    pull._landed(new, "reviewer")
                else:
                    pull.stir()

    def _pushed(self, pull: Pull, new: str | None) -> None:
        if not new:
            pull.close()
            return
        self._bring(pull.head_repo or self)
        pull.head_sha, pull.base_sha, pull.updated = new, self.refs.get(pull.base, pull.base_sha), self.hub.now()
        bare.git(self.path, "update-ref", f"refs/pull/{pull.number}/head", new)
        for review in pull.reviews if pull.protection.dismiss_stale else ():
            review.state = "dismissed" if review.state == "approved" else review.state
        pull.stir()

    def _bring(self, other: Repo) -> None:
        """Have the commits of a fork, or of what this is a fork of."""
        if other is not self:
            own = "+refs/heads/*:refs/heads/*" if not self.refs else f"+refs/heads/*:refs/forks/{other.owner}/*"
            bare.git(self.path, "fetch", "--quiet", other.path, own)

    def _new_check(self, sha: str, name: str, app: str, workflow: str, url: str) -> Check:
        id, same = self.hub.next_id(), [c for c in self.checks if (c.sha, c.workflow, c.app) == (sha, workflow, app)]
        taken = {check.run for check in same if check.name == name}
        run = next((check.run for check in reversed(same) if check.run not in taken), None) or self.hub.next_id()
        is_job = app == "github-actions"
        url = url or (f"{self.url}/actions/runs/{run}/job/{id}" if is_job else f"https://{app}.example.org/{id}")
        check = Check(self, id, self.hub.now(), sha, name, app, workflow if is_job else "", run, url)
        self.checks.append(check)
        return check


def _steps(texts: Mapping[str, str], result: str, now: float) -> list[dict[str, Any]]:
    """The steps of a job with what they print; the last of `texts` has the job's result, and others follow it."""
    steps = [("Set up job", "Current runner version: '2.330.0'\n##[group]Operating System\nUbuntu\n##[endgroup]")]
    for name, text in texts.items():
        shown = f"##[group]{name}\n\x1b[36;1m{name}\x1b[0m\nshell: /usr/bin/bash -e {{0}}\n##[endgroup]\n{text}"
        has_failed = result == "failure" and name == list(texts)[-1]
        steps.append((name, shown + ("\n##[error]Process completed with exit code 1." if has_failed else "")))
    last = len(steps) - 1
    steps += [("Post Run actions/checkout@v4", "Post job cleanup."), ("Complete job", "Cleaning up orphan processes")]
    begin = int(now) - 3 * len(steps)
    return [
        {"name": name, "text": text, "conclusion": result if row == last else "success"}
        | {"started": begin + 3 * row, "ended": begin + 3 * row + 3}
        for row, (name, text) in enumerate(steps)
    ]
