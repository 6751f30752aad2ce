"""The agent cursor, by what is documented and was recorded of it: the real program was never at hand.

So nothing here proves what that program does. The screens are written after descriptions of it, and the story at the
end is played by a small program that keeps to them: it proves ao's side.
"""

from __future__ import annotations

import json
import os
import sys

import living
import pytest
from conftest import until
from records import session

from lib import config, launcher, rounds
from lib.agent import cursor
from lib.errors import AoError

BORN = "2026-11-25T15:30:00.000Z"
BANNER = "  Cursor Agent\n  v2026.09.10-fd3934a\n\n"
FOOTER = "\n\n  Composer 2.5 · 12%                                Auto-run\n  ~/shop · main\n"
IDLE = BANNER + "  → Plan, search, build anything" + FOOTER
FRAMED = " ┌──────────┐\n │ → Add a follow-up     │\n └──────────┘\n  GPT-5 · 97%     / commands · @ files"
BUSY = FRAMED.replace("/ commands · @ files", "ctrl+c to stop")
BUSY_IN_THE_BOX = BANNER + "  ⬢ Reading 2 files\n\n  → Add a follow-up              ctrl+c to stop" + FOOTER
DRAFT = BANNER + "  → fix it\n    now\n    (ao message m-1)" + FOOTER
COMMAND = (
    "  ┃ test it\n\n $  make test in .\n Run this command?\n Not in allowlist: make\n  → Run (once) (y)\n"
    "    Add Shell(make) to allowlist? (tab)\n    Skip (esc or n)\n\n                  ctrl+r to review changed files\n"
)
WRITE = COMMAND.replace("Run this command?", "Write to this file?").replace("Run (once) (y)", "Proceed (y) (enter)")
SECOND = COMMAND.replace("→ Run", "  Run").replace("  Skip", "→ Skip")
TRUST = (
    " ╭──────────────╮\n │ ⚠ Workspace Trust Required │\n │ Do you trust the contents of this directory? │\n"
    " │ ▶ [a] Trust this workspace │\n │   [q] Quit │\n ╰──────────────╯\n"
)
LOGIN = "  Cursor Agent\n\n  Press any key to sign in...\n"


