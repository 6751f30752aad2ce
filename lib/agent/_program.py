"""What adapters of agents share about their program: its options, its own folder and settings, what a doctor says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from lib import config, proc
from lib.agent import Check, Session
from lib.config import Project
from lib.errors import AoError


def options(project: Project, session: Session, permissions: Mapping[str, list[str]]) -> list[str]:
    """The options for what it may do unasked, and for the model that is wanted, if one is."""
    return [*permissions[config.setting(project, "agent_config.permissions")], *model(project, session)]


def model(project: Project, session: Session) -> list[str]:
    name = (session.get("agent_config") or {}).get("model") or config.setting(project, "agent_config.model")
    return ["--model", name] if name else []


def folder(variable: str, otherwise: str) -> str:
    """A folder that a variable of the environment names."""
    return os.path.expanduser(os.environ.get(variable) or otherwise)


def records(session: Session) -> str:
    """Where it writes its own records since the session was started, "" when nobody has noted that."""
    return str((session.get("agent_config") or {}).get("records") or "")


def settings(path: str, load: Callable[[BinaryIO], Any], remedy: str = "") -> dict[str, Any]:
    """A file of the person's own settings of the program; {} when there is none. AoError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            found = load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AoError(f"cannot read '{path}': {error}{remedy}") from error
    return found if isinstance(found, dict) else {}


def holds(path: str, says: Callable[[str], Any]) -> bool:
    """Whether there is a file whose text says so."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return bool(says(file.read()))
    except OSError:
        return False


def version(name: str) -> Check:
    """What a program says of its version."""
    said = proc.run("tool", [name, "--version"])
    return Check("bad", f"{name} --version: {said.err.strip()}") if said.code else Check("ok", said.out.strip())


def logged_out(remedy: str) -> Check:
    return Check("warning", "nobody seems to be logged in", remedy)


def trust(project: Project, name: str, has_accepted: bool) -> list[Check]:
    """A warning where the program will ask a person whether it may trust the repository."""
    if has_accepted or config.setting(project, "agent_config.trust"):
        return []
    remedy = f"start {name} once in '{project.path}', or set agent_config.trust: true"
    return [Check("warning", f"it does not trust '{project.path}' yet, and will ask", remedy)]
