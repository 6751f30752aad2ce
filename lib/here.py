"""Which session, pull request and project a command means, from its arguments and from where it is run.

A session's project is read from the ao.yaml that it was spawned with. Its worktree may hold a copy of that file, and
the copy would name the worktree as the project's repository.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from lib import cli, config, overview, paths, projects, sessions
from lib.config import Project
from lib.errors import AoError, UsageError
from lib.sessions import Session

if TYPE_CHECKING:
    import argparse


def session() -> Session | None:
    """The session whose agent runs this command, or in whose worktree it is run; None for a person elsewhere."""
    home = paths.home(make=False)
    project, id = os.environ.get("AO_PROJECT_ID", ""), os.environ.get("AO_SESSION_ID", "")
    if not (project and id):
        below = os.path.relpath(os.path.realpath(os.getcwd()), os.path.realpath(os.path.join(home, "worktrees")))
        project, id = (*below.split(os.sep), "")[:2]
    if not paths.is_name(project) or not paths.is_name(id):
        return None
    return overview.record(paths.session(home, project, id))


def project(args: argparse.Namespace) -> Project:
    """The project that a command means: its session's where it is run in one's worktree, else as in cli.project."""
    record = None if args.project or args.config else session()
    found = projects.Settings().project(record) if record else cli.project(args)
    projects.check_owner(paths.home(make=False), found)
    return found


def subject(text: str, args: argparse.Namespace) -> tuple[Project, dict[str, Any]]:
    """What ID means where a command takes a session or the number of a pull request.

    For a number, a stand-in for a session that has claimed that pull request.
    """
    number = cli.number(text)
    if number is not None:
        found = project(args)
        return found, {"id": "", "project_id": found.id, "claimed_pr_number": number}
    record = sessions.find(paths.home(make=False), text)
    return projects.Settings().project(record), record


def embedded(found: Project) -> Project:
    """The project, where its pull requests are on the embedded forge; AoError where another keeps them."""
    scm = config.setting(found, "scm")
    if scm != "local":
        raise AoError(f"pull requests of project '{found.id}' are kept by {scm}; this command is for scm: local")
    return found


def pull(text: str | None, args: argparse.Namespace) -> tuple[Project, dict[str, Any]]:
    """`subject` for a command about pull requests; without `text` the session in whose worktree it is run."""
    text = text or (session() or {}).get("id")
    if not text:
        raise UsageError("say which pull request: a session or a number")
    return subject(text, args)


def actor() -> str:
    """The session whose agent acts, "" for a person. What nobody types in a session's worktree is its agent's doing."""
    named = os.environ.get("AO_SESSION_ID", "")
    is_typed = sys.stdin is not None and sys.stdin.isatty()
    return named or ("" if is_typed else str((session() or {}).get("id") or ""))
