"""Crash-only: every process is killed at every point and run again, and nothing is lost, twice or left over.

What is marked `crash` takes minutes and is run by `make test-crash`; two stories in which most points are somebody's
death are part of every run.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator

import crashing
import crashing_hub
import github
import pytest
from crashing import Chaos, Killer

from lib import effects
from lib.runtime import tmux

WHEN = ("before", "inside", "after")
STAGED = [name for name in effects.EFFECTS if name != "hold.interrupt"]  # needs an agent that costs: test_parking.py
POINTS = [f"{name}:{when}" for name in STAGED for when in WHEN]
IN_LIVES = ("kill.pane", "restore.pane", "claim.branch", "claim.pull", "backup.ref")  # the others are in `work`
ELSEWHERE = (*IN_LIVES, "issue.assign")
AT_GITHUB = ("issue.assign", "merge.merge", "issue.close")  # effects that are requests
LATE = ("deliver.paste", "deliver.enter", "archive.record")  # what must not happen to the first of its kind
# Who is killed there has done it, so that nobody comes to it again; and what takes too long for every run.
NOT_TOGETHER = {"spawn.pane:inside", "spawn.pane:after", "spawn.inbox:before", "spawn.inbox:after"}
NOT_TOGETHER |= {"merge.merge:inside", "notify.send:inside", "restore.pane:inside"}
TOO_LONG = {f"deliver.{step}:{when}" for step in ("paste", "enter") for when in ("inside", "after")}

pytestmark = pytest.mark.timeout(1200)  # a loaded machine is slow, and every wait has a limit of its own


@pytest.fixture
def chaos() -> Iterator[Chaos]:
    folder = tempfile.mkdtemp(prefix="ao-", dir="/tmp")  # short, for the socket
    world = Chaos(folder)
    yield world
    tmux.kill_server(world.home)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def at_github(hub: github.Hub) -> Iterator[crashing_hub.Chaos]:
    folder = tempfile.mkdtemp(prefix="ao-", dir="/tmp")
    world = crashing_hub.Chaos(folder, hub)
    yield world
    tmux.kill_server(world.home)
    shutil.rmtree(folder, ignore_errors=True)


def of(*effects: str) -> list[str]:
    return [point for point in POINTS if point.partition(":")[0] in effects]


def play(chaos: Chaos, story: Callable[..., None], points: list[str]) -> None:
    """Play a story in which each of these points is the death of one process."""
    late = [point for point in points if point in of(*LATE)]
    chaos.arm(set(points) - set(late))
    story(chaos, later=functools.partial(chaos.arm, late))
    crashing.check(chaos)
    assert not chaos.left(), f"nobody came to: {' '.join(chaos.left())}"


def test_an_issue_is_merged_once_although_somebody_is_killed_at_every_effect(chaos):
    """F23, F38"""
    without = {*NOT_TOGETHER, *TOO_LONG, *of(*ELSEWHERE)}
    play(chaos, crashing.work, [point for point in POINTS if point not in without])


def test_a_pull_request_goes_from_hand_to_hand_although_everybody_is_killed(chaos):
    """F23, F36: message, kill, restore, prune, claim, merge, archive."""
    points = {*of(*IN_LIVES), "spawn.inbox:before", "merge.merge:inside"} - {"restore.pane:inside"}
    play(chaos, crashing.lives, sorted(points))


def test_an_issue_is_merged_once_at_github_although_somebody_is_killed_at_every_request(at_github):
    """F23"""
    play(at_github, crashing.work, [point for point in of(*AT_GITHUB) if point != "merge.merge:after"])
    crashing_hub.check(at_github)
    assert at_github.remote.issues[1].assignees == [at_github.hub.me]


def test_a_pull_request_at_github_goes_from_hand_to_hand_although_everybody_is_killed(at_github):
    """F23"""
    play(at_github, crashing.lives, [*of("claim.branch", "claim.pull"), "merge.merge:after"])
    crashing_hub.check(at_github)


@pytest.mark.crash
@pytest.mark.parametrize("point", [point for point in POINTS if point not in of("issue.assign")])
def test_a_death_at_this_point_alone_changes_nothing(chaos, point):
    """F23"""
    play(chaos, crashing.lives if point in of(*IN_LIVES) else crashing.work, [point])


@pytest.mark.crash
@pytest.mark.parametrize("point", of(*AT_GITHUB, "claim.branch", "claim.pull"))
def test_a_death_at_this_point_alone_changes_nothing_at_github(at_github, point):
    """F23"""
    play(at_github, crashing.lives if point in of(*IN_LIVES) else crashing.work, [point])
    crashing_hub.check(at_github)


@pytest.mark.crash
@pytest.mark.parametrize("story", [crashing.work, crashing.lives])
def test_every_process_may_be_killed_at_every_step_at_github(at_github, story):
    """F23"""
    story(at_github, later=functools.partial(setattr, at_github, "by_steps", True))
    crashing_hub.check(at_github)
    assert at_github.kills > 15


@pytest.mark.crash
@pytest.mark.parametrize("story", [crashing.work, crashing.lives])
def test_every_process_may_be_killed_at_every_step_that_others_can_see(chaos, story):
    """F23: also where no effect is declared."""
    story(chaos, later=functools.partial(setattr, chaos, "by_steps", True))
    crashing.check(chaos)
    assert chaos.kills > 30


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("story", [crashing.work, crashing.lives])
def test_the_loop_may_be_killed_at_any_moment(chaos, story, seed):
    """F23, F50"""

    def later() -> None:
        chaos.killer = Killer(chaos, seed)

    story(chaos, later=later)
    chaos.killer = None
    crashing.check(chaos)
    assert chaos.kills > 3  # how often it comes to it depends on the machine
