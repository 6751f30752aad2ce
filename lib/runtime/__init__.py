"""Runtimes: where an agent's terminal lives. A runtime is a module with the functions of `Runtime`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from lib.errors import AoError


class Pane(NamedTuple):
    """One terminal as a look found it."""

    pid: int
    in_mode: bool  # a person scrolls in it (copy mode): it swallows Enter
    title: str
    typed_at: float  # last key of an attached person, seconds since the epoch; 0.0 when nobody is attached
    output_at: float  # last output, whole seconds since the epoch


class Gone(AoError):
    """The terminal does not exist: a definite no."""


class Runtime(Protocol):
    # Start argv in a new terminal called handle. AoError when the handle exists already.
    def start(
        self, home: str, handle: str, argv: Sequence[str], folder: str, environment: Mapping[str, str]
    ) -> None: ...

    # Every terminal that exists, by handle, in one call. {} is a definite "none"; raises Unknown when it cannot tell.
    def look(self, home: str) -> dict[str, Pane]: ...

    # The visible screen as text, trailing blanks dropped; with history, the whole scrollback with wrapped lines
    # joined. Raises Gone or Unknown.
    def screen(self, home: str, handle: str, history: bool = False) -> str: ...

    # Paste text as one block (bracketed paste, control characters stripped), without Enter. Raises Gone or Unknown.
    def paste(self, home: str, handle: str, text: str) -> None: ...

    # Press one key by its tmux name: Enter, Escape, C-c, Up … Raises Gone or Unknown.
    def press(self, home: str, handle: str, key: str) -> None: ...

    # Make sure that the terminal and everything in it has ended; absent is success. Raises Unknown.
    def stop(self, home: str, handle: str) -> None: ...

    # The command that puts a person in front of the terminal.
    def attach(self, home: str, handle: str) -> list[str]: ...
