"""The forge that is files: pull requests, checks and reviews of a repository that needs no remote.

The head of a pull request is its branch's tip once that was the same in two looks in a row: an agent in the middle of
several commits is not reviewed commit by commit. Whatever git says about a head and a base is kept with the pull
request, so an unchanged one costs no process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib import config, git, render, scm
from lib.clock import Clock, iso
from lib.config import Project
from lib.errors import AoError, Unknown
from lib.scm import (
    Blocked,
    Comment,
    Failure,
    Moved,
    Pull,
    Said,
    Session,
    _checks,
    _follow,
    _merged,
    _merging,
    _pulls,
    _reviews,
)


def look(
    home: str, project: Project, sessions: Sequence[Session], clock: Clock, fresh: bool = False
) -> dict[str, Pull | AoError | None]:
    """The pull requests of these sessions as they are now; an error where that is unknown."""
    try:
        tips, shelf = git.branches(project.path), _pulls.everything(home, project.id)
        if shelf.damaged and _pulls.mend(home, project.id, shelf.damaged, clock.iso):
            shelf = _pulls.everything(home, project.id)
    except AoError as error:
        raise Unknown(str(error)) from error
    answer: dict[str, Pull | AoError | None] = {}
    for session in sessions:
        try:
            record = _pulls.find(project, shelf, session)
            if record:
                record = _follow.follow(home, project, record, session, tips, clock.iso)
            answer[session["id"]] = facts(home, project, record) if record else None
        except AoError as error:
            answer[session["id"]] = error  # one that cannot be looked at is unknown, and the others are not
    return answer


def facts(home: str, project: Project, record: _pulls.Record) -> Pull:
    """What a pull request's file says, in the shape of a session's `pr`."""
    checks = _checks.listed(home, project, record)
    link = url(home, project, record)
    said = _reviews.decisions(record)
    against = record["against"]
    is_known = against.get("head_sha") == record["head_sha"]
    return {
        "number": record["number"],
        "url": link,
        "title": record["title"],
        "owner": "",
        "repo": project.id,
        "branch": record["branch"],
        "base_branch": record["base_branch"],
        "base_sha": against.get("base_sha", ""),
        "head_sha": record["head_sha"],
        "is_draft": record["is_draft"],
        "state": record["state"],
        "from_fork": False,
        **scm.ci(checks),
        "expected_checks": [check["name"] for check in checks],
        "review_decision": _reviews.verdict(record, config.setting(project, "merge.require_review")),
        "approved_by": sorted(name for name, decision in said.items() if decision == "approved"),
        "mergeable": against.get("mergeable") if is_known else None,
        "additions": against.get("additions", 0),
        "deletions": against.get("deletions", 0),
        **scm.threads(_reviews.comments(record, link)),
        "head_seen_at": record["head_seen_at"],
        "forge_blockers": [record["note"]] if record["note"] else [],
    }


def url(home: str, project: Project, record: _pulls.Record) -> str:
    return f"file://{_pulls.path(home, project.id, record['number'])}"


def failures(home: str, project: Project, session: Session) -> list[Failure]:
    """The red checks of the session's pull request with the end of their logs."""
    record = _wanted(home, project, session)
    steps = {entry["name"]: entry["run"] for entry in config.setting(project, "ci")}
    runs = _checks.newest(record, *_checks.commits(record)).values()
    red = [run for run in runs if run["status"] == "failed" and run["name"] in steps]
    return [Failure(run["name"], f"file://{run['log']}", steps[run["name"]], run["lines"]) for run in red]


def comments(home: str, project: Project, session: Session) -> list[Comment]:
    """What reviewers wrote and nobody settled, oldest first."""
    record = _wanted(home, project, session)
    return _reviews.comments(record, url(home, project, record))


def approvals(home: str, project: Project, session: Session) -> list[Comment]:
    """What those wrote who approve."""
    record = _wanted(home, project, session)
    return _reviews.approvals(record, url(home, project, record))


def ci_wanted(pull: Pull, project: Project) -> bool:
    """Whether `ao-ci` has something to do for a pull request as `look` returned it."""
    statuses = {check["status"] for check in pull["ci_checks"]}
    again = any(check["conclusion"] == _checks.RETRY for check in pull["ci_checks"])
    is_due = ("pending" in statuses or again) and "running" not in statuses
    return bool(pull["state"] == "open" and is_due and pull["mergeable"] is not False and pull["base_sha"])


