"""One look: what is seen becomes facts, what cannot be seen changes nothing, and nothing stops the others."""

from __future__ import annotations

import os
import threading
import time

import pytest
from conftest import until
from talking import act, change, clock, configure, confirm, logged_events, look, pull, record, told
from terminals import agent, launch, send

from lib import cli, kept, observe, paths, proc, sessions
from lib.agent import command
from lib.errors import Unknown
from lib.runtime import tmux
from lib.scm import local
from lib.workspace import worktree

MINUTE = 60.0


@pytest.fixture(autouse=True)
def forge(monkeypatch):
    """A forge on which nobody has a pull request, and worktrees of which nothing is known."""
    monkeypatch.setattr(
        local, "look", lambda home, project, group, clock, fresh=False: {one["id"]: one["pr"] for one in group}
    )
    monkeypatch.setattr(worktree, "head", lambda path: None)
    monkeypatch.setitem(cli._notices, "to", "")


@pytest.fixture
def calls(monkeypatch):
    """The tmux commands that are run."""
    run, seen = proc.run, []

    def count(limit, argv, **options):
        seen.append(argv[6])
        return run(limit, argv, **options)

    monkeypatch.setattr(proc, "run", count)
    return seen


def find(home: str, id: str = "shop-1") -> dict:
    return sessions.find(home, id)


def report(home: str, line: str, id: str = "shop-1") -> None:
    path = paths.report(home, "shop", id)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as file:
        file.write(line)


# --- the cost of a look ----------------------------------------------------------------------------------------------


QUIET = -3600.0  # for WHOLE_SECOND: as if whatever was printed had been printed long ago


def test_an_idle_fleet_costs_one_call_of_tmux_and_is_not_written(home, calls, monkeypatch):
    """F52"""
    monkeypatch.setattr(kept, "WHOLE_SECOND", QUIET)
    configure(home)
    for id in ("shop-1", "shop-2"):
        record(home, id)
        agent(home, id)
    look(home)
    revisions = [one["rev"] for one in sessions.everything(home).records]
    assert [one["activity"] for one in sessions.everything(home).records] == ["ready", "ready"]
    del calls[:]
    assert [look(home, seconds) for seconds in (5, 10)] == [[], []]
    assert calls == ["list-panes", "list-panes"]
    assert [one["rev"] for one in sessions.everything(home).records] == revisions


def test_a_screen_is_read_again_when_something_was_printed_or_the_patterns_changed(home, calls, monkeypatch):
    whole_second = kept.WHOLE_SECOND
    monkeypatch.setattr(kept, "WHOLE_SECOND", QUIET)
    configure(home)
    record(home)
    agent(home, "shop-1")
    look(home)
    configure(home, {"command": ["agent"], "ready": "^ready> $"})
    look(home, 5)
    assert find(home)["activity"] == "active"
    configure(home)
    look(home, 10)
    assert find(home)["activity"] == "ready"
    monkeypatch.setattr(kept, "WHOLE_SECOND", whole_second)  # it may be printed in the second of the last look
    send(home, "shop-1", "hello")
    until(lambda: "hello" in tmux.screen(home, "shop-1"))
    del calls[:]
    look(home, 15)
    assert "display-message" in calls or "capture-pane" in calls


# --- what cannot be looked at ----------------------------------------------------------------------------------------


def test_a_look_that_fails_declares_nobody_dead(home, monkeypatch):
    """F10"""
    configure(home)
    record(home)

    def fails(home):
        raise Unknown("tmux did not end within 5 s")

    monkeypatch.setattr(tmux, "look", fails)
    for seconds in (1, 5, 10):
        assert [problem["message"] for problem in look(home, seconds)] == ["tmux did not end within 5 s"]
    assert len(logged_events(home, "tick_error")) == 1, "and the reason is said once"
    found = find(home)
    assert (found["runtime_state"], found["status"]) == ("alive", "working")
    assert found["runtime_unknown_since"] == clock(1).iso


def test_one_definite_look_is_not_enough(home):
    """F10"""
    configure(home)
    record(home)
    look(home, 1)
    assert find(home)["runtime_state"] == "alive"
    look(home, 5)
    assert (find(home)["runtime_state"], find(home)["status"]) == ("gone", "terminated")
    assert find(home)["is_lost"] is True


