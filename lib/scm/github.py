"""GitHub's pull requests, through `gh`: seen in batches, merged by the head that was seen.

A batch that fails is unknown for its sessions alone, and about whoever is not due yet nobody is asked.
"""

from __future__ import annotations

import shlex
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from lib import config, gh, git
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Unknown, reason
from lib.scm import (
    UNASKED,
    Blocked,
    Comment,
    Failure,
    Moved,
    Pull,
    Said,
    Session,
    _github_facts,
    _github_find,
    _github_fork,
    _github_logs,
    _github_pace,
    _github_query,
    _merged,
)
from lib.scm._github_look import Look

OWN = (
    "GitHub lets nobody approve what was pushed with their own login, nor request changes; tell the agent with "
    "--comment, and where nobody else reviews set merge.require_review: false"
)
PAGE = 100  # of a list
EVENTS = {"approved": "APPROVE", "changes_requested": "REQUEST_CHANGES", "commented": "COMMENT"}


def look(
    home: str, project: Project, sessions: Sequence[Session], clock: Clock, fresh: bool = False
) -> dict[str, Pull | AoError | None]:
    """The pull requests of these sessions as they are now; an error where that is unknown."""
    repo, memory = gh.repository(project), _github_pace.Memory(home, project, clock)
    wanted = list(sessions) if fresh else memory.due(sessions, gh.pause(home, repo.host))
    turn = {session["id"] for session in wanted}
    resting = [one["id"] for one in sessions if one["id"] not in turn and not one.get("pr_unknown_since")]
    answer: dict[str, Pull | AoError | None] = dict.fromkeys(resting, UNASKED)
    if not wanted:
        return answer
    seen = Look(home, project, repo, memory.strangers, memory.size)
    seen.ask([session for session in wanted if session.get("claimed_pr_number") or _github_find.is_possible(session)])
    for session in wanted:
        try:
            found = answer[session["id"]] = seen.pull_of(session)
            memory.note(session, found)
        except AoError as error:  # of this one alone nothing is known
            answer[session["id"]] = error
    was_too_much = any(isinstance(error, gh.NoAnswer) for error in seen.unknown.values())
    memory.save(sessions, not fresh, was_too_much)
    if not fresh and seen.points:
        gh.note_round(home, repo.host, project.id, seen.points)
    if seen.unknown and all(isinstance(found, AoError) for found in answer.values()):
        raise Unknown(reason(next(iter(seen.unknown.values()))))
    return answer


def failures(home: str, project: Project, session: Session) -> list[Failure]:
    """The red checks of the session's pull request with the end of their logs."""
    repo = gh.repository(project)
    return _github_logs.failures(home, repo, _github_query.checks(home, repo, _number(home, project, session)))


def comments(home: str, project: Project, session: Session) -> list[Comment]:
    """What reviewers wrote and nobody settled."""
    number, seen = _shown(home, project, session)
    return seen.comments(number, session)


def approvals(home: str, project: Project, session: Session) -> list[Comment]:
    """What those wrote who approve."""
    number, seen = _shown(home, project, session)
    return _github_facts.approvals(seen.raw(number))


def ci_wanted(pull: Pull, project: Project) -> bool:
    return False


def plan_merge(home: str, project: Project, session: Session, method: str, actor: str = "") -> dict[str, str]:
    """What to merge: the head that was seen. Raises Moved when it is another by now."""
    now, seen = pull(home, project, session), session.get("pr") or {}
    number = now["number"]
    if now["state"] != "open" or now["is_draft"]:
        what = now["state"] if now["state"] != "open" else "a draft"
        raise Blocked(f"cannot merge pull request '{number}': it is {what}")
    if seen.get("head_sha", now["head_sha"]) != now["head_sha"]:
        raise Moved(f"cannot merge pull request '{number}': '{now['branch']}' has commits that are not looked at yet")
    plan = {"number": str(number), "head_sha": now["head_sha"], "branch": now["branch"] * (not now["from_fork"])}
    return {**plan, "base_branch": now["base_branch"], "method": method}


def merge(home: str, project: Project, session: Session, plan: Mapping[str, str]) -> None:
    """Merge exactly the planned head; GitHub refuses any other."""
    repo = gh.repository(project)
    fields = {"sha": plan["head_sha"], "merge_method": plan["method"]}
    try:
        gh.ask(home, repo.host, repo.path("pulls", plan["number"], "merge"), "PUT", fields)
    except gh.Refused as error:
        has_moved = error.status == 409 or "was modified" in str(error)
        kind = Moved if has_moved else Blocked
        raise kind(f"cannot merge pull request '{plan['number']}': {error}") from error
    _finish(home, project, plan)


def is_merged(home: str, project: Project, session: Session, plan: Mapping[str, str]) -> bool:
    """Whether GitHub says so; then what a process that died has left over is done too."""
    repo = gh.repository(project)
    done = bool(gh.ask(home, repo.host, repo.path("pulls", plan["number"]))["merged"])
    if done:
        _finish(home, project, plan)
    return done