def plan_merge(home: str, project: Project, session: Session, method: str, actor: str = "") -> dict[str, str]:
    """Build the merge commit, moving nothing: `{number commit base_sha head_sha branch base_branch method}`.

    `actor` is the session that asks, "" for a person. What is merged is what `session` has seen: Moved when its head or
    its base is another by now, be it that somebody else has looked at that already.
    """
    record = _wanted(home, project, session)
    seen = session.get("pr") or {"head_sha": record["head_sha"], "base_sha": ""}
    _reviews.refuse_author(record, "", actor, "merges")
    tips = git.branches(project.path)
    _check_unchanged(record, tips, seen["head_sha"])
    base = tips.get(record["base_branch"])
    if base is None:
        raise Blocked(f"cannot merge pull request '{record['number']}': there is no branch '{record['base_branch']}'")
    if seen["base_sha"] not in ("", base):
        raise Moved(f"cannot merge pull request '{record['number']}': '{record['base_branch']}' has moved on")
    commit = _merging.build(home, project, {**record, "head_sha": seen["head_sha"]}, base, method)
    with git.changing(home, project.path):  # a commit that nothing points to could be collected before it is merged
        git.out(project.path, "update-ref", _kept(project, record["number"]), commit, limit="git-write")
    _pulls.change(home, project.id, record["number"], lambda fields: fields.update(planned=commit))
    plan = {"number": str(record["number"]), "commit": commit, "base_sha": base, "head_sha": seen["head_sha"]}
    return {**plan, "branch": record["branch"], "base_branch": record["base_branch"], "method": method}


def merge(home: str, project: Project, session: Session, plan: Mapping[str, str]) -> None:
    """Let the base branch take the planned commit, if head and base are still what was planned with."""
    if is_merged(home, project, session, plan):
        return
    with git.changing(home, project.path):
        tips = git.branches(project.path)
        _check_unchanged(_pulls.read(home, project.id, int(plan["number"])), tips, plan["head_sha"])
        if tips.get(plan["base_branch"]) != plan["base_sha"]:
            raise Moved(f"cannot merge pull request '{plan['number']}': '{plan['base_branch']}' has moved on")
        _merging.land(project.path, plan["base_branch"], plan["commit"], plan["base_sha"])
    _finish(home, project, plan)


def is_merged(home: str, project: Project, session: Session, plan: Mapping[str, str]) -> bool:
    """Whether the base contains the planned commit; if so the pull request is merged, whoever died before saying so."""
    try:
        tip = git.branches(project.path).get(plan["base_branch"])
        done = tip is not None and git.contains(project.path, tip, plan["commit"])
    except AoError as error:
        raise Unknown(str(error)) from error
    if done:
        _finish(home, project, plan)
    return done


def delete_branch(home: str, project: Project, branch: str, merged_sha: str, from_fork: bool = False) -> bool:
    return _merged.delete_branch(home, project, branch, merged_sha)


def program(project: Project) -> str | None:
    return None


def open_pull(
    home: str, project: Project, session: Session, title: str, body: str, is_draft: bool, now: str
) -> tuple[Pull, bool]:
    """Open a pull request for the session's branch: it, and False when one was open already.

    `session` holds id ("" for a person), branch and base_branch. AoError when there is nothing to merge.
    """
    branch, base = session["branch"], session.get("base_branch") or base_branch(project)
    existing = _pulls.open_for(home, project.id, branch)
    if existing:
        return facts(home, project, existing), False
    tips = git.branches(project.path)
    for name in (branch, base):
        if name not in tips:
            raise AoError(f"cannot open a pull request for '{branch}': there is no branch '{name}'")
    if git.contains(project.path, tips[base], tips[branch]):
        raise AoError(f"cannot open a pull request for '{branch}': it has no commits that '{base}' lacks; commit first")
    title = " ".join(render.harmless(title).split())
    if not title:
        raise AoError(f"cannot open a pull request for '{branch}': its title is empty")
    names = {"title": title, "body": render.harmless(body), "branch": branch, "base_branch": base}
    state = {"session": session["id"], "is_draft": is_draft, "state": "open", "created_at": now, "ended_at": None}
    head = {"head_sha": tips[branch], "head_seen_at": now, "tip": tips[branch], "note": "", "against": {}}
    record, is_new = _pulls.create(home, project.id, {**names, **state, **head, "runs": [], "reviews": []})
    return facts(home, project, record), is_new


def publish(home: str, project: Project, session: Session, title: str, body: str, now: str) -> None:
    open_pull(home, project, session, title, body, False, now)


def pulls(home: str, project: Project, ended: bool) -> tuple[list[Pull], list[str]]:
    """The project's pull requests, newest first, and why others cannot be read; with `ended` merged and closed too."""
    shelf = _pulls.everything(home, project.id)
    wanted = [record for record in shelf.records if ended or record["state"] == "open"]
    return [facts(home, project, record) for record in wanted], list(shelf.damaged.values())


def pull(home: str, project: Project, session: Session) -> Pull:
    """The session's pull request as its file says it is."""
    return facts(home, project, _wanted(home, project, session))


