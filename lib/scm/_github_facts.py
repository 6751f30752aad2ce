"""What GitHub shows of a pull request, in the shape of a session's `pr`; pure.

Agent and person often are one login. What the login of the pull request wrote as a reply, or below the pull request, is
the agent's own, and a thread that ends with it waits for its reviewer; a thread that it began and the words of a review
are a person's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lib import scm
from lib.clock import parse
from lib.scm import Comment, Pull, Said

Raw = Mapping[str, Any]

CHECKS = {  # conclusion of a run, or state of a commit status -> status of a check; what is not here is pending
    "SUCCESS": "passed",
    **dict.fromkeys(("NEUTRAL", "SKIPPED"), "skipped"),
    **dict.fromkeys(("FAILURE", "TIMED_OUT", "CANCELLED", "ACTION_REQUIRED", "STARTUP_FAILURE", "ERROR"), "failed"),
}
MERGEABLE = {"MERGEABLE": True, "CONFLICTING": False}
OF_THE_REPOSITORY = ("OWNER", "MEMBER", "COLLABORATOR")
HUNK_LINES = 5  # of a diff, above a comment


def pull(raw: Raw, owner: str, repo: str, said: Sequence[Comment], merge: Mapping[str, Any]) -> Pull:
    """The facts of a pull request; `said` is what of it is not settled, `merge` the project's settings."""
    found = checks(raw["checks"])
    opinions = {_author(review): review["state"] for review in _reviews(raw, "latestOpinionatedReviews")}
    approved = [one.author for one in approvals(raw)]
    decision = _decision(raw, opinions, approved, merge)
    return {
        "number": raw["number"],
        "url": raw["url"],
        "title": raw["title"],
        "owner": owner,
        "repo": repo,
        "branch": raw["headRefName"],
        "base_branch": raw["baseRefName"],
        "base_sha": raw["baseRefOid"],
        "head_sha": raw["headRefOid"],
        "is_draft": raw["isDraft"],
        "state": raw["state"].lower(),
        "from_fork": raw["isCrossRepository"],
        **scm.ci(found),
        "review_decision": decision,
        "approved_by": sorted(approved),
        "mergeable": MERGEABLE.get(raw["mergeable"]),
        "additions": raw["additions"],
        "deletions": raw["deletions"],
        **scm.threads(said),
        "forge_blockers": blockers(raw, found, decision, merge) if raw["state"] == "OPEN" else [],
    }


def checks(nodes: Iterable[Raw]) -> list[dict[str, Any]]:
    """The newest run of each check, by name."""
    return [_check(node, name) for name, node in newest(nodes).items()]


def newest(nodes: Iterable[Raw]) -> dict[str, Raw]:
    """The newest run of each check by its name; checks of one name in several workflows are told apart by these."""
    found: dict[tuple[str, str], Raw] = {}
    for node in nodes:
        old = found.get(_key(node))
        if old is None or _started(node) >= _started(old):
            found[_key(node)] = node
    names = [name for _, name in found]
    shown = {
        (f"{flow} / {name}" if flow and names.count(name) > 1 else name): found[flow, name] for flow, name in found
    }
    return dict(sorted(shown.items()))


def _key(node: Raw) -> tuple[str, str]:
    """The workflow ("" without one) and the name of a check."""
    run = (node.get("checkSuite") or {}).get("workflowRun") or {}
    return str((run.get("workflow") or {}).get("name") or ""), str(node.get("name") or node.get("context"))


def comments(raw: Raw, threads: Mapping[str, Raw], session: Mapping[str, Any], remarks: Iterable[Raw]) -> list[Comment]:
    """What reviewers wrote that is not settled and not answered; `threads` are those that are open, with comments.

    Nobody can settle the words of a review: they are about the head that they were written for, and count until the
    session was told of them. Nor can anybody settle `remarks`, what is said below the pull request: what people of the
    repository say there counts until it is told, and what programs report there does not.
    """
    found = [one for thread in threads.values() for one in _thread(raw, thread)]
    deciding = _reviews(raw, "latestOpinionatedReviews")
    for review in deciding:
        if review["state"] == "CHANGES_REQUESTED" and (review["body"].strip() or not found):
            found.append(_comment(review, review["body"] or "(changes requested, without a word)"))
    decided = {_author(review) for review in deciding}
    for review in _reviews(raw, "reviews"):
        is_current = (review["commit"] or {}).get("oid") == raw["headRefOid"]
        is_said = review["state"] == "CHANGES_REQUESTED" and _author(review) in decided  # there, or taken back since
        said = _comment(review, review["body"])
        if said.body.strip() and (is_current or _is_untold(session, review["submittedAt"], said)) and not is_said:
            found.append(said)
    for remark in remarks:
        said = _comment(remark, remark["body"])
        is_meant = remark["authorAssociation"] in OF_THE_REPOSITORY and not said.is_bot and not remark["isMinimized"]
        if is_meant and not _is_own(raw, remark) and _is_untold(session, remark["createdAt"], said):
            found.append(said)
    return found


def talked_about(raw: Raw) -> list[str]:
    """The ids of what may have comments that count: its open threads, and itself."""
    return [*_open_threads(raw), *[raw["id"]] * bool(raw["totalCommentsCount"])] if raw["state"] == "OPEN" else []


