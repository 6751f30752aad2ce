"""The agent Codex: its rollouts, screens and start, on samples of the real program (version 0.169.0).

`make test-clients` plays whole stories with the program itself.
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib

import pytest
from conftest import ROOT
from records import session

from lib import config, costs
from lib.agent import _tale, codex
from lib.clock import iso, parse
from lib.errors import AoError

SAMPLES = os.path.join(ROOT, "tests", "samples", "codex")
BORN = "2026-11-25T15:30:00.000Z"
DAY = ("sessions", "2026", "11", "25")


@pytest.fixture
def person(tmp_path, monkeypatch):
    """A person's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CODEX_HOME", raising=False)
    codex._first_line.cache_clear()
    return tmp_path


def project(folder, **agent_config):
    path = os.path.join(str(folder), "ao.yaml")
    with open(path, "w") as file:
        json.dump({"projects": {"shop": {"path": str(folder), "agent": "codex", "agent_config": agent_config}}}, file)
    return config.load(path).projects["shop"]


def worker(person, **fields):
    names = {"workspace_path": "/src/shop-1", "agent": "codex", "created_at": BORN, "project_id": "shop"}
    return session(**{**names, "agent_config": {"model": None, "records": str(person / ".codex")}, **fields})


def place(person, *names):
    """Put samples where the rollouts of their day are; their paths."""
    folder = (person / ".codex").joinpath(*DAY)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"rollout-2026-11-25T15-30-00-{name}.jsonl" for name in names]
    for name, path in zip(names, paths, strict=True):
        shutil.copy(os.path.join(SAMPLES, f"{name}.jsonl"), path)
    return paths


def recall(person, state=None, **fields):
    return codex.recall(project(person), worker(person, **fields), {} if state is None else state)


def lines(name):
    with open(os.path.join(SAMPLES, f"{name}.jsonl"), "rb") as file:
        return file.read().splitlines(keepends=True)


def thread(name):
    return json.loads(lines(name)[0])["payload"]["id"]


# --- rollouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("queue", [None, "active", "ready"]),
        ("limit", [None, "active", "blocked"]),
        ("error", [None, "active", "blocked"]),
        ("interrupt", [None, "active", "ready"]),
        ("killed", [None, "active"]),
        ("main", [None, "active", "ready"]),
        ("sub-agent", [None]),
    ],
)
def test_each_line_is_understood_as_it_comes(person, name, told):
    """F15, F16: a tool that runs is work, an interrupted turn is over, a sub-agent's turn is not the agent's."""
    [path], state, found = place(person, name), {}, []
    path.write_bytes(b"")
    for line in lines(name):
        with open(path, "ab") as file:
            file.write(line[:9])
            file.flush()
            recall(person, state)
            file.write(line[9:])
        activity = recall(person, state).activity
        if not found or activity != found[-1]:
            found.append(activity)
    assert found == told
    whole = recall(person)
    assert recall(person, state) == whole


def test_a_message_in_the_middle_of_the_work_is_a_new_turn(person):
    [path] = place(person, "queue")
    whole = lines("queue")
    [taken] = [number for number, line in enumerate(whole) if b"UserMessage" in line and b"cccccccc" in line]
    path.write_bytes(b"".join(whole[: taken + 1]))
    assert iso(recall(person).since) == json.loads(whole[taken])["timestamp"]


def usages(*names):
    """The counts by the running total with which each rollout ends: another line than the one that is read."""
    found = dict.fromkeys(costs.TOKENS, 0)
    for name in names:
        totals = [json.loads(line)["payload"].get("info") for line in lines(name) if b"token_count" in line]
        total = totals[-1]["total_token_usage"]
        found["input_tokens"] += total["input_tokens"] - total["cached_input_tokens"]
        found["cache_read_tokens"] += total["cached_input_tokens"]
        found["output_tokens"] += total["output_tokens"]
    return found


def counts(story):
    """All that a story says was spent."""
    found = dict.fromkeys(costs.TOKENS, 0)
    for models in story.days.values():
        for model in models.values():
            for name, count in model.items():
                found[name] += count
    return found


