"""One round of acting: messages on their way, open conditions that are due, checks to start, ended work to tidy up.

For each session: effect lock, intent, act, result. What is decided is decided again on the newest record under its
lock, so that a person who kills, claims or answers at the same moment wins. One session that fails stops no other.
People are told afterwards, by lib/fleet.py: here only the intent to tell them is saved.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from lib import (
    conditions,
    config,
    deliver,
    due,
    effects,
    lives,
    merge,
    notify,
    plugins,
    projects,
    publish,
    sessions,
    status,
    threads,
)
from lib.chores import attend, free_slots
from lib.clock import Clock
from lib.errors import AoError, Busy, Unknown, reason
from lib.place import Done, Place, Session, detach, names, note, place_of, reaction_of
from lib.rules import COMMENTS
from lib.runtime import Pane
from lib.scm import Moved
from lib.tell import compose, sentence

Panes = Callable[[str], Mapping[str, Pane] | None]  # a runtime's terminals by handle, None when it cannot tell

AT_ONCE = 8  # sessions acted upon at the same time
WITHIN = 30.0  # seconds that a round waits; what takes longer goes on beside the next rounds
STARTING = 60.0  # seconds in which a process of its own must have begun


WAITS: dict[type[Exception], str] = {  # an error -> what is waited for
    Unknown: "an answer",
    Moved: "another look",
    Exception: "a remedy",
}


def run(home: str, clock: Clock, only: str | None = None) -> Done:
    """Act once on everything that is due, and return what was done."""
    records = sessions.everything(home, only).records
    settings, slots = projects.Settings(), threading.Semaphore(free_slots(home, records))
    panes = functools.cache(functools.partial(_look, home))  # one call a round, and none when nobody is spoken to

    def serve(session: Session) -> Done:
        place = place_of(home, settings, session, clock)
        return _serve(place, session, panes, slots) if place else []

    turns = {session["id"]: functools.partial(serve, session) for session in records}
    answers = threads.each(turns, WITHIN, AT_ONCE)
    done = [(session, answers[session["id"]]) for session in records]
    return [one for session, found in done for one in _taken(session, found)]


def preview(home: str, clock: Clock, only: str | None = None) -> Done:
    """What `run` would do now about open conditions, or why it would do nothing."""
    settings = projects.Settings()
    found: Done = []
    for session in sessions.everything(home, only).records:
        place = place_of(home, settings, session, clock)
        for key in session.get("conditions") or ():
            step = next_step(place, session, key) if place else due.Wait("a configuration that can be read")
            action = step.action if isinstance(step, due.Step) else None
            found.append({**note(session, action, key), "waiting_for": None if action else step.why})
    return found


def forward(home: str, clock: Clock, only: str | None = None) -> Done:
    """Act on reviewers' comments alone, now."""
    settings = projects.Settings()
    done: Done = []
    panes = functools.cache(functools.partial(_look, home))
    for session in sessions.everything(home, only).records:
        place = place_of(home, settings, session, clock)
        if place and any(key in session["conditions"] for key in COMMENTS):
            try:
                with lives.hold(home, session, clock):
                    for key in COMMENTS:
                        _act(place, sessions.find(home, session["id"]), key, done)
                    _speak(place, sessions.find(home, session["id"]), panes)
            except AoError as error:  # of this one alone
                done.append({**note(session, None), "error": reason(error)})
    return done


def next_step(place: Place, session: Session, key: str) -> due.Step | due.Wait:
    """What an open condition wants now; a wait when it has closed."""
    if key not in session["conditions"]:
        return due.Wait("nothing: it has closed")
    return due.next_step(session, key, reaction_of(place, key), place.clock)


def is_shared(session: Session, key: str) -> bool:
    """Whether a person is told of it together with other sessions, by lib/fleet.py."""
    return key == "agent-exited" and bool(session.get("is_lost"))


def intend(
    place: Place,
    session: Session,
    key: str,
    step: due.Step,
    id: str,
    message: Session | None = None,
    told: notify.Notification | None = None,
) -> bool:
    """Save the intent of a step if the newest record still wants exactly that; whether it does.

    With it goes what carries it out: the message into the inbox, the notification into the intent.
    """
    intended = []

    def change(fresh: Session) -> list[dict[str, Any]]:
        if next_step(place, fresh, key) != step:
            return []
        intended.append(id)
        condition = fresh["conditions"][key]
        what = {"id": id, "fingerprint": step.fingerprint, "action": step.action, "at": place.clock.iso}
        covers = {"items": list(step.items), "head_sha": (fresh.get("pr") or {}).get("head_sha")}
        condition.update(intent=what | covers | ({"told": told} if told else {}), result=None, waiting_for=None)
        if message:
            fresh["inbox"].append(message)
        return _triggered(key, step, condition["attempts"], told)

    sessions.update(place.home, session, change, place.clock)
    return bool(intended)


