"""The launcher: the agent's own environment, its exit code, and never a shell behind it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, until
from terminals import ENVIRONMENT, children, launch, left, runs, send

from lib import clock, launcher
from lib.runtime import Gone, tmux

DUMP = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w')); os.rename(sys.argv[1], sys.argv[2])"


def of_agent(home: str, id: str = "app-1") -> int:
    pane = tmux.look(home)[id].pid
    return until(lambda: children(pane), "the agent")[0]


def test_the_agent_has_the_environment_of_its_file_whoever_started_the_server(home, monkeypatch):
    """F8"""
    monkeypatch.setenv("PATH", f"/of/the/server:{os.environ['PATH']}")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    launch(home, "app-2", ["cat"])
    monkeypatch.setenv("PATH", f"/of/the/client:{os.environ['PATH']}")
    monkeypatch.setenv("SECRET", "of the client")
    out = os.path.join(home, "environment")
    launch(home, "app-1", [sys.executable, "-c", DUMP, out + "~", out], TERM="dumb", WORDS="two words; ünï\n$X")
    until(lambda: os.path.exists(out), "the environment")
    found = json.loads(pathlib.Path(out).read_text())
    terminal = {key: found.pop(key, "") for key in launcher.FROM_TERMINAL}
    found.pop("LC_CTYPE", None)  # Python's own
    assert found == ENVIRONMENT | {"WORDS": "two words; ünï\n$X"}
    assert terminal["TERM"] == "screen-256color"
    assert terminal["TMUX"].startswith(tmux.socket(home) + ",")


def test_the_agent_is_found_on_the_path_of_its_file(home, tmp_path):
    program = tmp_path / "my-agent"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    assert left(launch(home, "app-1", ["my-agent"], PATH=f"{tmp_path}:/usr/bin:/bin"))["code"] == 7


def test_the_agent_runs_in_its_folder(home, tmp_path):
    path = launch(home, "app-1", ["sh", "-c", "pwd > here"], str(tmp_path))
    assert left(path)["code"] == 0
    assert (tmp_path / "here").read_text().strip() == os.path.realpath(tmp_path)


def test_the_exit_file_tells_code_time_and_launcher(home):
    path = launch(home, "app-1", ["sh", "-c", "read x; exit 3"])
    pid = tmux.look(home)["app-1"].pid
    tmux.press(home, "app-1", "Enter")
    found = left(path)
    assert (found["code"], found["pid"]) == (3, pid)
    assert clock.parse(found["at"])
    assert sorted(os.listdir(os.path.dirname(path))) == ["app-1.exit", "app-1.json", "app-1.screen"]


def test_an_agent_that_is_killed_leaves_its_signal(home):
    path = launch(home, "app-1", ["cat"])
    os.kill(of_agent(home), signal.SIGKILL)
    assert left(path)["code"] == 128 + signal.SIGKILL
    until(lambda: tmux.look(home) == {}, "the end of the terminal")


def test_the_exit_file_of_an_earlier_life_goes_when_the_next_begins(home):
    path = launch(home, "app-1", ["sh", "-c", "exit 3"])
    left(path)
    until(lambda: tmux.look(home) == {}, "the end of the terminal")
    launch(home, "app-1", ["cat"])
    of_agent(home)
    assert not os.path.exists(launcher.exit_file(path))


def test_a_killed_launcher_leaves_no_terminal_and_no_shell(home):
    """F4"""
    launch(home, "app-1", ["cat"])
    agent = of_agent(home)
    os.kill(tmux.look(home)["app-1"].pid, signal.SIGKILL)
    until(lambda: tmux.look(home) == {}, "the end of the terminal")
    until(lambda: not runs(agent), "the end of the agent")


def test_what_an_agent_leaves_running_does_not_keep_its_terminal(home):
    """F16"""
    path = launch(home, "app-1", ["sh", "-c", "trap '' HUP; sleep 60 & exit 0"])
    assert left(path)["code"] == 0
    until(lambda: tmux.look(home) == {}, "the end of the terminal")


@pytest.mark.parametrize(
    ("argv", "folder", "why"),
    [
        (["no-such-agent"], "/", "No such file or directory: 'no-such-agent'"),
        (["/"], "/", "Permission denied: '/'"),
        (["cat"], "/no/such/folder", "No such file or directory: '/no/such/folder'"),
        ([], "/", "index out of range"),
    ],
)
def test_an_agent_that_cannot_be_started_is_one_clear_line_and_127(tmp_path, argv, folder, why):
    path = tmp_path / "app-1.json"
    path.write_text(json.dumps({"argv": argv, "environment": {"PATH": "/usr/bin:/bin"}, "folder": folder}))
    done = subprocess.run(launcher.command(str(path)), capture_output=True, text=True, check=False)
    said = done.stdout.splitlines()[-1]
    assert done.returncode == 127
    assert done.stderr == ""
    assert said.startswith(f"ao: cannot start the agent of '{path}': ")
    assert why in said
    assert json.loads((tmp_path / "app-1.exit").read_text())["error"] == said


def test_keys_are_for_the_agent(home):
    """Ctrl-C and Ctrl-\\ reach the agent, which does what it wants with them; the launcher stays."""
    code = (
        "import signal, time; signal.signal(2, lambda *_: print('caught', flush=True)); print('started', flush=True)\n"
    )
    path = launch(home, "app-1", [sys.executable, "-c", code + "while True: time.sleep(1)"])
    until(lambda: "started" in tmux.screen(home, "app-1"), "the agent")
    tmux.press(home, "app-1", "C-c")
    until(lambda: "caught" in tmux.screen(home, "app-1"), "Ctrl-C in the agent")
    tmux.press(home, "app-1", "C-\\")
    assert left(path)["code"] == 128 + signal.SIGQUIT


def test_the_agent_starts_with_no_signal_ignored(home):
    out = os.path.join(home, "signals")
    path = launch(home, "app-1", ["sh", "-c", f"grep SigIgn /proc/self/status > {out}"])
    left(path)
    ignored = int(pathlib.Path(out).read_text().split()[1], 16)
    assert [sign for sign in signal.valid_signals() if ignored >> (sign - 1) & 1] == []


def test_a_launcher_that_is_asked_to_end_asks_the_agent_and_leaves_no_exit_code(home, tmp_path):
    """As in a shutdown: the agent has not ended by itself, and is one to bring back."""
    asked = tmp_path / "asked"
    script = f"trap 'touch {asked}; exit 9' TERM; echo set; while :; do sleep 0.05; done"
    path = launch(home, "app-1", ["sh", "-c", script])
    until(lambda: "\nset" in tmux.screen(home, "app-1"), "the agent")
    os.kill(tmux.look(home)["app-1"].pid, signal.SIGTERM)
    until(lambda: tmux.look(home) == {}, "the end of the terminal")
    assert asked.exists() and not os.path.exists(launcher.exit_file(path))


def test_no_agent_goes_on_without_its_terminal(home, tmp_path):
    """Also one that ignores the hang-up: a restored session must not have two agents."""
    ready = tmp_path / "ready"
    code = f"import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (1, 15)]; open({str(ready)!r}, 'w')\n"
    path = launch(home, "app-1", [sys.executable, "-c", code + "time.sleep(600)"])
    until(ready.exists, "the agent")
    agent = of_agent(home)
    os.kill(int(tmux._tmux(home, "display-message", "-p", "#{pid}")), signal.SIGKILL)
    until(lambda: not runs(agent), "the end of the agent")
    assert not os.path.exists(launcher.exit_file(path))


def test_the_launcher_starts_about_as_fast_as_python():
    imported = subprocess.run(
        [
            *launcher.command("/nonexistent.json")[:2],
            "-X",
            "importtime",
            f"{ROOT}/lib/launcher.py",
            "/nonexistent/x.json",
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert "json" in imported
    for slow in ("subprocess", "typing", "argparse", "yaml", "lib"):
        assert f" {slow}\n" not in imported


def test_no_module_of_a_project_gets_in_the_launcher_s_way(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('mine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = subprocess.run(launcher.command("/nonexistent/x.json"), capture_output=True, text=True, check=False)
    assert "mine" not in done.stderr


def test_behind_an_agent_that_has_ended_nothing_takes_a_message_for_commands(home):
    """F4"""
    left(launch(home, "app-1", ["sh", "-c", "exit 3"]))
    until(lambda: tmux.look(home) == {}, "the end of the terminal")
    with pytest.raises(Gone):
        send(home, "app-1", f"touch {home}/ran")
    assert not os.path.exists(os.path.join(home, "ran"))
