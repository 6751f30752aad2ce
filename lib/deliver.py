"""Bring one message at a time to an agent, once.

A message is `queued`, `sending` while it is being pasted, `delivered` when Enter was pressed, and `confirmed` when the
tick has seen that the agent has it. Nothing is ever typed into a dialog, over a draft or under a person's fingers.
Where it cannot be known whether a message arrived it becomes `unconfirmed`, a person is told, and it is not sent again.
One that nobody has begun to type when its matter is over is taken back by the look: it becomes `failed`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from lib import effects, launch, plugins, prompts, sessions, status, store
from lib.clock import Clock
from lib.config import Project
from lib.errors import Unknown
from lib.runtime import Gone, Pane

Session = dict[str, Any]
Message = dict[str, Any]

SETTLE = 0.4  # seconds between the paste and Enter: a terminal program needs them to take the paste in
HANDS_OFF = 30.0  # seconds after a person's last key in the terminal
PRESS_AGAIN = 4.0  # seconds without confirmation before it is looked what became of a message
GIVE_UP = 45.0  # seconds without confirmation before waiting for one ends
TRIES = 3
KEYS = ("Enter", "Escape")  # what an answer may be beside a text; they settle a question by themselves
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class Line(NamedTuple):
    """What it takes to talk to one agent now."""

    home: str
    project: Project
    session: Session
    pane: Pane | None  # its terminal, None for a definite none
    clock: Clock

    @property
    def agent(self) -> Any:
        return plugins.load("agent", self.session["agent"])

    @property
    def runtime(self) -> Any:
        return plugins.load("runtime", self.session["runtime"])

    def screen(self, history: bool = False) -> str:
        return str(self.runtime.screen(self.home, self.session["runtime_handle"], history=history))

    def press(self, key: str) -> None:
        self.runtime.press(self.home, self.session["runtime_handle"], key)


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


def new_id(kind: str = "m") -> str:
    """A name that nobody else has: `m-k3f9x2ab`."""
    return f"{kind}-" + "".join(secrets.choice(LETTERS) for _ in range(8))


def advance(home: str, project: Project, session: Session, panes: Mapping[str, Pane], clock: Clock) -> None:
    """Take the session's open message one step further. The caller holds the session's effect lock."""
    found = sessions.open_message(session)
    if found is None:
        return
    line = Line(home, project, session, panes.get(session["runtime_handle"]), clock)
    try:
        if session.get("outcome") or status.is_merged(session):
            _set(line, found, state="failed", waiting_for="the session has ended")
        elif found["state"] == "queued":
            _send(line, found)
        elif clock.elapsed(found.get("delivered_at") or found["sending_at"]) >= PRESS_AGAIN:
            _follow_up(line, found)
    except (Unknown, Gone) as error:
        _set(line, found, waiting_for=str(error))


def _send(line: Line, found: Message) -> None:
    if found.get("answer") and not _is_asked(line):
        _set(line, found, state="failed", waiting_for="there is no open question")
        return
    why = _obstacle(line, found)
    if why:
        _set(line, found, waiting_for=why)
        return
    if found["attempts"] and _has_it(line, found):
        return
    text, begun = line.agent.fit(_as_typed(line, found)), line.clock.iso
    fields = {"state": "sending", "attempts": found["attempts"] + 1, "sending_at": begun}
    if not _set(line, found, waiting_for=None, delivered_at=None, presses=0, **fields):
        return
    try:
        is_taken = _answer(line, text) if found.get("answer") else _type(line, text)
    except Gone:  # with its terminal went what was pasted
        _set(line, found, state="queued", waiting_for="its agent does not run; see: ao-restore")
        return
    if is_taken:
        _set(line, found, state="confirmed" if found.get("answer") else "delivered", delivered_at=begun)
    elif found.get("answer"):
        _set(line, found, state="failed", waiting_for="the question does not take it; see: ao-attach")
    else:
        _set(line, found, state="unconfirmed", waiting_for="a question came up while it was typed; see: ao-attach")


def _type(line: Line, text: str) -> bool:
    """Paste and press Enter; False without the Enter when a dialog has opened in between, which would take it."""
    with effects.effect("deliver.paste"):
        line.runtime.paste(line.home, line.session["runtime_handle"], text)
    time.sleep(SETTLE)
    if line.agent.read(line.project, line.screen()).question:
        return False
    with effects.effect("deliver.enter"):
        line.press("Enter")
    return True


def _answer(line: Line, text: str) -> bool:
    """Type a person's answer at the open question; False when the question ignores it.

    A single character is a key, as menus want it, and so are KEYS. Enter follows only while the same question stands
    there: some take a key at once, and the Enter behind it would say yes to the next one. A text that is ignored gets
    no Enter either, because that would choose whatever is preselected. An Enter that changes nothing was swallowed.
    """
    before = line.screen()
    question = line.agent.read(line.project, before).question
    if not question:
        return _type(line, text)  # it asked by a report and waits at its prompt
    if len(text) == 1 or text in KEYS:
        line.press(text)
    else:
        line.runtime.paste(line.home, line.session["runtime_handle"], text)
    time.sleep(SETTLE)
    after = line.screen()
    asks = line.agent.read(line.project, after).question
    end = before[before.rstrip().rfind("\n") + 1 :]  # with the blank lines down to the cursor
    stands = "\n".join(after.split("\n")[-1 - end.count("\n") :]).startswith(end)
    is_asked_on = len(text) > 1 or (stands and (not asks or asks.startswith(question)))
    if after == before or text in KEYS or not is_asked_on:
        return after != before
    line.press("Enter")
    return _moves_on(line, after)


def _moves_on(line: Line, screen: str) -> bool:
    """Whether anything but `screen` is shown within some seconds."""
    end = time.monotonic() + PRESS_AGAIN
    while line.screen() == screen:
        if time.monotonic() >= end:
            return False
        time.sleep(SETTLE)
    return True


def _is_asked(line: Line) -> bool:
    """Whether a question is open: one on the screen, or one that the agent reported."""
    if line.session.get("activity") == "waiting_input":
        return True
    return line.pane is not None and line.agent.read(line.project, line.screen()).activity == "waiting_input"


def _obstacle(line: Line, found: Message) -> str:
    """Why a message cannot be typed now, "" when it can."""
    if line.session.get("hold"):
        return f"the session is parked ({line.session['hold'].get('reason')})"
    if line.pane is None:
        return "its agent does not run; see: ao-restore"
    if _person(line.pane):
        return _person(line.pane)
    if not found.get("answer") and line.session.get("activity_source") == "report" and _is_asked(line):
        return "its agent waits for an answer; see: ao-send --answer"
    screen = line.screen()
    reading = line.agent.read(line.project, screen)
    if reading.key:
        line.press(reading.key)
        return "a notice was open and had to be closed first"
    if found.get("answer") and reading.activity == "waiting_input":
        return ""
    is_task = found["from"] == "ao" and found["id"] == line.session["inbox"][0]["id"]
    return str(line.agent.obstacle(line.project, screen, is_task or bool(found.get("answer"))))


def _person(pane: Pane) -> str:
    """What a person does in the terminal that leaves no room for typing, "" when nobody does."""
    if pane.in_mode:
        return "a person scrolls in its terminal"
    if pane.typed_at and abs(time.time() - pane.typed_at) < HANDS_OFF:  # of the wall clock, which may be set back
        return "a person types in its terminal"
    return ""


def _as_typed(line: Line, found: Message) -> str:
    if found.get("answer"):
        return str(found["text"])
    text = prompts.signed(found["text"], found["id"])
    short = launch.shortened(line.home, line.session, text, found["id"])
    return text if short == text else prompts.signed(short, found["id"])


def _follow_up(line: Line, found: Message) -> None:
    """Look what became of a message that was pasted, or perhaps was: a process may have died in the middle."""
    is_late = line.clock.elapsed(found.get("delivered_at") or found["sending_at"]) >= GIVE_UP
    if line.pane is None:  # which one look alone may have missed
        has_ended = status.has_ended(line.session)
        _give_up(line, found, is_late and has_ended, "its agent ended before it was confirmed")
        return
    has_it = _has_it(line, found)
    if has_it:
        return
    if line.agent.has_draft(line.project, line.screen()):
        _press_again(line, found, is_late)
    elif has_it is False and not found.get("answer") and _shows_messages(line.session):
        _try_again(line, found)
    else:
        _give_up(line, found, is_late, "whether it arrived cannot be known")


def _has_it(line: Line, found: Message) -> bool | None:
    """Whether the agent has a message, None when that cannot be known; if so, the next look confirms it."""
    asked = line.agent.received(line.project, line.session, [found["id"]], line.screen(history=True))
    has_it: bool | None = asked[found["id"]]
    return has_it


def _press_again(line: Line, found: Message, is_late: bool) -> None:
    """Press Enter on what stands in the input box, unless a person may have written it."""
    presses, typed_at = found.get("presses", 0) + 1, line.pane.typed_at if line.pane else 0.0
    why = _person(line.pane) if line.pane else ""
    if why or line.clock.noted(typed_at) > found["sending_at"]:
        _give_up(line, found, is_late, why or "a person has typed in its terminal since")
    elif presses > TRIES:
        _give_up(line, found, True, "it stands in the input box and Enter does not send it")
    else:
        _set(line, found, presses=presses, state="delivered", delivered_at=line.clock.iso)
        line.press("Enter")


def _try_again(line: Line, found: Message) -> None:
    if found["attempts"] >= TRIES:
        _set(line, found, state="failed", waiting_for="its agent does not take it")
    else:
        _set(line, found, state="queued", waiting_for="the agent does not have it")


def _give_up(line: Line, found: Message, is_late: bool, why: str) -> None:
    """Wait on, and after long enough leave it to a person: it is never typed twice on a guess."""
    _set(line, found, waiting_for=why, state="unconfirmed" if is_late else found["state"])


def _shows_messages(session: Session) -> bool:
    """Whether this agent has been seen to show or report what it gets, so that a missing message means something."""
    return any(one["state"] == "confirmed" and not one.get("answer") for one in session["inbox"])


def _set(line: Line, found: Message, **fields: Any) -> bool:
    """Change a message in the newest record, unless the tick has settled it in the meantime; whether it has not."""
    changed = []

    def change(record: Session) -> None:
        for one in record["inbox"]:
            if one["id"] == found["id"] and one["state"] not in sessions.FINAL:
                one.update(fields)
                changed.append(one["id"])

    sessions.update(line.home, line.session, change, line.clock)
    return bool(changed)
