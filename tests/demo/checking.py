"""What the demo promises, checked when it is over."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import world as worlds
from world import ISSUES, World

from lib import sessions
from lib.errors import AoError
from lib.runtime import tmux


class Check(NamedTuple):
    promise: str
    holds: bool
    details: str = ""  # for when it does not hold


def checks(world: World, told: Sequence[Mapping[str, Any]]) -> list[Check]:
    records = sessions.everything(world.home).records
    merged = [one["id"] for one in records if one["status"] == "merged"]
    left = running(world)
    code, output = suite(world)
    return [
        Check("all four pull requests are merged", len(merged) == len(ISSUES), f"only {', '.join(merged) or 'none'}"),
        has_word(world, world.season, "the log", "shop-2", "CI failed"),
        has_word(world, world.tariff, "the review", "shop-3", "A reviewer commented"),
        Check("shop-4 settled its conflict and kept what shop-1 had merged", *both(world)),
        Check("the test suite passes on main", code == 0, output[-500:]),
        Check("you were told once that all is complete", announcements(told) == 1, f"{announcements(told)} times"),
        Check("no agent is left running", not left, ", ".join(left)),
    ]


def running(world: World) -> list[str]:
    try:
        return [*tmux.look(world.home)]
    except AoError as error:
        return [str(error)]


def announcements(told: Sequence[Mapping[str, Any]]) -> int:
    """In how many of these events a person is told that all is complete."""
    found = [event["notification"] for event in told if event["type"] == "ui_notification"]
    return sum(one["reaction_key"] == "all-complete" for one in found)


def has_word(world: World, word: str, source: str, session: str, phrase: str) -> Check:
    """Whether a word is in the final tree, and its agent had it from the one message that should hold it."""
    is_there = not run(world, "git", "grep", "-q", word, "main", "--", "shop")[0]
    messages = [text for text in worlds.received(world, session) if word in text]
    is_told = bool(messages) and all(text.startswith(phrase) for text in messages)
    details = f"in the tree: {is_there}, in a message: {is_told}; see agents/{session}.log"
    return Check(f"'{word}' is in the code; {session} has it from {source} alone", is_there and is_told, details)


def both(world: World) -> tuple[bool, str]:
    text = run(world, "git", "show", "main:tests/test_receipt.py")[1]
    return "2 x cup: 24.00 EUR" in text, "tests/test_receipt.py"


def suite(world: World) -> tuple[int, str]:
    """The result of the tests in a fresh checkout of main, with what only CI has."""
    copy = os.path.join(world.folder, "main")
    run(world, "git", "clone", "-q", "--branch", "main", world.repo, copy)
    return run(world, "sh", os.path.join(world.folder, "ci", "test.sh"), folder=copy)


def run(world: World, *argv: str, folder: str = "") -> tuple[int, str]:
    try:
        return 0, worlds.run(world, *argv, folder=folder)
    except subprocess.CalledProcessError as error:
        return error.returncode, (error.stdout + error.stderr).strip()