def _is_untold(session: Mapping[str, Any], at: str, said: Comment) -> bool:
    """Whether it was written in this life of the session, and never told."""
    born, told = session.get("restored_at") or session.get("created_at"), session.get("told") or {}
    is_of_now = born is not None and (parse(at) or 0.0) >= (parse(born) or 0.0)
    return is_of_now and not any(said.id in ids for ids in told.values())


def approvals(raw: Raw) -> list[Comment]:
    """The newest word of each reviewer who approves; nobody approves what is their own."""
    newest = _reviews(raw, "latestOpinionatedReviews")
    approving = [one for one in newest if one["state"] == "APPROVED" and _author(one) != _author(raw)]
    return [_comment(one, one["body"]) for one in approving]


def has_said(raw: Raw, threads: Mapping[str, Raw], said: Said) -> bool:
    """Whether whoever asks has already said this about the current head: a process may have died after it."""
    notes = [(thread, note) for thread in threads.values() for note in thread["comments"]["nodes"]]
    if said["file"]:
        return any(t["path"] == said["file"] and n["viewerDidAuthor"] and n["body"] == said["body"] for t, n in notes)
    wanted = (said["decision"].upper(), said["body"], raw["headRefOid"], True)
    reviews = _reviews(raw, "latestOpinionatedReviews") + _reviews(raw, "reviews")
    return wanted in [(r["state"], r["body"], (r["commit"] or {}).get("oid"), r["viewerDidAuthor"]) for r in reviews]


def _open_threads(raw: Raw) -> list[str]:
    return [thread["id"] for thread in raw["threads"] if not thread["isResolved"]]


def blockers(raw: Raw, found: Sequence[Mapping[str, Any]], decision: str, merge: Mapping[str, Any]) -> list[str]:
    """What GitHub itself says against merging, in its own rules' words."""
    state, required = raw["mergeStateStatus"], [check for check in found if check["required"]]
    missing = [check for check in required if check["status"] not in ("passed", "skipped")]
    said = [f"required check '{check['name']}': {check['status']}" for check in missing]
    if state == "BEHIND":
        said.append(f"its branch is behind '{raw['baseRefName']}', and GitHub wants it up to date")
    elif state == "UNSTABLE" and merge["require_checks"]:
        said.append("GitHub says that its checks do not pass")
    elif state == "BLOCKED" and raw["reviewDecision"] == "REVIEW_REQUIRED":
        said.append("GitHub requires an approving review")
    elif state == "BLOCKED" and not said and decision != "changes_requested":
        said.append("GitHub's branch protection blocks it: a required check is missing, or another rule")
    elif state == "UNKNOWN":
        said.append("whether GitHub lets it be merged is not known yet")
    return said


def _decision(raw: Raw, opinions: Mapping[str, str], approved: Sequence[str], merge: Mapping[str, Any]) -> str:
    """GitHub has no decision of its own where no rule asks for a review."""
    theirs = raw["reviewDecision"]
    if theirs == "CHANGES_REQUESTED" or "CHANGES_REQUESTED" in opinions.values():
        return "changes_requested"
    if theirs == "REVIEW_REQUIRED":
        return "pending"
    return "approved" if theirs == "APPROVED" or approved else "pending" if merge["require_review"] else "none"


def _check(node: Raw, name: str) -> dict[str, Any]:
    state = node.get("conclusion") if node["__typename"] == "CheckRun" else node["state"]
    status = CHECKS.get(str(state), "running" if node.get("status") == "IN_PROGRESS" else "pending")
    url = node.get("detailsUrl") or node.get("targetUrl") or ""
    return {"name": name, "status": status, "url": url, "conclusion": state or "", "required": node["isRequired"]}


def _started(node: Raw) -> str:
    return str(node.get("startedAt") or node.get("createdAt") or "9")  # one that waits is the newest


def _thread(raw: Raw, thread: Raw) -> Iterable[Comment]:
    notes = [one for one in thread["comments"]["nodes"] if one["state"] == "SUBMITTED" and not one["isMinimized"]]
    if thread["isResolved"] or (len(notes) > 1 and _is_own(raw, notes[-1])):
        return
    for place, note in enumerate(notes):
        if place == 0 or not _is_own(raw, note):
            hunk = "\n".join(note["diffHunk"].split("\n")[-HUNK_LINES:])
            body = f"{hunk}\n\n{note['body']}" if hunk else note["body"]
            line = thread["line"] or thread["originalLine"] or 0
            yield _comment(note, body)._replace(file=thread["path"], line=line)


def _comment(note: Raw, body: str) -> Comment:
    """An edit makes it another one, which is told anew."""
    edited = parse(note["lastEditedAt"])
    id = note["id"] + (f"@{edited:.0f}" if edited else "")
    author = note["author"] or {}
    is_bot = author.get("__typename") == "Bot" or _author(note).endswith("[bot]")
    return Comment(id, _author(note), is_bot, body, note["url"])


def _reviews(raw: Raw, which: str) -> list[Raw]:
    return [review for review in raw[which]["nodes"] if review["state"] != "PENDING"]


def _author(raw: Raw) -> str:
    return str((raw["author"] or {}).get("login") or "ghost")


def _is_own(raw: Raw, note: Raw) -> bool:
    return bool(note["viewerDidAuthor"] or _author(note) == _author(raw))
