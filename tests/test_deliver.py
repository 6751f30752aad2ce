"""Messages: delivered once, to the right place, at the right moment, or said not to be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT, until
from talking import clock, configure, deliver_once, inbox, look, queue, record
from terminals import AGENT, agent, children, launch, logged

from lib import deliver, sessions
from lib.agent import command
from lib.runtime import Pane, tmux


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(deliver, "SETTLE", 0.15)


@pytest.fixture
def project(home):
    return configure(home)


def at_prompt(home: str, id: str = "shop-1") -> None:
    until(lambda: tmux.screen(home, id).split("\n")[-1] == ">", "the prompt")


def deliver_in_a_process(home: str, fault: str) -> int:
    """Take one step in a process that is killed at `fault`; its exit code."""
    code = (
        "import os, talking; from lib import deliver, config; deliver.SETTLE = 0.15; home = os.environ['AO_HOME']\n"
        "talking.deliver_once(home, config.load(home + '/ao.yaml').projects['shop'])"
    )
    path = os.pathsep.join([ROOT, os.path.join(ROOT, "tests")])
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "AO_FAULT": fault, "PYTHONPATH": path}, check=False
    ).returncode


def test_a_message_reaches_the_agent_word_for_word_and_is_confirmed_by_the_look(home, project):
    """F1, F5"""
    log = agent(home, "shop-1")
    session = record(home)
    text = "first line\n\tsecond; 'quoted' $HOME `x` ünï 漢字\n\nlast"
    id = queue(home, session, text)
    deliver_once(home, project)
    assert inbox(home) == [("delivered", None)]
    until(lambda: logged(log) == [f"{text}\n\n(ao message {id})"], "the message")
    at_prompt(home)
    look(home, 1)
    assert inbox(home) == [("confirmed", None)]


def test_messages_go_one_at_a_time_and_in_order(home, project):
    log = agent(home, "shop-1")
    session = record(home)
    ids = [queue(home, session, f"number {number}") for number in (1, 2)]
    deliver_once(home, project)
    deliver_once(home, project, 1)
    assert [state for state, _ in inbox(home)] == ["delivered", "queued"]
    until(lambda: len(logged(log)) == 1)
    at_prompt(home)
    look(home, 2)
    deliver_once(home, project, 3)
    until(lambda: len(logged(log)) == 2, "the second message")
    assert [text.split("(ao message ")[1][:-1] for text in logged(log)] == ids


@pytest.mark.parametrize("fault", ["deliver.paste:before", "deliver.paste:inside", "deliver.enter:after"])
def test_a_crash_while_sending_ends_in_exactly_one_copy(home, project, fault):
    """F23"""
    log = agent(home, "shop-1")
    session = record(home)
    first = queue(home, session, "so that the agent is known to show what it gets")
    deliver_once(home, project)
    until(lambda: len(logged(log)) == 1)
    at_prompt(home)
    look(home)
    queue(home, session, "once")
    assert deliver_in_a_process(home, fault) == -signal.SIGKILL
    assert inbox(home)[1][0] == "sending"
    for seconds in range(1, 60, 5):  # what rounds do afterwards
        deliver_once(home, project, seconds)
        until(lambda: tmux.screen(home, "shop-1").split("\n")[-1] == ">" or inbox(home)[1][0] == "sending")
        look(home, seconds + 1)
    assert [state for state, _ in inbox(home)] == ["confirmed", "confirmed"]
    assert first in logged(log)[0]
    assert [text.split("\n")[0] for text in logged(log)[1:]] == ["once"]


SILENT = "stty -echo; touch $AO_HOME/got; while printf '> '; read line; do echo $line >> $AO_HOME/got; echo; done"


@pytest.mark.parametrize("fault", ["deliver.paste:before", "deliver.enter:after"])
def test_whether_a_first_message_arrived_is_left_to_a_person_where_it_cannot_be_known(home, project, fault):
    """A program that shows nothing of what it is sent: after a crash nobody can tell. F9"""
    launch(home, "shop-1", ["sh", "-c", SILENT], AO_HOME=home)
    at_prompt(home)
    session = record(home)
    queue(home, session, "once")
    assert deliver_in_a_process(home, fault) == -signal.SIGKILL
    for seconds in range(1, 60, 5):
        deliver_once(home, project, seconds)
        look(home, seconds)
    assert inbox(home) == [("unconfirmed", "whether it arrived cannot be known")]
    assert sessions.find(home, "shop-1")["conditions"]["message-waiting"]
    with open(os.path.join(home, "got")) as file:
        assert file.read().count("once") == (fault == "deliver.enter:after")


def test_a_swallowed_enter_is_pressed_again_and_then_said(home, project, monkeypatch):
    """F1"""
    log = agent(home, "shop-1")
    session = record(home)
    queue(home, session, "hello")
    presses = []
    press = tmux.press
    monkeypatch.setattr(tmux, "press", lambda *args: presses.append(args))
    deliver_once(home, project)
    deliver_once(home, project, 1)
    assert len(presses) == 1, "it has not waited for an answer"
    deliver_once(home, project, 5)
    assert len(presses) == 2
    monkeypatch.setattr(tmux, "press", press)
    deliver_once(home, project, 10)
    until(lambda: len(logged(log)) == 1, "the message")
    monkeypatch.setattr(tmux, "press", lambda *args: presses.append(args))
    queue(home, session, "never")
    at_prompt(home)
    look(home, 11)
    for seconds in range(12, 40, 5):
        deliver_once(home, project, seconds)
    state, why = inbox(home)[1]
    assert state == "unconfirmed" and "Enter does not send it" in why


def test_nothing_is_typed_into_a_dialog(home, project):
    """F3"""
    log = agent(home, "shop-1", "--dialog")
    session = record(home)
    queue(home, session, "y")
    deliver_once(home, project)
    assert inbox(home) == [("queued", "a question is open")]
    assert logged(log, "key") == []


ASKS = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"\\nDo you want to proceed? (y/n) "))
os.write(1, b"> ")
sys.stdin.read()
"""


