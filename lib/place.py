"""Where, by which rules and when something is done about a session, and how what was done is noted."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from lib import ROOT, config, paths, proc, projects
from lib.clock import Clock
from lib.config import Config, Project
from lib.errors import AoError

Session = dict[str, Any]
Done = list[dict[str, Any]]  # what was done: [{session_id, project_id, reaction_key, action}], or `error` with why not


class Place(NamedTuple):
    """Where, by which rules and when something is done about a session."""

    home: str
    project: Project
    file: Config
    clock: Clock


def place_of(home: str, settings: projects.Settings, session: Session, clock: Clock) -> Place | None:
    """None when the session's configuration cannot be read: nothing is done then rather than something else."""
    try:
        project = settings.project(session)
        return Place(home, project, settings.file(session["config_path"]), clock)
    except AoError:
        return None


def reaction_of(place: Place, key: str) -> Mapping[str, Any]:
    return config.reactions(place.project).get(key) or {}


def names(session: Session) -> dict[str, Any]:
    return {"session_id": session["id"], "project_id": session["project_id"]}


def note(session: Session, action: str | None, key: str | None = None) -> dict[str, Any]:
    return {**names(session), "reaction_key": key, "action": action}


def detach(place: Place, session: Session, script: str) -> None:
    """Start a script for a session on its own; what it says is kept in logs/."""
    environment = {**os.environ, "AO_HOME": place.home, "AO_CONFIG": place.project.source}
    log = paths.log(place.home, place.project.id, f"{session['id']}.{script}.log")
    proc.detach([sys.executable, os.path.join(ROOT, "bin", script), session["id"]], log, environment)