def delete_branch(home: str, project: Project, branch: str, merged_sha: str, from_fork: bool = False) -> bool:
    """Delete a merged branch here and at GitHub, where `merge.delete_branch` says so and it has nothing more in it.

    In another repository it is its owner's, and one of that name in this repository is another branch.
    """
    is_gone = _merged.delete_branch(home, project, branch, merged_sha)
    if not from_fork:
        _delete_remote(home, project, branch, merged_sha)
    elif is_gone:
        _github_fork.forget(home, project, branch)
    return is_gone


def pull(home: str, project: Project, session: Session) -> Pull:
    number, seen = _shown(home, project, session)
    return seen.facts(number)


def fetch(home: str, project: Project, pull: Pull) -> str:
    """Bring the pull request's branch into the repository and return its name here.

    AoError when one of that name has commits of its own, or when it is in a repository that one may not push to.
    """
    branch, what = str(pull["branch"]), f"cannot take over pull request '{pull['number']}'"
    if branch.startswith("-") or git.run(project.path, "check-ref-format", git.HEADS + branch).code:
        raise AoError(f"{what}: '{branch}' is not a valid branch name")
    fork = _github_fork.source(home, project, pull, what) if pull["from_fork"] else None
    tracked = _github_fork.tracked(pull)
    ref = f"refs/pull/{pull['number']}/head" if fork else git.HEADS + branch
    git.out(project.path, "fetch", "--quiet", "origin", f"+{ref}:{tracked}", limit="git-network")
    newest = git.commit(project.path, tracked) or str(pull["head_sha"])
    with git.changing(home, project.path):
        name = _github_fork.name_here(project, pull, fork, what) if fork else branch
        mine = git.commit(project.path, git.HEADS + name)
        if mine and not git.contains(project.path, newest, mine) and not git.contains(project.path, mine, newest):
            raise AoError(f"{what}: the branch '{name}' of '{project.path}' has other commits")
        if fork:
            _github_fork.lead_to(project, fork, pull, name)
        if mine is None:
            git.out(project.path, "branch", "--quiet", "--track", "--end-of-options", name, tracked)
    return name


def take_over(home: str, project: Project, session: Session, number: int) -> Pull:
    """Bring the checked out branch up to what is at GitHub."""
    found = pull(home, project, {"id": session["id"], "claimed_pr_number": number})
    path, tracked = session["workspace_path"], _github_fork.tracked(found)
    with git.changing(home, project.path):
        git.out(path, "merge", "--quiet", "--ff-only", tracked, limit="git-write")
    return found


def opening(project: Project, session: Session) -> str:
    """The commands by which an agent opens its pull request."""
    named = config.setting(project, "repo")
    where, text = f"--repo {named} " if named else "", '--title "what it does" --body "why, and how it was verified"'
    branch, base = (shlex.quote(str(session.get(name))) for name in ("branch", "base_branch"))
    return f"git push -u origin {branch} && gh pr create {where}--head {branch} --base {base} {text}"


def publish(home: str, project: Project, session: Session, title: str, body: str, now: str) -> None:
    """Push what the session has committed, and open its pull request. May be done again after a crash."""
    repo, branch, seen = gh.repository(project), str(session["branch"]), session.get("pr") or {}
    if session.get("claimed_pr_number") and not seen:  # whose it is decides where it is pushed to
        seen = pull(home, project, session)
    _push(project, seen if seen.get("from_fork") else {"branch": branch}, branch, str(session["head_sha"]))
    if seen.get("from_fork"):
        return
    query = urllib.parse.urlencode({"state": "open", "head": f"{repo.owner}:{branch}"})
    if gh.ask(home, repo.host, f"{repo.path('pulls')}?{query}"):
        return
    names = {"head": branch, "base": session["base_branch"]}
    gh.ask(home, repo.host, repo.path("pulls"), "POST", {"title": title, "body": body, **names})


def _push(project: Project, there: Pull, mine: str, head: str) -> None:
    """Make a commit the tip of a branch at GitHub, which here is called `mine`.

    AoError when others have pushed to it what the commit lacks.
    """
    path, branch, remote = project.path, there["branch"], _github_fork.remote(there)
    ref = git.HEADS + branch
    tip = git.out(path, "ls-remote", "--quiet", remote, ref, limit="git-network").partition("\t")[0]
    is_known = not tip or git.commit(path, tip) is not None
    is_own = is_known and (
        not tip or git.contains(path, head, tip) or _github_find.was_made_here(path, tip, git.HEADS + mine)
    )
    if not is_own:
        raise AoError(f"'{branch}' has commits at GitHub that are not here; bring them in with: git pull --rebase")
    lease = f"--force-with-lease={ref}:{tip}"
    git.out(path, "push", "--quiet", lease, remote, f"{head}:{ref}", limit="git-network")