def test_every_conversation_of_a_worktree_counts_and_sub_agents_too(person):
    """F46"""
    place(person, "main", "sub-agent")
    story = recall(person)
    assert counts(story) == usages("main", "sub-agent")
    assert list(story.days["2026-11-25"]) == ["gpt-5-codex"]
    assert story.session_id == thread("main") and story.last_id
    place(person, "queue")
    assert counts(recall(person)) == usages("main", "sub-agent", "queue")


def test_what_a_fork_has_copied_counts_once(person):
    """F46: however long ago that was."""
    [path], state = place(person, "queue"), {}
    recall(person, state)
    state["ids"] = {}  # only the last messages are remembered
    fork = path.with_name("rollout-2026-11-25T15-40-00-fork.jsonl")
    fork.write_bytes(lines("error")[0] + b"".join(lines("queue")[1:]))
    assert counts(recall(person, state)) == usages("queue") == counts(recall(person))


def test_a_conversation_that_begins_later_is_found_and_one_of_another_folder_is_not(person):
    """F15: a folder is listed again when it has changed, and a file that says nothing yet is looked at again."""
    place(person, "error")
    state = {}
    assert recall(person, state).activity == "blocked"
    assert recall(person, {}, workspace_path="/src/shop").activity is None
    [path] = place(person, "queue")
    path.write_bytes(b"")
    recall(person, state)
    place(person, "queue")  # in the file that is there: the folder does not change
    assert counts(recall(person, state)) == usages("queue")


def test_a_folder_in_which_nothing_has_begun_for_a_while_is_not_listed_again(person):
    [path] = place(person, "error")
    os.utime(path.parent, (1e9, 1e9))
    state = {}
    before = recall(person, state)
    place(person, "queue")
    os.utime(path.parent, (1e9, 1e9))
    assert recall(person, state) == before
    os.utime(path.parent)
    assert counts(recall(person, state)) == usages("queue")


def test_a_conversation_of_an_earlier_session_in_the_same_folder_is_not_its_own(person):
    """F15"""
    place(person, "queue")
    story = recall(person, created_at="2026-11-25T16:00:00.000Z")
    assert (story.activity, story.days) == (None, {})


def test_conversations_are_found_by_the_folder_that_was_noted_at_the_start(person, monkeypatch):
    """F15: cron knows nothing of the person's CODEX_HOME."""
    place(person, "error")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert recall(person).activity == "blocked"


