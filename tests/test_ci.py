"""The checks of the embedded forge, run for real."""

from __future__ import annotations

import glob
import os
import signal
import subprocess
import sys

import pytest
from conftest import until
from forging import commit, git, look, make, pull, spawn

from lib import ROOT, store
from lib.errors import AoError, Busy
from lib.scm import _checks, local

NOW = "2026-01-02T03:04:05.678Z"


def _ci(*runs, **more):
    return [{"name": f"check {place}", "run": run, **more} for place, run in enumerate(runs)]


def _started(tmp_path, *runs, **more):
    world = make(tmp_path, ci=_ci(*runs, **more))
    session = spawn(world)
    pull(world, session)
    return world, session


def _run(world, session, again=False):
    return [run["status"] for run in local.run_checks(world.home, world.project, session, again)]


def _leftovers(world):
    scratch = os.path.join(world.home, "forge", "shop", "scratch")
    return os.listdir(scratch), len(git(world.repo, "worktree", "list").splitlines())


def test_checks_are_pending_until_they_were_run(tmp_path):
    world, session = _started(tmp_path, "true", "exit 3")
    seen = look(world, session)
    assert (seen["ci_status"], [check["status"] for check in seen["ci_checks"]]) == ("pending", ["pending"] * 2)
    assert local.ci_wanted(seen, world.project)
    assert _run(world, session) == ["passed", "failed"]
    seen = look(world, session)
    assert (seen["ci_status"], seen["failing_checks"], seen["failing_check_names"]) == ("failing", 1, ["check 1"])
    assert [check["conclusion"] for check in seen["ci_checks"]] == ["SUCCESS", "FAILURE"]
    assert not local.ci_wanted(seen, world.project)
    assert _leftovers(world) == ([], 2)


def test_without_configured_checks_there_are_none(tmp_path):
    world, session = _started(tmp_path)
    seen = look(world, session)
    assert (seen["ci_status"], seen["ci_checks"], local.ci_wanted(seen, world.project)) == ("none", [], False)
    assert _run(world, session) == []


def test_the_merge_of_head_into_base_is_what_is_tested(tmp_path):
    world, session = _started(tmp_path, "test -e b.txt && test -e base-only.txt && git log --format=%p -1")
    assert _run(world, session) == ["failed"]
    commit(world.repo, "base-only.txt", "x\n")
    assert look(world, session)["ci_status"] == "pending"
    assert _run(world, session) == ["passed"]


def test_two_that_are_green_alone_and_broken_together_do_not_both_look_green(tmp_path):
    """F35."""
    world = make(tmp_path, ci=_ci("test $(ls | wc -l) -le 2"))
    one, two = spawn(world, "shop-1"), spawn(world, "shop-2")
    pull(world, one, name="b.txt")
    pull(world, two, name="c.txt")
    for session in (one, two):
        look(world, session)
        assert _run(world, session) == ["passed"]
        assert look(world, session)["ci_status"] == "passing"
    local.merge(world.home, world.project, one, local.plan_merge(world.home, world.project, one, "merge"))
    seen = look(world, two)
    assert (seen["ci_status"], local.ci_wanted(seen, world.project)) == ("pending", True)
    assert _run(world, two) == ["failed"]
    assert look(world, two)["ci_status"] == "failing"


def test_a_new_head_needs_new_checks(tmp_path):
    world, session = _started(tmp_path, "test ! -e bad.txt")
    look(world, session)
    assert _run(world, session) == ["passed"]
    commit(session["workspace_path"], "bad.txt", "x\n")
    look(world, session)
    assert look(world, session)["ci_status"] == "pending"
    assert _run(world, session) == ["failed"]


def test_what_has_a_result_is_not_run_again_unless_asked(tmp_path):
    counter = tmp_path / "counter"
    world, session = _started(tmp_path, f"echo x >> {counter}")
    look(world, session)
    for again in (False, False, True):
        assert _run(world, session, again) == ["passed"]
    assert counter.read_text() == "x\n" * 2


