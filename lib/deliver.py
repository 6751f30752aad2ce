"""Bring one message at a time to an agent, once.

A message is `queued`, `sending` while it is being pasted, `delivered` when Enter was pressed, and `confirmed` when the
tick has seen that the agent has it. Nothing is ever typed into a dialog, over a draft or under a person's fingers.
Where it cannot be known whether a message arrived it becomes `unconfirmed`, a person is told, and it is not sent again.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from typing import Any

from lib import effects, paths, plugins, prompts, sessions, store
from lib.clock import Clock
from lib.config import Project
from lib.errors import Unknown
from lib.runtime import Gone, Pane

Session = dict[str, Any]
Message = dict[str, Any]

SETTLE = 0.4  # seconds between the paste and Enter: a terminal program needs them to take the paste in
HANDS_OFF = 30.0  # seconds after a person's last key in the terminal
PRESS_AGAIN = 4.0  # seconds without confirmation before Enter is pressed again on a draft
GIVE_UP = 45.0  # seconds without confirmation before it is decided what became of the message
TRIES = 3
LONGEST_PASTE = 100_000  # bytes; a longer message goes to a file that the agent is told to read
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def message(text: str, sender: str, clock: Clock, answer: bool = False) -> Message:
    """A new message for an inbox; an `answer` is typed at an open question, without a signature."""
    return {
        "id": new_id(),
        "at": clock.iso,
        "from": sender,
        "text": store.clean(text),
        "state": "queued",
        "attempts": 0,
        "answer": answer,
    }


def new_id() -> str:
    return "m-" + "".join(secrets.choice(LETTERS) for _ in range(8))


def advance(home: str, project: Project, session: Session, panes: Mapping[str, Pane], clock: Clock) -> None:
    """Take the session's open message one step further. The caller holds the session's effect lock."""
    open_message = sessions.open_message(session)
    if open_message is None:
        return
    if sessions_ended(session):
        _set(home, session, open_message, clock, state="failed", waiting_for="the session has ended")
    elif open_message["state"] == "queued":
        _send(home, project, session, open_message, panes, clock)
    else:
        _follow_up(home, project, session, open_message, clock)


def sessions_ended(session: Session) -> bool:
    return bool(session.get("outcome")) or (session.get("pr") or {}).get("state") == "merged"


def _send(
    home: str, project: Project, session: Session, open_message: Message, panes: Mapping[str, Pane], clock: Clock
) -> None:
    why = _obstacle(home, project, session, open_message, panes, clock)
    if why:
        _set(home, session, open_message, clock, waiting_for=why)
        return
    runtime = plugins.load("runtime", session["runtime"])
    text = _as_typed(home, session, open_message)
    _set(home, session, open_message, clock, state="sending", waiting_for=None, tries=open_message["attempts"] + 1)
    try:
        with effects.effect("deliver.paste"):
            runtime.paste(home, session["runtime_handle"], text)
            effects.fault("deliver.paste:inside")
        time.sleep(SETTLE)
        with effects.effect("deliver.enter"):
            runtime.press(home, session["runtime_handle"], "Enter")
    except (Unknown, Gone) as error:  # it stays `sending`: the next run looks for it first
        _set(home, session, open_message, clock, waiting_for=str(error))
        return
    state = "confirmed" if open_message.get("answer") else "delivered"
    _set(home, session, open_message, clock, state=state, delivered_at=clock.iso)


def _obstacle(
    home: str, project: Project, session: Session, open_message: Message, panes: Mapping[str, Pane], clock: Clock
) -> str:
    """Why a message cannot be typed now, "" when it can."""
    if session.get("hold"):
        return f"the session is parked ({session['hold'].get('reason')})"
    pane = panes.get(session["runtime_handle"])
    if pane is None:
        return "its agent does not run; see: ao-restore"
    if pane.in_mode:
        return "a person scrolls in its terminal"
    if pane.typed_at and clock.now - pane.typed_at < HANDS_OFF:
        return "a person types in its terminal"
    try:
        screen = plugins.load("runtime", session["runtime"]).screen(home, session["runtime_handle"])
    except (Unknown, Gone) as error:
        return str(error)
    agent = plugins.load("agent", session["agent"])
    if open_message.get("answer"):
        return "" if agent.read(project, screen).activity == "waiting_input" else "there is no open question"
    return str(agent.obstacle(project, screen))


def _as_typed(home: str, session: Session, open_message: Message) -> str:
    if open_message.get("answer"):
        return str(open_message["text"])
    text = prompts.signed(open_message["text"], open_message["id"])
    if len(text.encode("utf-8", "replace")) <= LONGEST_PASTE:
        return text
    path = os.path.join(os.path.dirname(paths.launch(home, session["project_id"], session["id"])), open_message["id"])
    store.replace(path + ".md", text.encode("utf-8", "replace"))
    return prompts.signed(f"Read the file {path}.md, all of it, and do what it asks.", open_message["id"])


def _follow_up(home: str, project: Project, session: Session, open_message: Message, clock: Clock) -> None:
    """Look what became of a message that was pasted, or perhaps was: a process may have died in the middle."""
    runtime, agent = plugins.load("runtime", session["runtime"]), plugins.load("agent", session["agent"])
    waited = clock.elapsed(open_message.get("delivered_at") or open_message.get("sending_at"))
    interrupted = open_message["state"] == "sending"
    if not interrupted and waited < PRESS_AGAIN:
        return
    try:
        history = runtime.screen(home, session["runtime_handle"], history=True)
        screen = runtime.screen(home, session["runtime_handle"])
    except Gone:
        _when_gone(home, session, open_message, clock)
        return
    except Unknown:
        return
    has_it = agent.received(project, session, [open_message["id"]], history)[open_message["id"]]
    if agent.has_draft(project, screen) and (has_it or not interrupted or waited >= PRESS_AGAIN):
        _press_again(home, session, open_message, clock)
    elif interrupted and has_it:
        _set(home, session, open_message, clock, state="delivered", delivered_at=clock.iso)
    elif has_it is False and _shows_messages(session):
        _try_again(home, session, open_message, clock)
    elif waited >= GIVE_UP:
        _set(home, session, open_message, clock, state="unconfirmed", waiting_for="whether it arrived cannot be known")


def _when_gone(home: str, session: Session, open_message: Message, clock: Clock) -> None:
    if clock.elapsed(open_message.get("delivered_at") or open_message.get("sending_at")) >= GIVE_UP:
        why = "its agent ended before it was confirmed"
        _set(home, session, open_message, clock, state="unconfirmed", waiting_for=why)


def _press_again(home: str, session: Session, open_message: Message, clock: Clock) -> None:
    runtime = plugins.load("runtime", session["runtime"])
    presses = open_message.get("presses", 0) + 1
    if presses > TRIES:
        why = "it stands in the input box and Enter does not send it"
        _set(home, session, open_message, clock, state="unconfirmed", waiting_for=why)
        return
    _set(home, session, open_message, clock, presses=presses, state="delivered", delivered_at=clock.iso)
    runtime.press(home, session["runtime_handle"], "Enter")


def _try_again(home: str, session: Session, open_message: Message, clock: Clock) -> None:
    if open_message["attempts"] >= TRIES:
        _set(home, session, open_message, clock, state="failed", waiting_for="its agent does not take it")
    else:
        _set(home, session, open_message, clock, state="queued", waiting_for="the agent does not have it")


def _shows_messages(session: Session) -> bool:
    """Whether this agent has been seen to show or report what it gets, so that a missing message means something."""
    return any(message["state"] == "confirmed" and not message.get("answer") for message in session["inbox"])


def _set(
    home: str, session: Session, open_message: Message, clock: Clock, tries: int | None = None, **fields: Any
) -> None:
    """Change a message in the newest record, unless the tick has settled it in the meantime."""

    def change(record: Session) -> None:
        for found in record["inbox"]:
            if found["id"] == open_message["id"] and found["state"] not in sessions.FINAL:
                found.update(fields)
                if tries is not None:
                    found.update(attempts=tries, sending_at=clock.iso)

    sessions.update(home, session, change, clock)
