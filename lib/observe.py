"""One look at the world: what is seen of each session is folded into its record.

A look asks (terminals, screens, forges), `fold` decides, and only the difference is written. What could not be asked
is unknown, and unknown changes nothing but the time since when it is not known. One session, repository or plugin that
cannot be looked at never keeps the others from being looked at.
"""

from __future__ import annotations

import functools
import marshal
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib import (
    cache,
    concerns,
    config,
    costs,
    facts,
    launch,
    lives,
    paths,
    plugins,
    projects,
    sessions,
    status,
    threads,
)
from lib.budgets import Budget
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Busy, Damaged, Unknown, reason
from lib.kept import Looks, Tales
from lib.rules import Rules
from lib.runtime import Pane
from lib.store import UNFINISHED, is_whole, set_aside

Session = dict[str, Any]
Problems = list[dict[str, Any]]  # what could not be looked at: [{session_id, project_id, message}]

FORGES_WITHIN = 60.0  # seconds for all forges together; what takes longer is unknown this time
# A line of what hooks reported. Before it, on the same line, may be what a disk has made of an earlier one.
REPORT = re.compile(r"(\d{10}\.\d{3})\t(received|report|done)\t([^\t]*)\t([^\t]*)$")
LONGEST_REPORT = 262_144  # bytes read at once of what hooks reported


def run(home: str, clock: Clock, only: str | None = None, fresh: bool = False) -> Problems:
    """Look at every session that needs it and return what went wrong: [{session_id, project_id, message}]."""
    fleet = sessions.everything(home, only)
    looks, tales = Looks(home), Tales(home, clock)
    watched = [session for session in fleet.records if status.needs_looking(session) or session in tales]
    if only is None:
        looks.keep_only(watched)
        tales.keep_only(watched)
    problems = _mend(home, clock, only) + [_damaged(path, why, clock) for path, why in fleet.damaged.items()]
    settings, rules = projects.Settings(), _Rules(home, clock, problems)
    panes = _look_at_runtimes(home, watched, problems)
    pulls = _look_at_forges(home, watched, settings, clock, problems, fresh)
    for session in watched:
        try:
            project, error = _project_of(session, settings)
            rule = rules(project) if project else None
            seen = _see(home, project, session, panes, pulls.get(session["id"], False), looks)
            story = tales.of(project, session) if project else None
            _write(home, session, seen._replace(error=error, story=story), rule, tales.may_write_cost(session), clock)
            tales.close(session)
            if status.is_doing(session, "spawn") and project:
                lives.settle(home, project, session, clock)
        except (Busy, sessions.Vanished):
            continue  # an effect is under way, or the session has just been removed
        except Exception as error:
            problems.append(_problem(session, error))
    looks.save(home)
    tales.save(home)
    records = sessions.everything(home, only).records
    _count(home, records, problems, clock)
    concerns.evaluate(home, records, problems, rules.budgets(), clock)
    return problems


def _mend(home: str, clock: Clock, only: str | None) -> Problems:
    """Set aside the damaged files of whole projects, which would stop whoever needs them next."""
    found = []
    for project, path in paths.shared(home):
        if only in (None, project) and not is_whole(path):
            why = set_aside(path, clock.iso, UNFINISHED)
            found.append({"session_id": None, "project_id": project, "message": why})
    return [one for one in found if one["message"]]


def _damaged(path: str, why: str, clock: Clock) -> dict[str, Any]:
    """The problem with a record that cannot be read; what is damaged, and not just out of reach, is set aside."""
    folder, name = os.path.split(path)
    names = {"session_id": name.removesuffix(".yaml"), "project_id": os.path.basename(folder)}
    return {**names, "message": sessions.set_aside(path, clock, UNFINISHED) or why}


def _project_of(session: Session, settings: projects.Settings) -> tuple[Project | None, str | None]:
    try:
        return settings.project(session), None
    except AoError as error:
        return None, str(error)


def _problem(session: Session, error: BaseException) -> dict[str, Any]:
    return {"session_id": session["id"], "project_id": session["project_id"], "message": reason(error)}


def _write(
    home: str,
    session: Session,
    seen: facts.Seen,
    rule: Rules | None,
    may_write_cost: Callable[[], bool],
    clock: Clock,
) -> None:
    """Write what differs; the record is locked only when something does."""
    trial = marshal.loads(marshal.dumps(session))  # a deep copy in a third of the time
    facts.fold(trial, seen, rule, clock)
    trial["status"] = status.derive(trial, clock)
    if trial == session or ({**trial, "cost": session.get("cost")} == session and not may_write_cost()):
        return
    sessions.update(home, session, lambda fresh: facts.fold(fresh, seen, rule, clock), clock)


def _count(home: str, records: Sequence[Session], problems: Problems, clock: Clock) -> None:
    """Bring the ledgers up to date with the records; what they already have is known from the cache."""
    known, now = cache.load(home, "ledgers"), {}
    for record in records:
        cost = record.get("cost")
        if cost:
            now[record["id"]] = [cost[name] for name in costs.SHOWN]
    if now == known:
        return
    try:
        costs.save(home, [record for record in records if now.get(record["id"]) != known.get(record["id"])])
        cache.save(home, "ledgers", now)
    except Damaged:
        problems += _mend_ledgers(home, records, clock)
    except AoError as error:  # the next look tries again
        problems.append({"session_id": None, "project_id": records[0]["project_id"], "message": str(error)})