def test_enter_is_not_pressed_at_a_dialog_that_opens_while_a_message_is_typed(home, project, monkeypatch):
    """F3: Enter would say yes to it. Nobody knows what became of the text, so a person is told."""
    launch(home, "shop-1", [sys.executable, "-c", ASKS], AO_HOME=home)
    at_prompt(home)
    session = record(home)
    queue(home, session, "hello")

    def opens(seconds):
        until(lambda: "hello" in tmux.screen(home, "shop-1"), "the echo, which would follow the dialog")
        os.kill(children(tmux.look(home)["shop-1"].pid)[0], signal.SIGUSR1)
        until(lambda: tmux.screen(home, "shop-1").endswith("(y/n)"), "the dialog")

    presses = []
    monkeypatch.setattr(tmux, "press", lambda *args: presses.append(args))
    monkeypatch.setattr(deliver, "time", SimpleNamespace(time=time.time, sleep=opens))
    deliver_once(home, project)
    assert inbox(home) == [("unconfirmed", "a question came up while it was typed; see: ao-attach")]
    look(home, 1)
    assert "message-waiting" in sessions.find(home, "shop-1")["conditions"]
    assert presses == []


def test_what_comes_to_light_before_it_is_typed_again_is_not_typed_again(home, project):
    """F1: an input box that a busy agent hides may hold it, and then a person presses Enter."""
    log = agent(home, "shop-1")
    session = record(home)
    queue(home, session, "hello")
    deliver_once(home, project)
    until(lambda: len(logged(log)) == 1, "the message")
    at_prompt(home)
    given_up = [{**one, "state": "queued"} for one in sessions.find(home, "shop-1")["inbox"]]
    sessions.update(home, session, lambda fresh: fresh.update(inbox=given_up), clock())
    deliver_once(home, project, 5)
    assert (inbox(home), len(logged(log))) == ([("queued", None)], 1)
    look(home, 6)
    assert inbox(home) == [("confirmed", None)]


@pytest.mark.parametrize("state", ["confirmed", "failed"])
def test_a_message_that_was_settled_a_moment_ago_is_not_typed(home, project, state):
    """By a look that has seen it with the agent, or that nothing of it is the matter any more."""
    agent(home, "shop-1")
    queue(home, record(home), "hello")
    at_prompt(home)
    before = sessions.find(home, "shop-1")
    settled = [{**before["inbox"][0], "state": state}]
    sessions.update(home, before, lambda fresh: fresh.update(inbox=settled), clock())
    deliver.advance(home, project, before, tmux.look(home), clock(1))
    assert (inbox(home), tmux.screen(home, "shop-1").split("\n")[-1]) == ([(state, None)], ">")


