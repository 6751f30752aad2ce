"""Keeping an open pull request in step with the branches it is about.

Two things are easily taken for each other here. A base that contains the head means that somebody merged it, but only
if it did not contain it before; a branch that was set back to its base contains nothing to merge and is no news.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lib import git
from lib.config import Project
from lib.scm import Session, _pulls


def follow(
    home: str, project: Project, record: _pulls.Record, session: Session, tips: Mapping[str, str], now: str
) -> _pulls.Record:
    """The record brought up to date with the branches; written only when something about it differs."""
    if record["state"] != "open":
        return record
    news = _news(project.path, record, session, tips, now)
    if all(record.get(key) == value for key, value in news.items()):
        return record
    return _pulls.change(home, project.id, record["number"], lambda fields: _take(fields, news))


def _take(fields: _pulls.Record, news: Mapping[str, Any]) -> None:
    if fields["state"] == "open":  # somebody may have merged or closed it since it was read
        fields.update(news)


def _news(
    repository: str, record: _pulls.Record, session: Session, tips: Mapping[str, str], now: str
) -> dict[str, Any]:
    """The fields of an open pull request that follow from where the branches are now."""
    base = tips.get(record["base_branch"])
    if base is None:
        return {"note": f"base branch '{record['base_branch']}' is gone", "against": {}}
    head, against = record["head_sha"], record["against"]
    if base != against.get("base_sha") and _has_landed(repository, record, base):
        return {"state": "merged", "merged_sha": base, "ended_at": now, "note": ""}
    news: dict[str, Any] = {"branch": _branch(record, session, tips), "note": ""}
    tip = news["tip"] = tips.get(news["branch"], "")
    if not tip:
        news["note"] = f"branch '{news['branch']}' is gone"
    elif tip != head and tip != record.get("tip"):
        news["note"] = f"branch '{news['branch']}' has commits that are not looked at yet"
    elif tip != head:
        if git.contains(repository, base, tip):
            news["note"] = f"branch '{news['branch']}' has no commits that '{record['base_branch']}' lacks"
        else:
            head = tip
            news.update(head_sha=head, head_seen_at=now)
    if (against.get("head_sha"), against.get("base_sha")) != (head, base):
        news["against"] = _compare(repository, head, base)
    return news


def _has_landed(repository: str, record: _pulls.Record, base: str) -> bool:
    """Whether the base has the head, which it did not have before, or the merge commit that was built for it."""
    known = (record["head_sha"], record.get("planned"))
    return any(git.contains(repository, base, sha) for sha in known if sha)


def _branch(record: _pulls.Record, session: Session, tips: Mapping[str, str]) -> str:
    """The branch of a pull request, followed when its session has renamed it."""
    named, now = str(record["branch"]), str(session.get("branch") or "")
    if named in tips or now not in tips or now == record["base_branch"] or record.get("session") != session["id"]:
        return named
    return now


def _compare(repository: str, head: str, base: str) -> dict[str, Any]:
    fork = git.merge_base(repository, base, head)
    counts = (0, 0)
    if fork:
        text = git.out(repository, "diff", "--shortstat", "--no-ext-diff", "--no-textconv", fork, head)
        counts = (_count(text, "insertion"), _count(text, "deletion"))
    is_clean = git.merge_tree(repository, base, head) is not None
    facts = {"head_sha": head, "base_sha": base, "mergeable": is_clean}
    return {**facts, "additions": counts[0], "deletions": counts[1]}


def _count(text: str, what: str) -> int:
    match = re.search(rf"(\d+) {what}", text)
    return int(match.group(1)) if match else 0
