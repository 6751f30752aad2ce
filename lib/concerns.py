"""What concerns a whole project: the conditions `all-complete`, `cannot-look`, `config-error` and `file-damaged`.

They are kept in projects/<project>.yaml, with the shape of a session's conditions and the same promises: open as long
as the facts say so, told once. So are `budget-warning` and `budget-exceeded` for the limits of a whole project.
"""

from __future__ import annotations

import copy
import functools
import glob
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lib import config, events, notify, paths, render, status, store
from lib.budgets import PERIODS, Budget
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Unreadable
from lib.projects import SHAPE

Record = dict[str, Any]

CANNOT_LOOK_FOR = 900.0  # seconds
# Told of whatever is configured: a file that cannot be read could not say so.
_URGENT = {"priority": "urgent", "message": None, "include_summary": False}
ALWAYS: dict[str, dict[str, Any]] = {"config-error": _URGENT, "file-damaged": _URGENT}
BUDGETS = {
    "budget-warning": "the budget is nearly used up: {limit} of {period}; see: ao-cost --by session",
    "budget-exceeded": "the budget is used up ({limit} of {period}) and every session is parked; "
    "let them go on: ao-cost ID --raise USD",
}
RETRY_AFTER = 60.0  # seconds after which a notification that reached nobody is tried again


def evaluate(
    home: str,
    records: Iterable[Mapping[str, Any]],
    problems: list[dict[str, Any]],
    budgets: Mapping[str, Budget],
    clock: Clock,
) -> None:
    """Open and close the conditions of every project, and log each new problem once."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["project_id"], []).append(record)
    for problem in problems:
        groups.setdefault(problem["project_id"], [])
    for project, members in groups.items():
        mine = [problem for problem in problems if problem["project_id"] == project]
        try:
            _evaluate(home, project, members, mine, budgets.get(project), clock)
        except AoError as error:  # the other projects have their turn
            problems.append({"session_id": None, "project_id": project, "message": str(error)})


def _evaluate(
    home: str,
    project: str,
    members: list[Mapping[str, Any]],
    mine: list[dict[str, Any]],
    budget: Budget | None,
    clock: Clock,
) -> None:
    path = paths.project(home, project)
    try:
        facts = store.read(path, SHAPE) or {}
    except Unreadable:
        mine.append({"session_id": None, "message": store.set_aside(path, clock.iso, shape=SHAPE)})
        facts = store.read(path, SHAPE) or {}
    damaged = _damaged(home, project)
    fold = functools.partial(_fold, members=members, problems=mine, damaged=damaged, budget=budget, clock=clock)
    trial = copy.deepcopy(facts)
    fold(trial)
    if trial != facts:
        store.update(path, functools.partial(_take_in, home, project, fold, clock), SHAPE)


def _take_in(home: str, project: str, fold: Callable[[Record], None], clock: Clock, facts: Record) -> None:
    known = dict(facts.get("problems") or {})
    fold(facts)
    new = {key: why for key, why in (facts.get("problems") or {}).items() if known.get(key) != why}
    names = {"type": "tick_error", "project_id": project}
    found = [{**names, "session_id": key if key != why else None, "message": why} for key, why in new.items()]
    events.append(home, clock, found)


def _damaged(home: str, project: str) -> str:
    """The newest of the project's damaged files that were set aside, with the time in front; "" when none is left."""
    folders = paths.written(home, project)
    found = [path for folder in folders for path in glob.glob(os.path.join(folder, f"*{store.ASIDE}*"))]
    mine = [path for path in found if paths.project_of(home, path) == project]
    return max((f"{path.rpartition(store.ASIDE)[2]} {path}" for path in mine), default="")


def _fold(
    facts: Record,
    members: list[Mapping[str, Any]],
    problems: list[dict[str, Any]],
    damaged: str,
    budget: Budget | None,
    clock: Clock,
) -> None:
    found = {problem["session_id"] or problem["message"]: problem["message"] for problem in problems}
    if found != (facts.get("problems") or {}):
        facts["problems"] = found
    blind = [one["id"] for one in members if status.is_live(one) and _is_blind(one, clock)]
    workers = [one for one in members if one.get("role") == "worker"]
    all_ended = bool(workers) and not any(_goes_on(one) for one in workers)
    _open_or_close(facts, "cannot-look", "look" if blind else "", clock)
    broken = any(one.get("config_error") for one in members if status.is_live(one))
    _open_or_close(facts, "config-error", "error" if broken else "", clock)
    _open_or_close(facts, "file-damaged", damaged, clock)
    if budget is not None:
        _open_or_close(facts, "budget-warning", _used(budget, budget.warn_at), clock)
        _open_or_close(facts, "budget-exceeded", _used(budget, 1.0), clock)
    newest = max((str(one.get("created_at")) for one in workers), default="")
    _open_or_close(facts, "all-complete", newest if all_ended else "", clock)


def _used(budget: Budget, part: float) -> str:
    """The limit of the whole project that is used so far, with what was added to it: raised, it is another."""
    limit = budget.of_project(part)
    period = budget.today[: PERIODS[limit]] if limit else ""
    return f"{period} {limit} {budget.raised.get(period, 0.0):012.2f}" if limit else ""


def _goes_on(session: Mapping[str, Any]) -> bool:
    """Whether more is to come of it; of one that went with its terminal too, for it is to be restored."""
    is_lost = session.get("is_lost") and not status.is_over(session)
    return bool(status.is_live(session) or session.get("doing") or is_lost)