def result(place: Place, session: Session, key: str, id: str, error: str) -> None:
    """Save how an intent ended, "" for success."""

    def change(fresh: Session) -> None:
        condition = fresh["conditions"].get(key)
        if condition and (condition.get("intent") or {}).get("id") == id and not condition.get("result"):
            conditions.record_result(fresh, key, place.clock, error)

    sessions.update(place.home, session, change, place.clock)


def _look(home: str, runtime: str) -> Mapping[str, Pane] | None:
    try:
        found: Mapping[str, Pane] = plugins.load("runtime", runtime).look(home)
        return found
    except Unknown:
        return None


def _taken(session: Session, found: Any) -> Done:
    return found if isinstance(found, list) else [{**names(session), "error": reason(found)}]


def _serve(place: Place, session: Session, panes: Panes, slots: threading.Semaphore) -> Done:
    """A session's turn; what goes wrong becomes an event, once, and the others have theirs."""
    done: Done = []
    try:
        _take_turn(place, session, panes, slots, done)
        _note_error(place, session, None)
    except (Busy, sessions.Vanished):
        pass  # an effect on it is under way in another process
    except Exception as error:
        done.append({**names(session), "error": reason(error)})
        _note_error(place, session, reason(error))
    return done


def _take_turn(place: Place, session: Session, panes: Panes, slots: threading.Semaphore, done: Done) -> None:
    if not attend(place, session, slots, done):
        return
    is_spoken_to = sessions.open_message(session) or publish.is_due(place.project, session, place.clock)
    if not is_spoken_to and not any(_is_news(place, session, key) for key in session["conditions"]):
        return
    with effects.hold(place.home, session):
        session = sessions.find(place.home, session["id"])
        if session.get("doing"):
            return
        if publish.is_due(place.project, session, place.clock):
            publish.attempt(place.home, place.project, session, place.clock)
            done.append(note(session, "publish"))
        keys = list(session["conditions"])
        wants_restore = [key for key in keys if _act(place, sessions.find(place.home, session["id"]), key, done)]
        _speak(place, sessions.find(place.home, session["id"]), panes)
    for key in wants_restore:  # it takes the lock for itself
        _restore(place, sessions.find(place.home, session["id"]), key, done)


def _speak(place: Place, session: Session, panes: Panes) -> None:
    """Bring the open message, which may be of this very round, one step further."""
    if sessions.open_message(session):
        known = panes(str(session["runtime"]))
        if known is not None:
            deliver.advance(place.home, place.project, session, known, place.clock)


def _is_news(place: Place, session: Session, key: str) -> bool:
    """Whether there is anything to do or to say about an open condition: an idle fleet is left in peace."""
    condition = session["conditions"][key]
    if _is_in_flight(condition):
        return _was_interrupted(place, session, condition)
    step = next_step(place, session, key)
    return isinstance(step, due.Step) or step.why != condition.get("waiting_for")


def _act(place: Place, session: Session, key: str, done: Done) -> bool:
    """Do what one open condition wants now; True when it wants a restore, for which the lock must be free."""
    condition = session["conditions"].get(key) or {}
    if _was_interrupted(place, session, condition):
        is_back = condition["intent"]["action"] == "restore" and not status.has_ended(session)
        result(place, session, key, condition["intent"]["id"], "" if is_back else "it was interrupted")
    if not condition or _is_in_flight(condition):
        return False
    step = next_step(place, session, key)
    if isinstance(step, due.Wait):
        _wait(place, session, key, step.why)
    elif step.action == "restore":
        return True
    elif not is_shared(session, key):
        try:
            ACTIONS[step.action](place, session, key, step, done)
        except (Busy, sessions.Vanished):
            raise
        except Exception as error:  # what stands open beside it is not kept from its turn
            waits = next(word for kind, word in WAITS.items() if isinstance(error, kind))
            _wait(place, session, key, f"{waits}: {reason(error)}")
            if not isinstance(error, Unknown | Moved):
                done.append({**note(session, step.action, key), "error": reason(error)})
    return False