def _mend_ledgers(home: str, records: Sequence[Session], clock: Clock) -> Problems:
    """Set aside the ledgers that cannot be read, and write new ones from what the records know."""
    where = {"session_id": None, "project_id": records[0]["project_id"]}
    return [{**where, "message": message} for message in costs.mend(home, records, clock.iso)]


def _look_at_runtimes(home: str, watched: Sequence[Session], problems: Problems) -> dict[str, dict[str, Pane] | None]:
    """For each runtime its terminals in one call, None where it cannot tell."""
    found: dict[str, dict[str, Pane] | None] = {}
    for session in watched:
        name = str(session["runtime"])
        if name not in found:
            try:
                found[name] = plugins.load("runtime", name).look(home)
            except Exception as error:
                found[name] = None
                problems.append({**_problem(session, error), "session_id": None})
    return found


def _look_at_forges(
    home: str, watched: Sequence[Session], settings: projects.Settings, clock: Clock, problems: Problems, fresh: bool
) -> dict[str, Any]:
    """The pull requests of all sessions, one look per project, the projects side by side."""
    groups: dict[tuple[str, str], list[Session]] = {}
    for session in watched:
        if not status.is_merged(session):
            groups.setdefault((session["project_id"], session.get("config_path") or ""), []).append(session)

    def look(group: list[Session]) -> Any:
        project = settings.project(group[0])
        return plugins.load("scm", config.setting(project, "scm")).look(home, project, group, clock, fresh)

    found: dict[str, Any] = {}
    answers = threads.each({key: functools.partial(look, group) for key, group in groups.items()}, FORGES_WITHIN)
    for key, answer in answers.items():
        unknown = answer if isinstance(answer, BaseException) else None
        for session in groups[key]:
            pull = unknown or answer.get(session["id"], False)
            if isinstance(pull, AoError) and not unknown:
                problems.append(_problem(session, pull))
            found[session["id"]] = False if isinstance(pull, BaseException) else pull
        if unknown:
            problems.append({**_problem(groups[key][0], unknown), "session_id": None})
    return found


def _see(
    home: str,
    project: Project | None,
    session: Session,
    panes: Mapping[str, dict[str, Pane] | None],
    pull: Any,
    looks: Looks,
) -> facts.Seen:
    known = panes.get(str(session["runtime"]))
    pane = (known or {}).get(session["runtime_handle"])
    state = "unknown" if known is None else "alive" if pane else "gone"
    reports, end = _read_reports(home, session)
    reading, has = None, {}
    if pane and project:
        reading = looks.read(home, project, session, pane)
        has = _received(home, project, session)
    return facts.Seen(
        basis=facts.basis(session),
        runtime=state,
        is_alone=known == {},
        ended=launch.ended(home, session) if state == "gone" else None,
        reports=reports,
        reports_end=end,
        reading=reading,
        head=_head(session),
        pull=pull if project else False,
        has=has,
    )


def _head(session: Session) -> tuple[str, str] | None:
    path = session.get("workspace_path")
    if not path or session.get("doing"):
        return None
    found: tuple[str, str] | None = plugins.load("workspace", session["workspace"]).head(path)
    return found


def _received(home: str, project: Project, session: Session) -> dict[str, bool | None]:
    waiting = [one["id"] for one in session.get("inbox") or () if _may_arrive(one)]
    if not waiting:
        return {}
    try:
        history = plugins.load("runtime", session["runtime"]).screen(home, session["runtime_handle"], history=True)
    except AoError:
        return {}
    found: dict[str, bool | None] = plugins.load("agent", session["agent"]).received(project, session, waiting, history)
    return found


def _may_arrive(message: Mapping[str, Any]) -> bool:
    """Whether it was typed: of one that is to be typed again, the first copy may only have been out of sight."""
    state = message["state"]
    return state in ("sending", "delivered") or bool(state == "queued" and message["attempts"])


def _read_reports(home: str, session: Session) -> tuple[tuple[tuple[float, str, str, str], ...], int]:
    """The whole lines that hooks appended since the last look, and where they end."""
    start = int(session.get("reports_read") or 0)
    path = paths.report(home, session["project_id"], session["id"])
    try:
        size = os.stat(path).st_size
        if size == start:
            return (), start
        if size < start:  # a disk has lost its end; what is left was read before
            return (), size
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(LONGEST_REPORT)
    except FileNotFoundError:
        return (), 0
    whole = data[: data.rfind(b"\n") + 1]
    lines = map(REPORT.search, whole.decode("utf-8", "replace").split("\n"))
    return tuple((float(line[1]), line[2], line[3], line[4]) for line in lines if line), start + len(whole)


class _Rules:
    """What the conditions of each project depend on, found out once in a look."""

    def __init__(self, home: str, clock: Clock, problems: Problems) -> None:
        self._home, self._clock, self._problems = home, clock, problems
        self._known: dict[tuple[str, str], Rules] = {}

    def __call__(self, project: Project) -> Rules:
        key = (project.id, project.source)
        if key not in self._known:
            try:
                self._known[key] = projects.rules(self._home, project, self._clock)
            except Unknown:
                self._problems += _mend_ledgers(self._home, sessions.everything(self._home).records, self._clock)
                self._known[key] = projects.rules(self._home, project, self._clock)
        return self._known[key]

    def budgets(self) -> dict[str, Budget]:
        return {id: rules.budget for (id, _), rules in self._known.items()}
