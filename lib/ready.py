"""Whether a pull request can be merged now, and what stands in the way; pure.

An empty list of blockers is the one meaning of *ready*: the status `mergeable`, the condition `approved-and-green` and
the last check before a merge all ask here. Whatever is unknown blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib.clock import Clock, duration

Session = Mapping[str, Any]

SETTLED = ("passed", "skipped")  # states of a check that stand against nothing


def blockers(session: Session, merge: Mapping[str, Any], clock: Clock) -> list[str]:
    """Why the pull request cannot be merged now; [] when it is ready."""
    pr = session.get("pr") or {}
    if pr.get("state") != "open":
        return [f"it is {pr.get('state')}"]
    found = []
    if pr.get("is_draft"):
        found.append("it is a draft")
    if pr.get("from_fork") and session.get("claimed_pr_number") != pr.get("number"):
        found.append("its branch is in another repository")
    if pr.get("review_decision") == "changes_requested":
        found.append("changes are requested")
    elif merge.get("require_review", True) and not _approved_by_another(session):
        found.append("nobody has approved it")
    found += _check_blockers(pr, merge.get("require_checks", True))
    if pr.get("mergeable") is None:
        found.append("whether it can be merged is not known yet")
    elif not pr["mergeable"]:
        found.append(f"it conflicts with {pr.get('base_branch')}")
    found += pr.get("forge_blockers") or []
    if clock.elapsed(pr.get("head_seen_at")) < duration(merge.get("settle", "30s")):
        found.append(f"its newest commit is there for less than {merge.get('settle', '30s')} (merge.settle)")
    return found


def _approved_by_another(session: Session) -> bool:
    pr = session["pr"]
    return pr.get("review_decision") == "approved" and any(by != session["id"] for by in pr.get("approved_by") or ())


def _check_blockers(pr: Mapping[str, Any], are_required: bool) -> list[str]:
    """What the checks say against it: where none is required there may be none, but what is there must be green."""
    checks = [(check["name"], check.get("status")) for check in pr.get("ci_checks") or ()]
    found = [f"check '{name}': {state}" for name, state in checks if state not in SETTLED]
    names = {name for name, _ in checks}
    if not names and not pr.get("expected_checks"):
        return ["there is no check: configure one (ci), or set merge.require_checks: false"] if are_required else []
    found += [f"check '{name}': missing" for name in pr.get("expected_checks") or () if name not in names]
    if are_required and not found and all(state != "passed" for _, state in checks):
        found.append("no check has completed")
    return found
