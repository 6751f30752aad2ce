"""What keeps ao quick: what a start does not import, and what a look at an idle fleet does not do.

No test here measures time: `make bench` does.
"""

from __future__ import annotations

import os
import subprocess
import sys

import fleets
import pytest

from lib import ROOT, overview, paths, rounds, store

SLOW = {"argparse", "json", "re", "pathlib", "datetime", "typing", "subprocess", "tempfile"}
SLOW |= {"yaml", "requests", "jinja2"}
START = """
import os, sys
os.execv = None  # starting again would double the time
del sys.argv[0]
path = sys.argv[0]
try:
    exec(compile(open(path).read(), path, "exec"), {"__name__": "__main__", "__file__": path})
except SystemExit as end:
    assert not end.code, end.code
print(*sys.modules, file=sys.stderr)
"""


def imported(script: str, *argv: str, **env: str) -> tuple[str, set[str]]:
    """What a script prints, and every module that its process has imported by its end."""
    path = os.path.join(ROOT, "bin", script)
    done = subprocess.run(
        [sys.executable, "-S", "-c", START, path, *argv],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout, set(done.stderr.split())


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """Eight sessions in which nothing changes any more."""
    found = fleets.make(str(tmp_path), 8)
    monkeypatch.setenv("PATH", found.path)
    monkeypatch.setenv("AO_HOME", found.home)
    for _ in range(2):
        assert rounds.look(found.home) == []
    found.tmux_calls()
    return found


def test_status_starts_without_what_is_slow_to_import(fleet):
    for options in ([], ["--json"], ["--all", "--pr"]):
        printed, modules = imported("ao-status", *options, AO_HOME=fleet.home)
        assert "shop-8" in printed and not modules & SLOW


def test_a_hook_starts_without_what_is_slow_to_import(fleet):
    names = {"AO_HOME": fleet.home, "AO_PROJECT_ID": "shop", "AO_SESSION_ID": "shop-1"}
    _, modules = imported("ao-hook", "report", "ready", **names)
    assert os.path.exists(paths.report(fleet.home, "shop", "shop-1"))
    assert not modules & SLOW and "lib" not in modules


def records(fleet: fleets.Fleet) -> dict[str, int]:
    return {path: os.stat(path).st_mtime_ns for path in overview.files(fleet.home)}


def test_an_idle_look_asks_tmux_once_and_writes_no_record(fleet):
    before = records(fleet)
    assert len(before) == 8
    for _ in range(2):
        assert rounds.look(fleet.home) == []
        assert len(fleet.tmux_calls()) == 1
    assert records(fleet) == before


def test_an_idle_look_reads_no_record_and_no_pull_request(fleet, monkeypatch):
    """Its cost grows with what changed, not with what exists."""
    read = parsed(monkeypatch)
    rounds.look(fleet.home)
    assert not [path for path in read if "/sessions/" in path or "/forge/" in path]


def test_only_what_changed_is_parsed(fleet, monkeypatch):
    path = paths.session(fleet.home, "shop", "shop-3")
    store.write(path, (store.read(path) or {}) | {"issue_title": "Something else"})
    read = parsed(monkeypatch)
    assert len(overview.entries(fleet.home)[0]) == 8
    assert read == [path]
    overview.entries(fleet.home)
    assert read == [path]


def test_what_one_agent_reports_costs_nothing_for_the_others(fleet, monkeypatch):
    before, report = records(fleet), paths.report(fleet.home, "shop", "shop-5")
    os.makedirs(os.path.dirname(report))
    with open(report, "w") as file:
        file.write("1800000000.000\treport\tready\t\n")
    rounds.look(fleet.home)
    assert [path for path, at in records(fleet).items() if before[path] != at] == [
        paths.session(fleet.home, "shop", "shop-5")
    ]


def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The YAML files that are read from now on."""
    found: list[str] = []
    real = store.loads

    def loads(text: str, path: str = "text", whole: bool = True) -> dict[str, object]:
        found.append(path)
        return real(text, path, whole)

    monkeypatch.setattr(store, "loads", loads)
    return found
