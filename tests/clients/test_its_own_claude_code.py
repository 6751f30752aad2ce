"""What is Claude Code's own: its dialogs at the start, its ways of asking, its sub-agents, its errors."""

from __future__ import annotations

import os
import shutil

import claude_code
import pytest
from model import Refuse, Run, Say, Use
from stage import worlds
from test_story import counted, is_told

from lib import costs

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]


@pytest.fixture
def world():
    yield from worlds(claude_code)


def test_an_unknown_repository_is_a_question_that_keeps_the_task(world):
    """F2"""
    world.configure({"trust": False})
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["status"] == "needs_input", "the question")
    assert "agent_config.trust" in record["question"] and not world.model.asked
    world.ok("ao-send", id, "--answer", "1")
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "the task")
    assert "Your task:" in world.model.asked[0].text


@pytest.mark.parametrize(("permissions", "asks"), [("auto-edit", False), ("default", True), ("suggest", True)])
def test_each_way_of_asking_is_honoured(world, permissions, asks):
    world.configure({"permissions": permissions})
    id = world.spawn("--task", "work")
    path = os.path.join(world.record(id)["workspace_path"], "new.txt")
    world.model.on("write it", Use("Write", {"file_path": path, "content": "x\n"}), Say("Done."))
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    world.send(id, "write it")
    record = world.until(id, lambda one: one["status"] == "needs_input" or os.path.exists(path), "the file")
    assert (record["status"] == "needs_input") == asks == (not os.path.exists(path))


def test_what_its_sub_agents_cost_is_counted(world):
    """F46"""
    agent = {"description": "try it", "prompt": "Look around.", "subagent_type": "general-purpose"}
    world.model.on("How to work:", Use("Agent", agent), Say("Done."))
    world.model.on("Look around.", Run("ls"), Say("Seen."))
    id = world.spawn("--task", "work")
    world.until(id, lambda one: one["activity"] == "ready" and len(world.model.charged) == 4, "the end of its turn")
    world.turn(ahead=120)
    assert {name: world.record(id)["cost"][name] for name in costs.SHOWN} == counted(world)


def test_a_conversation_that_is_gone_is_begun_anew_with_the_task(world):
    """F40"""
    id = world.spawn("--task", "work")
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    world.ok("ao-kill", id)
    shutil.rmtree(os.path.join(os.environ["HOME"], ".claude", "projects"))
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
