"""Merge a pull request once, and exactly the head that was seen to be ready.

It is looked at again right before, the plan of the merge is saved as the intent, and the forge is given the head SHA.
After a crash in between the forge is asked whether the planned merge has happened; it is never merged blindly again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib import conditions, config, effects, facts, plugins, projects, sessions
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Unknown

Session = dict[str, Any]
KEY = "approved-and-green"


def attempt(home: str, project: Project, session: Session, method: str, actor: str, id: str, clock: Clock) -> Session:
    """Merge the session's pull request; the caller holds its effect lock. AoError with what stands in the way.

    `id` names the intent, `actor` is the session that asks ("" for a person or ao itself).
    """
    record = look_again(home, project, session, clock)
    blockers = (record.get("pr") or {}).get("blockers")
    if blockers is None:
        raise AoError(f"cannot merge '{session['id']}': it has no pull request; see: ao-status --why {session['id']}")
    if blockers:
        raise AoError(f"cannot merge '{session['id']}': {'; '.join(blockers)}")
    scm = plugins.load("scm", config.setting(project, "scm"))
    head = record["pr"]["head_sha"]
    try:
        plan = scm.plan_merge(home, project, record, method, actor)
    except Unknown:
        raise
    except AoError as error:
        _finish(home, project, record, clock, head, str(error), id)
        raise
    intent = {
        "id": id,
        "fingerprint": conditions.digest(head),
        "action": "auto-merge",
        "at": clock.iso,
        "items": [head],
    }
    doing = {"effect": "merge", "id": id, "at": clock.iso, "head_sha": head, "plan": plan}
    record = sessions.update(home, record, lambda fresh: _begin(fresh, intent, doing), clock)
    return _carry_out(home, project, record, clock)


def settle(home: str, project: Project, record: Session, clock: Clock) -> None:
    """After a crash: ask the forge whether the merge that was intended has happened."""
    doing = record["doing"]
    scm = plugins.load("scm", config.setting(project, "scm"))
    done = scm.is_merged(home, project, record, doing["plan"])
    error = "" if done else "it was interrupted before the merge"
    _finish(home, project, record, clock, doing["head_sha"], error, doing["id"])


def look_again(home: str, project: Project, session: Session, clock: Clock) -> Session:
    """Fold in the state of the session's pull request as it is at this moment. Raises Unknown."""
    pull = _look(home, project, session, clock)
    rules = projects.rules(project)

    def change(fresh: Session) -> None:
        facts.fold_pull(fresh, pull, clock)
        conditions.evaluate(fresh, rules, clock)

    return sessions.update(home, session, change, clock)


def _look(home: str, project: Project, session: Session, clock: Clock) -> Any:
    found = plugins.load("scm", config.setting(project, "scm")).look(home, project, [session], clock)
    if session["id"] not in found:
        raise Unknown(f"cannot look at the pull request of '{session['id']}' now")
    return found[session["id"]]


def _intent(id: str, head: str, clock: Clock) -> dict[str, Any]:
    return {"id": id, "fingerprint": conditions.digest(head), "action": "auto-merge", "at": clock.iso, "items": [head]}


def _begin(record: Session, intent: Mapping[str, Any], doing: Mapping[str, Any]) -> list[dict[str, Any]]:
    record["doing"] = dict(doing)
    if KEY in record["conditions"]:
        record["conditions"][KEY].update(intent=dict(intent), result=None, waiting_for=None)
    return [{"type": "reaction_triggered", "reaction_key": KEY, "action": "auto-merge"}]


def _carry_out(home: str, project: Project, record: Session, clock: Clock) -> Session:
    doing = record["doing"]
    scm = plugins.load("scm", config.setting(project, "scm"))
    try:
        with effects.effect("merge.merge"):
            scm.merge(home, project, record, doing["plan"])
    except Unknown:
        raise  # the intent stays, and the next run asks whether it happened
    except AoError as error:
        _finish(home, project, record, clock, doing["head_sha"], str(error), doing["id"])
        raise
    return _finish(home, project, record, clock, doing["head_sha"], "", doing["id"])


def _finish(home: str, project: Project, record: Session, clock: Clock, head: str, error: str, id: str) -> Session:
    """Save how it ended; after a success with what the forge says now."""
    try:
        pull = None if error else _look(home, project, record, clock)
    except Unknown:
        pull = None

    def change(fresh: Session) -> None:
        fresh["doing"] = None
        fresh["merge_failure"] = {"head_sha": head, "error": error, "at": clock.iso} if error else None
        condition = fresh["conditions"].get(KEY)
        if condition:
            if (condition.get("intent") or {}).get("id") != id:
                condition["intent"] = _intent(id, head, clock)
            conditions.record_result(fresh, KEY, clock, error)
        if pull:
            facts.fold_pull(fresh, pull, clock)
            conditions.evaluate(fresh, projects.rules(project), clock)

    return sessions.update(home, record, change, clock)