def pulls(home: str, project: Project, ended: bool) -> tuple[list[Pull], list[str]]:
    """The repository's pull requests, newest first; with `ended` merged and closed ones too."""
    repo = gh.repository(project)
    path = repo.path("pulls") + f"?per_page={PAGE}&state={'all' if ended else 'open'}"
    numbers = [one["number"] for one in gh.ask(home, repo.host, path)]
    seen, found, problems = _seen(home, project, *numbers), list[Pull](), list[str]()
    for number in numbers:
        try:
            found.append(seen.facts(number))
        except Unknown as error:
            problems.append(str(error))
    if problems and not found:
        raise Unknown(problems[0])
    return found, [*dict.fromkeys(problems)] + [f"only the newest {PAGE} are listed"] * (len(numbers) == PAGE)


def set_state(home: str, project: Project, session: Session, word: str, now: str) -> Pull:
    """Goal-state: close without merging, reopen, or make ready for merging."""
    number, repo = _number(home, project, session), gh.repository(project)
    if word == "ready":
        now_is = gh.ask(home, repo.host, repo.path("pulls", number))
        if now_is["draft"]:
            gh.mutate(home, repo.host, "markPullRequestReadyForReview", "pullRequestId", now_is["node_id"])
    else:
        state = {"state": "closed" if word == "close" else "open"}
        gh.ask(home, repo.host, repo.path("pulls", number), "PATCH", state)
    return pull(home, project, session)


def review(home: str, project: Project, session: Session, said: Said, actor: str, now: str) -> Pull:
    """Post a review in the name that `gh` is logged in as; what it said already of this head is not said again."""
    if said["author"]:
        raise AoError("a review at GitHub is in the name that gh is logged in as; leave out --as")
    repo, (number, seen) = gh.repository(project), _shown(home, project, session)
    if said["file"] and not said["line"]:  # GitHub has no place for it
        said = {**said, "body": f"{said['file']}: {said['body']}", "file": ""}
    fields: dict[str, Any] = {"commit_id": seen.facts(number)["head_sha"], "event": EVENTS[said["decision"]]}
    if said["file"]:
        fields["comments"] = [{"path": said["file"], "body": said["body"], "line": said["line"], "side": "RIGHT"}]
    else:
        fields["body"] = said["body"]
    if not _github_facts.has_said(seen.raw(number), seen.threads, said):
        try:
            gh.ask(home, repo.host, repo.path("pulls", number, "reviews"), "POST", fields)
        except gh.Refused as error:
            if "own pull" not in str(error):
                raise
            raise AoError(f"cannot review pull request '{number}': {OWN}") from error
    return pull(home, project, session)


def resolve(home: str, project: Project, session: Session, thread: str) -> Pull:
    """Settle the thread that holds a comment, by the comment's id."""
    _, seen = _shown(home, project, session)
    comment = thread.partition("@")[0]
    for id, raw in seen.threads.items():
        if any(one["id"] == comment for one in raw["comments"]["nodes"]):
            gh.mutate(home, gh.repository(project).host, "resolveReviewThread", "threadId", id)
            return pull(home, project, session)
    raise AoError(f"there is no open thread with the comment '{thread}'")


def program(project: Project) -> str | None:
    return "gh"


def _number(home: str, project: Project, session: Session) -> int:
    number = session.get("claimed_pr_number")
    if not number:
        raise AoError(f"session '{session['id']}' has no pull request that is known; see: ao-pr list")
    return int(number)


def _shown(home: str, project: Project, session: Session) -> tuple[int, Look]:
    """The number of the session's pull request, and a look at it."""
    number = _number(home, project, session)
    return number, _seen(home, project, number)


def _seen(home: str, project: Project, *numbers: int) -> Look:
    """A look at these pull requests alone, now. Raises Unknown when one is not shown."""
    found = Look(home, project, gh.repository(project), [], _github_pace.MOST)
    found.ask([{"id": "", "claimed_pr_number": number} for number in numbers])
    return found


def _finish(home: str, project: Project, plan: Mapping[str, str]) -> None:
    """Tidy up behind a merge; may be done again after a crash. What fails here is no failed merge."""
    try:
        with git.changing(home, project.path):
            _merged.keep_head(project, plan)
        if plan["branch"]:
            _delete_remote(home, project, plan["branch"], plan["head_sha"])
    except AoError as error:
        raise Unknown(f"pull request '{plan['number']}' is merged, but not tidied up: {error}") from error


def _delete_remote(home: str, project: Project, branch: str, merged_sha: str) -> None:
    """Delete a merged branch at GitHub where that is wanted; one that is gone or has moved on is left."""
    if not config.setting(project, "merge.delete_branch"):
        return
    repo = gh.repository(project)
    try:
        ref = gh.ask(home, repo.host, repo.path("git/ref/heads", branch))
        if ref["object"]["sha"] == merged_sha:
            gh.ask(home, repo.host, repo.path("git/refs/heads", branch), "DELETE")
    except gh.Refused:
        return  # it is gone, or may not go: the merge is done all the same