def _send(place: Place, session: Session, key: str, step: due.Step, done: Done) -> None:
    text = compose(place.home, place.project, session, key, step, reaction_of(place, key))
    message = deliver.message(text, key, place.clock)
    if intend(place, session, key, step, message["id"], message):
        done.append(note(session, step.action, key))


def _notify(place: Place, session: Session, key: str, step: due.Step, done: Done) -> None:
    reaction = reaction_of(place, key)
    message = sentence(place.home, place.project, session, key, step, reaction)
    news = [session["conditions"][key]["since"], step.action, *(step.items if step.action == "notify" else ())]
    told = notify.notification(key, priority(reaction), message, place.clock, place.project.id, session, news)
    if intend(place, session, key, step, told["id"], told=told):
        done.append(note(session, step.action, key))


def _merge(place: Place, session: Session, key: str, step: due.Step, done: Done) -> None:
    method = reaction_of(place, key).get("merge_method") or config.setting(place.project, "merge.method")
    merge.attempt(place.home, place.project, session, method, "", place.clock)
    done.append(note(session, step.action, key))


def _restore(place: Place, session: Session, key: str, done: Done) -> None:
    step, id, error = next_step(place, session, key), deliver.new_id("r"), ""
    if not isinstance(step, due.Step) or step.action != "restore" or not intend(place, session, key, step, id):
        return
    done.append(note(session, step.action, key))
    if _needs_setting_up(place, session):
        detach(place, session, "ao-restore")
        return
    try:
        lives.restore(place.home, place.project, session, place.clock)
    except AoError as failure:
        error = str(failure)
    result(place, session, key, id, error)


ACTIONS: dict[str, Callable[[Place, Session, str, due.Step, Done], None]] = {
    "send-to-agent": _send,
    "notify": _notify,
    "escalate": _notify,
    "auto-merge": _merge,
}


def priority(reaction: Mapping[str, Any]) -> str:
    return str(reaction.get("priority") or "urgent")


def _is_in_flight(condition: Mapping[str, Any]) -> bool:
    return bool(condition.get("intent")) and not condition.get("result")


def _needs_setting_up(place: Place, session: Session) -> bool:
    """Whether a restore takes longer than a round: a new worktree, and set-up commands in it."""
    return bool(config.setting(place.project, "post_create")) and not os.path.isdir(session["workspace_path"])


def _was_interrupted(place: Place, session: Session, condition: Mapping[str, Any]) -> bool:
    """Whether an intent's process died: these are carried out under the effect lock, which is free now.

    A message is on its way by itself, and notifications are handed over at the end of each round.
    """
    intent = condition.get("intent") or {}
    if not _is_in_flight(condition) or intent["action"] not in ("restore", "auto-merge"):
        return False
    is_starting = intent["action"] == "restore" and _needs_setting_up(place, session)
    return not is_starting or place.clock.elapsed(intent["at"]) >= STARTING


def _wait(place: Place, session: Session, key: str, why: str) -> None:
    """Say why nothing is done, in the record and once in the log."""

    def change(fresh: Session) -> list[dict[str, Any]]:
        condition = fresh["conditions"].get(key)
        if condition is None or condition.get("waiting_for") == why:
            return []
        condition["waiting_for"] = why
        return [{"type": "reaction_skipped", "reaction_key": key, "why": why}]

    sessions.update(place.home, session, change, place.clock)


def _note_error(place: Place, session: Session, message: str | None) -> None:
    """Keep why a turn went wrong until one goes well, and log it once."""

    def change(fresh: Session) -> list[dict[str, Any]]:
        known, fresh["react_error"] = fresh.get("react_error"), message
        return [{"type": "tick_error", "message": message}] if message and message != known else []

    if session.get("react_error") != message:
        sessions.update(place.home, session, change, place.clock)


def _triggered(key: str, step: due.Step, attempts: int, told: notify.Notification | None) -> list[dict[str, Any]]:
    if step.action == "escalate":
        first = {"type": "reaction_escalated", "reaction_key": key, "attempts": attempts, "why": step.why}
    else:
        first = {"type": "reaction_triggered", "reaction_key": key, "action": step.action}
    return [first, notify.event(told, step.action)] if told else [first]
