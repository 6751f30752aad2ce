"""The project of a session: its part of the ao.yaml that the session was spawned with, its owner, and its budget.

What ao itself keeps of a project is projects/<project>.yaml. Its conditions are in lib/concerns.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lib import config, costs, paths, store
from lib.budgets import PERIODS, Budget
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Unknown, Unreadable
from lib.rules import Rules

Record = dict[str, Any]
SHAPE: store.Shape = {
    "next_number?": int,
    "path?": str,
    "problems?": {"*": str},
    "budget_raised?": {"*": (int, float)},
    "conditions?": {
        "*": {
            "since": str,
            "item": str,
            "intent?": {"id": str, "item": str, "told": {"id": str}},
            "result?": {"at": str},
        }
    },
}


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


def check_owner(home: str, project: Project, facts: Mapping[str, Any] | None = None) -> None:
    """AoError when this id means another repository here: their sessions and pull requests would be mixed up."""
    known = store.read(paths.project(home, project.id), SHAPE) if facts is None else facts
    owner = (known or {}).get("path")
    if owner and owner != project.path and os.path.isdir(owner):
        why = f"in '{home}' it is the repository '{owner}'"
        raise AoError(f"cannot use project '{project.id}' for '{project.path}': {why}; give it another id in ao.yaml")


def rules(home: str, project: Project, clock: Clock) -> Rules:
    """What the conditions of the project's sessions depend on beside their facts."""
    return Rules(config.reactions(project), config.setting(project, "merge"), _budget(home, project, clock.iso[:10]))


def raise_budget(home: str, project: Project, limit: str, usd: float, clock: Clock) -> None:
    """Add to what the whole project may spend in the period of a limit that is running now."""
    period = clock.iso[: PERIODS[limit]]

    def change(facts: Record) -> None:
        raised = facts.setdefault("budget_raised", {})
        raised[period] = raised.get(period, 0.0) + usd

    store.update(paths.project(home, project.id), change, SHAPE)


def _budget(home: str, project: Project, today: str) -> Budget:
    limits = config.setting(project, "budget")
    if all(limits[name] is None for name in PERIODS):
        return Budget(limits)
    try:
        spent = costs.spent(home, today[:7]).get(project.id) or {}
        raised = (store.read(paths.project(home, project.id), SHAPE) or {}).get("budget_raised") or {}
    except Unreadable as error:  # what cannot be counted is no reason to go on spending, nor to stop all work
        raise Unknown(f"what '{project.id}' has spent is not known: {error}") from error
    return Budget(limits, spent, raised, today)
