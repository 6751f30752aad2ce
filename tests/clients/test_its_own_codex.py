"""What is Codex's own: its dialogs at the start, its ways of asking, its sub-agents, its queue, its errors."""

from __future__ import annotations

import os
import shutil
import threading

import codex
import pytest
from model import Refuse, Run, Say, Use, Wait
from stage import worlds
from test_story import LONG, counted, is_told

from lib import costs
from lib.runtime import tmux

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]


@pytest.fixture
def world():
    yield from worlds(codex)


def test_an_unknown_repository_is_a_question_that_keeps_the_task(world):
    """F2"""
    world.configure({"trust": False})
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["status"] == "needs_input", "the question")
    assert "agent_config.trust" in record["question"] and not world.model.asked
    tmux.press(world.home, id, "Enter")  # as a person in its terminal: this dialog knows no other key
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "the task")
    assert "Your task:" in world.model.asked[0].text


@pytest.mark.parametrize(("permissions", "asks"), [("auto-edit", False), ("default", False), ("suggest", True)])
def test_each_way_of_asking_is_honoured(world, permissions, asks):
    world.configure({"permissions": permissions})
    id = world.spawn("--task", "work")
    path = os.path.join(world.record(id)["workspace_path"], "new.txt")
    patch = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: new.txt\n+x\n*** End Patch\nEOF"
    world.model.on("write it", Use("exec_command", {"cmd": patch}), Say("Done."))
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    world.send(id, "write it")
    record = world.until(id, lambda one: one["status"] == "needs_input" or os.path.exists(path), "the file")
    assert (record["status"] == "needs_input") == asks == (not os.path.exists(path))


def test_a_system_prompt_reaches_the_model_as_it_was_written(world):
    prompt = 'Be "brief"; $HOME \\n é ✓'
    world.configure({"system_prompt": prompt})
    id = world.spawn("--task", "work")
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    assert prompt.replace("\\", "\\\\").replace('"', '\\"') in world.model.bodies[0]


def test_what_its_sub_agents_cost_is_counted_and_says_nothing_about_the_turn(world):
    """F46"""
    world.model.on("How to work:", Use("multi_agent_v1.spawn_agent", {"message": "Look around."}), Say("Done."))
    world.model.on("Look around.", Run("ls"), Say("Seen."))
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["activity"] == "ready" and len(world.model.charged) == 4, "the end")
    first = record["agent_config"]["session_id"]
    world.turn(ahead=120)
    record = world.record(id)
    assert {name: record["cost"][name] for name in costs.SHOWN} == counted(world)
    assert record["agent_config"]["session_id"] == first


def test_a_conversation_that_is_gone_is_begun_anew_with_the_task(world):
    """F40"""
    id = world.spawn("--task", "work")
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    world.ok("ao-kill", id)
    shutil.rmtree(os.path.join(os.environ["CODEX_HOME"], "sessions"))
    asked = len(world.model.asked)
    world.ok("ao-restore", id)
    world.until(id, lambda one: one["activity"] == "ready" and len(world.model.asked) > asked, "the task again")
    assert "Your task:" in world.model.asked[-1].text


def test_a_long_message_is_known_in_its_queue_however_long_it_waits_there(world):
    """F1: the queue shows three lines of it, and no file tells of it."""
    enough = threading.Event()
    world.model.on("How to work:", Wait(enough), Say("Done."))
    id = world.spawn("--task", "think")
    world.until(id, lambda one: one["activity"] == "active", "it to think")
    mark = world.send(id, LONG)
    world.until(id, is_told, "the message in its queue")
    world.turn(ahead=900)
    enough.set()
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked and world.heard(mark), "the message")
    assert world.heard(f"(ao message {mark})") == 1


def test_an_error_of_the_model_is_said_and_ends_by_itself(world):
    """F16"""
    world.model.on("How to work:", Refuse(500))
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["activity"] == "blocked", "the error")
    assert record["trouble"] and record["activity_source"] == "screen" and record["hold"] is None
    world.model.on("How to work:", Say("Done."))
    world.until(id, lambda one: one["activity"] == "ready", "the end of its turn")
    world.model.on("more", Refuse(400, kind="invalid_request_error", message="no such thing"))
    world.send(id, "more")
    record = world.until(id, lambda one: is_told(one) and one["activity"] == "blocked", "the refusal")
    assert "no such thing" in record["trouble"] and record["activity_source"] == "story"


def test_nothing_of_it_outlives_its_session(world):
    """Its daemon would."""
    id = world.spawn("--task", "work")
    world.until(id, lambda one: one["activity"] == "ready" and world.model.asked, "its first turn")
    here = os.environ["CODEX_HOME"]
    assert processes_in(here)
    world.ok("ao-kill", id)
    world.until(id, lambda one: not processes_in(here), "its processes to end")


def processes_in(codex_home):
    """The processes that were started with this CODEX_HOME, but for this one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_ours = f"CODEX_HOME={codex_home}".encode() in file.read().split(b"\0")
            with open(f"/proc/{pid}/comm") as file:
                name = file.read().strip()
        except OSError:
            continue
        if is_ours and name in ("node", "codex"):
            found.append(int(pid))
    return found