@pytest.fixture
def person(tmp_path, monkeypatch):
    """A person's home folder, with nothing of this name on PATH."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CURSOR_DATA_DIR", raising=False)
    monkeypatch.delenv("CURSOR_API_KEY", raising=False)
    return tmp_path


def project(folder, **agent_config):
    path = os.path.join(str(folder), "ao.yaml")
    with open(path, "w") as file:
        json.dump({"projects": {"shop": {"path": str(folder), "agent": "cursor", "agent_config": agent_config}}}, file)
    return config.load(path).projects["shop"]


def worker(folder, **fields):
    path = str(folder / "my.shop" / "shop-1")
    return session(**{"workspace_path": path, "agent": "cursor", "created_at": BORN, "project_id": "shop", **fields})


def installed(person, monkeypatch, name, says="2026.09.10-fd3934a"):
    (person / "bin").mkdir(exist_ok=True)
    (person / "bin" / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (person / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{person}/bin:/usr/bin:/bin")


def chat(person, name, *texts, form="{project}/agent-transcripts/{name}/{name}.jsonl", slug=None, at=None):
    """Write a transcript as entireio/cli describes it; its path."""
    slug = slug or "".join(letter if letter.isalnum() else "-" for letter in f"{person}/my.shop/shop-1"[1:])
    path = person / ".cursor" / "projects" / form.format(project=slug, name=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [{"role": role, "message": {"content": [{"type": "text", "text": text}]}} for role, text in texts]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    if at:
        os.utime(path, (at, at))
    return path


# --- screens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("screen", "activity", "obstacle", "draft"),
    [
        (IDLE, "ready", "", False),
        (FRAMED, "ready", "", False),
        (BUSY, "active", "it is busy", False),
        (BUSY_IN_THE_BOX, "active", "it is busy", False),
        (DRAFT, "ready", "its input box holds text", True),
        (COMMAND, "waiting_input", "a question is open", False),
        (WRITE, "waiting_input", "a question is open", False),
        (SECOND, "waiting_input", "a question is open", False),
        (TRUST, "waiting_input", "a question is open", False),
        (LOGIN, "waiting_input", "a question is open", False),
        ("", None, "it shows no input box", False),
        ("ao: running cursor-agent in /src/shop\n", None, "it shows no input box", False),
        ("  said: → no box here? no\n", None, "it shows no input box", False),
        (COMMAND + IDLE, "ready", "", False),  # answered; the box is back
        ("  ctrl+c to stop\n" + IDLE, "ready", "", False),  # of the past
        (IDLE + "  press ctrl+c to stop\n", "ready", "", False),
    ],
)
def test_a_screen_is_read(person, screen, activity, obstacle, draft):
    """F2, F3, F16"""
    shop = project(person)
    reading = cursor.read(shop, screen)
    assert (reading.activity, cursor.obstacle(shop, screen)) == (activity, obstacle)
    assert cursor.has_draft(shop, screen) == draft
    assert bool(reading.question) == (activity == "waiting_input") and not reading.is_sure


def test_a_question_tells_what_is_asked_and_how_to_be_spared_it(person):
    shop = project(person)
    assert "make test" in cursor.read(shop, COMMAND).question
    assert "agent_config.trust: true" in cursor.read(shop, TRUST).question
    assert "agent login" in cursor.read(shop, LOGIN).question


@pytest.mark.parametrize("text", ["/exit", "!rm -rf x", " /exit", "\n!ls"])
def test_no_message_is_a_command(person, text):
    """F4"""
    assert cursor.fit(text).endswith(text) and cursor.fit(text).lstrip()[0] not in "/!"


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "flags"),
    [("permissionless", ["--force"]), ("default", []), ("auto-edit", []), ("suggest", ["--mode", "plan"])],
)
def test_each_way_of_asking_has_its_flags(person, permissions, flags):
    found = cursor.launch(project(person, permissions=permissions), worker(person), "do it")
    assert found.argv == ["cursor-agent", *flags, "--", "do it"]


def test_editing_unasked_is_allowed_by_a_file_that_is_never_committed_and_goes_again(home, tmp_path, monkeypatch):
    world = living.make(home, tmp_path)
    installed(tmp_path, monkeypatch, "cursor-agent")
    one, path = session(workspace_path=world.repo), os.path.join(world.repo, ".cursor", "cli.json")
    cursor.prepare(project(tmp_path, permissions="auto-edit"), one)
    cursor.prepare(project(tmp_path, permissions="auto-edit"), one)
    with open(path) as file:
        assert json.load(file)["permissions"] == {"allow": ["Write(**/*)"], "deny": []}
    assert world.git("status", "--porcelain", "--untracked-files=all") == ""
    cursor.prepare(project(tmp_path, permissions="default"), one)
    assert not os.path.exists(path)
    with open(path, "w") as file:
        file.write("{}")  # of the person
    for permissions in ("auto-edit", "default"):
        cursor.prepare(project(tmp_path, permissions=permissions), one)
    with open(path) as file:
        assert file.read() == "{}"


def test_a_start_says_everything_by_words_of_its_own(person):
    """F55, F56"""
    shop = project(person, model="gpt-5", system_prompt="be brief", trust=True)
    found = cursor.launch(shop, worker(person), "--help; rm -rf /")
    assert found.argv[-3:] == ["--trust", "--", "be brief\n\n--help; rm -rf /"] and found.has_prompt
    assert found.argv[found.argv.index("--model") + 1] == "gpt-5"
    again = cursor.launch(project(person), worker(person, agent_config={"model": "opus"}), None)
    assert again.argv == ["cursor-agent", "--force", "--model", "opus"] and not again.has_prompt
    assert found.records == str(person / ".cursor")


@pytest.mark.parametrize("task", ["login", "/exit now", "!ls"])
def test_no_task_is_a_command(person, task):
    """F4: `agent login` is a command of the program."""
    text = cursor.launch(project(person), worker(person), task).argv[-1]
    assert text.endswith(task) and text.split()[0] != task.split()[0]


def test_another_program_of_that_name_is_not_started(person, monkeypatch):
    shop = project(person)
    installed(person, monkeypatch, "agent", "agent 0.3.1")
    assert cursor.program(shop) == "agent"
    with pytest.raises(AoError, match=r"'agent' is not Cursor's agent: its version is 'agent 0.3.1'"):
        cursor.prepare(shop, worker(person))
    with pytest.raises(AoError, match="is not Cursor's"):
        cursor.check(shop)
    installed(person, monkeypatch, "cursor-agent")
    assert cursor.program(shop) == "cursor-agent"
    cursor.prepare(shop, worker(person))


def test_the_doctor_says_that_it_was_not_tried_and_what_else_is_to_be_known(person, monkeypatch):
    installed(person, monkeypatch, "agent")
    version, tried, login, trust = cursor.check(project(person))
    assert (version.state, version.text) == ("ok", "2026.09.10-fd3934a")
    assert tried.state == "warning" and "not tried with the real program" in tried.text
    assert "agent status" in login.text and trust.remedy == "set agent_config.trust: true"
    monkeypatch.setenv("CURSOR_API_KEY", "x")
    (person / ".cursor").mkdir()
    (person / ".cursor" / "cli.json").write_text("{}")
    _, tried, edits = cursor.check(project(person, trust=True, permissions="auto-edit"))
    assert "not tried" in tried.text and "Write(**/*)" in edits.remedy


# --- transcripts ------------------------------------------------------------------------------------------------------

OURS = [("user", "<user_query>\nfix it\n(ao message m-1)\n</user_query>"), ("assistant", "as (ao message m-2) said")]


def test_the_chat_that_was_written_to_last_is_resumed_and_none_that_was_never_spoken_in(person):
    """F40"""
    shop, one = project(person), worker(person)
    assert cursor.resume(shop, one) is None
    chat(person, "silent", at=4e9)
    chat(person, "early", *OURS, at=1e9)  # of an earlier session in the same folder
    assert cursor.resume(shop, one) is None
    chat(person, "older", *OURS, at=2e9)
    newer = chat(person, "newer", *OURS, form="{project}/agent-transcripts/{name}.jsonl", at=3e9)
    found = cursor.resume(shop, one)
    assert found.argv[-1] == "--resume=newer" and not found.has_prompt
    newer.unlink()
    assert cursor.resume(shop, one).argv[-1] == "--resume=older"
    assert cursor.recall(shop, one, {}).session_id == "silent"


@pytest.mark.parametrize("turn", [lambda path: path.replace(".", ""), lambda path: path, lambda path: path + "0"])
def test_a_chat_is_found_however_its_folder_is_named_and_that_of_another_is_not(person, turn):
    path = turn(f"{person}/my.shop/shop-1"[1:])
    chat(person, "c", *OURS, slug="".join(letter if letter.isalnum() else "-" for letter in path))
    assert bool(cursor.resume(project(person), worker(person))) is not path.endswith("0")


def known(person, history, *ids, **fields):
    return cursor.received(project(person), worker(person, **fields), ids, history)


def test_what_it_has_is_known_from_its_transcript(person):
    """F1: and from no other's words."""
    chat(person, "c", *OURS)
    assert known(person, None, "m-1", "m-2", "m-3") == {"m-1": True, "m-2": None, "m-3": None}


