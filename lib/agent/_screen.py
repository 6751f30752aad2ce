"""What adapters of agents share that know the screens of their program: what it does and asks, whether it can be told.

An adapter says by one function what a screen shows, and gets `read`, `obstacle` and `has_draft` from `functions`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lib.agent import Reading
from lib.agent._tale import LONGEST
from lib.config import Project


class Look(NamedTuple):
    """What a screen shows."""

    reading: Reading
    has_draft: bool | None = None  # None when there is no input box
    refuses: str = ""  # why nothing can be typed, although no question is open and no draft in the box


def functions(
    look: Callable[[str], Look],
) -> tuple[Callable[[Project, str], Reading], Callable[..., str], Callable[[Project, str], bool]]:
    """`read`, `obstacle` and `has_draft` of an agent whose screens `look` understands."""

    def read(project: Project, screen: str) -> Reading:
        return look(screen).reading

    def obstacle(project: Project, screen: str, is_awaited: bool = False) -> str:
        shown = look(screen)
        if shown.has_draft:
            return "its input box holds text"
        if shown.refuses or shown.has_draft is not None:
            return shown.refuses
        return "a question is open" if shown.reading.activity else "it shows no input box"

    def has_draft(project: Project, screen: str) -> bool:
        return bool(look(screen).has_draft)

    return read, obstacle, has_draft


def without_box(question: str) -> Look:
    """Where there is no input box, a dialog is open or the program is just starting."""
    return Look(Reading("waiting_input", question, is_sure=True) if question else Reading(None))


def with_box(has_draft: bool, is_busy: bool, is_retrying: bool = False) -> Look:
    """Where its input box is, it works or rests, or the model does not answer it."""
    if is_retrying:
        trouble = "the model does not answer; it is tried again"
        return Look(Reading("blocked", trouble=trouble, is_sure=True), has_draft)
    return Look(Reading("active" if is_busy else "ready", is_sure=True), has_draft)


def rfind(lines: Sequence[str], pattern: re.Pattern[str], end: int | None = None) -> int:
    """The place of the last line before `end` that begins as the pattern says, -1 when there is none."""
    places = reversed(range(len(lines) if end is None else end))
    return next((place for place in places if pattern.match(lines[place])), -1)


def hints(text: str, known: Mapping[str, str]) -> list[str]:
    """How a person is spared the dialog of this text, where that is known: {pattern: remedy}."""
    return [f"({hint})" for pattern, hint in known.items() if re.search(pattern, text)]


def question(text: str, known: Mapping[str, str]) -> str:
    """The text of a dialog, with `hints`."""
    return "\n".join([text[:LONGEST], *hints(text, known)])