def test_the_log_of_a_failed_check_is_there_for_its_agent(tmp_path):
    noise = "for n in $(seq 2000); do echo line $n; done; printf '\\033[31mred\\033[0m\\r\\n'; echo oops >&2; exit 1"
    world, session = _started(tmp_path, "true", noise)
    look(world, session)
    _run(world, session)
    (failure,) = local.failures(world.home, world.project, session)
    assert (failure.name, failure.step) == ("check 1", noise)
    assert failure.log.endswith("line 2000\nred\noops") and "line 1\n" not in failure.log
    assert len(failure.log) <= _checks.BYTES_KEPT
    with open(failure.url.removeprefix("file://")) as file:
        assert file.read().startswith("line 1\n")


def test_a_check_that_takes_too_long_has_failed(tmp_path):
    world, session = _started(tmp_path, "echo begun; sleep 60", timeout="2s")
    look(world, session)
    assert _run(world, session) == ["failed"]
    assert look(world, session)["ci_checks"][0]["conclusion"] == "TIMED_OUT"
    (failure,) = local.failures(world.home, world.project, session)
    assert failure.log == "begun\n\nstopped: it did not end within 2s"


def test_a_check_sees_nothing_of_the_session_and_of_git(tmp_path, monkeypatch):
    found = tmp_path / "env"
    world, session = _started(tmp_path, f"env > {found}; git rev-parse --show-toplevel >> {found}")
    for name in ("AO_SESSION_ID", "AO_PROJECT_ID", "AO_HOME", "GIT_DIR", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    look(world, session)
    assert _run(world, session) == ["passed"]
    lines = found.read_text().splitlines()
    assert not [line for line in lines if line.startswith(("AO_", "GIT_DIR", "GIT_INDEX_FILE"))]
    assert "CI=true" in lines and lines[-1].endswith("/scratch/ci-1")


def test_checks_of_what_conflicts_or_has_ended_are_refused_in_one_line(tmp_path):
    world = make(tmp_path, ci=_ci("true"))
    session = spawn(world)
    pull(world, session, name="a.txt")
    commit(world.repo, "a.txt", "theirs\n")
    seen = look(world, session)
    assert not local.ci_wanted(seen, world.project)
    with pytest.raises(AoError, match="it conflicts with 'main'"):
        _run(world, session)
    local.set_state(world.home, world.project, session, "close", NOW)
    with pytest.raises(AoError, match="it is closed"):
        _run(world, session)


def _script(world, session):
    """ao-ci as ao-react starts it."""
    record = os.path.join(world.home, "sessions", "shop", "shop-1.yaml")
    store.write(record, {**session, "status": "working", "rev": 1})
    argv = [sys.executable, os.path.join(ROOT, "bin", "ao-ci"), "shop-1"]
    env = {**os.environ, "AO_HOME": world.home}
    return subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_run_that_was_killed_is_run_again_and_its_checkout_removed(tmp_path):
    started = tmp_path / "started"
    world, session = _started(tmp_path, f"test -e {started} || {{ touch {started}; sleep 60; }}", "true")
    look(world, session)
    process = _script(world, session)
    until(started.exists)
    seen = look(world, session)
    assert (seen["ci_checks"][0]["status"], local.ci_wanted(seen, world.project)) == ("running", False)
    with pytest.raises(Busy):
        _run(world, session)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: look(world, session)["ci_checks"][0]["status"] == "pending", "the end of the check")
    assert local.ci_wanted(look(world, session), world.project)
    assert _leftovers(world)[1] == 3
    assert _run(world, session) == ["passed", "passed"]
    assert _leftovers(world) == ([], 2)