@pytest.mark.parametrize(
    ("history", "state", "is_known"),
    [
        (f"  fix it\n  (ao message m-1)\n\n{IDLE}", "delivered", True),
        (f"  fix it\n  (ao message m-1)\n\n{BUSY}", "delivered", True),
        (DRAFT, "sending", None),
        (IDLE, "sending", None),  # what was before may have been wiped
        (f"{launcher.BANNER} x\n{IDLE}", "sending", False),
        (f"{launcher.BANNER} x\n{IDLE}", "delivered", None),
        (f"{launcher.BANNER} x\n{BUSY}", "sending", None),
        (f"{launcher.BANNER} x\n{COMMAND}", "sending", None),
        (f"{launcher.BANNER} x\n{DRAFT}", "sending", None),
        (f"{launcher.BANNER} x\n{DRAFT.replace('(ao message m-1)', '')}", "sending", None),
        (DRAFT, "delivered", None),
    ],
)
def test_where_no_transcript_tells_the_screen_does(person, history, state, is_known):
    """F1"""
    assert known(person, history, "m-1", inbox=[{"id": "m-1", "state": state}]) == {"m-1": is_known}


# --- a story, with a program that keeps to the descriptions -----------------------------------------------------------

PROGRAM = r"""
import json, os, re, sys, termios, time, tty

VERSION, BOX = "2026.09.10-fd3934a", "\n  → {}\n\n  Composer 2.5 · 12%{}\n  ~/shop · main\n"
if "--version" in sys.argv:
    sys.exit(print(VERSION))
told = os.environ["TOLD"]
with open(told + "/starts", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\n")
chat = next((word[9:] for word in sys.argv if word.startswith("--resume=")), "c-1")
slug = re.sub("[^a-zA-Z0-9]", "-", os.getcwd()[1:])
path = f"{os.environ['HOME']}/.cursor/projects/{slug}/agent-transcripts/{chat}/{chat}.jsonl"
os.makedirs(os.path.dirname(path), exist_ok=True)
shown = "  Cursor Agent\n  v" + VERSION + "\n"
tty.setcbreak(0)

def draw(text):
    os.write(1, b"\x1b[2J\x1b[H\x1b[?2004h" + (shown + text).encode())

def key():
    return os.read(0, 1).decode("latin-1")

def ask(text, wanted):
    draw(text)
    while (got := key()) not in wanted:
        pass
    return got

def turn(text):
    global shown
    with open(path, "a") as file:
        message = {"content": [{"type": "text", "text": f"<user_query>\n{text}\n</user_query>"}]}
        file.write(json.dumps({"role": "user", "message": message}) + "\n")
    shown += "\n  " + text.replace("\n", "\n  ") + "\n"
    if text.startswith("leave "):
        sys.exit(3)
    if text.startswith("work "):
        draw(BOX.format("Add a follow-up", "      ctrl+c to stop"))
        while not os.path.exists(told + "/done"):
            time.sleep(0.02)
    if text.startswith("ask "):
        got = ask(shown + "\n Run this command?\n  → Run (once) (y)\n    Skip (esc or n)\n", "yn")
        with open(told + "/answers", "a") as file:
            file.write(got)
    termios.tcflush(0, termios.TCIFLUSH)

if "--trust" not in sys.argv:
    ask(" ⚠ Workspace Trust Required\n ▶ [a] Trust this workspace\n   [q] Quit\n", "a")
if "--" in sys.argv:
    turn(sys.argv[-1])
typed, pasting = "", False
draw(BOX.format("Add a follow-up", ""))
while True:
    typed += key()
    if typed.endswith(("\x1b[200~", "\x1b[201~")):
        pasting, typed = typed.endswith("200~"), typed[:-6]
        if not pasting:
            draw(BOX.format(typed.encode("latin-1").decode() or "Add a follow-up", ""))
    elif typed.endswith("\n") and not pasting and "\x1b" not in typed:
        text, typed = typed[:-1].encode("latin-1").decode(), ""
        turn(text)
        draw(BOX.format("Add a follow-up", ""))
"""