def test_after_a_quarter_of_an_hour_of_not_knowing_a_person_is_told_once(home, monkeypatch):
    configure(home)
    record(home)
    agent(home, "shop-1")
    change(home, pr=pull())

    def fails(*args):
        raise Unknown("rate limit")

    monkeypatch.setattr(local, "look", fails)
    for minutes in range(18):
        look(home, minutes * MINUTE)
        act(home, minutes * MINUTE)
        assert find(home)["pr"]["state"] == "open", "F11: unknown is not no"
        assert len(told(home)) == (minutes >= 15)
    assert "nothing could be learned" in told(home)[0] and "shop-1" in told(home)[0]


@pytest.mark.parametrize("error", [Unknown("rate limit"), ZeroDivisionError("a bug"), TimeoutError("no answer")])
def test_a_forge_that_fails_for_a_while_repeats_and_refills_nothing(home, monkeypatch, error):
    """F11: no status falls back, no budget is refilled, no reaction fires again."""
    configure(home, reactions={"merge-conflicts": {"retries": 1}})
    record(home)
    agent(home, "shop-1")
    conflict = pull(mergeable=False)
    change(home, pr=conflict)
    assert act(home) == ["shop-1 merge-conflicts send-to-agent"]
    confirm(home)
    before = find(home)

    def fails(*args):
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(local, "look", fails)
        for seconds in range(5, 60, 5):
            look(home, seconds)
            assert act(home, seconds) in ([], ["cannot-look notify"])
            assert (find(home)["status"], find(home)["conditions"].keys()) == (before["status"], {"merge-conflicts"})
    monkeypatch.setattr(local, "look", lambda *args: {"shop-1": conflict})
    look(home, 70)
    assert act(home, 70) == []
    assert find(home)["conditions"]["merge-conflicts"]["attempts"] == 1
    assert len(find(home)["inbox"]) == 1


def test_whatever_a_plugin_raises_is_one_event_and_stops_nobody(home, monkeypatch):
    """F53"""
    configure(home)
    for id in ("shop-1", "shop-2"):
        record(home, id, activity=None)
        agent(home, id)
    read = command.read

    def breaks(project, screen):
        if threading.current_thread() and "shop-1.log" in screen:
            raise ZeroDivisionError("oops")
        return read(project, screen)

    monkeypatch.setattr(command, "read", breaks)
    send(home, "shop-1", "shop-1.log")
    until(lambda: "shop-1.log" in tmux.screen(home, "shop-1"))
    for seconds in (1, 5):
        problems = look(home, seconds)
        assert [one["session_id"] for one in problems] == ["shop-1"]
        assert problems[0]["message"].startswith("ZeroDivisionError: oops (test_observe.py:")
    assert find(home, "shop-2")["activity"] == "ready"
    assert len(logged_events(home, "tick_error")) == 1


def test_a_runtime_that_breaks_is_said_and_is_not_no(home, monkeypatch):
    configure(home)
    record(home)

    def breaks(home):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(tmux, "look", breaks)
    for seconds in (1, 5, 10):
        assert [one["message"].split(" (")[0] for one in look(home, seconds)] == ["ZeroDivisionError: oops"]
    assert find(home)["runtime_state"] == "alive"


def test_an_unreadable_configuration_is_a_fact_of_the_session_and_is_acted_upon_by_nobody(home):
    """F47"""
    project = configure(home)
    record(home)
    agent(home, "shop-1")
    look(home)
    with open(project.source, "w") as file:
        file.write("projects: [")
    look(home, 5)
    assert "ao.yaml" in find(home)["config_error"]
    assert act(home, 5) == []
    configure(home)
    look(home, 10)
    assert find(home)["config_error"] is None


def test_a_forge_that_hangs_keeps_no_other_project_waiting(home, monkeypatch):
    """F53"""
    monkeypatch.setattr(observe, "FORGES_WITHIN", 2.0)
    configure(home)
    record(home)
    other = os.path.join(home, "other")
    os.makedirs(other)
    configure(other)
    record(home, "shop-2", config_path=os.path.join(other, "ao.yaml"))
    wakes = threading.Event()

    def hangs(home_, project, group, clock, fresh=False):
        if project.source.startswith(other):
            wakes.wait()  # whoever waits for it hangs with it
        return {one["id"]: pull() for one in group}

    monkeypatch.setattr(local, "look", hangs)
    look(home)
    wakes.set()
    assert find(home)["pr"]["number"] == 7
    assert (find(home, "shop-2")["pr"], find(home, "shop-2")["pr_unknown_since"]) == (None, clock().iso)


