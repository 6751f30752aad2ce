"""Agents that can only commit: ao opens their pull requests, where `publish: auto` says so."""

from __future__ import annotations

import json
import signal

import forging
import living
import pytest
import scripts

from lib import events, loop, plugins, react, sessions
from lib.clock import Clock
from lib.errors import AoError


@pytest.fixture
def world(home, tmp_path):
    return living.make(home, tmp_path / "shop", publish="auto")


def committed(world, activity="ready", **fields):
    """A session whose agent has made two commits, and what it does now."""
    session = world.spawn("--task", "mend the shed\nbefore it rains")
    for name, text in (("b.txt", "Mend the roof\n\nIt leaked."), ("c.txt", "Mend the door")):
        forging.commit(session["workspace_path"], name, "new\n", text, **forging.PERSON)
    world.look()
    world.change(session["id"], activity=activity, **fields)
    return session["id"]


def act(world, seconds=0.0):
    found = react.run(world.home, Clock(loop.clock(world.home).now + seconds))
    return [one["action"] for one in found if one.get("action") == "publish"]


def pulls(world):
    return json.loads(world.ok("ao-pr", "list", "--all", "--json").out)


def test_what_an_agent_has_committed_is_published_once_its_turn_is_over(world):
    id = committed(world, activity="active")
    assert act(world) == [] and pulls(world) == []
    world.change(id, activity="ready")
    assert act(world) == ["publish"]
    [pull] = pulls(world)
    assert pull["title"] == "mend the shed before it rains" and pull["branch"] == world.record(id)["branch"]
    path = pull["url"].removeprefix("file://")
    with open(path) as file:
        text = file.read()
    assert "- Mend the roof" in text and "  It leaked." in text and "- Mend the door" in text and "first" not in text
    assert act(world) == []  # nobody has looked since
    world.look(2)
    world.change(id, activity="ready")
    assert world.record(id)["pr"]["number"] == pull["number"] and act(world) == []


def test_the_commits_of_a_later_turn_belong_to_the_same_pull_request(world):
    id = committed(world)
    act(world)
    world.look(2)
    head = forging.commit(world.record(id)["workspace_path"], "d.txt", "new\n", **forging.PERSON)
    world.look()
    world.change(id, activity="ready")
    assert act(world) == ["publish"]
    world.look(2)
    world.change(id, activity="ready")
    assert [one["head_sha"] for one in pulls(world)] == [head] and act(world) == []


@pytest.mark.parametrize("fields", [{"outcome": "killed"}, {"outcome": "done"}, {"pr_unknown_since": "2026-01-01"}])
def test_what_has_ended_or_may_have_a_pull_request_is_not_published(world, fields):
    committed(world, **fields)
    assert act(world) == [] and pulls(world) == []


def test_without_commits_there_is_nothing_to_publish(world):
    id = world.spawn()["id"]
    world.look()
    world.change(id, activity="ready")
    assert act(world) == []


def test_a_pull_request_that_a_person_has_closed_stays_closed(world):
    id = committed(world)
    act(world)
    world.look()
    world.ok("ao-pr", "close", id)
    forging.commit(world.record(id)["workspace_path"], "d.txt", "new\n", **forging.PERSON)
    world.look(2)
    world.change(id, activity="ready")
    assert act(world) == [] and [one["state"] for one in pulls(world)] == ["closed"]


def test_an_agent_that_is_to_do_it_itself_is_left_to_it(home, tmp_path):
    world = living.make(home, tmp_path / "shop")
    committed(world)
    assert act(world) == [] and pulls(world) == []


@pytest.mark.parametrize(("publish", "is_told"), [("agent", True), ("auto", False)])
def test_an_agent_is_told_who_opens_its_pull_request(home, tmp_path, publish, is_told):
    world = living.make(home, tmp_path / "shop", publish=publish)
    [message] = world.record(world.spawn()["id"])["inbox"]
    assert ("ao-pr open" in message["text"]) == is_told
    assert ("the pull request is opened for you." in message["text"]) != is_told


def test_a_forge_that_refuses_is_said_once_and_asked_again_after_a_minute(world, monkeypatch):
    def refuse(*_):
        raise AoError("the forge is full")

    id = committed(world)
    with monkeypatch.context() as patched:
        patched.setattr(plugins.load("scm", "local"), "publish", refuse)
        assert act(world) == ["publish"] and act(world, 30) == [] and act(world, 61) == ["publish"]
    assert "its commits cannot be published: the forge is full" in world.ok("ao-status", id, "--why").out
    assert [one["error"] for one in events.read(world.home) if one["type"] == "published"] == ["the forge is full"]
    assert act(world, 122) == ["publish"] and len(pulls(world)) == 1


@pytest.mark.parametrize("point", ["before", "inside", "after"])
def test_one_pull_request_is_opened_although_the_one_who_does_it_is_killed(world, point):
    """F23"""
    id = committed(world)
    assert scripts.run("ao-react", AO_FAULT=f"pull.publish:{point}").returncode == -signal.SIGKILL
    assert act(world) == ["publish"]  # nobody knows whether it was done, and twice does no harm
    assert len(pulls(world)) == 1
    assert world.record(id)["published"]["error"] is None
    assert sessions.open_message(world.record(id)) is not None  # the task, which that kept from nobody
