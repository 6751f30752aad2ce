"""An agent whose budget is used up is interrupted, once it goes on it is told so, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal

import living
import pytest
import scripts
from conftest import until

from lib import facts, paths
from lib.runtime import tmux

# Shows the screens of Claude Code and writes its transcript; each answer costs 4 USD, Escape ends the turn.
CLAUDE = """\
#!/usr/bin/env python3
import json, os, re, sys, termios, time, tty

folder = os.path.join(os.environ["CLAUDE_CONFIG_DIR"], "projects", re.sub("[^a-zA-Z0-9]", "-", os.getcwd()))
os.makedirs(folder, exist_ok=True)
path = os.path.join(folder, sys.argv[sys.argv.index("--session-id") + 1] + ".jsonl")
RULE = "─" * 60


def write(type, **message):
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".%03dZ" % (time.time() % 1 * 1000)
    with open(path, "a") as file:
        file.write(json.dumps({"type": type, "timestamp": at, "message": message}) + "\\n")


def show(footer):
    print(f"\\x1b[2J\\x1b[H{RULE}\\r\\n❯\\r\\n{RULE}\\r\\n  {footer}", flush=True)


def work(text):
    write("user", content=text)
    usage = {"input_tokens": 2_000_000, "output_tokens": 0}
    write("assistant", id=f"m{time.time()}", model="claude-sonnet-5", usage=usage, stop_reason="tool_use", content=[])
    show("esc to interrupt")


tty.setraw(0)
work(sys.argv[-1])
pasted = ""
while True:
    key = os.read(0, 4096).decode()
    if key == "\\x1b":
        write("user", content=[{"type": "text", "text": "[Request interrupted by user]"}])
        show("bypass permissions on")
    elif key == "\\r":
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
    monkeypatch.setattr("lib.react.INTERRUPT_AGAIN", 0.0)

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
