"""An agent with transcripts, in a terminal: parked by its budget, kept by a notice, killed with a queue."""

from __future__ import annotations

import os
import signal

import living
import pytest
import scripts
from conftest import until

from lib import facts, paths
from lib.runtime import tmux

# Shows the screens of Claude Code and writes its transcript; each answer costs 4 USD, Escape ends the turn or closes
# the notice that NOTICE asks for, and what is typed at work is queued.
CLAUDE = """\
#!/usr/bin/env python3
import json, os, re, sys, termios, time, tty

folder = os.path.join(os.environ["CLAUDE_CONFIG_DIR"], "projects", re.sub("[^a-zA-Z0-9]", "-", os.getcwd()))
os.makedirs(folder, exist_ok=True)
option = "--resume" if "--resume" in sys.argv else "--session-id"
path = os.path.join(folder, sys.argv[sys.argv.index(option) + 1] + ".jsonl")
RULE, NOTICE = "─" * 60, "What do you want to do?\\r\\n❯ 1. Stop and wait for limit to reset"


def write(type, more=(), **message):
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".%03dZ" % (time.time() % 1 * 1000)
    with open(path, "a") as file:
        file.write(json.dumps({"type": type, "timestamp": at, "message": message, **dict(more)}) + "\\n")


def show(footer):
    print(f"\\x1b[2J\\x1b[H{RULE}\\r\\n❯\\r\\n{RULE}\\r\\n  {footer}", flush=True)


def work(text):
    write("user", content=text)
    usage = {"input_tokens": 2_000_000, "output_tokens": 0}
    write("assistant", id=f"m{time.time()}", model="claude-sonnet-5", usage=usage, stop_reason="tool_use", content=[])
    show("esc to interrupt")
    if "NOTICE" in text:
        print(f"\\x1b[2J\\x1b[H{RULE}\\r\\n{NOTICE}\\r\\n", flush=True)


tty.setraw(0)
is_at_work = "--" in sys.argv
work(sys.argv[-1]) if is_at_work else show("bypass permissions on")
pasted = ""
while True:
    key = os.read(0, 4096).decode()
    if key == "\\x1b":
        is_at_work = False
        write("user", content=[{"type": "text", "text": "[Request interrupted by user]"}])
        show("bypass permissions on")
    elif key == "\\r" and is_at_work:
        write("queue-operation", {"operation": "enqueue", "content": pasted})
    elif key == "\\r":
        is_at_work = True
        work(pasted)
    else:
        pasted = key
"""


@pytest.fixture
def world(home, tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "claude").write_text(CLAUDE)
    (programs / "claude").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    return living.make(home, tmp_path / "shop", agent="claude-code", budget={"session_usd": 3.0})


def interruptions(world, id):
    folder = os.path.join(os.environ["CLAUDE_CONFIG_DIR"], "projects")
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(root, name)) as file:
                found += [line for line in file if "interrupted" in line]
    return len(found)


def parked(world):
    """A session that has just been parked while its agent works."""
    id = world.spawn()["id"]

    def is_parked():
        world.look()
        return (world.record(id)["hold"] or {}).get("reason") == "budget"

    until(is_parked, "the hold")
    assert world.record(id)["activity"] == "active" and interruptions(world, id) == 0
    return id


def react(fault=""):
    return scripts.run("ao-react", **({"AO_FAULT": fault} if fault else {})).returncode


@pytest.mark.parametrize("point", ["before", "inside", "after"])
def test_an_agent_is_interrupted_although_the_one_who_does_it_is_killed(world, point, monkeypatch):
    """F23"""
    id = parked(world)
    assert react(f"hold.interrupt:{point}") == -signal.SIGKILL
    monkeypatch.setattr("lib.chores.INTERRUPT_AGAIN", 0.0)

    def rests():
        world.look()
        scripts.call("ao-react")
        return world.record(id)["activity"] in ("ready", "idle")

    until(rests, "the end of the turn")
    assert 1 <= interruptions(world, id) <= 2
    assert world.record(id)["status"] == "needs_input"


def test_what_a_person_allows_more_lets_it_go_on_once(world):
    id = parked(world)
    assert react() == 0
    until(lambda: interruptions(world, id) == 1, "the interruption")
    world.look()
    assert world.record(id)["activity"] == "ready"
    world.ok("ao-cost", id, "--raise", "1.5")

    def goes_on():
        world.look()
        scripts.call("ao-react")
        return world.record(id)["activity"] == "active"

    until(goes_on, "it to go on")
    record = world.record(id)
    assert [one["text"] for one in record["inbox"]] == [facts.GO_ON["budget"]]
    assert os.path.isdir(record["workspace_path"]) and id in tmux.look(world.home)
    assert os.path.exists(paths.launch(world.home, "shop", id))


def turns(world, condition, what):
    """Look and act until something holds."""

    def holds():
        world.look()
        scripts.call("ao-react")
        return condition()

    until(holds, what)


def transcript(world):
    folder = os.path.join(os.environ["CLAUDE_CONFIG_DIR"], "projects")
    [path] = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
    with open(path) as file:
        return file.read()


def test_a_notice_that_asks_nothing_is_closed_for_a_message(world):
    """F3: and nothing is typed into it."""
    living.configure(world, agent="claude-code")
    id = world.spawn("--task", "show the NOTICE")["id"]
    turns(world, lambda: world.record(id)["activity"] == "blocked", "the notice")
    assert "limit" in world.record(id)["trouble"] and interruptions(world, id) == 0
    world.ok("ao-send", id, "go on, please")
    turns(world, lambda: world.record(id)["inbox"][0]["state"] == "confirmed", "the message")
    assert transcript(world).count("go on, please") == 1


def test_what_went_with_an_agents_own_queue_is_sent_again_when_it_is_restored(world):
    """F1, F40"""
    living.configure(world, agent="claude-code")
    id = world.spawn()["id"]
    turns(world, lambda: world.record(id)["activity"] == "active", "it to be at work")
    world.ok("ao-send", id, "into the queue")
    turns(world, lambda: world.record(id)["inbox"][0]["state"] == "confirmed", "the message in its queue")
    pane = tmux.look(world.home)[id].pid
    with open(f"/proc/{pane}/task/{pane}/children") as file:
        os.kill(int(file.read().split()[0]), signal.SIGKILL)
    turns(world, lambda: world.record(id)["runtime_state"] == "exited", "its end")
    world.ok("ao-restore", id)
    assert [one["state"] for one in world.record(id)["inbox"]] == ["queued"]
    turns(world, lambda: world.record(id)["inbox"][0]["state"] == "confirmed", "the message again")
    assert [line.count("into the queue") for line in transcript(world).splitlines() if '"user"' in line] == [0, 1]


def test_an_agent_that_was_cut_off_in_its_turn_is_told_to_go_on(world):
    """F40"""
    living.configure(world, agent="claude-code")
    id = world.spawn()["id"]
    turns(world, lambda: world.record(id)["activity"] == "active", "it to be at work")
    tmux.kill_server(world.home)
    turns(world, lambda: world.record(id)["runtime_state"] in ("gone", "exited"), "its end")
    world.ok("ao-restore", id)
    assert [one["text"] for one in world.record(id)["inbox"]] == [facts.GO_ON["restore"]]