def _is_blind(session: Mapping[str, Any], clock: Clock) -> bool:
    since = [session.get("runtime_unknown_since"), session.get("pr_unknown_since")]
    return any(one and clock.elapsed(one) >= CANNOT_LOOK_FOR for one in since)


def _open_or_close(facts: Record, key: str, item: str, clock: Clock) -> None:
    """Keep a condition open for `item`, "" when nothing is the matter; a greater item is due again."""
    conditions = facts["conditions"] = facts.get("conditions") or {}
    condition = conditions.get(key)
    if item and condition is None:
        conditions[key] = {"since": clock.iso, "item": item, "intent": None, "result": None, "waiting_for": None}
    elif condition and item and condition["item"] != item:
        condition["item"] = item
    elif condition and not item and not (condition.get("intent") and not condition.get("result")):
        del conditions[key]


def due(home: str, project: Project, clock: Clock) -> Record:
    """The open conditions of the project that a person was not told of yet, by key."""
    reactions = {**config.reactions(project), **ALWAYS}
    return {
        key: condition
        for key, condition in _conditions(home, project).items()
        if reactions.get(key) and not _is_told(condition) and _may_try(key, condition, clock)
    }


def under_way(home: str, project: Project) -> list[tuple[str, dict[str, Any]]]:
    """The notifications that are intended and have no result yet, with the keys of their conditions."""
    found = _conditions(home, project).items()
    return [(key, one["intent"]["told"]) for key, one in found if one.get("intent") and not one.get("result")]


def news(
    project: Project, key: str, condition: Mapping[str, Any], members: list[dict[str, Any]], clock: Clock
) -> dict[str, Any]:
    """The notification for an open condition."""
    reaction = {**config.reactions(project), **ALWAYS}[key]
    message, item = _message(key, condition["item"], members, reaction), [condition["since"], condition["item"]]
    told = notify.notification(key, str(reaction["priority"]), message, clock, project.id, news=item)
    if reaction["include_summary"]:
        told["summary"] = summary(members)
    return told


def summary(members: list[dict[str, Any]]) -> str:
    """A table of a project's sessions."""
    rows = [
        [one["id"], one["status"], f"#{one['claimed_pr_number']}" if one.get("claimed_pr_number") else "-", _title(one)]
        for one in members
    ]
    return render.table(rows, ["session", "status", "pr", "title"])


def intend(home: str, project: Project, key: str, told: dict[str, Any], clock: Clock) -> None:
    """Save what a person is about to be told, and say so in the log."""
    triggered = {"type": "reaction_triggered", "reaction_key": key, "action": "notify"}
    found = [{**one, "project_id": project.id} for one in (triggered, notify.event(told, "notify"))]

    def change(facts: Record) -> None:
        condition = facts["conditions"].get(key)
        if condition:
            intent = {"id": told["id"], "at": clock.iso, "item": condition["item"], "told": told}
            condition.update(intent=intent, result=None)
            events.append(home, clock, found)

    store.update(paths.project(home, project.id), change, SHAPE)


def result(home: str, project: Project, key: str, id: str, error: str, clock: Clock) -> None:
    def change(facts: Record) -> None:
        condition = facts["conditions"].get(key)
        if condition and (condition.get("intent") or {}).get("id") == id:
            condition["result"] = {"ok": not error, "error": error or None, "at": clock.iso}

    store.update(paths.project(home, project.id), change, SHAPE)


def _message(key: str, item: str, members: list[dict[str, Any]], reaction: Mapping[str, Any]) -> str:
    if reaction["message"]:
        return str(reaction["message"])
    if key == "file-damaged":
        path = item.partition(" ")[2]
        return f"a file was damaged and is set aside as '{path}'; look at what is missing, then remove it: ao-doctor"
    if key == "all-complete":
        counts = {word: sum(one["status"] == word for one in members) for word in ("merged", *sorted(status.TERMINAL))}
        ends = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        return (
            f"all {len(members)} sessions have ended: {ends}" if len(members) > 1 else f"the session has ended: {ends}"
        )
    if key == "config-error":
        errors = {one["id"]: one["config_error"] for one in members if one.get("config_error")}
        why = "; ".join(dict.fromkeys(errors.values()))
        return f"nothing is done for {', '.join(errors)}: {why}; see: ao-config validate"
    if key in ("budget-exceeded", "budget-warning"):
        return BUDGETS[key].format(limit=item.split()[1], period=item.split()[0])
    blind = [one["id"] for one in members if one.get("pr_unknown_since") or one.get("runtime_unknown_since")]
    return f"nothing could be learned for 15 minutes about: {', '.join(blind) or 'the project'}; see: ao-doctor"


def _title(session: Mapping[str, Any]) -> str:
    return str(session.get("issue_title") or session.get("task") or "")[:60]


def _conditions(home: str, project: Project) -> Record:
    return (store.read(paths.project(home, project.id), SHAPE) or {}).get("conditions") or {}


def _is_told(condition: Mapping[str, Any]) -> bool:
    """Whether a person was told of it as it is now, or is being told."""
    is_covered = (condition.get("intent") or {}).get("item", "") >= condition["item"]
    return is_covered and bool((condition.get("result") or {"ok": True})["ok"])


def _may_try(key: str, condition: Mapping[str, Any], clock: Clock) -> bool:
    if key == "config-error" and clock.elapsed(condition["since"]) < store.UNFINISHED:
        return False
    failed = condition.get("result") or {}
    return not failed or failed["ok"] or clock.elapsed(failed["at"]) >= RETRY_AFTER
