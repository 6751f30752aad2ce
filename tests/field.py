"""The faults of the field: which promise keeps each away, and which tests would see it come back.

The table in tests/README.md is the only place where that is written down; the F numbers in docstrings lead there.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

TESTS = os.path.dirname(os.path.realpath(__file__))
SABOTAGE = os.path.join(TESTS, "sabotage")
MAP = os.path.join(TESTS, "README.md")
ROW = re.compile(r"^\| (F\d+) \| (.+?) \| (.+?) \|$", re.MULTILINE)


class Fault(NamedTuple):
    promise: str
    tests: list[str]  # test_what.py::test_the_promise


def faults() -> dict[str, Fault]:
    """By number, as in F7."""
    with open(MAP, encoding="utf-8") as file:
        rows = ROW.findall(file.read())
    assert len(dict.fromkeys(number for number, _, _ in rows)) == len(rows), "a number is there twice"
    return {number: Fault(promise, re.findall(r"`([^`]+)`", tests)) for number, promise, tests in rows}


def patches() -> list[str]:
    """The numbers of the faults that a patch brings back."""
    names = [name.removesuffix(".patch") for name in os.listdir(SABOTAGE) if name.endswith(".patch")]
    return sorted(names, key=lambda name: int(name[1:]))


def patch(number: str) -> str:
    return os.path.join(SABOTAGE, number + ".patch")


def apply(number: str, *options: str) -> list[str]:
    """The command that brings a fault back in the tree that it is run in.

    Only the lines that a patch takes away have to be there, wherever they are now.
    """
    return ["git", "apply", "-C0", "--recount", "--unidiff-zero", *options, patch(number)]
