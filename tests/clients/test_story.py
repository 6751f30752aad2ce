"""What must be true of every real agent; `make test-clients` runs it, against a model on loopback and without account.

Another agent is a line in versions.txt, a module like claude_code.py and a word in CLIENTS.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import threading
import time

import pytest
from model import Run, Say, Wait
from stage import worlds

from lib import costs, launcher, paths
from lib.runtime import tmux

CLIENTS = ["claude_code", "codex", "opencode"]
WORK = "echo broken >work.txt && git add work.txt && git commit -qm work && git push -q origin HEAD"
OPEN = "ao-pr open --title Work --body Because."
MEND = "echo fixed >work.txt && git commit -qam mend && git push -q origin HEAD"
LONG = "é✓ 'quoted' \"twice\" $HOME `id` \\n #{x}\n- dash; \n" * 100 + "--end;"
UNTIL_GO = "while ! test -e ../../../go; do sleep 0.1; done"

pytestmark = [pytest.mark.clients, pytest.mark.timeout(900)]


@pytest.fixture(params=CLIENTS)
def world(request):
    yield from worlds(importlib.import_module(request.param))


def is_told(record):
    return record["inbox"] and all(one["state"] == "confirmed" for one in record["inbox"])


def go(world):
    with open(os.path.join(world.home, "go"), "w"):
        pass


def counted(world, since=0):
    """What the model has charged for the work, by the names of a session's cost; but for so many answers."""
    charges = [charge for _, charge in world.model.charged[since:]]
    return {
        "input_tokens": sum(one.input for one in charges),
        "output_tokens": sum(one.output for one in charges),
        "cache_read_tokens": sum(one.cache_read for one in charges),
        "cache_creation_tokens": sum(one.cache_write_5m + one.cache_write_1h for one in charges),
    }


def pid_of(world, id):
    """The process of the agent itself, below the launcher."""
    launched = tmux.look(world.home)[id].pid
    with open(f"/proc/{launched}/task/{launched}/children") as file:
        return int(file.read().split()[0])


def test_an_issue_is_worked_on_mended_and_merged_and_costs_what_the_model_says(world):
    """F6, F19, F46"""
    world.model.on("How to work:", Run(WORK), Run(OPEN), Say("It is open."))
    world.model.on("CI failed", Run(MEND), Say("Mended."))
    world.ok("ao-issue", "new", "Do some work", "-b", "As you like.")
    id = world.spawn("1")
    world.until(id, lambda one: (one["pr"] or {}).get("ci_status") == "passing", "the mended check")
    assert "As you like." in world.model.asked[0].text
    world.until(id, is_told, "the message to be confirmed")
    world.ok("ao-review", id, "--approve", "--as", "riley")
    record = world.until(id, lambda one: one["status"] == "merged" and one["runtime_state"] != "alive", "the merge")
    assert {name: record["cost"][name] for name in costs.SHOWN} == counted(world)
    bill = json.loads(world.ok("ao-cost", "--by", "model", "--json"))
    assert {name: bill["total"][name] for name in costs.SHOWN} == counted(world)
    long = sum(charge.cache_write_1h for _, charge in world.model.charged)
    usd = costs.usd(world.client.MODEL, counted(world) | {"cache_creation_1h_tokens": long})
    assert bill["total"]["cost_usd"] == pytest.approx(usd, abs=1e-5)
    assert not world.record(id)["conditions"]


def test_a_message_that_is_sent_while_it_works_arrives_once_and_byte_for_byte(world):
    """F1, F5, F8"""
    world.model.on("How to work:", Run(UNTIL_GO), Say("Done."))
    id = world.spawn("--task", "wait")
    record = world.until(id, lambda one: one["activity"] == "active" and world.model.asked, "it to be at work")
    assert record["activity_source"] in ("report", "story")
    mark = world.send(id, LONG)
    world.until(id, is_told, "the message to be confirmed while it works")
    go(world)
    world.until(id, lambda one: one["activity"] == "ready" and world.heard(mark), "the end of its turn")
    assert world.heard(f"(ao message {mark})") == 1
    assert json.dumps(LONG, ensure_ascii=False)[1:-1] in world.model.bodies[-1]


@pytest.mark.parametrize("text", ["/exit", "!touch ../../../ran", "--dash; and more;", "#note", "@a.txt", "1"])
def test_a_message_is_never_a_command_of_the_program(world, text):
    """F3, F4: neither at rest nor out of the queue in which it waited for the end of a turn."""
    world.model.on("How to work:", Run(UNTIL_GO), Say("Done."))
    id = world.spawn("--task", "wait for word")
    world.until(id, lambda one: one["activity"] == "active" and world.model.asked, "it to be at work")
    marks = [world.send(id, text)]
    world.until(id, is_told, "the message in its queue")
    go(world)
    world.until(id, lambda one: world.heard(marks[0]) and one["activity"] == "ready", "the queue")
    marks.append(world.send(id, text))
    world.until(id, lambda one: world.heard(marks[1]) and one["activity"] == "ready", "the message")
    for mark in marks:
        assert world.heard(f"{text}\\n\\n(ao message {mark})") == 1
    assert not os.path.exists(os.path.join(world.home, "ran"))


