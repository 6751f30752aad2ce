"""The loop: one look and one act at a time, a pause that everything keeps to, an end that comes when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import living
import pytest
import scripts
from conftest import until

from lib import loop, observe, paths, react, rounds, store
from lib.errors import Busy


@pytest.fixture
def world(home, tmp_path):
    return living.make(home, tmp_path)


def watching(world, *args):
    argv = [sys.executable, os.path.join(scripts.BIN, "ao-watch"), "--interval", "0.1", *args]
    process = subprocess.Popen(argv, cwd=world.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: loop.read(world.home).get("react"), "a first round")
    return process


@pytest.mark.parametrize(("lock", "run"), [("tick", rounds.look), ("react", rounds.act)])
def test_a_second_one_leaves_quietly(home, monkeypatch, lock, run):
    with store.lock(paths.lock(home, lock)):
        assert run(home) == []
    assert not os.path.exists(paths.loop(home))
    run(home)
    assert loop.read(home)[lock]["errors"] == 0


def test_a_lock_that_is_busy_inside_a_round_is_not_taken_for_a_second_round(home, monkeypatch):
    def busy(*args):
        raise Busy("cannot lock something else")

    monkeypatch.setattr(observe, "run", busy)
    with pytest.raises(Busy):
        rounds.look(home)


def test_a_paused_fleet_is_looked_at_and_not_acted_upon(world, monkeypatch):
    world.ok("ao-stop")
    world.ok("ao-stop")
    acted = []
    monkeypatch.setattr(react, "run", lambda *args: acted.append(args) or [])
    assert rounds.look(world.home) == rounds.act(world.home) == [] and not acted
    assert "the fleet is paused" in world.ok("ao-react").err
    world.ok("ao-stop", "--resume")
    world.ok("ao-stop", "--resume")
    rounds.act(world.home)
    assert acted


def test_stopping_ends_a_running_loop_and_the_next_one_looks_on(world):
    """F50: there is no process id that could be another's."""
    first = watching(world)
    second = world.call("ao-watch")
    assert second.code == 1 and "another loop is running" in second.err
    world.ok("ao-stop")
    assert "the fleet is paused" in first.communicate(timeout=60)[1] and first.returncode == 0
    again = watching(world, "--for", "1s")
    assert again.wait(timeout=60) == 0


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_loop_that_is_ended_leaves_nothing_in_the_way_of_the_next(world, sign, code):
    """F50"""
    first = watching(world, "--quiet")
    first.send_signal(sign)
    assert first.wait(timeout=60) == code
    world.ok("ao-watch", "--for", "0s", "--quiet")


def test_damage_to_the_loop_s_file_is_set_aside(home):
    loop.look(home)
    with open(paths.loop(home), "w") as file:
        file.write("{{{")
    os.utime(paths.loop(home), (1e9, 1e9))  # nobody is writing it any more
    loop.look(home)
    assert loop.read(home)["look"]["wall"] <= time.time()
    assert [name for name in os.listdir(home) if "damaged" in name]