@pytest.fixture
def world(home, tmp_path, monkeypatch):
    """A project whose agent is `cursor`, and the program that plays it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TOLD", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "agent").write_text(f"#!{sys.executable}\n{PROGRAM}")
    (tmp_path / "bin" / "agent").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return living.make(home, tmp_path, agent="cursor", agent_config={})


def said(world):
    """What the program was told, word for word."""
    folder = os.path.realpath(world.record("shop-1")["workspace_path"])
    slug = "".join(letter if letter.isalnum() else "-" for letter in folder[1:])
    path = os.path.join(world.folder, ".cursor", "projects", slug, "agent-transcripts", "c-1", "c-1.jsonl")
    if not os.path.exists(path):
        return []
    with open(path) as file:
        texts = [json.loads(line)["message"]["content"][0]["text"] for line in file]
    return [text.removeprefix("<user_query>\n").removesuffix("\n</user_query>") for text in texts]


def starts(world):
    with open(os.path.join(world.folder, "starts")) as file:
        return [json.loads(line) for line in file]


def goes_on_until(world, condition, what):
    def step():
        rounds.look(world.home)
        rounds.act(world.home)
        return condition(world.record("shop-1"))

    return until(step, what)


def states(record):
    return [one["state"] for one in record["inbox"]]


def test_a_story_from_the_first_dialog_to_the_restore(world):
    """F1, F2, F3, F5, F40: played, not proven of the real program."""
    world.spawn("--task", "mend the parser")
    goes_on_until(world, lambda one: one["activity"] == "waiting_input", "the dialog of trust")
    assert "agent_config.trust: true" in world.record("shop-1")["question"]
    text = "first\n\tünï 漢字 `x` $HOME;"
    world.ok("ao-send", "shop-1", text)
    for _ in range(3):
        rounds.look(world.home)
        rounds.act(world.home)
    assert states(world.record("shop-1")) == ["queued"] and said(world) == []
    world.ok("ao-send", "shop-1", "--answer", "a")
    goes_on_until(world, lambda one: states(one)[-1] == "confirmed", "the message")
    [task, message] = said(world)
    assert "mend the parser" in task and message.startswith(text + "\n\n(ao message ")
    assert world.record("shop-1")["agent_config"]["session_id"] == "c-1"

    world.ok("ao-send", "shop-1", "work hard")
    goes_on_until(world, lambda one: one["activity"] == "active" and states(one)[-1] == "confirmed", "its work")
    world.ok("ao-send", "shop-1", "ask me")
    goes_on_until(world, lambda one: states(one)[-1] == "queued" and one["inbox"][-1]["waiting_for"], "its turn")
    assert len(said(world)) == 3
    open(os.path.join(world.folder, "done"), "w").close()
    goes_on_until(world, lambda one: "Run this command?" in (one["question"] or ""), "its question")
    world.ok("ao-send", "shop-1", "--answer", "n")
    goes_on_until(world, lambda one: os.path.exists(os.path.join(world.folder, "answers")), "the answer")

    world.ok("ao-send", "shop-1", "leave now")
    goes_on_until(world, lambda one: one["exit_code"] == 3, "its end")
    world.ok("ao-restore", "shop-1")
    until(lambda: len(starts(world)) == 2, "the second start")
    assert starts(world) == [["--force", "--", starts(world)[0][-1]], ["--force", "--resume=c-1"]]