def test_a_damaged_record_is_reported_once_and_set_aside(home):
    """F45"""
    configure(home)
    record(home)
    record(home, "shop-2")
    agent(home, "shop-2")
    path = paths.session(home, "shop", "shop-1")
    with open(path, "w") as file:
        file.write("id: [")
    assert [one["session_id"] for one in look(home, 1)] == ["shop-1"]
    assert os.path.exists(path), "an editor may not have finished"
    os.utime(path, (time.time() - 60, time.time() - 60))
    (problem,) = look(home, 5)
    assert "it is set aside as" in problem["message"]
    kept = problem["message"].split("'")[-2]
    with open(kept) as file:
        assert file.read() == "id: ["
    assert look(home, 10) == []
    assert find(home, "shop-2")["activity"] == "ready"


def test_a_record_that_cannot_be_opened_stays_where_it_is(home):
    configure(home)
    record(home)
    path = paths.session(home, "shop", "shop-1")
    os.rename(path, path + ".real")
    os.symlink("shop-1.yaml", path)  # opening it fails, whoever opens it
    assert len(look(home, 1)) == 1
    assert os.path.islink(path)


# --- what agents report ----------------------------------------------------------------------------------------------


def test_reports_are_read_once_and_a_line_that_is_being_written_later(home):
    configure(home)
    record(home, "shop-1")
    launch(home, "shop-1", ["cat"])
    report(home, f"{clock(1).now:.3f}\treport\tactive\t\n{clock(2).now:.3f}\treport\twaiting_in")
    look(home, 2)
    assert (find(home)["activity"], find(home)["activity_source"]) == ("active", "report")
    report(home, "put\twhich port?\n")
    look(home, 3)
    assert (find(home)["activity"], find(home)["question"]) == ("waiting_input", "which port?")
    assert find(home)["status"] == "needs_input"
    report(home, f"nonsense\n\t\t\n{clock(4).now:.3f}\treport\tactive\t\n")
    look(home, 5)
    assert (find(home)["activity"], find(home)["question"]) == ("active", None), "F16: the question was answered"


def test_done_without_a_pull_request_ends_the_session(home):
    configure(home)
    record(home)
    agent(home, "shop-1")
    report(home, f"{clock(1).now:.3f}\tdone\t\tnothing to change\n")
    look(home, 2)
    assert find(home)["status"] == "done"


def test_an_agent_that_ended_shows_its_exit_code_at_the_next_look(home):
    """F16, F18"""
    configure(home)
    record(home)
    agent(home, "shop-1", "--exit-after", "1")
    send(home, "shop-1", "bye")
    until(lambda: tmux.look(home) == {}, "the end of the agent")
    look(home, 1)
    assert (find(home)["runtime_state"], find(home)["exit_code"]) == ("exited", 0)
    assert "agent-exited" in find(home)["conditions"]


def test_a_long_silent_run_is_not_stuck(home):
    """F16"""
    configure(home)
    record(home, activity="active")
    agent(home, "shop-1")
    report(home, f"{clock(1).now:.3f}\treport\tactive\t\n")
    for minutes in range(0, 60, 9):
        look(home, minutes * MINUTE)
    assert (find(home)["activity"], find(home)["status"]) == ("active", "working")


def test_a_question_in_the_middle_of_a_turn_stays_until_it_was_answered(home):
    """F16"""
    configure(home)
    record(home)
    agent(home, "shop-1")
    look(home)
    report(home, f"{clock(1).now:.3f}\treport\twaiting_input\twhich port?\n")
    told = {"activity": "active", "since": clock(1).iso}
    sessions.update(home, find(home), lambda fresh: fresh.update(screen=told), clock(1))
    for screen, activity in (("active", "waiting_input"), ("ready", "waiting_input"), ("active", "active")):
        shows(home, screen)
        assert find(home)["activity"] == activity


def shows(home: str, activity: str) -> None:
    """A look that finds this on the screen and folds in the reports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "read", lambda project, screen: command.Reading(activity))
        os.unlink(paths.cache(home, "looks"))
        look(home, 2)


def test_what_cannot_be_seen_of_one_pull_request_is_told_and_costs_the_others_nothing(home, monkeypatch):
    configure(home)
    seen = pull()
    for id in ("shop-1", "shop-2", "shop-3"):
        record(home, id)
    answer = {"shop-1": Unknown("the forge does not tell"), "shop-2": seen}
    monkeypatch.setattr(local, "look", lambda home, project, group, clock, fresh: answer)
    problems = look(home)
    assert [(one["session_id"], one["message"]) for one in problems] == [("shop-1", "the forge does not tell")]
    assert find(home, "shop-2")["pr"]["number"] == 7
    assert all(find(home, id)["pr_unknown_since"] for id in ("shop-1", "shop-3"))
