"""Whatever is wrong with what comes in (arguments, files, disk, programs, repositories) ends in one clear line and exit
code 1 or 2, with nothing lost and nothing half done."""

from __future__ import annotations

import os
from unittest import mock

import living
import pytest
import records
import scripts

from lib import paths, store

ao = scripts.load("ao")
NASTY = ["", "../x", "-rf", "--", "x" * 300, "日本\udcff", "a\nb\x1b[31m\x9b$(touch hit)`touch hit`", "9" * 5000, "1e999"]
SHORT = {"ao-logs": ["-n", "-f"], "ao-events": ["-f"], "ao-review": ["-m"], "ao-issue": ["-b"]}
BEFORE = {"ao-review": [["--approve"], ["--comment", "-m", "x"], ["--resolve", "x"], ["--check"]], "ao-pr": [[]]}
QUIET = ("ao-hook",)  # in an agent's hook every word and every exit code would be too much


def check(name: str, done: scripts.Called) -> None:
    """Nothing but an answer, or lines that say who speaks and hold nothing that a terminal would obey."""
    assert done.code in (0, 1, 2), done
    assert "Traceback" not in done.out + done.err
    said = done.err.splitlines()
    assert said or done.code == 0 or done.out, done
    if done.code:
        assert all(line.startswith(f"{name}: ") for line in said), done
        assert all(char.isprintable() for line in said for char in line), done


@pytest.fixture
def world(home, tmp_path):
    """A project with a session of which nothing runs."""
    found = living.make(home, tmp_path, max_sessions=0)
    record = records.session(id="shop-1", project_id="shop", config_path=os.path.join(found.folder, "ao.yaml"))
    record.update(agent="command", runtime="tmux", runtime_handle="shop-1", workspace="worktree", branch="main")
    store.write(paths.session(home, "shop", "shop-1"), {**record, "workspace_path": found.repo, "rev": 1})
    return found


# --- arguments -----------------------------------------------------------------------------------------------------


def command_lines(name: str) -> list[list[str]]:
    """Every subcommand with every nasty word, and every option with some of them in turn."""
    words = ao.words(name[3:]) if name != "ao" else ["help", "completion"]
    options = [word for word in words if word.startswith("-") and word not in ("--help", "--fix")]
    before = BEFORE.get(name, []) + [[word] for word in words if not word.startswith("-")]
    places = [[], ["--"], ["1"], ["shop-1"]]
    found = [[*first, *place, word] for first in before or [[]] for place in places for word in NASTY]
    for first in before or [[]]:
        for place, option in enumerate(options + SHORT.get(name, [])):
            word, other = NASTY[place % len(NASTY)], NASTY[-1 - place % len(NASTY)]
            found += [[*first, option, word], [*first, "shop-1", option, other], [*first, f"{option}={word}"]]
    return found + [[*(before or [[]])[0], f"{option}=--"] for option in options]


def leave(*args: object) -> None:
    raise SystemExit(0)  # instead of becoming another program, or waiting


@pytest.mark.parametrize("name", [name for name in scripts.NAMES if name not in QUIET])
def test_no_argument_makes_a_script_fall_over(world, name):
    for args in command_lines(name):
        with mock.patch("os.execv", leave), mock.patch("os.execvp", leave), mock.patch("time.sleep", leave):
            try:
                done = world.call(name, *args, cwd=world.repo)
            except Exception as error:
                raise AssertionError(f"{name} {[arg[:40] for arg in args]}") from error
        check(name, done)
    assert not os.path.exists(os.path.join(world.repo, "hit"))
    assert sorted(os.listdir(world.folder)) == ["ao.yaml", "repo"]
