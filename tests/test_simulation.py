"""The simulation: a few seeds of it, that they replay exactly, and that each kind of mistake would be noticed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock

import pytest
import simulation
from conftest import ROOT
from promises import PROMISES, Broken

from lib import conditions, effects, events, facts, lives, merge, react, ready, sessions


def test_seeds_keep_their_promises_while_processes_die_before_and_behind_every_effect():
    """F23"""
    places = {f"{effect}:{when}" for effect in effects.EFFECTS for when in ("before", "after")}
    survived = set(places)
    for seed in (3, 7, 12, 1, 5, 9):  # the first is enough today
        found = simulation.run(seed, 100)
        survived &= places - found.machine.killed_at
        assert sum(record["status"] == "merged" for record in found.records.values()) > 5
        if not survived:
            break
    assert not survived


def test_a_seed_replays_exactly_in_another_process():
    command = [sys.executable, os.path.join(ROOT, "tests", "simulation.py"), "7", "60"]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]
    printed = [one.communicate(timeout=110)[0] for one in started]
    assert printed[0] == printed[1] and " trace " in printed[0]
    assert [one.returncode for one in started] == [0, 0]


def test_a_broken_promise_is_named_with_the_command_that_shows_it_again(monkeypatch, capsys):
    def nothing_happens(sim: object) -> str:
        return "something did"

    monkeypatch.setitem(PROMISES, "round", (nothing_happens,))
    assert simulation.main(["5", "3"]) == 1
    printed = capsys.readouterr().out
    assert "nothing_happens: something did" in printed and "make test-sim SEED=5 STEPS=3" in printed


def forgets_the_intent(record, doing):
    record["doing"] = None


BREAKS = {  # what is broken: [(module, name, what it is instead)], and the promises that say so
    "whatever is there is ready": (
        [(ready, "blockers", lambda session, rules, clock: [])],
        ("only_what_was_ready_is_merged",),
    ),
    "a merge without another look": (
        [(merge, "look_again", lambda home, project, session, clock: session)],
        ("only_what_was_ready_is_merged",),
    ),
    "a merge without intent": ([(merge, "_begin", forgets_the_intent)], ("a_merge_is_saved_before_it_happens",)),
    "what was told is forgotten": (
        [(conditions, "_note_told", lambda session, key, items: None)],
        ("what_is_the_matter_is_delivered_once", "no_news_repeats_within_an_episode"),
    ),
    "one look is enough": ([(facts, "GONE_LOOKS", 1)], ("a_running_agent_is_not_taken_for_ended",)),
    "an event behind its record": (
        [(sessions, "events", SimpleNamespace(append=lambda *about: None, between=events.between))],
        ("an_event_is_in_the_log_before_its_record", "what_readers_see_of_a_status_is_true"),
    ),
    "nobody takes a turn": (
        [(react, "_is_news", lambda place, session, key: False)],
        ("what_is_open_is_acted_upon_or_waits_for_a_named_reason",),
    ),
    "a crash that is not settled": (
        [(lives, "settle", lambda *about: None)],
        ("what_a_dead_process_began_is_settled",),
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_mistake_breaks_the_promise_that_is_about_it(what):
    changes, promises = BREAKS[what]
    with contextlib.ExitStack() as stack:
        for module, name, instead in changes:
            stack.enter_context(mock.patch.object(module, name, instead))
        assert any(broken_by(seed) in promises for seed in range(1, 21))


def broken_by(seed):
    """The promise that a seed finds broken, "" for none."""
    try:
        simulation.run(seed, 60)
    except Broken as broken:
        return str(broken).partition(":")[0]
    return ""
