"""Start an agent: its environment, the file that the launcher reads, its terminal.

Used by spawn and restore alike. Nothing long or secret is on a command line: the launcher in the terminal reads the
arguments and the environment from a file of mode 0600, so that a restore from cron finds the same PATH.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from lib import ROOT, paths, plugins, store
from lib.agent import Launch
from lib.config import Project

_NOT_INHERITED = ("TMUX", "TMUX_PANE", "AO_FAULT", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")


def prepare(home: str, project: Project, session: Mapping[str, Any], launch: Launch) -> None:
    """Write the launcher's file, and remove what an earlier life left beside it."""
    path = paths.launch(home, session["project_id"], session["id"])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(exit_path(path))
    content = {
        "argv": launch.argv,
        "environment": environment(home, project, session, launch),
        "folder": session["workspace_path"],
    }
    store.replace(path, json.dumps(store.clean(content)).encode())


def start(home: str, session: Mapping[str, Any]) -> None:
    """Start the terminal with the launcher in it. AoError when it exists or cannot be started."""
    path = paths.launch(home, session["project_id"], session["id"])
    argv = [sys.executable, os.path.join(ROOT, "lib", "launcher.py"), path]
    runtime = plugins.load("runtime", session["runtime"])
    runtime.start(home, session["runtime_handle"], argv, session["workspace_path"], {})


def environment(home: str, project: Project, session: Mapping[str, Any], launch: Launch) -> dict[str, str]:
    """What the agent finds in its environment: the caller's, bin/ first on PATH, and which session it is."""
    found = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    found.update(launch.environment)
    found["PATH"] = os.path.join(ROOT, "bin") + os.pathsep + found.get("PATH", os.defpath)
    found["AO_HOME"] = home
    found["AO_PROJECT_ID"] = session["project_id"]
    found["AO_SESSION_ID"] = session["id"]
    found["AO_ISSUE_ID"] = str(session.get("issue_id") or "")
    found["AO_CONFIG"] = project.source
    return found


def ended(home: str, session: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the agent ended, as its launcher left it: {code, at}; None while it runs or when nobody could tell."""
    try:
        with open(exit_path(paths.launch(home, session["project_id"], session["id"])), encoding="utf-8") as file:
            found = json.load(file)
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("code"), int) else None


def forget(home: str, session: Mapping[str, Any]) -> None:
    """Remove the launcher's files."""
    path = paths.launch(home, session["project_id"], session["id"])
    for leftover in (path, exit_path(path)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(leftover)


def exit_path(path: str) -> str:
    return path.removesuffix(".json") + ".exit"
