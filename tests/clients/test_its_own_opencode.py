"""What is OpenCode's own: its ways of asking, its questions, its sub-agents, its errors, its database."""

from __future__ import annotations

import os
import sqlite3

import opencode
import pytest
from model import Refuse, Run, Say, Use
from stage import worlds
from test_story import counted, is_told

from lib import costs

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]
COLOR = {"question": "Which color?", "header": "Color", "options": [{"label": "Red", "description": "warm"}]}


@pytest.fixture
def world():
    yield from worlds(opencode)


def database():
    return os.path.join(os.environ["HOME"], ".local", "share", "opencode", "opencode.db")


@pytest.mark.parametrize(
    ("permissions", "edits", "runs"),
    [("permissionless", True, True), ("default", True, True), ("auto-edit", True, False), ("suggest", False, False)],
)
def test_each_way_of_asking_is_honoured(world, permissions, edits, runs):
    """Also where the person's own configuration allows its agent more."""
    path = os.path.join(os.environ["HOME"], ".config", "opencode", "opencode.json")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write('{"agent": {"build": {"permission": {"edit": "allow", "bash": "allow"}}}, ' + text[1:])
    world.configure({"permissions": permissions})
    id = world.spawn("--task", "work")
    here = world.record(id)["workspace_path"]
    paths = [os.path.join(here, name) for name in ("new.txt", "ran.txt")]
    world.model.on("write it", Use("write", {"filePath": paths[0], "content": "x\n"}), Say("Done."))
    world.model.on("run it", Run("touch ran.txt"), Say("Done."))
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    for message, path, is_allowed in (("write it", paths[0], edits), ("run it", paths[1], runs)):
        world.send(id, message)
        record = world.until(
            id, lambda one, path=path: one["status"] == "needs_input" or os.path.exists(path), "the tool"
        )
        assert (record["status"] == "needs_input") != is_allowed
        assert os.path.exists(path) == is_allowed
        if not is_allowed:
            world.ok("ao-send", id, "--answer", "Enter")
        world.until(id, lambda one, path=path: one["activity"] == "ready" and os.path.exists(path), "the end")


def test_a_question_of_its_own_waits_for_a_person(world):
    """F2"""
    world.model.on("How to work:", Use("question", {"questions": [COLOR]}), Say("Done."))
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["status"] == "needs_input", "the question")
    assert "Which color?" in record["question"]
    world.ok("ao-send", id, "--answer", "1")
    world.until(id, lambda one: one["activity"] == "ready" and "Red" in world.model.bodies[-1], "the answer")


def test_a_system_prompt_reaches_the_model_as_it_was_written(world):
    prompt = 'Be "brief"; $HOME \\n é ✓'
    world.configure({"system_prompt": prompt})
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    assert prompt.replace("\\", "\\\\").replace('"', '\\"') in world.model.bodies[0]
    assert sorted(os.listdir(record["workspace_path"])) == [".git", "a.txt"]


def test_what_its_sub_agents_cost_is_counted_and_says_nothing_about_the_turn(world):
    """F46"""
    task = {"description": "try it", "prompt": "Look around.", "subagent_type": "general"}
    world.model.on("How to work:", Use("task", task), Say("Done."))
    world.model.on("Look around.", Run("ls"), Say("Seen."))
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["activity"] == "ready" and len(world.model.charged) == 4, "the end")
    first = record["agent_config"]["session_id"]
    world.turn(ahead=120)
    record = world.record(id)
    assert {name: record["cost"][name] for name in costs.SHOWN} == counted(world)
    assert record["agent_config"]["session_id"] == first and not world.model.aside


def test_a_conversation_that_is_gone_is_begun_anew_with_the_task(world):
    """F40"""
    id = world.spawn("--task", "work")
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    world.ok("ao-kill", id)
    with sqlite3.connect(database()) as db:
        for table in ("part", "message", "session"):
            db.execute(f"DELETE FROM {table}")
    db.close()
    asked = len(world.model.asked)
    world.ok("ao-restore", id)
    world.until(id, lambda one: one["activity"] == "ready" and len(world.model.asked) > asked, "the task again")
    assert "Your task:" in world.model.asked[-1].text


def test_an_error_of_the_model_is_said_and_ends_by_itself(world):
    """F16"""
    world.model.on("How to work:", Refuse(529, kind="overloaded_error"))
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["activity"] == "blocked", "the error")
    assert record["trouble"] and record["activity_source"] == "screen" and record["hold"] is None
    world.model.on("How to work:", Say("Done."))
    world.until(id, lambda one: one["activity"] == "ready", "the end of its turn")
    world.model.on("more", Refuse(400, kind="invalid_request_error", message="no such thing"))
    world.send(id, "more")
    record = world.until(id, lambda one: is_told(one) and one["activity"] == "blocked", "the refusal")
    assert "no such thing" in record["trouble"] and record["activity_source"] == "story"


def test_a_look_takes_no_lock_of_its_database(world):
    """A writer goes on while a look is in the middle of reading, and a look while a writer is at it."""
    id = world.spawn("--task", "work")
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    db = sqlite3.connect(database(), timeout=0)
    db.execute("BEGIN IMMEDIATE")
    mark = world.record(id)["cost"]
    world.turn(ahead=120)
    assert mark and world.record(id)["story"]["state"] == "ready"
    db.rollback()
    db.close()