def test_an_error_says_what_it_is_and_a_usage_limit_until_when(person, monkeypatch):
    """F16"""
    place(person, "error")
    story = recall(person)
    assert "no such thing" in story.text and not story.until
    place(person, "limit")
    monkeypatch.setattr(codex, "_reset", lambda text, at: parse(at) + 60 if "try again at 5:02 PM" in text else 0)
    assert recall(person).until == 0  # the error is the newer one
    os.unlink(person.joinpath(".codex", *DAY, "rollout-2026-11-25T15-30-00-error.jsonl"))
    story = recall(person)
    assert story.activity == "blocked" and "usage limit" in story.text and story.until == story.since + 60


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("or try again at 5:02 PM.", (25, 17, 3)),
        ("Try again at 9:30 AM.", (26, 9, 31)),
        ("or try again at Nov 27th, 2026 5:32 PM.", (27, 17, 33)),
        ("try again at Dec 1st, 2026 12:05 AM.", (31, 0, 6)),
        ("try again at Feb 30th, 2026 1:00 AM.", None),
        ("Try again later.", None),
    ],
)
def test_when_a_limit_ends_is_read_from_its_words(monkeypatch, text, until):
    """By the clock of the machine, wherever that is; where none is said it is tried again after a while."""
    import time

    for zone in ("UTC", "America/New_York", "Asia/Kolkata"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        at = time.mktime((2026, 11, 25, 15, 34, 41, 0, 0, -1))
        day, hour, minute = until or (0, 0, 0)
        wanted = time.mktime((2026, 11, day, hour, minute, 0, 0, 0, -1)) if until else at + _tale.TRY_AGAIN
        assert codex._reset(text, iso(at)) == wanted, zone
    monkeypatch.undo()
    time.tzset()


def test_lines_that_make_no_sense_are_no_lines(person):
    [path] = place(person, "main")
    before = recall(person)
    with open(path, "ab") as file:
        file.write(
            b'not json\n[1]\n{"type": "event_msg"}\n\xff\xfe\n{"timestamp": "2027", "payload": null, "type": "x"}\n'
        )
        file.write(b'{"timestamp": "2027", "type": "event_msg", "payload": {"type": "item_completed", "item": null}}\n')
    assert recall(person) == before


def test_what_it_has_is_known_from_its_rollout(person):
    """F1, F40: its queue is lost with it, and what it has told a sub-agent it need not have itself."""
    *_, sub = place(person, "queue", "killed", "sub-agent")
    sub.write_bytes(sub.read_bytes().replace(b"Look around.", b"Look. (ao message m-nowhere1)"))
    shop, ids = project(person), ["m-bbbbbbbb", "m-cccccccc", "m-nowhere1"]
    for state, missing in (("alive", None), ("exited", False)):
        found = codex.received(shop, worker(person, runtime_state=state), ids, None)
        assert found == {"m-bbbbbbbb": True, "m-cccccccc": True, "m-nowhere1": missing}


def screen(name):
    with open(os.path.join(SAMPLES, "screens", f"{name}.txt")) as file:
        return file.read()


LONG = "é✓ 'quoted' \"twice\" $HOME `id` \\n #{x}\n- dash; \n" * 100


@pytest.mark.parametrize(
    ("name", "text", "has"),
    [
        ("queued", "a queued one\n\nwith lines", True),
        ("queued", "another", None),  # it works: the message may be on its way out of the queue
        ("queued-long", LONG, True),  # the queue shows three lines of it, and no id
        ("busy", "a queued one", None),
        ("ready", "a queued one", False),
        ("pasted", LONG, False),  # of which the next step sees that it is a draft
        ("command", "a queued one", None),
        ("edits", "a queued one", None),
    ],
)
def test_what_waits_in_its_queue_is_known_from_its_screen(person, name, text, has):
    """F1: nothing is pasted twice, however long it waits there."""
    one = worker(person, runtime_state="alive", inbox=[{"id": "m-xxxxxxxx", "text": text, "state": "delivered"}])
    assert codex.received(project(person), one, ["m-xxxxxxxx"], screen(name)) == {"m-xxxxxxxx": has}


# --- screens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "activity", "obstacle", "part"),
    [
        ("ready", "ready", "", ""),
        ("limit", "ready", "", ""),
        ("interrupted", "ready", "", ""),
        ("busy", "active", "", ""),
        ("queued", "active", "", ""),
        ("queued-long", "active", "", ""),
        ("draft", "active", "its input box holds text", ""),
        ("pasted", "ready", "its input box holds text", ""),
        ("menu-like", "ready", "its input box holds text", ""),
        ("retrying", "blocked", "", ""),
        ("command", "waiting_input", "a question is open", "$ touch /outside.txt"),
        ("edits", "waiting_input", "a question is open", "/src/shop-1/new.txt"),
        ("trust", "waiting_input", "a question is open", "agent_config.trust"),
        ("login", "waiting_input", "a question is open", "codex login"),
    ],
)
def test_a_screen_is_read(person, name, activity, obstacle, part):
    """F2, F3: also each dialog at the start, with how to be spared it."""
    shop = project(person)
    reading = codex.read(shop, screen(name))
    assert reading.activity == activity and part in reading.question
    assert codex.obstacle(shop, screen(name)) == obstacle
    assert bool(reading.question) == (activity == "waiting_input")
    assert bool(reading.trouble) == (activity == "blocked")
    assert codex.has_draft(shop, screen(name)) == (name in ("draft", "pasted", "menu-like"))
    assert not reading.question or "NET now" not in reading.question


@pytest.mark.parametrize(
    "text", ["", "\n" * 49, "ao: running codex in /src/shop", "› said\n\n• Done.", "› said\n\n• Done.\n\n  m · /src"]
)
def test_a_screen_without_anything_known_says_nothing(person, text):
    assert codex.read(project(person), text).activity is None
    assert codex.obstacle(project(person), text) == "it shows no input box"


