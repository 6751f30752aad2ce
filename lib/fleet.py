"""Tell people, at the end of each round: of single sessions, of those that went together, of whole projects.

A notification is part of the intent that was saved for it. Whatever has such an intent and no result is handed over
here, be it of this round or of one whose process died before it could.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lib import concerns, due, notify, paths, projects, sessions
from lib.clock import Clock
from lib.config import Config, Project
from lib.errors import AoError, Busy
from lib.place import Done, Place, place_of
from lib.react import intend, is_shared, next_step, priority, result

Session = dict[str, Any]


class Letter(NamedTuple):
    """A notification under way, and how what became of it is saved."""

    file: Config
    told: notify.Notification
    finish: Callable[[str], None]  # takes "" or why it reached nobody


def tell(home: str, clock: Clock, only: str | None = None) -> Done:
    """Tell people of everything that is due; returns what was told of several sessions together."""
    settings = projects.Settings()
    records = sessions.everything(home, only).records
    done = _intend_for_lost(home, settings, records, clock)
    letters: list[Letter] = []
    for place, members in _projects(home, settings, records, only, clock):
        try:
            for key, condition in concerns.due(home, place.project, clock).items():
                told = concerns.news(place.project, key, condition, members, clock)
                concerns.intend(home, place.project, key, told, clock)
                done.append(_note(place.project.id, key))
            for key, told in concerns.under_way(home, place.project):
                finish = functools.partial(concerns.result, home, place.project, key, told["id"], clock=clock)
                letters.append(Letter(place.file, told, finish))
        except AoError as error:  # its file cannot be read or written; the others are told of theirs
            done.append({**_note(place.project.id, None), "action": None, "error": str(error)})
    letters += _of_sessions(home, settings, only, clock)
    different = {letter.told["id"]: (letter.file, letter.told) for letter in letters}
    answers = notify.send(home, list(different.values()), clock) if letters else {}
    for letter in letters:
        letter.finish(answers[letter.told["id"]])
    return done


def _intend_for_lost(home: str, settings: projects.Settings, records: list[Session], clock: Clock) -> Done:
    """All sessions that went with the tmux server are one piece of news, not one each."""
    key, lost = "agent-exited", []
    for session in records:
        if key in (session.get("conditions") or {}) and is_shared(session, key):
            place = place_of(home, settings, session, clock)
            step = next_step(place, session, key) if place else None
            if place and isinstance(step, due.Step) and step.action != "restore":
                lost.append((place, session, step))
    if not lost:
        return []
    ids = [session["id"] for _, session, _ in lost]
    some = ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
    message = f"{len(ids)} agents went with their terminals (a reboot?): {some}; bring them back: ao-restore --lost"
    if len(ids) == 1:
        message = f"the terminal of {some} is gone, and with it the agent; bring it back: ao-restore {some}"
    project = lost[0][0].project
    urgency = priority(project.values["reactions"][key])
    news = [session["conditions"][key]["since"] for _, session, _ in lost]
    told = notify.notification(key, urgency, message, clock, project.id, news=[*ids, *news])
    for place, session, step in lost:
        intend(place, session, key, step, told["id"], told=told)
    return [_note(project.id, key)]


def _of_sessions(home: str, settings: projects.Settings, only: str | None, clock: Clock) -> Iterator[Letter]:
    for session in sessions.everything(home, only).records:
        for key, condition in (session.get("conditions") or {}).items():
            told = (condition.get("intent") or {}).get("told")
            if told and not condition.get("result"):
                place = _to_tell(home, settings, session, clock)
                yield Letter(place.file, told, functools.partial(_finish, place, session, key, told["id"]))


def _finish(place: Place, session: Session, key: str, id: str, error: str) -> None:
    try:
        result(place, session, key, id, error)
    except (sessions.Vanished, Busy):
        pass  # with its record, or the next round finds that it was sent


def _projects(
    home: str, settings: projects.Settings, records: list[Session], only: str | None, clock: Clock
) -> Iterator[tuple[Place, list[Session]]]:
    """Every project with its sessions, by the configuration of the newest of them; also one that has lost the last."""
    groups: dict[str, list[Session]] = {name: [] for name, _ in paths.shared(home) if only in (None, name)}
    for session in records:
        groups.setdefault(session["project_id"], []).append(session)
    for name, members in groups.items():
        newest = max(
            members, key=lambda session: str(session.get("created_at")), default={"id": "", "project_id": name}
        )
        yield _to_tell(home, settings, newest, clock), members


def _to_tell(home: str, settings: projects.Settings, session: Session, clock: Clock) -> Place:
    """By whose configuration people are told: by ao's own when the session's cannot be read. Nothing else is done."""
    found = place_of(home, settings, session, clock)
    if found:
        return found
    builtin = settings.file("")
    project = Project(session["project_id"], "", str(session.get("config_path")), builtin.values)
    return Place(home, project, builtin, clock)


def _note(project_id: str, key: str | None) -> dict[str, Any]:
    return {"session_id": None, "project_id": project_id, "reaction_key": key, "action": "notify"}
