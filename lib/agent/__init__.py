"""Agents: the programs that do the work. An agent is a module with the functions of `Agent`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from lib.config import Project

Session = Mapping[str, Any]  # a session record


class Launch(NamedTuple):
    """How to start an agent."""

    argv: list[str]
    environment: dict[str, str]  # beside what every agent gets (AO_SESSION_ID, PATH, …)
    has_prompt: bool  # the prompt is in argv; otherwise it is delivered as the first message
    records: str = ""  # the folder in which it writes its own records, by the environment of this start


class Reading(NamedTuple):
    """What a look at the screen says about an agent."""

    activity: str | None  # active, ready, waiting_input, blocked; None when the screen does not tell
    question: str = ""  # the text of the dialog that waits for a person
    is_sure: bool = False  # it shows whatever there is: at rest nothing runs, and without a dialog none is open
    trouble: str = ""  # what it is blocked by
    key: str = ""  # closes a notice that asks nothing, but keeps what is typed waiting; by its tmux name
    wait: float = 0.0  # seconds until the usage limit ends by which it is blocked, 0 without one


class Story(NamedTuple):
    """What an agent's own records say about it: its transcript, where it writes one."""

    activity: str | None = None  # active, ready, waiting_input, blocked; None when they do not tell
    since: float = 0.0  # since when, in seconds since the epoch
    text: str = ""  # what it asks, or what blocks it
    until: float = 0.0  # when the usage limit that it has reached ends, in seconds since the epoch; 0 without one
    days: Mapping[str, Mapping[str, Mapping[str, int]]] = {}  # all that it has spent; see costs
    last_id: str = ""  # of the message that was counted last
    session_id: str = ""  # its own name for the conversation


class Check(NamedTuple):
    """One finding about the program."""

    state: str  # ok, warning, bad
    text: str
    remedy: str = ""  # what to do about it


class Agent(Protocol):
    # The key that interrupts its turn, by its tmux name, or several; "" when there is none that is safe to press.
    INTERRUPT: str

    # One that can neither push nor open a pull request says `COMMITS_ONLY = True` beside these; see publish.

    # What must be true before launch (trust, excludes in info/exclude). Runs before each start; must be repeatable.
    def prepare(self, project: Project, session: Session) -> None: ...

    # How to start with this prompt; the prompt is None for a start without a task.
    def launch(self, project: Project, session: Session, prompt: str | None) -> Launch: ...

    # How to start again in the same conversation, None when this agent cannot.
    def resume(self, project: Project, session: Session) -> Launch | None: ...

    # What its own records say. `state` is kept between two looks ({} at first) and changed in place, so that only what
    # was appended is read; see _tale.
    def recall(self, project: Project, session: Session, state: dict[str, Any]) -> Story: ...

    # What the visible screen says. Pure.
    def read(self, project: Project, screen: str) -> Reading: ...

    # Why a message cannot be typed at this screen ("" when it can): a dialog, a busy line-mode program, a draft. Pure.
    # is_awaited: it is the task of an agent that was started without one, or a person's answer.
    def obstacle(self, project: Project, screen: str, is_awaited: bool = False) -> str: ...

    # Whether the input box of this screen still holds text that was typed or pasted. Pure.
    def has_draft(self, project: Project, screen: str) -> bool: ...

    # A message as this agent's terminal can take it: long lines broken for one that reads lines. Pure.
    def fit(self, text: str) -> str: ...

    # For each message id whether the agent has it: True, False (it certainly does not), None (cannot be known).
    # history is the terminal's scrollback, None when it could not be read. Of an agent that has ended: what it will
    # know when it is resumed.
    def received(
        self, project: Project, session: Session, ids: Sequence[str], history: str | None
    ) -> dict[str, bool | None]: ...

    # The program that must be installed, for ao-doctor; None when configuration names it.
    def program(self, project: Project) -> str | None: ...

    # What else ao-doctor says of the program where it is installed, without a request: its version, whether somebody
    # is logged in, whether it trusts the repository.
    def check(self, project: Project) -> list[Check]: ...
