"""Messages from people and from other agents: queued at once, in order, and delivered when the agent can take them."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time

import living
import pytest
import scripts
from conftest import until
from living import AGENT
from terminals import logged

from lib import launcher, loop, paths, rounds, sessions, store
from lib.runtime import tmux


@pytest.fixture
def world(home, tmp_path):
    world = living.make(home, tmp_path)
    world.spawn("--task", "x", "--no-prompt")
    return world


@contextlib.contextmanager
def looping(home):
    """The loop, as ao-watch would run it."""
    over = threading.Event()

    def rounds_and_rounds():
        while not over.is_set():
            rounds.look(home)
            rounds.act(home)
            time.sleep(0.05)

    thread = threading.Thread(target=rounds_and_rounds)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def inbox(world):
    return [(one["text"], one["state"]) for one in world.record("shop-1")["inbox"]]


def test_a_message_is_queued_with_its_sender(world):
    assert "is queued" in world.ok("ao-send", "shop-1", "do more").err
    world.ok("ao-send", "shop-1", "from a colleague", AO_SESSION_ID="shop-7")
    assert inbox(world) == [("do more", "queued"), ("from a colleague", "queued")]
    assert [one["from"] for one in world.record("shop-1")["inbox"]] == ["person", "shop-7"]


def test_a_message_comes_from_a_file_or_standard_input(world):
    path = os.path.join(world.folder, "note")
    with open(path, "wb") as file:
        file.write(b"caf\xe9\n")
    world.ok("ao-send", "shop-1", "--file", path)
    world.ok("ao-send", "shop-1", "-", input="from a pipe\n")
    world.ok("ao-send", "shop-1", "--", "-5 is the answer")
    assert [text for text, _ in inbox(world)] == ["caf\ufffd\n", "from a pipe\n", "-5 is the answer"]


def test_what_cannot_be_sent_is_refused(world):
    for args, code, said in (
        (("shop-1", "  \n"), 2, "the message is empty"),
        (("shop-1",), 2, "say what to send"),
        (("shop-1", "x", "--file", "y"), 2, "say what to send"),
        (("shop-1", "--file", "/nowhere"), 1, "cannot read '/nowhere'"),
        (("shop-9", "x"), 1, "there is no session 'shop-9'"),
        (("shop-1", "x" * 300_000), 1, "cannot send more than"),
        (("shop-1", "--answer", "y\nrm"), 2, "an answer is one line"),
    ):
        done = world.call("ao-send", *args)
        assert done.code == code and said in done.err and done.err.count("\n") == 1
    world.ok("ao-kill", "shop-1")
    assert "it is killed; see: ao-restore shop-1" in world.call("ao-send", "shop-1", "x").err
    assert inbox(world) == []


def test_answers_go_before_what_waits_in_their_own_order(world):
    for args in (("one",), ("two",), ("--answer", "y"), ("--answer", "n")):
        world.ok("ao-send", "shop-1", *args)
    assert [text for text, _ in inbox(world)] == ["y", "n", "one", "two"]
    record = world.record("shop-1")
    record["inbox"][2]["state"] = "delivered"
    world.change("shop-1", inbox=record["inbox"][2:])
    world.ok("ao-send", "shop-1", "--answer", "y")
    assert inbox(world) == [("one", "delivered"), ("y", "queued"), ("two", "queued")]


def test_a_message_can_be_sent_while_a_tick_runs(world):
    with store.lock(paths.lock(world.home, "tick")), store.lock(paths.lock(world.home, "react")):
        world.ok("ao-send", "shop-1", "do more")
    assert inbox(world) == [("do more", "queued")]


def test_waiting_ends_with_the_confirmation_word_for_word(home, tmp_path):
    """F1: also for 5 kB and for many lines."""
    log = os.path.join(home, "agent.log")
    world = living.make(home, tmp_path, [*AGENT, "--hooks", "--log", log])
    world.spawn("--task", "x", "--no-prompt")
    long = "\n".join(f"line {number} " + "x" * 60 for number in range(70))
    with looping(home):
        assert "is confirmed" in world.ok("ao-send", "shop-1", "--wait", long).err
    assert logged(log)[0].startswith(long)


def test_waiting_says_what_became_of_it(world):
    done = world.call("ao-send", "shop-1", "x", "--wait", "--timeout", "0.3")
    assert done.code == 1 and "is queued" in done.err


def test_who_waits_is_told_first_that_nobody_brings_the_message(world):
    world.look()
    os.utime(paths.loop(world.home), (1, 1))
    said = world.call("ao-send", "shop-1", "x", "--wait", "--timeout", "0.3").err.splitlines()
    assert "is queued; nobody has looked for " in said[0] and said[0].endswith("; start: ao-watch")
    assert said[1].endswith(" is queued") and "nobody has looked" in world.ok("ao-send", "shop-1", "y").err


def test_who_stops_waiting_is_told_that_the_message_stays_queued(world, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    done = world.call("ao-send", "shop-1", "x", "--wait")
    assert done.code == 130 and done.err.endswith(" stays queued, and shop-1 gets it when it can take it\n")
    assert inbox(world) == [("x", "queued")]


def test_an_answer_is_typed_at_the_open_question_and_the_rest_waits(home, tmp_path):
    """F3"""
    log = os.path.join(home, "agent.log")
    world = living.make(home, tmp_path, [*AGENT, "--hooks", "--dialog", "--log", log])
    world.spawn("--task", "x", "--no-prompt")
    until(lambda: "Do you want" in tmux.screen(home, "shop-1"))
    world.ok("ao-send", "shop-1", "yes please")
    for _ in range(2):
        world.look()
        rounds.act(home)
    assert inbox(world) == [("yes please", "queued")]
    assert world.record("shop-1")["inbox"][0]["waiting_for"] == "a question is open"
    with looping(home):
        assert "is confirmed" in world.ok("ao-send", "shop-1", "--answer", "y", "--wait").err
        until(lambda: logged(log), "the message")
    assert logged(log, "key") == ["y"] and logged(log)[0].startswith("yes please")


def test_a_dialog_at_the_start_eats_no_task(home, tmp_path):
    """F2, F16: it is a question for a person, and the task comes after it, once."""
    log = os.path.join(home, "agent.log")
    world = living.make(home, tmp_path, [*AGENT, "--dialog", "--log", log])
    world.spawn("--task", "build the shed")
    until(lambda: "Do you want" in tmux.screen(home, "shop-1"))
    world.look()
    rounds.act(home)
    assert world.record("shop-1")["status"] == "needs_input" and logged(log, "key") == []
    with looping(home):
        assert "is confirmed" in world.ok("ao-send", "shop-1", "--answer", "y", "--wait").err
        until(lambda: {one["state"] for one in world.record("shop-1")["inbox"]} == {"confirmed"}, "the task")
    assert ["build the shed" in text for text in logged(log)] == [True]
    world.look()
    assert world.record("shop-1")["status"] == "working"


def test_a_message_for_an_exited_agent_waits_for_its_restore(world):
    """F4"""
    tmux.stop(world.home, "shop-1")
    world.look(2)
    world.ok("ao-send", "shop-1", "do more")
    rounds.act(world.home)
    message = world.record("shop-1")["inbox"][0]
    assert message["state"] == "queued" and "its agent does not run" in message["waiting_for"]
    world.ok("ao-restore", "shop-1")
    assert ("do more", "queued") in inbox(world)


def test_the_terminal_s_text_is_printed_and_followed(home, tmp_path):
    script = "for n in 1 2 3; do echo line $n; done; read x; echo its last words; exit 1"
    world = living.make(home, tmp_path, ["sh", "-c", script])
    world.spawn("--task", "x", "--no-prompt")
    until(lambda: "line 3" in tmux.screen(home, "shop-1"))
    assert world.ok("ao-logs", "shop-1", "-n", "2").out == "line 2\nline 3\n"
    tmux.press(home, "shop-1", "Enter")
    until(lambda: not tmux.look(home), "the end of the terminal")
    assert world.ok("ao-logs", "shop-1", "-n", "1").out == "its last words\n"
    os.unlink(launcher.screen_file(paths.launch(home, "shop", "shop-1")))
    assert "it is gone" in world.call("ao-logs", "shop-1").err
    assert "its agent does not run" in world.call("ao-attach", "shop-1").err


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        (["a", "b", "> "], ["a", "b", "> ", "c"], ["c"]),
        (["a", "b", ">"], ["a", "b", "> x", "c"], ["> x", "c"]),
        ([*"abcdefghijklmnop"], [*"defghijklmnopqr"], ["q", "r"]),
        (["a", "b"], ["a", "b"], []),
        (["a", "b"], ["x", "y"], ["x", "y"]),
        ([""], ["a"], ["a"]),
    ],
)
def test_following_prints_only_what_is_new(before, now, new):
    assert scripts.load("ao-logs")._new(before, now) == new


def test_many_senders_at_once_lose_nothing(world):
    """F44"""
    clock = loop.clock(world.home)
    from concurrent.futures import ThreadPoolExecutor

    queue = scripts.load("ao-send")._queue
    message = {"state": "queued", "answer": False, "attempts": 0, "from": "person", "at": clock.iso}

    def send(number):
        one = {**message, "id": f"m-{number}", "text": str(number)}
        sessions.update(world.home, world.record("shop-1"), lambda record: queue(record, one), clock)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(40)))
    assert sorted(int(text) for text, _ in inbox(world)) == list(range(40))
    assert json.dumps(world.record("shop-1"))


def test_send_says_what_keeps_the_message_from_its_agent(world):
    world.change("shop-1", activity="waiting_input", question="Delete it? (y/n)")
    assert "it asks a question first (Delete it? (y/n))" in world.ok("ao-send", "shop-1", "hello").err
    world.change("shop-1", activity="ready", question=None)
    assert "no question of it is known" in world.ok("ao-send", "shop-1", "--answer", "y").err
    tmux.stop(world.home, "shop-1")
    until(lambda: world.look() or world.record("shop-1")["runtime_state"] != "alive")
    assert "its agent does not run: ao-restore shop-1" in world.ok("ao-send", "shop-1", "hello").err
