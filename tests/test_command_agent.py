"""The command agent: a screen is read as a person would, and nothing is typed where it does not belong."""

from __future__ import annotations

import sys

import pytest
from conftest import until
from terminals import AGENT, agent, launch, left, logged, send

from lib import config, paths
from lib.agent import command
from lib.errors import AoError
from lib.runtime import tmux

KEYS = {"command": ["my-agent"], "ready": None, "busy": None, "question": None, "model": None}
SCRIPTED = {"ready": "^> $", "busy": r"^\* working", "question": r"\(y/n\) ?\Z"}


def project(**keys) -> config.Project:
    return config.Project("shop", "/src/shop", "", {"agent_config": KEYS | keys})


def session(*entries, agent_config=None) -> dict:
    inbox = [{"id": id, "state": state} for id, state in entries]
    return {"id": "app-1", "agent_config": agent_config or {}, "inbox": inbox}


# --- the start -------------------------------------------------------------------------------------------------------


def test_the_prompt_takes_its_place_in_the_words_as_it_is():
    words = ["my-agent", "--model={model}", "--task", "do: {prompt}", "-x"]
    record = session(agent_config={"model": "m1"})
    started = command.launch(project(command=words, model="another by now"), record, "it's\n{model} $HOME; {prompt}")
    assert started.argv == ["my-agent", "--model=m1", "--task", "do: it's\n{model} $HOME; {prompt}", "-x"]
    assert started.has_prompt


def test_without_a_place_the_prompt_is_left_to_the_first_message():
    assert command.launch(project(), session(), "x") == (["my-agent"], {}, False)
    assert command.launch(project(command=["a", "{prompt}"]), session(), None) == (["a", ""], {}, False)


def test_no_command_is_one_clear_line():
    with pytest.raises(AoError, match=r"'projects\.shop\.agent_config\.command' is empty"):
        command.launch(project(command=[]), session(), "x")


@pytest.mark.parametrize("key", ["ready", "busy", "question"])
def test_a_wrong_pattern_names_its_key(key):
    with pytest.raises(AoError, match=rf"projects\.shop\.agent_config\.{key}.*not a regular expression") as raised:
        command.read(project(**{key: "(y/n"}), "x")
    assert "\n" not in str(raised.value)


# --- the screen ------------------------------------------------------------------------------------------------------

LATER = "\n".join(f"output {number}" for number in range(20))
DIALOG = "Do you want to proceed? (y/n)"
SCREENS = [  # settings, screen, activity, obstacle, draft
    ({}, "anything", None, command.UNREADABLE, False),
    (SCRIPTED, "", "active", "it is busy", False),
    (SCRIPTED, "ao: running x in /", "active", "it is busy", False),
    (SCRIPTED, "hello\n>", "ready", "", False),
    (SCRIPTED, "hello\n>\n\n", "ready", "", False),
    (SCRIPTED, "> sent\n", "active", "it is busy", False),
    (SCRIPTED, "> half a th", "active", "its input box holds text", True),
    (SCRIPTED, "> two\nlines", "active", "its input box holds text", True),
    (SCRIPTED, LATER + "\n(ao message m-1)", "active", "its input box holds text", True),
    (SCRIPTED, "> sent\n* working...", "active", "it is busy", False),
    (SCRIPTED, "> sent\n* working...\n>", "active", "it is busy", False),
    (SCRIPTED, f"* working...\n{LATER}\n>", "ready", "", False),
    (SCRIPTED, f"text\n{DIALOG}", "waiting_input", "a question is open", False),
    (SCRIPTED, f"{DIALOG} y\nfine\n>", "ready", "", False),
    ({"ready": "^> $", "question": r"\(y/n\)"}, f"{DIALOG}\n> ", "waiting_input", "a question is open", False),
    ({"ready": "^> $", "question": r"\(y/n\)"}, f"{DIALOG}\ny\nfine\n>", "ready", "", False),
    (
        {"ready": "^> $", "question": r"\(y/n\)"},
        f"{DIALOG}\nm-1 (ao message m-1)",
        "waiting_input",
        "a question is open",
        False,
    ),
    ({"ready": r"^(\w+)?> ?$"}, "ask>", "ready", "", False),
    ({"ready": r"^(\w+)?> ?$"}, "ask> draft", "active", "its input box holds text", True),
    ({"ready": r"user\$"}, "user$", "ready", "", False),
    ({"busy": "esc to interrupt"}, "✳ (esc to interrupt)", "active", "it is busy", False),
    ({"busy": "esc to interrupt"}, "done", "active", command.UNREADABLE, False),
    ({"question": "Enter to select"}, "what? Enter to select", "waiting_input", "a question is open", False),
    ({"question": "Enter to select"}, "done", "active", command.UNREADABLE, False),
]


@pytest.mark.parametrize(("settings", "screen", "activity", "obstacle", "draft"), SCREENS)
def test_what_a_screen_says(settings, screen, activity, obstacle, draft):
    shop = project(**settings)
    assert command.read(shop, screen).activity == activity
    assert command.obstacle(shop, screen) == obstacle
    assert command.has_draft(shop, screen) == draft


def test_without_a_ready_pattern_only_the_task_is_typed():
    """F3: any screen of such a program may be a dialog, and Enter would answer it."""
    assert command.obstacle(project(), "Trust this folder?\n 1. yes") == command.UNREADABLE
    assert command.obstacle(project(), "", is_awaited=True) == ""
    asking = project(question="Trust this folder")
    assert command.obstacle(asking, "Trust this folder?", is_awaited=True) == "a question is open"


