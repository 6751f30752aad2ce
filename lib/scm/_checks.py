"""CI of the local forge: which checks a pull request needs, what they said, and running them.

A result counts only for the commits it was made with, head *and* base: two pull requests that are each green alone may
be broken together, so a base that moved asks for a new run. Entries of a pull request's `runs`: `name head_sha base_sha
status(running|passed|failed) conclusion log lines at`.
"""

from __future__ import annotations

from typing import Any

from lib import config, paths, store
from lib.config import Project
from lib.scm import _pulls

FAILED = ("failed",)
WAITING = ("pending", "running")


def lock(home: str, project_id: str, number: int) -> str:
    """The effect lock that a run holds; a check marked running while it is free died with its process."""
    return paths.lock(home, "effect", project_id, f"ci-{int(number)}")


def listed(home: str, project: Project, record: _pulls.Record) -> list[dict[str, str]]:
    """The configured checks with what is known of each for the current head and base."""
    current = newest(record)
    running = any(run["status"] == "running" for run in current.values())
    alive = running and store.is_held(lock(home, project.id, record["number"]))
    return [_shown(entry["name"], current.get(entry["name"]), alive) for entry in config.setting(project, "ci")]


def newest(record: _pulls.Record) -> dict[str, dict[str, Any]]:
    """The newest run of each check for the current head and base."""
    pair = commits(record)
    return {run["name"]: run for run in record.get("runs") or () if (run["head_sha"], run["base_sha"]) == pair}


def commits(record: _pulls.Record) -> tuple[str, str]:
    """The head and base that checks must have been made with."""
    return record["head_sha"], (record.get("against") or {}).get("base_sha", "")


def roll_up(statuses: list[str]) -> str:
    """failing, pending, passing or none for the statuses of a pull request's checks."""
    if any(status in FAILED for status in statuses):
        return "failing"
    if any(status in WAITING for status in statuses):
        return "pending"
    return "passing" if "passed" in statuses else "none"


def _shown(name: str, run: dict[str, Any] | None, alive: bool) -> dict[str, str]:
    if run is None or (run["status"] == "running" and not alive):
        return {"name": name, "status": "pending", "url": "", "conclusion": ""}
    return {"name": name, "status": run["status"], "url": f"file://{run['log']}", "conclusion": run["conclusion"]}
