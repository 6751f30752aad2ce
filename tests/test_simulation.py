"""The simulation: one seed of it, that it replays exactly, and that a mistake in lib/ would be noticed.

What is marked `sim` takes minutes and is run by `make test-sim MISTAKES=1`: for each promise a mistake that breaks it.
"""

from __future__ import annotations

import os
import subprocess
import sys

import mistakes
import pytest
import simulation
from conftest import ROOT
from promises import PROMISES, Broken

QUICK = (  # mistakes that are noticed in a second or two
    "an_event_is_in_the_log_before_its_record",
    "a_message_is_saved_before_it_is_typed",
    "a_merge_is_saved_before_it_happens",
    "only_what_was_ready_is_merged",
    "what_a_dead_process_began_is_settled",
)
SEEDS = range(1, 41)  # that are given the chance to notice a mistake


def test_a_seed_keeps_its_promises_while_processes_die():
    found = simulation.run(3, 60)
    assert sum(record["status"] == "merged" for record in found.records.values()) > 5
    assert found.machine.deaths > 20 and f"{found.machine.deaths} deaths" in found.outcome()
    assert len(found.machine.killed_at & set(simulation.POINTS)) > 10


def test_a_seed_replays_exactly_in_another_process():
    command = [sys.executable, os.path.join(ROOT, "tests", "simulation.py"), "7", "30"]
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


def test_for_each_promise_there_is_a_mistake_that_fits():
    names = {promise.__name__ for promises in PROMISES.values() for promise in promises}
    last = {"every_message_comes_to_its_end", "no_agent_outlives_its_session"}  # others notice all that was tried first
    assert set(mistakes.MISTAKES) == names - last | {"idle_is_left_alone"}
    for name in mistakes.MISTAKES:
        with mistakes.made(name):
            pass


@pytest.mark.parametrize("promise", QUICK)
def test_a_mistake_is_noticed(promise):
    check_that_it_is_noticed(promise, 60)


@pytest.mark.sim
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("promise", sorted(set(mistakes.MISTAKES) - set(QUICK)))
def test_every_mistake_is_noticed(promise):
    check_that_it_is_noticed(promise, 200)


@pytest.mark.sim
@pytest.mark.timeout(1200)
def test_somebody_dies_before_and_behind_every_effect():
    survived = set(simulation.POINTS)
    for seed in SEEDS:
        survived -= simulation.run(seed, 300).machine.killed_at
        if not survived:
            return
    assert not survived


def check_that_it_is_noticed(promise, steps):
    """That a seed finds this very promise broken, and not only another one."""
    with mistakes.made(promise):
        assert any(broken_by(seed, steps) == promise for seed in SEEDS)


def broken_by(seed, steps):
    """The promise that a seed finds broken, "" for none."""
    try:
        simulation.run(seed, steps)
    except Broken as broken:
        return str(broken).partition(":")[0]
    return ""
