"""What a person is told of several sessions together: those that went with their terminals, and whole projects."""

from __future__ import annotations

from typing import Any

from lib import config, due, notify, projects, sessions
from lib.clock import Clock
from lib.errors import AoError
from lib.react import Done, Round

Session = dict[str, Any]


def tell(home: str, clock: Clock, only: str | None = None) -> Done:
    """Tell of everything that is due and concerns several sessions; returns what was told."""
    settings = projects.Settings()
    return _tell_of_lost(home, settings, only, clock) + _tell_of_projects(home, settings, only, clock)


def _tell_of_lost(home: str, settings: projects.Settings, only: str | None, clock: Clock) -> Done:
    """All sessions that went with the tmux server are one piece of news, not one each."""
    lost = []
    for session in sessions.everything(home, only).records:
        if not session.get("is_lost") or "agent-exited" not in (session.get("conditions") or {}):
            continue
        try:
            file, project = settings.file(session["config_path"]), settings.project(session)
        except AoError:
            continue
        step = due.next_step(session, "agent-exited", config.reactions(project).get("agent-exited") or {}, clock)
        if isinstance(step, due.Step) and step.action in ("notify", "escalate"):
            lost.append((session, file, project, step))
    if not lost:
        return []
    ids = [session["id"] for session, *_ in lost]
    some = ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
    message = f"{len(ids)} agents went with their terminals (a reboot?): {some}; bring them back: ao-restore --lost"
    session, file, project, _ = lost[0]
    told = notify.notification("agent-exited", "urgent", message, clock, project.id)
    rounds = [Round(home, settings, one, None, clock) for one, *_ in lost]
    for round, (_, file_of, project_of, step) in zip(rounds, lost, strict=True):
        round.project, round.file = project_of, file_of
        round.intend("agent-exited", step, told["id"])
    error = notify.attempt(home, file, told, clock)
    for round in rounds:
        round.result("agent-exited", told["id"], error)
    return [{"session_id": None, "project_id": project.id, "reaction_key": "agent-exited", "action": "notify"}]


def _tell_of_projects(home: str, settings: projects.Settings, only: str | None, clock: Clock) -> Done:
    """Notify of the conditions of whole projects."""
    done: Done = []
    members: dict[str, list[Session]] = {}
    for session in sessions.everything(home, only).records:
        members.setdefault(session["project_id"], []).append(session)
    for name, group in members.items():
        newest = max(group, key=lambda session: str(session.get("created_at")))
        try:
            file, project = settings.file(newest["config_path"]), settings.project(newest)
        except AoError:
            continue
        for key in projects.due(home, project, clock):
            told = projects.news(home, project, key, group, clock)
            error = ""
            if not notify.was_sent(home, file, told["id"], told["priority"]):
                projects.intend(home, project, key, told, clock)
                error = notify.attempt(home, file, told, clock)
            projects.result(home, project, key, told["id"], error, clock)
            done.append({"session_id": None, "project_id": name, "reaction_key": key, "action": "notify"})
    return done
