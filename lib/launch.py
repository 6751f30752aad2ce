"""Start an agent: its environment, the file that the launcher reads, its terminal.

Used by spawn and restore alike. Nothing long or secret is on a command line: the launcher in the terminal reads the
arguments and the environment from a file of mode 0600. That file outlives the agent, so that a restore from cron, whose
own environment is next to nothing, finds what the agent was first started with.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any

from lib import ROOT, faults, gh, git, launcher, paths, plugins, render, store
from lib.agent import Launch
from lib.clock import iso
from lib.config import Project
from lib.errors import AoError

LONGEST_TEXT = 100_000  # bytes that a command line or a paste can hold; a longer text goes to a file
_NOT_INHERITED = frozenset(("TMUX", "TMUX_PANE", faults.VARIABLE)) | git.LOCAL_VARIABLES | gh.TOKENS  # no token


def prepare(home: str, project: Project, session: Mapping[str, Any], launch: Launch) -> None:
    """Write the launcher's file. AoError when there is no such program."""
    found = {**environment(home, project, session), **launch.environment}
    program, folder = launch.argv[0], session["workspace_path"]
    if not shutil.which(os.path.join(folder, program) if os.sep in program else program, path=found["PATH"]):
        raise AoError(f"cannot start the agent: there is no program '{program}' on its PATH; see: ao-config show")
    content = {"argv": launch.argv, "environment": found, "folder": folder}
    path = _path(home, session)
    if os.path.exists(path) and not _read(path):
        store.keep_aside(path, iso(time.time()))
    for leftover in (launcher.exit_file(path), launcher.screen_file(path)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(leftover)  # of an earlier life; gone for good once the new file is there
    store.replace(path, json.dumps(store.clean(content)).encode())


def start(home: str, session: Mapping[str, Any]) -> None:
    """Start the terminal with the launcher in it. AoError when it exists or cannot be started."""
    runtime, program = plugins.load("runtime", session["runtime"]), launcher.command(_path(home, session))
    runtime.start(home, session["runtime_handle"], program, session["workspace_path"], {})


def environment(home: str, project: Project, session: Mapping[str, Any]) -> dict[str, str]:
    """What the agent finds in its environment: what it had before, the caller's, bin/ first on PATH, who it is."""
    before = _read(_path(home, session)).get("environment") or {}
    found = {key: value for key, value in {**before, **os.environ}.items() if key not in _NOT_INHERITED}
    known = [os.path.join(ROOT, "bin"), before.get("PATH"), os.environ.get("PATH", os.defpath)]
    folders = os.pathsep.join(path for path in known if path).split(os.pathsep)
    return {
        **found,
        "PATH": os.pathsep.join(dict.fromkeys(folders)),
        "AO_HOME": home,
        "AO_PROJECT_ID": session["project_id"],
        "AO_SESSION_ID": session["id"],
        "AO_ISSUE_ID": str(session.get("issue_id") or ""),
        "AO_CONFIG": project.source,
    }


def shortened(home: str, session: Mapping[str, Any], text: str, name: str) -> str:
    """`text`, or the word to read it from a file when it is too long for a command line or a paste."""
    if len(text.encode("utf-8", "replace")) <= LONGEST_TEXT:
        return text
    path = f"{_stem(home, session)}.{name}.md"
    store.replace(path, text.encode("utf-8", "replace"))
    return f"Read the file {path}, all of it, and do what it asks."


def ended(home: str, session: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the agent ended, as its launcher left it: {code, at}; None while it runs or when nobody could tell."""
    found = _read(launcher.exit_file(_path(home, session)))
    return found if isinstance(found.get("code"), int) else None


def last_screen(home: str, session: Mapping[str, Any]) -> str | None:
    """What was on the terminal when the agent ended, None when that is not known."""
    try:
        with open(launcher.screen_file(_path(home, session)), encoding="utf-8", errors="replace") as file:
            return render.harmless(file.read())
    except FileNotFoundError:
        return None


def forget(home: str, session: Mapping[str, Any]) -> None:
    """Remove the launcher's file and everything beside it."""
    for leftover in glob.glob(glob.escape(_stem(home, session)) + ".*"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(leftover)


def _path(home: str, session: Mapping[str, Any]) -> str:
    return paths.launch(home, session["project_id"], session["id"])


def _stem(home: str, session: Mapping[str, Any]) -> str:
    return _path(home, session).removesuffix(".json")


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