def test_a_terminal_that_one_look_has_missed_has_not_ended(home, project):
    """F9: what was typed into it is still confirmed; given up is only what an agent has that has ended."""
    agent(home, "shop-1")
    queue(home, record(home), "hello")
    at_prompt(home)
    deliver_once(home, project)
    deliver_once(home, project, 60, panes={})
    assert inbox(home)[0][0] == "delivered"
    sessions.update(home, sessions.find(home, "shop-1"), lambda fresh: fresh.update(runtime_state="gone"), clock(61))
    deliver_once(home, project, 62, panes={})
    assert inbox(home)[0][0] == "unconfirmed"


def test_an_answer_is_one_key_at_the_open_question_and_comes_before_what_waits(home, project):
    log = agent(home, "shop-1", "--dialog")
    session = record(home)
    queue(home, session, "y", answer=True)
    deliver_once(home, project)
    assert inbox(home) == [("confirmed", None)]
    assert logged(log, "key") == ["y"]
    at_prompt(home)
    assert logged(log) == [], "no Enter went on to the prompt behind the dialog"


def test_a_text_that_a_dialog_ignores_chooses_nothing(home, project):
    """F3"""
    log = agent(home, "shop-1", "--dialog")
    session = record(home)
    queue(home, session, "rather use the other file", answer=True)
    deliver_once(home, project)
    assert inbox(home) == [("failed", "the question does not take it; see: ao-attach")]
    assert "\r" not in logged(log, "key") and "\n" not in logged(log, "key")


def test_an_answer_whose_enter_is_swallowed_is_not_taken_for_given(home, project, monkeypatch):
    """F1: the question goes on standing there, which only a person can see, so one is told."""
    asks = "import os, sys; os.write(1, b'Delete it? (y/n) '); sys.stdin.read()"
    launch(home, "shop-1", [sys.executable, "-c", asks], AO_HOME=home)
    until(lambda: tmux.screen(home, "shop-1").endswith("(y/n)"), "the question")
    queue(home, record(home), "y", answer=True)
    press = tmux.press
    monkeypatch.setattr(deliver, "PRESS_AGAIN", 0.3)
    monkeypatch.setattr(tmux, "press", lambda home, handle, key: key != "Enter" and press(home, handle, key))
    deliver_once(home, project)
    assert inbox(home) == [("failed", "the question does not take it; see: ao-attach")]
    look(home, 1)
    assert "message-waiting" in sessions.find(home, "shop-1")["conditions"]


@pytest.mark.parametrize("key", ["Enter", "Escape"])
def test_an_answer_that_is_a_key_by_name_settles_one_question(home, project, monkeypatch, key):
    """F3: the next one may look the same."""
    asks = "import os, tty; tty.setraw(0)\nwhile True: os.write(1, b'\\r\\nDelete it? (y/n) '); os.read(0, 1)"
    launch(home, "shop-1", [sys.executable, "-c", asks], AO_HOME=home)
    until(lambda: tmux.screen(home, "shop-1").endswith("(y/n)"), "the question")
    queue(home, record(home), key, answer=True)
    press, pressed = tmux.press, []
    monkeypatch.setattr(tmux, "press", lambda home, handle, key: pressed.append(key) or press(home, handle, key))
    deliver_once(home, project)
    assert inbox(home) == [("confirmed", None)] and pressed == [key]


def test_an_answer_to_a_question_that_was_reported_is_typed_at_the_prompt(home, project):
    log = agent(home, "shop-1")
    session = record(home, activity="waiting_input")
    queue(home, session, "port 8080", answer=True)
    deliver_once(home, project)
    until(lambda: logged(log) == ["port 8080"], "the answer without a signature")


def test_an_answer_to_no_question_holds_up_nobody(home, project):
    agent(home, "shop-1")
    session = record(home)
    queue(home, session, "y", answer=True)
    deliver_once(home, project)
    assert inbox(home) == [("failed", "there is no open question")]


