"""Merging: only what is ready, only what was seen, only once, and never by the one whose work it is."""

from __future__ import annotations

import os
import signal

import forging
import living
import pytest
import scripts

from lib import rounds
from lib.errors import Unknown
from lib.scm import local

EASY = {"settle": "0s", "require_checks": False}


@pytest.fixture
def world(home, tmp_path):
    """A project with a session whose pull request is open."""
    world = living.make(home, tmp_path, merge=EASY)
    living.pull(world, world.spawn())
    world.look()
    return world


@pytest.fixture
def ready(world):
    world.ok("ao-review", "shop-1", "--approve", "--as", "ada")
    return world


def merged(world):
    """How often the pull request's file came into the base."""
    return len(world.git("log", "--format=%H", "--first-parent", "main", "--", "b.txt").split())


def test_what_is_ready_is_merged_and_said_to_be_merged_again(ready):
    assert "is merged" in ready.ok("ao-merge", "shop-1").err
    assert ready.record("shop-1")["status"] == "merged" and merged(ready) == 1
    assert "is merged" in ready.ok("ao-merge", "shop-1").err


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_every_method_lands_the_work_once(ready, method):
    ready.ok("ao-merge", "shop-1", "--method", method)
    assert merged(ready) == 1 and os.path.exists(os.path.join(ready.repo, "b.txt"))


def test_everything_that_stands_in_the_way_is_said(world):
    """F31"""
    living.configure(world, merge={"settle": "1h"}, ci=[{"name": "test", "run": "true"}])
    done = world.call("ao-merge", "shop-1")
    assert done.code == 1 and done.err.count("\n") == 1
    for why in ("nobody has approved it", "check 'test': pending", "less than 1h"):
        assert why in done.err
    record = world.record("shop-1")
    assert record["merge_failure"] is None and record["doing"] is None and merged(world) == 0


def test_a_session_never_merges_its_own_work(ready):
    before = ready.record("shop-1")
    done = ready.call("ao-merge", "shop-1", AO_SESSION_ID="shop-1")
    assert done.code == 1 and "never merges its own work" in done.err
    assert ready.record("shop-1") == before and merged(ready) == 0


def test_a_session_without_pull_request_is_told_so(world):
    world.spawn("--task", "other")
    assert "it has no pull request" in world.call("ao-merge", "shop-2").err


def test_a_push_between_the_look_and_the_merge_is_not_merged(ready, monkeypatch):
    """F32: and that is no failed merge."""
    plan_merge, path = local.plan_merge, ready.record("shop-1")["workspace_path"]

    def overtaken(*args):
        plan = plan_merge(*args)
        forging.commit(path, "unseen.txt", "unseen\n", **forging.PERSON)
        return plan

    with monkeypatch.context() as pushing:
        pushing.setattr(local, "plan_merge", overtaken)
        done = ready.call("ao-merge", "shop-1")
    assert done.code == 1 and "not looked at yet" in done.err and merged(ready) == 0
    record = ready.record("shop-1")
    assert record["doing"] is None and record["merge_failure"] is None
    assert all(one["intent"] is None for one in record["conditions"].values())
    ready.look(2)
    ready.ok("ao-merge", "shop-1")
    assert merged(ready) == 1


def test_a_push_that_was_looked_at_between_the_look_and_the_merge_is_not_merged_either(ready, monkeypatch):
    """F32: what counts is the head that was judged, not the newest one that anybody has seen."""
    plan_merge, path = local.plan_merge, ready.record("shop-1")["workspace_path"]

    def overtaken(*args):
        forging.commit(path, "unseen.txt", "unseen\n", **forging.PERSON)
        ready.look(2)
        return plan_merge(*args)

    monkeypatch.setattr(local, "plan_merge", overtaken)
    done = ready.call("ao-merge", "shop-1")
    assert done.code == 1 and "not looked at" in done.err and merged(ready) == 0
    assert ready.record("shop-1")["merge_failure"] is None


def test_two_that_are_ready_at_once_are_not_merged_on_each_others_word(ready, monkeypatch):
    """F35: the checks of the second were made without the first, which lands while it is being merged."""
    living.pull(ready, ready.spawn("--task", "other"), "c.txt")
    ready.look()
    ready.ok("ao-review", "shop-2", "--approve", "--as", "ada")
    plan_merge = local.plan_merge

    def meanwhile(*args):
        with monkeypatch.context() as inner:
            inner.setattr(local, "plan_merge", plan_merge)
            ready.ok("ao-merge", "shop-1")
        return plan_merge(*args)

    with monkeypatch.context() as racing:
        racing.setattr(local, "plan_merge", meanwhile)
        done = ready.call("ao-merge", "shop-2")
    assert done.code == 1 and "'main' has moved on" in done.err
    assert not os.path.exists(os.path.join(ready.repo, "c.txt"))
    record = ready.record("shop-2")
    assert record["doing"] is None and record["merge_failure"] is None
    ready.ok("ao-merge", "shop-2")


def test_a_merge_that_failed_is_recorded_for_this_head_only(ready):
    with open(os.path.join(ready.repo, "b.txt"), "w") as file:
        file.write("mine\n")
    done = ready.call("ao-merge", "shop-1")
    assert done.code == 1 and "local changes" in done.err
    assert ready.record("shop-1")["status"] == "merge_failed"
    os.unlink(os.path.join(ready.repo, "b.txt"))
    forging.commit(ready.record("shop-1")["workspace_path"], "c.txt", "more\n", **forging.PERSON)
    ready.look(3)
    assert ready.record("shop-1")["status"] == "mergeable"
    ready.ok("ao-merge", "shop-1")
    assert ready.record("shop-1")["merge_failure"] is None


@pytest.mark.parametrize(
    ("point", "after"),
    [
        ("merge.merge:before", "act"),
        ("merge.merge:after", "act"),
        ("merge.merge:before", "merge"),
        ("merge.merge:after", "kill"),
    ],
)
def test_a_merge_that_was_cut_off_is_asked_about_and_not_done_twice(ready, point, after):
    """F23: whoever comes next, the loop, another ao-merge, or ao-kill."""
    done = scripts.run("ao-merge", "shop-1", cwd=ready.folder, AO_FAULT=point)
    assert done.returncode == -signal.SIGKILL
    assert ready.record("shop-1")["doing"]["effect"] == "merge"
    if after == "act":
        rounds.act(ready.home)
        record = ready.record("shop-1")
        assert record["doing"] is None and record["merge_failure"] is None
        assert record["status"] == ("merged" if point.endswith("after") else "mergeable")
    ready.ok("ao-kill" if after == "kill" else "ao-merge", "shop-1")
    was_killed = after == "kill" and point.endswith("before")
    assert ready.record("shop-1")["status"] == ("killed" if was_killed else "merged")
    assert merged(ready) == (0 if was_killed else 1)


def test_a_forge_that_does_not_answer_leaves_the_question_open(ready, monkeypatch):
    """F11"""

    def silent(*args):
        raise Unknown("the forge does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(local, "merge", silent)
        assert ready.call("ao-merge", "shop-1").code == 1
    record = ready.record("shop-1")
    assert record["doing"]["effect"] == "merge" and record["merge_failure"] is None
    rounds.act(ready.home)
    assert ready.record("shop-1")["doing"] is None
