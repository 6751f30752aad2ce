"""The loop, its table and the log of events, as people and cron run them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import scripts
from conftest import ROOT, until
from talking import change, clock, configure, logged_events, record, red, told
from terminals import agent, launch

from lib import cli, events, loop, observe, paths, render, rounds, sessions, store
from lib.runtime import tmux
from lib.scm import local
from lib.workspace import worktree

WATCH = os.path.join(ROOT, "bin", "ao-watch")
EVENTS = os.path.join(ROOT, "bin", "ao-events")


@pytest.fixture
def world(home, monkeypatch):
    monkeypatch.setattr(
        local, "look", lambda home, project, group, clock, fresh=False: {one["id"]: one["pr"] for one in group}
    )
    monkeypatch.setattr(worktree, "head", lambda path: None)
    monkeypatch.setitem(cli._notices, "to", "")
    configure(home)
    return home


def watch(home: str, *args: str) -> scripts.Called:
    return scripts.call("ao-watch", "--config", os.path.join(home, "ao.yaml"), *args)


# --- ao-watch --------------------------------------------------------------------------------------------------------


def test_a_quiet_loop_looks_acts_and_prints_nothing(world):
    record(world)
    agent(world, "shop-1", "--dialog")
    assert watch(world, "--for", "0s", "--quiet") == (0, "", "")
    assert len(told(world)) == 1
    assert loop.read(world)["tick"]["errors"] == loop.read(world)["react"]["errors"] == 0


def test_it_goes_on_for_as_long_as_it_is_told(world):
    rounds_before = loop.read(world).get("look")
    assert rounds_before is None
    assert watch(world, "--for", "0.5s", "--interval", "0.2", "--quiet").code == 0
    assert loop.read(world)["look"]


def test_one_loop_runs_at_a_time(world):
    with store.lock(paths.lock(world, "loop")):
        assert watch(world, "--quiet") == (0, "", "")
        ran = watch(world)
    assert (ran.code, ran.out) == (1, "") and "another loop is running; end it with: ao-stop" in ran.err


def test_what_is_done_is_told_to_who_asks(world, monkeypatch):
    monkeypatch.setenv("AO_LOG", "info")
    record(world)
    change(world, pr=red())
    monkeypatch.setattr(local, "failures", lambda *args: [local.Failure("test", "", "", "log")])
    monkeypatch.setattr(rounds, "look", lambda home: [])
    ran = watch(world, "--for", "0s")
    assert "ao-watch: info: shop-1: ci-failed: send-to-agent\n" in ran.err and "info" not in ran.out


def test_a_round_that_breaks_does_not_end_the_loop(world, monkeypatch):
    looks = []

    def look(home, only=None):
        looks.append(1)
        if len(looks) < 3:
            raise ZeroDivisionError("oops")
        loop.pause(world, clock(1e9), True)  # ends it
        return []

    monkeypatch.setattr(rounds, "look", look)
    ran = watch(world, "--interval", "0.1")
    assert ran.code == 0 and len(looks) == 3
    assert ran.err.count("Traceback") == 1 and "ZeroDivisionError: oops" in ran.err
    with open(os.path.join(world, "logs", "loop.log")) as file:
        assert file.read().count("Traceback") == 1


def test_a_problem_is_said_once_and_kept_for_who_looks_later(world, monkeypatch):
    problem = {"session_id": "shop-1", "project_id": "shop", "message": "cannot\nlook"}
    monkeypatch.setattr(observe, "run", lambda home, clock, *_: [problem])
    ran = watch(world, "--for", "0.3s", "--interval", "0.1")
    assert ran.err == "ao-watch: shop-1: cannot look\n"
    assert watch(world, "--for", "0s", "--quiet").err == ""
    with open(os.path.join(world, "logs", "loop.log")) as file:
        assert file.read().count("shop-1: cannot look") == 2


def test_pausing_the_fleet_ends_the_loop(world):
    threading.Timer(0.3, lambda: loop.pause(world, clock(1e9), True)).start()
    ran = watch(world, "--interval", "0.1")
    assert ran.code == 0 and "until: ao-stop --resume" in ran.err
    ran = watch(world, "--for", "0s")
    assert "the fleet is paused: nothing is sent" in ran.err


GOODBYE = "ao-watch: the loop has ended, agents go on; start it again with: ao-watch\n"


@pytest.mark.parametrize(("sign", "code", "says"), [(signal.SIGTERM, 143, ""), (signal.SIGINT, 130, GOODBYE)])
def test_a_signal_ends_it_at_once_and_leaves_nothing_held(home, sign, code, says):
    """F50"""
    configure(home)
    command = [sys.executable, WATCH, "--config", os.path.join(home, "ao.yaml"), "--interval", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: (loop.read(home).get("react") or {}).get("at"), "the first round")
        process.send_signal(sign)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", says)
    for name in ("loop", "tick", "react"):
        assert not store.is_held(paths.lock(home, name))


def test_the_table_stands_still_and_what_is_said_stays_above_it(home):
    """In a real terminal: one table, its lines replaced in place, notifications in the history."""
    configure(home)
    record(home, issue_title="the first issue", activity="waiting_input", question="which port?")
    agent(home, "shop-1", "--dialog")
    argv = [sys.executable, WATCH, "--config", os.path.join(home, "ao.yaml"), "--interval", "0.3"]
    launch(home, "watch", argv, AO_HOME=home)
    until(lambda: "[urgent] shop shop-1" in tmux.screen(home, "watch"), "the notification")
    looks = loop.read(home)["look"]["wall"]
    until(lambda: loop.read(home)["look"]["wall"] > looks + 1, "more rounds")
    record(home, "shop-2", issue_title="the second issue", runtime="elsewhere")
    until(lambda: "the second issue" in tmux.screen(home, "watch"), "the new line")
    lines = tmux.screen(home, "watch").rstrip().split("\n")
    heads = [place for place, line in enumerate(lines) if line.startswith("session ")]
    (place,) = [place for place, line in enumerate(lines) if line.startswith("[urgent]")]
    assert len(heads) == 1 and place < heads[0]
    assert sum(line.startswith("shop-1 ") for line in lines) == 1
    assert lines[-2].startswith("shop-2 ")
    assert lines[-1].startswith("looked at ") and lines[-1].endswith("; Ctrl-C ends the loop, agents go on")


def test_a_table_longer_than_the_terminal_says_what_is_missing(home):
    configure(home)
    for number in range(1, 61):
        record(home, f"shop-{number}", runtime="elsewhere")
    argv = [sys.executable, WATCH, "--config", os.path.join(home, "ao.yaml"), "--interval", "0.3"]
    launch(home, "watch", argv, AO_HOME=home)
    until(lambda: "more; see: ao-status" in tmux.screen(home, "watch"), "the cut table")
    looks = loop.read(home)["look"]["wall"]
    until(lambda: loop.read(home)["look"]["wall"] > looks + 1, "more rounds")
    history = tmux.screen(home, "watch", history=True)
    assert history.count("more; see: ao-status") == 1 and history.count("\nsession ") == 1


RESIZED = """
rows = [[f"shop-{n}", ("needs_input", "red"), f"feat/{n}-a-branch", "words " * (20 % n * 9 + 1)] for n in range(1, 4)]
names, spare, foot = ["session", "status", "branch", "about"], ["branch"], " columns " + "." * 200
"""
DRAWS = """
import os, sys, time
from lib import render
drawn, last, said = [], None, "said before\\n" * 12  # or what is wrapped would be out of sight at once
while True:
    if (size := os.get_terminal_size()) != last:
        last, text = size, render.table(rows, names, size.columns, True, spare)
        drawn, said = render.redraw(sys.stdout, text, drawn, said, f"{size.columns}{foot}"), ""
    time.sleep(0.01)