def test_what_was_said_earlier_is_no_dialog_and_no_work(person):
    """F16"""
    past = "› 1. Yes\n  2. No\n\n• Working (4s • esc to interrupt)\n\n  Would you like to run it?\n\n• said\n"
    assert codex.read(project(person), past + screen("ready")).activity == "ready"


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "flags"),
    [
        ("permissionless", ["--dangerously-bypass-approvals-and-sandbox"]),
        ("default", []),
        ("auto-edit", ["--ask-for-approval", "on-request", "--sandbox", "workspace-write"]),
        ("suggest", ["--ask-for-approval", "on-request", "--sandbox", "read-only"]),
    ],
)
def test_each_way_of_asking_has_its_flags(person, permissions, flags):
    argv = codex.launch(project(person, permissions=permissions), worker(person), "do it").argv
    assert argv[: 2 + len(flags)] == ["codex", "--no-daemon", *flags]
    others = {word for words in codex.PERMISSIONS.values() for word in words} - set(flags)
    assert not others & set(argv)


def settings(argv):
    """What a start sets, as TOML reads it."""
    words = [argv[place + 1] for place, word in enumerate(argv) if word == "--config"]
    return tomllib.loads("\n".join(words))


def test_a_start_says_everything_by_words_of_its_own(person):
    """F55, F56: no shell, no option out of a task, nothing in the tracked tree."""
    prompt = '--be "brief"; $HOME\n\\ é \x7f'
    shop = project(person, model="gpt-5", system_prompt=prompt, trust=True)
    found = codex.launch(shop, worker(person), "--help; rm -rf /")
    assert found.argv[-2:] == ["--", "--help; rm -rf /"] and found.has_prompt
    assert settings(found.argv)["developer_instructions"] == prompt
    assert settings(found.argv)["projects"] == {str(person): {"trust_level": "trusted"}}
    assert found.argv[found.argv.index("--model") + 1] == "gpt-5"
    again = codex.launch(project(person), worker(person, agent_config={"model": "gpt-5-mini"}), None)
    assert again.argv[again.argv.index("--model") + 1] == "gpt-5-mini"  # ao-spawn --model
    assert "--" not in again.argv and not again.has_prompt
    assert not {"projects", "developer_instructions"} & set(settings(again.argv))
    assert found.records == str(person / ".codex")


@pytest.mark.parametrize("text", ["/exit", "!rm -rf x", " /exit", "\n!ls"])
def test_no_message_is_a_command(person, text):
    """F4"""
    fitted = codex.fit(text)
    assert fitted.endswith(text) and fitted.lstrip()[0] not in "/!"


def test_the_conversation_that_was_written_to_last_is_resumed_and_none_that_was_never_spoken_in(person):
    """F40"""
    shop, one = project(person), worker(person)
    assert codex.resume(shop, one) is None
    [path] = place(person, "sub-agent")
    silent = path.with_name("rollout-2026-11-25T15-29-00-silent.jsonl")
    silent.write_bytes(lines("error")[0])
    assert codex.resume(shop, one) is None
    older, newer = place(person, "queue", "main")
    os.utime(older, (1e9, 1e9))
    found = codex.resume(shop, one)
    assert found.argv[-2:] == ["resume", thread("main")] and not found.has_prompt
    newer.unlink()
    assert codex.resume(shop, one).argv[-1] == thread("queue")


def doctored(person, monkeypatch, login, **agent_config):
    """What ao-doctor finds about the agent, with a program that only knows its version and who is logged in."""
    (person / "codex").write_text(f'#!/bin/sh\n[ "$1" = login ] && exit {login}\necho codex-cli 0.169.0\n')
    (person / "codex").chmod(0o755)
    monkeypatch.setenv("PATH", f"{person}:{os.environ['PATH']}")
    return codex.check(project(person, **agent_config))


def test_the_doctor_says_what_is_missing_and_what_helps(person, monkeypatch):
    for name in codex.LOGINS:
        monkeypatch.delenv(name, raising=False)
    version, login, trust = doctored(person, monkeypatch, 1)
    assert (version.state, version.text) == ("ok", "codex-cli 0.169.0")
    assert (login.state, login.remedy) == ("warning", "codex login")
    assert trust.state == "warning" and "agent_config.trust: true" in trust.remedy
    assert [one.state for one in doctored(person, monkeypatch, 0, trust=True)] == ["ok"]
    folder = person / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text(f'model_provider = "mine"\n[projects."{person}"]\ntrust_level = "trusted"\n')
    assert [one.state for one in doctored(person, monkeypatch, 1)] == ["ok"]
    (folder / "config.toml").write_text("half = [")
    with pytest.raises(AoError, match="cannot read"):
        doctored(person, monkeypatch, 1)
