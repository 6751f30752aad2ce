"""ao-hook: what an agent reports, at no cost and without a word."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

HOOK = os.path.join(ROOT, "bin", "ao-hook")


@pytest.fixture
def hook(tmp_path):
    """Run ao-hook in an otherwise empty environment; returns the lines it has left."""

    def call(*words, **environment):
        known = {"AO_HOME": str(tmp_path), "AO_PROJECT_ID": "shop", "AO_SESSION_ID": "app-1"} | environment
        known = {key: value for key, value in known.items() if value is not None}
        done = subprocess.run([sys.executable, HOOK, *words], env=known, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        path = tmp_path / "reports" / "shop" / "app-1"
        return [line.split("\t") for line in path.read_text().split("\n")[:-1]] if path.exists() else []

    return call


def test_a_hook_is_silent_also_for_who_wants_to_hear_everything(hook):
    assert hook("done", AO_LOG="debug")[0][1:] == ["done", "", ""]


@pytest.mark.parametrize(
    ("words", "report"),
    [
        (["received", "m-k3f9x2ab"], ["received", "m-k3f9x2ab", ""]),
        (["report", "active"], ["report", "active", ""]),
        (["report", "ready"], ["report", "ready", ""]),
        (["report", "idle", "-m", "x"], ["report", "idle", "x"]),
        (["report", "waiting_input", "-m", "which port?"], ["report", "waiting_input", "which port?"]),
        (["report", "blocked", "--message", "no\tnet\nat\r\nall\x85end"], ["report", "blocked", "no net at all end"]),
        (["done"], ["done", "", ""]),
        (["done", "-m", "unquoted", "words"], ["done", "", "unquoted words"]),
        (["done", "-m", "日本 🙂"], ["done", "", "日本 🙂"]),
        (["done", "-m", "x" * 5000], ["done", "", "x" * 2000]),
    ],
)
def test_a_report_is_one_line_with_its_time(hook, words, report):
    began = time.time()
    ((at, *fields),) = hook(*words)
    assert fields == report
    assert began - 0.01 <= float(at) <= time.time() + 0.01


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["received"],
        ["received", "../x"],
        ["received", "a b"],
        ["received", "m-1\tx"],
        ["report"],
        ["report", "happy"],
        ["report", "ready", "-x"],
        ["done", "x"],
        ["unknown", "x"],
        ["--nonsense"],
    ],
)
def test_wrong_use_reports_nothing_and_says_nothing(hook, words):
    assert hook(*words) == []


@pytest.mark.parametrize(
    "environment",
    [
        {"AO_HOME": None},
        {"AO_PROJECT_ID": None},
        {"AO_SESSION_ID": None},
        {"AO_SESSION_ID": "../../x"},
        {"AO_PROJECT_ID": ".."},
        {"AO_HOME": "/proc/nothing/here"},
        {"AO_HOME": HOOK},
    ],
)
def test_outside_of_a_session_it_does_nothing(hook, tmp_path, environment):
    assert hook("report", "ready", **environment) == []
    assert os.listdir(tmp_path) == []


def test_reports_are_added_in_order_and_only_for_their_owner(hook, tmp_path):
    hook("report", "active")
    assert [line[2] for line in hook("report", "ready")] == ["active", "ready"]
    assert os.stat(tmp_path / "reports" / "shop").st_mode & 0o077 == 0
    assert os.stat(tmp_path / "reports" / "shop" / "app-1").st_mode & 0o077 == 0


def test_bytes_that_are_no_text_do_no_harm(hook):
    assert hook("done", "-m", b"a\xffb".decode("utf-8", "surrogateescape"))[0][3] == "a?b"


def test_its_help_is_its_docstring():
    done = subprocess.run([sys.executable, HOOK, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("Report from inside an agent")


def test_it_imports_nothing_that_a_bare_interpreter_has_not():
    def modules(*words):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *words], env={}, capture_output=True, text=True, check=False
        )
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}

    assert modules(HOOK, "report", "ready") <= modules("-c", "pass")