def test_a_check_that_kills_whoever_runs_it_is_not_run_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(_checks, "MOST_DEATHS", 3)
    world, session = _started(tmp_path, f"echo >> {tmp_path / 'tries'}; sleep 60")
    look(world, session)
    for tries in range(1, 4):
        process = _script(world, session)
        until(lambda tries=tries: (tmp_path / "tries").exists() and len((tmp_path / "tries").read_text()) == tries)
        process.kill()
        process.wait()
        until(lambda: local.ci_wanted(look(world, session), world.project))
    with pytest.raises(AoError, match="was cut off 3 times"):
        _run(world, session)
    seen = look(world, session)
    assert (seen["ci_status"], local.ci_wanted(seen, world.project)) == ("failing", False)  # until a while later
    assert _leftovers(world) == ([], 2)


@pytest.mark.parametrize("point", ["ci.run:inside" + number for number in ("", "9", "17", "18", "19")])
def test_a_run_that_was_killed_anywhere_is_wanted_again_or_has_left_no_checkout(tmp_path, point, monkeypatch):
    world, session = _started(tmp_path, "true", "true")
    look(world, session)
    monkeypatch.setenv("AO_FAULT", point)
    process = _script(world, session)
    assert process.wait() in (-signal.SIGKILL, 0)
    until(lambda: not store.is_held(os.path.join(world.home, "locks", "effect", "shop", "ci-1")))
    if local.ci_wanted(look(world, session), world.project):
        assert _run(world, session) == ["passed", "passed"]
    assert _leftovers(world) == ([], 2)


def test_a_run_that_is_asked_to_end_takes_its_check_and_its_checkout_with_it(tmp_path):
    pid = tmp_path / "pid"
    world, session = _started(tmp_path, f"echo $$ > {pid}; exec sleep 60")
    look(world, session)
    process = _script(world, session)
    until(lambda: pid.exists() and pid.read_text().strip())
    process.terminate()
    assert process.wait() == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert _leftovers(world) == ([], 2)


def test_a_killed_run_takes_everything_that_its_check_has_started_with_it(tmp_path):
    pids = tmp_path / "pids"
    world, session = _started(tmp_path, f"sleep 60 & echo $$ $! > {pids}; wait")
    look(world, session)
    process = _script(world, session)
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    process.kill()
    process.wait()
    until(lambda: not any(_runs(int(pid)) for pid in pids.read_text().split()))


@pytest.mark.parametrize("end", ["true", "false"])
def test_what_a_check_leaves_running_ends_with_it(tmp_path, end):
    pid = tmp_path / "pid"
    world, session = _started(tmp_path, f"trap '' TERM; sleep 600 & echo $! > {pid}; {end}")
    look(world, session)
    assert _run(world, session) == ["passed" if end == "true" else "failed"]
    until(lambda: not _runs(int(pid.read_text())))


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_logs_are_kept_under_logs(tmp_path):
    world, session = _started(tmp_path, "echo hello")
    look(world, session)
    _run(world, session)
    (log,) = glob.glob(os.path.join(world.home, "logs", "ci", "shop", "*"))
    with open(log) as file:
        assert file.read() == "hello\n"


def test_a_check_that_cannot_be_run_says_so_and_is_tried_again_later(tmp_path, monkeypatch):
    world, session = _started(tmp_path, "true", "true")
    scratch = os.path.join(world.home, "forge", "shop", "scratch")
    with open(scratch, "w"):
        pass
    with pytest.raises(AoError, match="cannot make a checkout"):
        _run(world, session)
    seen = look(world, session)
    assert (seen["ci_status"], seen["failing_checks"], local.ci_wanted(seen, world.project)) == ("failing", 2, False)
    (first, _) = local.failures(world.home, world.project, session)
    assert "no fault of the change: cannot make a checkout" in first.log
    os.unlink(scratch)
    monkeypatch.setattr(_checks, "RETRY_AFTER", 0.0)
    seen = look(world, session)
    assert (seen["ci_status"], local.ci_wanted(seen, world.project)) == ("failing", True)
    assert _run(world, session) == ["passed", "passed"]