def set_state(home: str, project: Project, session: Session, word: str, now: str) -> Pull:
    """Make a pull request `ready` (no draft), or `close` or `reopen` it. Goal-state; a merged one stays merged."""
    changes: dict[str, dict[str, Any]] = {
        "ready": {"is_draft": False},
        "close": {"state": "closed", "ended_at": now},
        "reopen": {"state": "open", "ended_at": None},
    }

    def change(fields: _pulls.Record) -> None:
        if fields["state"] == "merged":
            raise AoError(f"cannot {word} pull request '{fields['number']}': it is merged")
        if fields["state"] != changes[word].get("state"):
            fields.update(changes[word])

    return _edit(home, project, session, change)


def opening(project: Project, session: Session) -> str:
    return 'ao-pr open --title "what it does" --body "why, and how it was verified"'


def fetch(home: str, project: Project, pull: Pull) -> str:
    return str(pull["branch"])  # it has always been there


def take_over(home: str, project: Project, session: Session, number: int) -> Pull:
    """Make an open pull request the work of another session."""

    def change(fields: _pulls.Record) -> None:
        if fields["state"] != "open":
            raise AoError(f"cannot take over pull request '{number}': it is {fields['state']}")
        fields["session"] = session["id"]

    return facts(home, project, _pulls.change(home, project.id, number, change))


def review(home: str, project: Project, session: Session, said: Said, actor: str, now: str) -> Pull:
    """Add a review by `author`; without a name by whoever acts: the session `actor`, "" for a person."""
    author = " ".join(render.harmless(said["author"] or actor or person(project)).split())
    said = {**said, "author": author, "body": render.harmless(said["body"])}
    record = _wanted(home, project, session)
    if said["file"] and record["state"] == "open":
        _reviews.check_place(project.path, record, said["file"], said["line"] or 0)
    return _edit(home, project, session, lambda fields: _reviews.add(fields, actor, now, said))


def resolve(home: str, project: Project, session: Session, thread: str) -> Pull:
    return _edit(home, project, session, lambda fields: _reviews.resolve(fields, thread))


def person(project: Project) -> str:
    """Who a person at this machine is to git."""
    return git.run(project.path, "config", "user.name").out.strip() or os.environ.get("USER") or "someone"


def run_checks(home: str, project: Project, session: Session, again: bool = False) -> list[dict[str, Any]]:
    """Run what `ci` configures for the session's pull request; every check's result. Raises Busy while another does."""
    return _checks.run(home, project, _wanted(home, project, session)["number"], again)


def base_branch(project: Project) -> str:
    """The branch that this project's work is merged into."""
    name = config.setting(project, "default_branch") or git.default_branch(project.path)
    if name is None:
        raise AoError(f"there is no branch in '{project.path}' yet; make a first commit")
    return str(name)


def _wanted(home: str, project: Project, session: Session) -> _pulls.Record:
    record = _pulls.find(project, _pulls.everything(home, project.id), session)
    if record is None:
        number = session.get("claimed_pr_number")
        what = f"there is no pull request {number}" if number else f"session '{session['id']}' has no pull request"
        raise AoError(f"{what}; see: ao-pr list")
    return record


def _edit(home: str, project: Project, session: Session, change: Callable[[_pulls.Record], Any]) -> Pull:
    number = _wanted(home, project, session)["number"]
    return facts(home, project, _pulls.change(home, project.id, number, change))


def _check_unchanged(record: _pulls.Record, tips: Mapping[str, str], head: str) -> None:
    """Raise Moved when somebody has closed, pushed, renamed or deleted since it was judged: the next look tells."""
    tip, why = tips.get(record["branch"]), ""
    if record["state"] != "open" or record["is_draft"]:
        why = f"it is {'a draft' if record['state'] == 'open' else record['state']}"
    elif tip != head:
        why = f"branch '{record['branch']}' {'has commits that are not looked at yet' if tip else 'is gone'}"
    if why:
        raise Moved(f"cannot merge pull request '{record['number']}': {why}")


def _kept(project: Project, number: int) -> str:
    return f"refs/ao/merge/{project.id}-{number}"


def _finish(home: str, project: Project, plan: Mapping[str, str]) -> None:
    """Say that it is merged and tidy up; may be done again after a crash. What fails here is no failed merge."""
    try:
        _say_merged(home, project, plan)
    except AoError as error:
        raise Unknown(f"pull request '{plan['number']}' is merged, which cannot be noted: {error}") from error


def _say_merged(home: str, project: Project, plan: Mapping[str, str]) -> None:
    number = int(plan["number"])
    end = {"state": "merged", "merged_sha": plan["commit"], "ended_at": iso(time.time()), "note": ""}
    _pulls.change(home, project.id, number, lambda fields: fields["state"] == "merged" or fields.update(end))
    with git.changing(home, project.path):
        _merged.keep_head(project, plan)
        git.run(project.path, "update-ref", "-d", _kept(project, number), plan["commit"], limit="git-write")
    delete_branch(home, project, plan["branch"], plan["head_sha"])
