"""What must be true of Aider, which runs no command unasked and publishes nothing: its story is told by its edits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time

import aider
import forging
import pytest
from aider import edit
from model import Refuse, Run, Say, Wait
from stage import worlds
from test_story import LONG, counted, is_told, pid_of

from lib import costs, paths

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]


@pytest.fixture
def world():
    yield from worlds(aider)


def at_rest(world, id, answers=1):
    world.until(id, lambda one: is_told(one) and len(world.model.asked) >= answers, "the answer")
    return world.until(id, lambda one: one["activity"] == "ready", "its rest")


def at_work(world, id):
    return world.until(id, lambda one: one["activity"] == "active" and is_told(one), "it to be at work")


def git(world, id, *words):
    return forging.git(world.record(id)["workspace_path"], *words)


def test_what_it_commits_is_published_mended_and_merged_and_costs_what_the_model_says(world):
    """F6, F46: by itself, without `publish` in the configuration."""
    world.model.on("How to work:", edit("work.txt", "", "broken\n"))
    world.model.on("CI failed", edit("work.txt", "broken\n", "fixed\n"))
    world.ok("ao-issue", "new", "Do some work", "-b", "As you like.")
    id = world.spawn("1")
    world.until(id, lambda one: (one["pr"] or {}).get("ci_status") == "passing", "the mended check")
    assert "As you like." in world.model.asked[0].text
    assert "the pull request is opened for you" in world.model.asked[0].text
    world.until(id, is_told, "the message to be confirmed")
    files = git(world, id, "diff", "--name-only", "main", "HEAD").split()
    assert files == ["work.txt"] and not git(world, id, "status", "--short")
    world.ok("ao-review", id, "--approve", "--as", "riley")
    record = world.until(id, lambda one: one["status"] == "merged" and one["runtime_state"] != "alive", "the merge")
    assert {name: record["cost"][name] for name in costs.SHOWN} == counted(world)
    bill = json.loads(world.ok("ao-cost", "--by", "model", "--json"))
    assert bill["total"]["cost_usd"] == pytest.approx(costs.usd(aider.MODEL, counted(world)), abs=1e-5)
    assert not world.record(id)["conditions"]


@pytest.mark.parametrize(
    "text", [LONG, "/exit", "!touch ran", "--dash; and more;", "#note", "{", "https://example.org"]
)
def test_a_message_waits_for_the_end_of_its_turn_and_arrives_once_and_byte_for_byte(world, text):
    """F1, F3, F4, F5, F8"""
    enough = threading.Event()
    world.model.on("How to work:", Wait(enough), Say("Done."))
    id = world.spawn("--task", "wait")
    at_work(world, id)
    mark = world.send(id, text)
    for _ in range(5):
        world.turn()
    assert world.record(id)["inbox"][-1]["state"] == "queued"
    enough.set()
    world.until(id, lambda one: is_told(one) and len(world.model.asked) == 2, "the message")
    at_rest(world, id)
    assert world.heard(f"(ao message {mark})") == 1
    assert json.dumps(f"{text}\n\n(ao message {mark})", ensure_ascii=False)[1:-1] in world.model.bodies[-1]
    assert not os.path.exists(os.path.join(world.record(id)["workspace_path"], "ran"))


def test_a_dialog_is_left_alone_and_said_and_a_person_answers_it(world):
    """F2, F3"""
    world.configure({"permissions": "default"})
    world.model.on("How to work:", Run("touch asked.txt"))
    id = world.spawn("--task", "touch a file")
    record = world.until(id, lambda one: one["status"] == "needs_input", "the question")
    assert "\ntouch asked.txt\nRun shell command?" in record["question"] and "How to work" not in record["question"]
    mark = world.send(id, "y 1 yes")
    for _ in range(5):
        world.turn()
    record = world.record(id)
    assert record["status"] == "needs_input" and record["inbox"][-1]["state"] == "queued"
    assert not os.path.exists(os.path.join(record["workspace_path"], "asked.txt"))
    world.ok("ao-send", id, "--answer", "y")
    record = world.until(id, lambda one: is_told(one) and len(world.model.asked) == 2, "the answer and the message")
    assert os.path.exists(os.path.join(record["workspace_path"], "asked.txt"))
    assert at_rest(world, id)["question"] is None and world.heard(f"(ao message {mark})") == 1


@pytest.mark.parametrize("permissions", ["permissionless", "auto-edit"])
def test_it_edits_unasked_and_runs_no_command(world, permissions):
    world.configure({"permissions": permissions})
    world.model.on("How to work:", edit("work.txt", "", "broken\n"))
    world.model.on("as you said", Run("touch ran"))
    id = world.spawn("--task", "work")
    folder = at_rest(world, id)["workspace_path"]
    assert os.path.exists(os.path.join(folder, "work.txt"))
    world.send(id, "as you said")
    at_rest(world, id, 3)  # with the failed check
    assert not os.path.exists(os.path.join(folder, "ran"))


def test_one_that_only_suggests_changes_nothing(world):
    world.configure({"permissions": "suggest"})
    world.model.on("How to work:", edit("work.txt", "", "broken\n"))
    id = world.spawn("--task", "work")
    folder = at_rest(world, id)["workspace_path"]
    assert not os.path.exists(os.path.join(folder, "work.txt"))


def test_a_system_prompt_reaches_the_model_as_it_was_written(world):
    prompt = 'Be "brief"; $HOME \\n é ✓'
    world.configure({"system_prompt": prompt})
    at_rest(world, world.spawn("--task", "work"))
    assert json.dumps(prompt, ensure_ascii=False)[1:-1] in world.model.bodies[0]


def test_a_model_that_refuses_blocks_it_until_it_answers_again(world):
    """F16"""
    world.model.on("How to work:", aider.LIMIT)
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["activity"] == "blocked", "the limit")
    assert "Rate limit reached" in record["trouble"] and record["activity_source"] == "story"
    world.model.on("How to work:", Say("Done."))
    assert at_rest(world, id)["trouble"] is None
    world.model.on("more", Refuse(400, kind="invalid_request_error", message="see https://example.org"))
    world.send(id, "more")
    record = world.until(id, lambda one: is_told(one) and one["activity"] == "blocked", "the refusal")
    assert "https://example.org" in record["trouble"]
    world.send(id, "and now")
    at_rest(world, id, 2)


def test_a_killed_agent_comes_back_in_its_conversation_and_gets_what_it_was_sent(world):
    """F40, F43"""
    enough = threading.Event()
    world.model.on("the first message", Wait(enough), Say("Done."))
    id = world.spawn("--task", "begin")
    at_rest(world, id)
    first = world.send(id, "the first message")
    at_work(world, id)
    os.kill(pid_of(world, id), signal.SIGKILL)
    record = world.until(id, lambda one: one["runtime_state"] == "exited", "its end")
    assert record["exit_code"] == 128 + signal.SIGKILL
    second = world.send(id, "the second message")
    enough.set()
    world.ok("ao-restore", id)
    world.until(id, lambda one: is_told(one) and world.heard(first) and world.heard(second), "both messages")
    record = at_rest(world, id)
    for mark in (first, second, "How to work:"):
        assert world.heard(mark) == 1
    assert record["cost"]["output_tokens"] + 502 == counted(world)["output_tokens"]  # of the answer that nobody heard


def test_a_conversation_that_is_gone_is_begun_anew_with_the_task(world):
    """F40"""
    id = world.spawn("--task", "work")
    at_rest(world, id)
    world.ok("ao-kill", id)
    shutil.rmtree(paths.records(world.home, "shop", id))
    world.ok("ao-restore", id)
    at_rest(world, id, 2)
    assert "Your task:" in world.model.asked[-1].text


def test_a_silent_long_answer_is_work(world):
    """F16"""
    enough = threading.Event()
    world.model.on("How to work:", Wait(enough), Say("Done."))
    id = world.spawn("--task", "take your time")
    at_work(world, id)
    time.sleep(2)
    world.turn(ahead=1800)
    record = world.record(id)
    assert record["activity"] == "active" and record["status"] == "working" and not record["conditions"]
    enough.set()
    at_rest(world, id)


def test_a_used_up_budget_interrupts_it_and_a_person_lets_it_go_on(world):
    """Its work and its conversation stay as they are; a file that is named is read in the same turn."""
    enough = threading.Event()
    world.configure(budget={"session_usd": 0.01})
    world.model.on("How to work:", Say("See a.txt."))
    world.model.on("added these files to the chat: a.txt", Wait(enough), Say("Done."))
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["hold"] and one["activity"] == "ready", "the interruption")
    assert record["hold"]["reason"] == "budget" and record["status"] == "needs_input"
    assert record["runtime_state"] == "alive" and len(world.model.asked) == 1
    world.model.on("budget was raised", edit("went-on.txt", "", "on\n"))
    world.ok("ao-cost", id, "--raise", "5")
    enough.set()
    world.until(id, lambda one: is_told(one) and world.heard("How to work:"), "it to go on")
    world.until(id, lambda one: one["activity"] == "ready" and not one["hold"], "its rest")
    assert os.path.exists(os.path.join(record["workspace_path"], "went-on.txt"))