"""


def test_the_table_is_whole_again_and_there_once_after_each_resize(home):
    """The terminal wraps what was drawn when it was wider, and joins it again."""
    shown: dict[str, object] = {}
    exec(RESIZED, shown)
    launch(home, "watch", [sys.executable, "-c", RESIZED + DRAWS], PYTHONPATH=ROOT)
    for columns in (120, 60, 40, 80, 40, 150, 119, 20):
        tmux._tmux(home, "resize-window", "-t", "=watch:", "-x", str(columns), "-y", "30")
        text = render.table(shown["rows"], shown["names"], columns, False, shown["spare"])
        expected = text + render.fit(f"{columns}{shown['foot']}", columns) + "\n"
        until(lambda expected=expected: tmux.screen(home, "watch").endswith(expected), expected)
        assert tmux.screen(home, "watch").count("session") == 1, tmux.screen(home, "watch")


def test_what_is_said_is_whole_also_where_the_terminal_wraps_it(home):
    """Its second line stands where the table was."""
    long = "a problem " + "x" * 60
    code = (
        "import sys, time\nfrom lib import render\ntable = 'session ' + 'y' * 30 + '\\n'\n"
        f"drawn = render.redraw(sys.stdout, table * 3)\nrender.redraw(sys.stdout, table, drawn, {long!r} + '\\n')\n"
        "time.sleep(600)"
    )
    argv = ["sh", "-c", 'while [ "$(stty size)" != "20 50" ]; do sleep 0.1; done; exec "$0" -c "$1"']
    launch(home, "watch", [*argv, sys.executable, code], PYTHONPATH=ROOT)
    tmux._tmux(home, "resize-window", "-t", "=watch:", "-x", "50", "-y", "20")
    until(lambda: tmux.screen(home, "watch").count("session") == 1, "the second drawing")
    assert tmux.screen(home, "watch").split("\n")[1:4] == [long[:50], long[50:], "session " + "y" * 30]


def test_without_a_session_it_says_what_to_do_and_that_it_is_paused(home):
    configure(home)
    loop.pause(home, clock(), True)
    launch(home, "watch", [sys.executable, WATCH, "--config", os.path.join(home, "ao.yaml")], AO_HOME=home)
    until(lambda: "; Ctrl-C" in tmux.screen(home, "watch"), "the table")
    assert "no session is alive; start one with: ao-spawn ISSUE\n" in tmux.screen(home, "watch")
    assert ", paused: nothing is done; Ctrl-C ends the loop, agents go on" in tmux.screen(home, "watch")


def test_a_loop_whose_folder_is_removed_ends_and_makes_no_new_one(home):
    configure(home)
    command = [sys.executable, WATCH, "--config", os.path.join(home, "ao.yaml"), "--interval", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: (loop.read(home).get("react") or {}).get("at"), "the first round")
        os.rename(home, home + "-gone")
        process.communicate(timeout=60)
    shutil.rmtree(home + "-gone")
    assert process.returncode == 0


# --- ao-tick, ao-react -----------------------------------------------------------------------------------------------


def test_a_second_tick_leaves_quietly(world):
    with store.lock(paths.lock(world, "tick")):
        assert scripts.call("ao-tick") == (0, "", "")
        assert scripts.call("ao-tick", "--json") == (0, "[]\n", "")


def test_a_tick_says_what_it_could_not_look_at(world, monkeypatch):
    problem = {"session_id": None, "project_id": "shop", "message": "cannot\nlook"}
    monkeypatch.setattr(observe, "run", lambda home, clock, *_: [problem])
    assert scripts.call("ao-tick") == (0, "", "ao-tick: shop: cannot look\n")
    assert json.loads(scripts.call("ao-tick", "--json").out) == [problem]


def test_react_says_what_it_does_and_would_do(world, monkeypatch):
    monkeypatch.setattr(local, "failures", lambda *args: [local.Failure("test", "", "", "log")])
    record(world)
    change(world, pr=red())
    assert json.loads(scripts.call("ao-react", "--dry-run", "--json").out)[0]["action"] == "send-to-agent"
    assert sessions.find(world, "shop-1")["inbox"] == []
    assert scripts.call("ao-react").err == "shop-1: ci-failed: send-to-agent\n"
    assert "is under way" in scripts.call("ao-react", "--dry-run").err
    assert json.loads(scripts.call("ao-react", "--json").out) == []


def test_what_people_are_told_is_on_stdout_and_with_json_beside_it(world):
    record(world, activity="waiting_input", question="which port?")
    change(world)
    ran = scripts.call("ao-react")
    assert "which port?" in ran.out
    record(world, "shop-2", activity="waiting_input", question="which host?")
    change(world, "shop-2")
    ran = scripts.call("ao-react", "--json")
    assert "which host?" in ran.err and json.loads(ran.out)[0]["session_id"] == "shop-2"


# --- ao-events -------------------------------------------------------------------------------------------------------


def test_events_are_read_by_session_age_and_as_json(home):
    configure(home)
    record(home)
    record(home, "shop-2")
    change(home, pr=red())
    assert "spawned" in scripts.call("ao-events", "shop-1").out
    assert "shop-2" not in scripts.call("ao-events", "shop-1").out
    found = json.loads(scripts.call("ao-events", "shop-1", "--json").out)
    assert found[0]["type"] == "spawned"
    assert scripts.call("ao-events", "--since", "1h", "--json") == (0, "[]\n", "")  # these are of long ago
    assert scripts.call("ao-events", "--since", "soon").code == 2
    assert scripts.call("ao-events", "nobody").code == 1


def test_following_prints_json_lines_as_they_happen_until_nobody_reads(home):
    configure(home)
    record(home)
    command = [sys.executable, EVENTS, "shop-1", "-f", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["type"] == "spawned"
        change(home, activity="active")
        assert json.loads(process.stdout.readline())["type"] == "activity_changed"
        process.stdout.close()
        change(home, activity="ready")
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_a_reader_that_has_seen_enough_is_no_error(home):
    configure(home)
    events.append(home, clock(), [{"type": "tick_error", "project_id": "shop", "message": "x" * 300}] * 300)
    shell = f"'{sys.executable}' '{EVENTS}' --since 9999d | head -1"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    assert len(logged_events(home)) == 300
