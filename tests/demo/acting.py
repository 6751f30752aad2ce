"""What the demo's four agents have in common: they read a message, edit files, run the tests and deliver.

They know nothing but what their messages say: which message it is, how a pull request is opened and how a conflict is
settled are all read from its text. A message that does not say it leaves them standing there, and the demo fails.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import NamedTuple

Run = Callable[..., tuple[int, str]]
KINDS = {  # a phrase of a message, and what it is then
    "How to work:": "task",
    "CI failed on your pull request": "ci",
    "A reviewer commented on your pull request": "review",
    "conflicts with its base": "conflict",
}


class Puzzled(Exception):
    """The message does not say what the agent would have to know."""


class Edit(NamedTuple):
    """A change of a file, as a person would make it again on another version: this text becomes that one."""

    path: str
    old: str  # "" for a new file
    new: str


def kind(text: str) -> str:
    return next((name for phrase, name in KINDS.items() if phrase in text), "")


def find(pattern: str, text: str) -> str:
    """What the message says at this place."""
    found = re.search(pattern, text)
    if not found:
        raise Puzzled(f"nothing in this message looks like {pattern}")
    return found.group(1)


def read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def edit(*edits: Edit) -> None:
    for path, old, new in edits:
        text = read(path) if old else ""
        if old not in text:
            raise Puzzled(f"'{old}' is not in {path}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace(old, new) if old else new)


def verified(run: Run) -> bool:
    return run(["python3", "-m", "unittest", "-q"])[0] == 0


def commit(run: Run, message: str) -> None:
    """Commit, and push where the branch has been pushed before."""
    run(["git", "add", "--all"])
    run(["git", "commit", "-q", "-m", message])
    if run(["git", "rev-parse", "--verify", "--quiet", "@{upstream}"])[0] == 0:
        run(["git", "push", "--quiet"])


def open_pull(run: Run, text: str, title: str, body: str) -> None:
    """Open the pull request with the command that the message names, in other words."""
    command = find(r"open a pull request: (.+)", text)
    for words, ours in (('"what it does"', title), ('"why, and how it was verified"', body)):
        if words not in command:
            raise Puzzled(f"'{command}' says nothing of {words}")
        command = command.replace(words, shlex.quote(ours))
    run(["sh", "-c", command])
