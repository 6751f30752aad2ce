"""What concerns a whole project: its conditions `all-complete` and `cannot-look`, in projects/<project>.yaml.

They have the shape of a session's conditions and the same promises: open as long as the facts say so, told once.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from lib import conditions, config, events, paths, status, store
from lib.clock import Clock
from lib.conditions import digest
from lib.config import Project
from lib.errors import AoError

Record = dict[str, Any]
CANNOT_LOOK_FOR = 900.0  # seconds


class Settings:
    """The configuration of each session: the ao.yaml that it was spawned with, read once in a run."""

    def __init__(self) -> None:
        self._files: dict[str, config.Config | AoError] = {}

    def file(self, path: str) -> config.Config:
        """Raises AoError when that file cannot be used."""
        if path not in self._files:
            try:
                self._files[path] = config.load(path)
            except AoError as error:
                self._files[path] = error
        found = self._files[path]
        if isinstance(found, AoError):
            raise found
        return found

    def project(self, session: Mapping[str, Any]) -> Project:
        """Raises AoError; never the defaults instead of a file that is broken or gone."""
        path, name = session.get("config_path") or "", session["project_id"]
        if not path:
            raise AoError(f"session '{session['id']}' has no configuration file")
        found = self.file(path)
        if name in found.broken:
            raise AoError(found.broken[name])
        if name not in found.projects:
            raise AoError(f"there is no project '{name}' in '{path}' any more")
        return found.projects[name]


def rules(project: Project) -> conditions.Rules:
    return conditions.Rules(config.reactions(project), project.values["merge"])


def evaluate(home: str, records: Iterable[Mapping[str, Any]], problems: list[dict[str, Any]], clock: Clock) -> None:
    """Open and close the conditions of every project, and log each new problem once."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["project_id"], []).append(record)
    for problem in problems:
        groups.setdefault(problem["project_id"], [])
    for project, members in groups.items():
        path = paths.project(home, project)
        mine = [problem for problem in problems if problem["project_id"] == project]
        facts = store.read(path) or {}
        trial = copy.deepcopy(facts)
        _fold(trial, members, mine, clock)
        if trial != facts:
            before, after = store.update(path, functools.partial(_fold, members=members, problems=mine, clock=clock))
            known = before.get("problems") or {}
            new = {key: why for key, why in (after.get("problems") or {}).items() if known.get(key) != why}
            events.append(home, clock, [_tick_error(project, key, why) for key, why in new.items()])


def _tick_error(project: str, key: str, why: str) -> dict[str, Any]:
    return {"type": "tick_error", "project_id": project, "session_id": key or None, "message": why}


def _fold(facts: Record, members: list[Mapping[str, Any]], problems: list[dict[str, Any]], clock: Clock) -> None:
    found = {problem["session_id"] or "": problem["message"] for problem in problems}
    if found != (facts.get("problems") or {}):
        facts["problems"] = found
    blind = [one["id"] for one in members if status.is_live(one) and _is_blind(one, clock)]
    workers = [one for one in members if one.get("role") == "worker"]
    all_ended = bool(workers) and not any(status.is_live(one) or one.get("doing") for one in workers)
    _open_or_close(facts, "cannot-look", ["look"] if blind else [], clock)
    _open_or_close(facts, "all-complete", [digest(*sorted(one["id"] for one in workers))] if all_ended else [], clock)


def _is_blind(session: Mapping[str, Any], clock: Clock) -> bool:
    since = [session.get("runtime_unknown_since"), session.get("pr_unknown_since")]
    return any(one and clock.elapsed(one) >= CANNOT_LOOK_FOR for one in since)


def _open_or_close(facts: Record, key: str, items: list[str], clock: Clock) -> None:
    conditions = facts.setdefault("conditions", {})
    condition = conditions.get(key)
    if items and condition is None:
        conditions[key] = {"since": clock.iso, "items": items, "intent": None, "result": None, "waiting_for": None}
    elif condition and not items and not (condition.get("intent") and not condition.get("result")):
        del conditions[key]
    elif condition and items and condition["items"] != items:
        condition["items"] = items
