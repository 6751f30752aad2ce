"""Merge a pull request once, and exactly the head that was seen to be ready.

It is looked at again right before, the plan of the merge is saved as the intent, and the forge is given the head SHA.
After a crash in between the forge is asked whether the planned merge has happened; it is never merged blindly again. A
merge that was overtaken by a push, or never began, is no failure: what is there now is looked at again.
"""

from __future__ import annotations

from typing import Any

from lib import conditions, config, deliver, effects, facts, plugins, projects, sessions
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Unknown
from lib.rules import Rules, digest
from lib.scm import Moved

Session = dict[str, Any]
KEY = "approved-and-green"


def attempt(home: str, project: Project, session: Session, method: str, actor: str, clock: Clock) -> Session:
    """Merge the session's pull request; the caller holds its effect lock. AoError with what stands in the way.

    `actor` is the session that asks, "" for a person or ao itself.
    """
    if actor == session["id"]:
        raise AoError(
            f"cannot merge '{session['id']}': a session never merges its own work; leave it to a person or ao"
        )
    record = look_again(home, project, session, clock)
    if not record.get("pr"):
        raise AoError(f"cannot merge '{session['id']}': it has no pull request; see: ao-status --why {session['id']}")
    if record["pr"]["blockers"]:
        raise AoError(f"cannot merge '{session['id']}': {'; '.join(record['pr']['blockers'])}")
    scm, head = plugins.load("scm", config.setting(project, "scm")), record["pr"]["head_sha"]
    doing = {"effect": "merge", "id": deliver.new_id("g"), "at": clock.iso, "head_sha": head}
    try:
        doing["plan"] = scm.plan_merge(home, project, record, method, actor)
        record = sessions.update(home, record, lambda fresh: _begin(fresh, doing), clock)
        with effects.effect("merge.merge"):
            scm.merge(home, project, record, doing["plan"])
    except Moved:
        sessions.update(home, record, lambda fresh: _withdraw(fresh, doing), clock)
        raise
    except Unknown:
        raise  # the intent stays, and the next run asks whether it happened
    except AoError as error:
        _finish(home, project, record, doing, str(error), clock)
        raise
    return _finish(home, project, record, doing, "", clock)


def settle(home: str, project: Project, record: Session, clock: Clock) -> None:
    """After a crash: ask the forge whether the merge that was intended has happened."""
    doing = record["doing"]
    if plugins.load("scm", config.setting(project, "scm")).is_merged(home, project, record, doing["plan"]):
        _finish(home, project, record, doing, "", clock)
    else:
        sessions.update(home, record, lambda fresh: _withdraw(fresh, doing), clock)


def look_again(home: str, project: Project, session: Session, clock: Clock) -> Session:
    """Fold in the state of the session's pull request as it is at this moment. Raises Unknown."""
    pull, rules = _look(home, project, session, clock), projects.rules(home, project, clock)
    return sessions.update(home, session, lambda fresh: take_in(fresh, rules, pull, clock), clock)


def _look(home: str, project: Project, session: Session, clock: Clock) -> Any:
    found = plugins.load("scm", config.setting(project, "scm")).look(home, project, [session], clock, fresh=True)
    pull = found.get(session["id"], False)
    if pull is False or isinstance(pull, AoError):
        raise Unknown(f"cannot look at the pull request of '{session['id']}' now" + (f": {pull}" if pull else ""))
    return pull


def take_in(record: Session, rules: Rules, pull: Any, clock: Clock) -> None:
    """Fold in a pull request as it was seen, with all that follows from it."""
    facts.fold_pull(record, pull, clock)
    conditions.evaluate(record, rules, clock)


def _begin(record: Session, doing: dict[str, Any]) -> list[dict[str, Any]]:
    record["doing"] = doing
    if KEY in record["conditions"]:
        record["conditions"][KEY].update(intent=_intent(doing), result=None, waiting_for=None)
    return [{"type": "reaction_triggered", "reaction_key": KEY, "action": "auto-merge"}]


def _intent(doing: dict[str, Any]) -> dict[str, Any]:
    head = doing["head_sha"]
    fingerprint = digest(head)
    return {"id": doing["id"], "fingerprint": fingerprint, "action": "auto-merge", "at": doing["at"], "items": [head]}


def _withdraw(record: Session, doing: dict[str, Any]) -> None:
    """Take the intent back: nothing was merged."""
    record["doing"] = None
    condition = record["conditions"].get(KEY) or {}
    if (condition.get("intent") or {}).get("id") == doing["id"]:
        condition.update(intent=None, result=None)


def _finish(home: str, project: Project, record: Session, doing: dict[str, Any], error: str, clock: Clock) -> Session:
    """Save how it ended; after a success with what the forge says now."""
    try:
        pull, rules = None if error else _look(home, project, record, clock), projects.rules(home, project, clock)
    except Unknown:
        pull = rules = None

    def change(fresh: Session) -> None:
        fresh["doing"] = None
        failure = {"head_sha": doing["head_sha"], "error": error, "at": clock.iso}
        fresh["merge_failure"] = failure if error else None
        condition = fresh["conditions"].get(KEY)
        if condition:
            condition["intent"] = _intent(doing)
            conditions.record_result(fresh, KEY, clock, error)
        if pull and rules:
            take_in(fresh, rules, pull, clock)

    return sessions.update(home, record, change, clock)