def test_nothing_is_typed_before_the_program_waits_for_it(home, project):
    """F2: what is typed too early is lost, as in real ones."""
    log = os.path.join(home, "early.log")
    launch(home, "shop-1", [sys.executable, AGENT, "--log", log, "--delay", "1"], AO_HOME=home)
    session = record(home)
    queue(home, session, "the task")
    deliver_once(home, project)
    assert inbox(home) == [("queued", "it is busy")]
    at_prompt(home)
    deliver_once(home, project, 5)
    until(lambda: logged(log), "the message")
    assert logged(log)[0].startswith("the task")


def test_a_draft_is_not_written_over(home, project):
    log = agent(home, "shop-1")
    session = record(home)
    tmux.paste(home, "shop-1", "half a thought")
    until(lambda: "half a thought" in tmux.screen(home, "shop-1"))
    queue(home, session, "hello")
    deliver_once(home, project)
    assert inbox(home) == [("queued", "its input box holds text")]
    assert logged(log) == []


@pytest.mark.parametrize(
    ("in_mode", "typed", "why"),
    [
        (True, None, "a person scrolls in its terminal"),
        (False, 20, "a person types in its terminal"),
        (False, -3000, "there is no such terminal"),  # the clock was set back since: it goes on, and finds none
    ],
)
def test_nothing_is_typed_under_a_persons_fingers(home, project, in_mode, typed, why):
    session = record(home)
    queue(home, session, "hello")
    pane = Pane(1, in_mode, "", time.time() - typed if typed else 0.0, 0.0)
    deliver_once(home, project, panes={"shop-1": pane})
    ((state, waiting_for),) = inbox(home)
    assert state == "queued" and waiting_for.startswith(why)


def test_enter_is_not_pressed_on_what_a_person_has_typed_since(home, project, monkeypatch):
    log = agent(home, "shop-1")
    session = record(home)
    queue(home, session, "hello")
    presses = []
    press = tmux.press
    monkeypatch.setattr(tmux, "press", lambda *args: presses.append(args))
    deliver_once(home, project)
    pane = tmux.look(home)["shop-1"]._replace(typed_at=clock(2).now)
    deliver_once(home, project, 6, panes={"shop-1": pane})
    assert len(presses) == 1
    monkeypatch.setattr(tmux, "press", press)
    deliver_once(home, project, 50, panes={"shop-1": pane})
    assert inbox(home) == [("unconfirmed", "a person has typed in its terminal since")]
    assert logged(log) == []


def test_a_persons_draft_behind_a_message_that_arrived_is_left_alone(home, project):
    log = agent(home, "shop-1")
    session = record(home)
    queue(home, session, "hello")
    deliver_once(home, project)
    until(lambda: len(logged(log)) == 1)
    at_prompt(home)
    tmux.paste(home, "shop-1", "half a thought")
    until(lambda: "half a thought" in tmux.screen(home, "shop-1"))
    deliver_once(home, project, 6)
    look(home, 7)
    assert inbox(home) == [("confirmed", None)]
    assert len(logged(log)) == 1


def test_a_message_that_is_nowhere_is_pasted_again_but_not_for_ever(home, project, monkeypatch):
    """F1"""
    log = agent(home, "shop-1")
    session = record(home)
    queue(home, session, "shows that it shows")
    deliver_once(home, project)
    until(lambda: len(logged(log)) == 1)
    at_prompt(home)
    look(home)
    pastes = []
    monkeypatch.setattr(tmux, "paste", lambda *args: pastes.append(args))
    queue(home, session, "lost")
    for seconds in range(1, 60, 5):
        deliver_once(home, project, seconds)
        at_prompt(home)
    assert inbox(home)[1] == ("failed", "its agent does not take it")
    assert len(pastes) == deliver.TRIES


def test_a_message_for_an_ended_agent_waits_and_a_person_hears_of_it(home, project):
    """F4"""
    session = record(home, runtime_state="exited", activity="exited")
    queue(home, session, "rm -rf .")
    deliver_once(home, project, panes={})
    assert inbox(home) == [("queued", "its agent does not run; see: ao-restore")]
    look(home, 599)
    assert "message-waiting" not in sessions.find(home, "shop-1")["conditions"]
    look(home, 601)
    assert "message-waiting" in sessions.find(home, "shop-1")["conditions"]
    log = agent(home, "shop-1")
    sessions.update(home, session, lambda fresh: fresh.update(runtime_state="alive"), clock(602))
    deliver_once(home, project, 602)
    until(lambda: len(logged(log)) == 1, "the message after the restore")


