"""Scripted agents in real terminals, for the tests that talk to one."""

from __future__ import annotations

import json
import os
import sys

from conftest import ROOT, until

from lib import launcher, paths
from lib.runtime import tmux

AGENT = os.path.join(ROOT, "tests", "demo", "agent.py")
ENVIRONMENT = {"PATH": f"{ROOT}/bin:{os.environ['PATH']}", "HOME": "/nonexistent", "LANG": "C.UTF-8"}


def launch(home: str, id: str, argv: list[str], folder: str | None = None, **environment: str) -> str:
    """Start `argv` under the launcher in a terminal called `id`, and return the path of its launch file."""
    path = paths.launch(home, "shop", id)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump({"argv": argv, "environment": ENVIRONMENT | environment, "folder": folder or home}, file)
    tmux.start(home, id, launcher.command(path), folder or home, {})
    return path


def agent(home: str, id: str, *options: str) -> str:
    """Start the scripted agent, wait until it takes messages, and return the path of its log."""
    log = os.path.join(home, f"{id}.log")
    argv = [sys.executable, AGENT, "--log", log, *options]
    launch(home, id, argv, AO_HOME=home, AO_PROJECT_ID="shop", AO_SESSION_ID=id)
    until(lambda: tmux.screen(home, id).split("\n")[-1] in (">", "Do you want to proceed? (y/n)"), "the prompt")
    return log


def logged(log: str, kind: str = "message") -> list[str]:
    """What the scripted agent received (or of another kind), word for word."""
    with open(log, encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    return [entry["text"] for entry in entries if entry["kind"] == kind]


def send(home: str, id: str, text: str) -> None:
    tmux.paste(home, id, text)
    tmux.press(home, id, "Enter")


def left(path: str) -> dict[str, object]:
    """The exit file of a launch file, once all of it is there: it is made before anything is in it."""
    name = launcher.exit_file(path)
    until(lambda: os.path.exists(name) and os.path.getsize(name), "the exit file")
    with open(name) as file:
        found: dict[str, object] = json.load(file)
    return found


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def runs(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has collected yet has."""
    return pid in tmux._processes([pid])