def test_a_dialog_is_left_alone_and_said_and_a_person_answers_it(world):
    """F2, F3"""
    world.configure(world.client.ASKS)
    world.model.on("How to work:", Run("touch asked.txt"), Say("Done."))
    id = world.spawn("--task", "touch a file")
    record = world.until(id, lambda one: one["status"] == "needs_input", "the question")
    assert "touch asked.txt" in record["question"]
    mark = world.send(id, "y 1 yes")
    for _ in range(10):
        world.turn()
    record = world.record(id)
    assert record["status"] == "needs_input" and record["inbox"][-1]["state"] == "queued"
    assert not os.path.exists(os.path.join(record["workspace_path"], "asked.txt"))
    world.ok("ao-send", id, "--answer", world.client.YES)
    record = world.until(id, lambda one: is_told(one) and world.heard(mark), "the answer and the message")
    assert os.path.exists(os.path.join(record["workspace_path"], "asked.txt"))
    record = world.until(id, lambda one: one["activity"] == "ready", "the end of its turn")
    assert record["question"] is None and world.heard(f"(ao message {mark})") == 1


def test_a_usage_limit_parks_it_until_its_end_and_it_goes_on_by_itself(world):
    """F16"""
    until = (time.time() // 60 + 90) * 60
    world.model.on("How to work:", world.client.limit(until))
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["hold"], "the limit")
    assert record["hold"]["reason"] == "usage-limit" and record["status"] == "idle"
    assert record["activity"] == "blocked" and "limit" in record["trouble"]
    world.turn(ahead=until - time.time() - 30)
    record = world.record(id)
    assert record["hold"] and "agent-stuck" not in record["conditions"]
    world.model.on("usage limit should be over", Run("touch went-on.txt"), Say("Done."))
    later = until - time.time() + 120
    went_on = os.path.join(record["workspace_path"], "went-on.txt")
    record = world.until(id, lambda one: is_told(one) and os.path.exists(went_on), "it to go on", ahead=later)
    assert record["hold"] is None and world.heard("usage limit should be over") == 1


def test_a_killed_agent_comes_back_in_its_conversation_and_gets_what_it_was_sent(world):
    """F40, F43: also what had gone into its own queue and went with it."""
    world.model.on("How to work:", Run(UNTIL_GO), Say("Done."))
    id = world.spawn("--task", "begin")
    world.until(id, lambda one: one["activity"] == "active" and world.model.asked, "it to be at work")
    first = world.send(id, "the first message")
    world.until(id, is_told, "the first message in its queue")
    before = world.record(id)["agent_config"]["session_id"]
    os.kill(pid_of(world, id), signal.SIGKILL)
    record = world.until(id, lambda one: one["runtime_state"] == "exited", "its end")
    assert record["exit_code"] == 128 + signal.SIGKILL
    assert os.path.exists(launcher.exit_file(paths.launch(world.home, "shop", id)))
    second = world.send(id, "the second message")
    go(world)
    world.ok("ao-restore", id)
    world.until(id, lambda one: is_told(one) and world.heard(first) and world.heard(second), "both messages")
    record = world.until(id, lambda one: one["activity"] == "ready", "the end of its turn")
    assert record["agent_config"]["session_id"] == before
    for mark in (first, second):
        assert world.heard(f"(ao message {mark})") == 1
    assert world.heard("How to work:") == 1
    assert {name: record["cost"][name] for name in costs.SHOWN} == counted(world, world.client.LOST_WITH_A_TOOL)


def test_a_silent_long_run_is_work(world):
    """F16"""
    enough = threading.Event()
    world.model.on("How to work:", Wait(enough), Run(UNTIL_GO), Say("Done."))
    id = world.spawn("--task", "take your time")
    world.until(id, lambda one: one["activity"] == "active", "it to think")
    world.turn(ahead=900)
    enough.set()
    world.until(id, lambda one: world.model.asked, "the long run")
    world.turn(ahead=1800)
    record = world.record(id)
    assert record["activity"] == "active" and record["status"] == "working" and not record["conditions"]
    go(world)
    world.until(id, lambda one: one["activity"] == "ready", "its end")


@pytest.mark.parametrize("moment", ["while it thinks", "while a tool runs"])
def test_a_used_up_budget_interrupts_it_and_a_person_lets_it_go_on(world, moment):
    """Its work and its conversation stay as they are."""
    enough = threading.Event()
    late = [Wait(enough)] if moment == "while it thinks" else [Run(UNTIL_GO)]
    world.configure(budget={"session_usd": 0.01})
    world.model.on("How to work:", Run("touch begun.txt"), *late, Say("Done."))
    id = world.spawn("--task", "work")
    record = world.until(id, lambda one: one["hold"] and one["activity"] == "ready", "the interruption")
    assert record["hold"]["reason"] == "budget" and record["status"] == "needs_input"
    asked = len(world.model.asked)
    for _ in range(5):
        world.turn()
    assert len(world.model.asked) == asked
    assert os.path.exists(os.path.join(record["workspace_path"], "begun.txt"))
    world.model.on("budget was raised", Run("touch went-on.txt"), Say("Done."))
    world.ok("ao-cost", id, "--raise", "5")
    went_on = os.path.join(record["workspace_path"], "went-on.txt")
    world.until(id, lambda one: is_told(one) and os.path.exists(went_on), "it to go on")
    enough.set()
    go(world)