def test_a_terminal_that_goes_in_the_middle_leaves_the_message_waiting(home, project, monkeypatch):
    session = record(home)
    agent(home, "shop-1")
    queue(home, session, "hello")
    panes = tmux.look(home)
    stops = SimpleNamespace(time=time.time, sleep=lambda seconds: tmux.stop(home, "shop-1"))
    monkeypatch.setattr(deliver, "time", stops)
    deliver_once(home, project, panes=panes)
    assert inbox(home) == [("queued", "its agent does not run; see: ao-restore")]


@pytest.mark.parametrize("end", [{"outcome": "killed"}, {"pr": {"number": 1, "state": "merged"}}])
def test_a_message_fails_when_the_session_has_ended(home, project, end):
    session = record(home)
    queue(home, session, "hello")
    sessions.update(home, session, lambda fresh: fresh.update(end), clock())
    deliver_once(home, project, panes={})
    assert inbox(home) == [("failed", "the session has ended")]


def test_a_very_long_message_goes_by_a_file(home, project):
    log = agent(home, "shop-1")
    session = record(home)
    text = "".join(f"line {number}\n" for number in range(12_000))
    id = queue(home, session, text)
    deliver_once(home, project)
    until(lambda: len(logged(log)) == 1, "the message")
    path = logged(log)[0].split("Read the file ")[1].split(",")[0]
    with open(path) as file:
        assert file.read() == f"{text.rstrip()}\n\n(ao message {id})"
    assert logged(log)[0].endswith(f"(ao message {id})")


def test_a_program_without_a_ready_pattern_gets_its_task_and_no_line_longer_than_line_mode_takes(home):
    """What is written to it later waits and says for what: any screen of it may be a dialog (F3)."""
    project = configure(home, {"command": ["cat"]})
    launch(home, "shop-1", ["sh", "-c", "stty -echo; cat > $AO_HOME/got"], AO_HOME=home)
    until(lambda: os.path.exists(os.path.join(home, "got")))
    session = record(home)
    task = deliver.message("word " * 2000, "ao", clock())
    sessions.update(home, session, lambda fresh: fresh["inbox"].append(task), clock())
    deliver_once(home, project)
    with open(os.path.join(home, "got")) as file:
        until(lambda: file.seek(0) == 0 and "(ao message" in file.read(), "the end of the message")
        file.seek(0)
        assert file.read().split().count("word") == 2000
    sessions.update(home, session, lambda fresh: fresh["inbox"][0].update(state="confirmed"), clock())
    queue(home, session, "hello")
    deliver_once(home, project)
    assert inbox(home)[1] == ("queued", command.UNREADABLE)


def test_nothing_is_typed_to_a_session_that_is_parked(home, project):
    log = agent(home, "shop-1")
    session = record(home, hold={"reason": "person", "until": None})
    queue(home, session, "hello")
    deliver_once(home, project)
    assert inbox(home) == [("queued", "the session is parked (person)")]
    sessions.update(home, session, lambda fresh: fresh.update(hold=None), clock())
    deliver_once(home, project)
    until(lambda: logged(log), "the message, once it is not parked any more")


def test_nobody_is_typed_to_while_the_terminals_cannot_be_seen(home, project):
    """Waiting takes at most a second or so, also for a terminal that does not answer."""
    session = record(home)
    queue(home, session, "hello")
    deliver_once(home, project, panes={"shop-1": Pane(1, False, "", 0.0, 0.0)})  # it went since
    assert inbox(home)[0][0] == "queued"


def test_an_ordinary_message_waits_for_a_question_that_was_reported(home, project):
    """F3: the prompt does not show what the agent asks, and the message would be its answer."""
    log = agent(home, "shop-1")
    session = record(home)
    at_prompt(home)
    now = {"activity": "waiting_input", "activity_source": "report", "question": "Drop the table?"}
    sessions.update(home, session, lambda fresh: fresh.update(now), clock())
    queue(home, session, "yes, please also update the changelog")
    deliver_once(home, project)
    assert inbox(home) == [("queued", "its agent waits for an answer; see: ao-send --answer")]
    assert logged(log) == []