def test_a_question_is_told_in_its_whole_lines():
    shop = project(question=r"proceed\?")
    assert command.read(shop, f"text\n  {DIALOG}  \n 1. Yes").question == DIALOG


# --- what arrived ----------------------------------------------------------------------------------------------------

BANNER = "ao: running agent in /src\n"
RECEIVED = [  # history, states, what is known of m-1
    (None, {}, None),
    ("", {}, None),
    (f"{BANNER}> do (ao message m-1)\nfine\n>", {}, True),
    (f"{BANNER}> do (ao message m-1)\n", {}, True),
    (f"{BANNER}> do (ao message\nm-1)\nfine", {}, True),
    (f"{BANNER}> do\n(ao message m-1)", {}, None),  # in the input box: not sent
    (f"{BANNER}> do (ao message m-10)\nfine\n>", {}, False),
    (f"{BANNER}> do (ao message m-10)\nfine", {}, None),  # the prompt is not back
    ("> do (ao message m-10)\nfine\n>", {}, None),  # the beginning is lost
    (f"{BANNER}>", {"m-1": "delivered"}, None),  # this program may not show what it is sent
    (f"{BANNER}>", {"m-1": "sending"}, False),
]


@pytest.mark.parametrize(("history", "states", "known"), RECEIVED)
def test_what_is_known_of_a_message(history, states, known):
    shop = project(**SCRIPTED)
    assert command.received(shop, session(*states.items()), ["m-1"], history) == {"m-1": known}


@pytest.mark.parametrize("text", ["short", "word " * 3000, "ü" * 6000, "a  b\n" + "x" * 4001 + "\n\nend", "\n", ""])
def test_long_lines_are_broken_and_nothing_is_lost(text):
    fitted = command.fit(text)
    assert all(len(line.encode()) <= command.LONGEST_LINE for line in fitted.split("\n"))
    assert "".join(fitted.split()) == "".join(text.split())
    if all(len(line.encode()) <= command.LONGEST_LINE for line in text.split("\n")):
        assert fitted == text


# --- a real program --------------------------------------------------------------------------------------------------


def test_a_message_goes_from_draft_to_received(home):
    shop, log = project(**SCRIPTED), agent(home, "app-1", "--hooks")

    def known():
        history = tmux.screen(home, "app-1", history=True)
        return command.received(shop, session(("m-1", "sending")), ["m-1"], history)["m-1"]

    assert command.obstacle(shop, tmux.screen(home, "app-1")) == ""
    assert known() is False
    tmux.paste(home, "app-1", "fix\nit\n(ao message m-1)")
    until(lambda: command.has_draft(shop, tmux.screen(home, "app-1")), "the text in the input box")
    assert known() is None
    tmux.press(home, "app-1", "Enter")
    until(lambda: known() is True, "the message")
    assert logged(log) == ["fix\nit\n(ao message m-1)"]
    until(lambda: command.read(shop, tmux.screen(home, "app-1")).activity == "ready", "the prompt")


def test_a_dialog_is_seen_and_answered_by_a_person_only(home):
    """F3"""
    shop, log = project(**SCRIPTED), agent(home, "app-1", "--dialog")
    reading = command.read(shop, tmux.screen(home, "app-1"))
    assert reading == ("waiting_input", DIALOG)
    assert command.obstacle(shop, tmux.screen(home, "app-1")) == "a question is open"
    tmux.press(home, "app-1", "y")
    until(lambda: command.read(shop, tmux.screen(home, "app-1")).activity == "ready", "the prompt")
    assert logged(log, "key") == ["y"]


def test_a_story_acts_and_what_is_typed_meanwhile_comes_next(home, tmp_path):
    story, go = tmp_path / "story.py", tmp_path / "go"
    story.write_text(
        "import os, time\n"
        "def on_message(text, say, run):\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "    code, output = run(['sh', '-c', 'echo out; exit 4'])\n"
        "    say(f'{text}: {output.strip()} {code}')\n"
    )
    shop, log = project(**SCRIPTED), agent(home, "app-1", "--story", str(story))
    send(home, "app-1", "first")
    until(lambda: command.obstacle(shop, tmux.screen(home, "app-1")) == "it is busy", "the work")
    send(home, "app-1", "second")
    go.touch()
    until(lambda: "second: out 4" in tmux.screen(home, "app-1"), "both")
    assert logged(log) == ["first", "second"]
    assert "first: out 4" in tmux.screen(home, "app-1")


@pytest.mark.parametrize(
    ("options", "typed", "code"),
    [
        ([], "/exit", 0),
        ([], None, 130),  # Ctrl-C
        (["--exit-after", "1"], "any", 0),
        (["--die", "7"], "please die now", 7),
    ],
)
def test_the_scripted_agent_ends_as_it_is_told(home, options, typed, code):
    log = agent(home, "app-1", *options)
    if typed:
        send(home, "app-1", typed)
    else:
        tmux.press(home, "app-1", "C-c")
    until(lambda: tmux.look(home) == {}, "the end of the terminal")
    assert logged(log, "exit") == [str(code)]
    assert left(paths.launch(home, "shop", "app-1"))["code"] == code


def test_what_is_typed_before_the_scripted_agent_is_ready_is_lost(home):
    """F2: as with a real one, so that whoever sends has to wait for the prompt."""
    log = f"{home}/log"
    launch(home, "app-1", [sys.executable, AGENT, "--log", log, "--delay", "0.8"])
    send(home, "app-1", "too early")
    until(lambda: tmux.screen(home, "app-1").endswith("\n>"), "the prompt")
    send(home, "app-1", "in time")
    until(lambda: logged(log), "a message")
    assert logged(log) == ["in time"]
