"""The map of the faults of the field is true, and each sabotage still applies."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess

import field
import pytest

from lib import ROOT

FAULTS = field.faults()
SABOTAGED = [f"F{number}" for number in (1, 3, 4, 7, 10, 11, 20, 21, 22, 23, 31, 32, 35, 36, 44)]


def absent() -> set[str]:
    """The faults that cannot happen yet, because what they are about is not there."""
    with open(field.MAP, encoding="utf-8") as file:
        return set(re.findall(r"F\d+", file.read().partition("Not here yet:")[2].partition("\n\n")[0]))


@functools.cache
def functions(name: str) -> dict[str, str]:
    """The tests of a file and their texts."""
    with open(os.path.join(field.TESTS, name), encoding="utf-8") as file:
        text = file.read()
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    lines = text.split("\n")
    return {node.name: "\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in nodes}


def test_every_fault_has_a_promise_or_is_said_not_to_be_possible_yet():
    assert absent() and not absent() & set(FAULTS)
    assert absent() | set(FAULTS) == {f"F{number}" for number in range(1, 58)}
    assert all(fault.tests for fault in FAULTS.values())


@pytest.mark.parametrize("number", FAULTS)
def test_every_promise_has_tests_that_say_so(number):
    for test in FAULTS[number].tests:
        name, _, function = test.partition("::")
        assert os.path.exists(os.path.join(field.TESTS, name)), test
        text = functions(name).get(function)
        assert text is not None, f"there is no test '{test}'"
        assert re.search(rf"\b{number}\b", text), f"{test} does not say {number}"


def test_the_faults_that_hurt_most_can_be_brought_back():
    assert set(SABOTAGED) <= set(field.patches()) <= set(FAULTS)


@pytest.mark.parametrize("number", field.patches())
def test_a_sabotage_still_applies(number):
    """Write it anew when it does not: the smallest change to bin/ or lib/ that brings the fault back."""
    with open(field.patch(number), encoding="utf-8") as file:
        hunks = re.split(r"^@@.*\n", file.read(), flags=re.MULTILINE)[1:]
    assert all(hunk.startswith("-") for hunk in hunks), "a hunk that takes no line away has no place"
    command = field.apply(number, "--check")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
