"""The agent Aider: its chat, log, screens and start, on samples of the real program (version 0.86.2).

`make test-clients` plays whole stories with the program itself.
"""

from __future__ import annotations

import json
import os
import shutil
import stat

import forging
import pytest
from conftest import ROOT
from records import session

from lib import config, costs, prompts
from lib.agent import _tale, aider
from lib.clock import iso
from lib.errors import AoError

SAMPLES = os.path.join(ROOT, "tests", "samples", "aider")
SAID = ["m-monq6p19", "m-ns1wpejd", "m-bfbttpca", "m-oi4idp8s", "m-s036i3dg", "m-demq0bqs", "m-t3kdq9nq"]


@pytest.fixture
def person(tmp_path, monkeypatch):
    """A person's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def project(folder, publish=None, agent="aider", **agent_config):
    path = os.path.join(str(folder), "ao.yaml")
    shop = {"path": str(folder), "agent": agent, "agent_config": agent_config, "publish": publish}
    with open(path, "w") as file:
        json.dump({"projects": {"shop": shop}}, file)
    return config.load(path).projects["shop"]


def worker(person, **fields):
    names = {"workspace_path": "/src/shop-1", "agent": "aider", "project_id": "shop"}
    known = {"model": "openai/gpt-5", "records": str(person / "records")}
    return session(**{**names, "agent_config": known, **fields})


def place(person, *names):
    """Put samples where its records are; the folder."""
    folder = person / "records"
    folder.mkdir(exist_ok=True)
    for name in names or ("chat.md", "log.jsonl"):
        shutil.copy(os.path.join(SAMPLES, name), folder)
    return folder


def recall(person, state=None):
    return aider.recall(project(person), worker(person), {} if state is None else state)


def lines(name):
    with open(os.path.join(SAMPLES, name), "rb") as file:
        return file.read().splitlines(keepends=True)


def answers():
    entries = [json.loads(line) for line in lines("log.jsonl")]
    return [entry["properties"] for entry in entries if entry["event"] == "message_send"]


def screen(name):
    with open(os.path.join(SAMPLES, "screens", f"{name}.txt")) as file:
        return file.read()


# --- records ----------------------------------------------------------------------------------------------------------


def test_each_line_is_understood_as_it_comes(person):
    """F15, F16: an error blocks it until an answer, a new message or an interruption; other lines say nothing."""
    folder, state, found = place(person), {}, []
    (folder / "chat.md").write_bytes(b"")
    for line in lines("chat.md"):
        with open(folder / "chat.md", "ab") as file:
            file.write(line[:9])
            file.flush()
            recall(person, state)
            file.write(line[9:])
        story = recall(person, state)
        told = story.activity and story.text.split(":")[0]
        if not found or told != found[-1]:
            found.append(told)
    errors = ["litellm.InternalServerError", "litellm.BadRequestError", "litellm.RateLimitError"]
    assert found == [None, errors[0], None, errors[1], None, errors[2], None]
    assert recall(person, state) == recall(person)


def test_an_error_is_as_old_as_the_question_to_the_model(person):
    """F16: what failed before a restore is over."""
    folder = place(person)
    chat = (folder / "chat.md").read_bytes()
    (folder / "chat.md").write_bytes(chat[: chat.index(b"#### think")].rpartition(b"> ^C")[0])
    log = lines("log.jsonl")
    (folder / "log.jsonl").write_bytes(b"".join(log[:-1]))
    story = recall(person)
    assert story.activity == "blocked" and "Rate limit reached" in story.text and not story.until
    assert iso(story.since) == iso(json.loads(log[-2])["time"])


def test_a_rate_limit_is_waited_for_when_it_tries_no_more(person):
    """F16: its end is not said; as long as it tries again by itself there is nothing to wait for."""
    folder = place(person)
    chat = (folder / "chat.md").read_bytes()
    until_retry = chat[: chat.index(b"#### think")].rpartition(b"> Retrying in")[0]
    (folder / "chat.md").write_bytes(until_retry)
    state = {}
    story = recall(person, state)
    assert story.activity == "blocked" and story.until == story.since + _tale.TRY_AGAIN
    (folder / "chat.md").write_bytes(until_retry + b"> Retrying in 0.5 seconds...  \n")
    assert recall(person, state).until == 0 and recall(person, state).activity == "blocked"


def test_an_error_is_over_when_a_person_interrupts_its_retries(person):
    """F16"""
    folder = place(person)
    chat = (folder / "chat.md").read_bytes()
    (folder / "chat.md").write_bytes(chat[: chat.index(b"#### think")])
    assert recall(person).activity is None


def test_each_answer_counts_once_with_what_came_from_a_cache_by_its_own_price(person):
    """F46"""
    place(person)
    story = recall(person)
    [(day, models)] = story.days.items()
    total = models["openai/gpt-5"]
    assert day == "2026-11-25" and total["cache_read_tokens"] == sum(20_000 + number for number in (1, 2, 3, 4))
    assert total["input_tokens"] + total["cache_read_tokens"] == sum(one["prompt_tokens"] for one in answers())
    assert total["output_tokens"] == sum(one["completion_tokens"] for one in answers())
    assert costs.usd("openai/gpt-5", total) == pytest.approx(sum(one["cost"] for one in answers()))
    with open(person / "records" / "log.jsonl", "ab") as file:
        file.writelines(lines("log.jsonl"))
    assert recall(person).days == story.days


@pytest.mark.parametrize(
    ("model", "cost", "cached"),
    [
        ("gpt-5", 0.003_612_5, 1_000),
        ("gpt-5", 0.004_737_5, 0),
        ("gpt-5", 0.003_612, 0),  # it has reckoned with other prices
        ("gpt-5", 0.004_737_5 - 2_991 * 1.125e-6, 0),  # more than was sent
        ("gpt-5", 0.004_737_5 + 8 * 1.125e-6, 0),
        ("gpt-5", 0, 0),
        ("nobody-knows", 0.003, 0),
    ],
)
def test_a_cache_is_known_only_where_the_price_comes_out_even(model, cost, cached):
    """F46"""
    assert aider._from_cache(model, 2_990, 100, cost) == cached


@pytest.mark.parametrize(
    ("said", "model"),
    [
        ("gpt-5-mini", "gpt-5-mini"),
        ("openai/REDACTED", "openai/gpt-5"),
        ("None", "openai/gpt-5"),
        (None, "openai/gpt-5"),
    ],
)
def test_a_model_that_it_does_not_name_is_the_one_that_it_was_started_with(person, said, model):
    folder = place(person)
    entry = {"event": "message_send", "time": 1, "properties": {"main_model": said, "prompt_tokens": 5}}
    (folder / "log.jsonl").write_text(json.dumps(entry) + "\n")
    assert list(recall(person).days["1970-01-01"]) == [model]


def test_lines_that_make_no_sense_are_no_lines(person):
    folder = place(person)
    before = recall(person)
    with open(folder / "log.jsonl", "ab") as file:
        file.write(
            b'not json\n[1]\n{"event": "message_send"}\n\xff\xfe\n{"event": "message_send", "properties": null}\n'
        )
    with open(folder / "chat.md", "ab") as file:
        file.write(b"\xff\xfe\n> litellm\nlitellm.Error: quoted\n#### \n")
    assert recall(person) == before


@pytest.mark.parametrize(("state", "missing"), [("alive", False), ("exited", False)])
def test_what_it_has_is_known_from_its_chat(person, state, missing):
    """F1, F40: and not from what the model says there."""
    folder = place(person)
    with open(folder / "chat.md", "ab") as file:
        file.write(b"\n(ao message m-nowhere1)\n> (ao message m-nowhere1)\n#### about (ao message m-nowhere1)\n")
    found = aider.received(project(person), worker(person, runtime_state=state), [*SAID, "m-nowhere1"], "> ")
    assert found == {**dict.fromkeys(SAID, True), "m-nowhere1": missing}


@pytest.mark.parametrize("history", [None, "> text\n>\n> (ao message m-nowhere1)"])
def test_a_message_that_its_screen_shows_may_still_arrive(person, history):
    """F1"""
    place(person)
    found = aider.received(project(person), worker(person, runtime_state="alive"), ["m-nowhere1"], history)
    assert found == {"m-nowhere1": None}


# --- screens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "activity", "obstacle", "question"),
    [
        ("ready", "ready", "", ""),
        ("refused", "ready", "", ""),
        ("interrupted", "ready", "", ""),
        ("busy", "active", "it is busy", ""),
        ("retrying", "active", "it is busy", ""),
        ("answered", "active", "it is busy", ""),
        ("draft", "ready", "its input box holds text", ""),
        ("long-draft", "ready", "its input box holds text", ""),
        ("asks", "waiting_input", "a question is open", "a.txt\nAdd file to the chat?"),
        ("asks-each", "waiting_input", "a question is open", "touch one\nRun shell command?"),
        ("asks-output", "waiting_input", "a question is open", "echo hi; touch asked.txt\nRun shell command?"),
        ("asks-url", "waiting_input", "a question is open", "litellm.BadRequestError"),
    ],
)
def test_a_screen_is_read(person, name, activity, obstacle, question):
    """F2, F3"""
    shop = project(person)
    reading = aider.read(shop, screen(name))
    assert reading.activity == activity and reading.is_sure
    assert reading.question.startswith(question) and bool(reading.question) == bool(question)
    assert aider.obstacle(shop, screen(name)) == obstacle
    assert aider.has_draft(shop, screen(name)) == ("draft" in name)


@pytest.mark.parametrize(
    ("text", "activity"),
    [
        ("", "active"),
        ("ao: running aider in /src/shop-1\n", "active"),
        ("a.txt\n>", "ready"),
        ("a.txt\n> ", "ready"),
        ("ask>", "ready"),
        ("multi>", "active"),  # there Enter is a line of the text
        ("> quoted by the model\n", "active"),
        (">", "ready"),
        ("Add file to the chat? (Y)es/(N)o [Yes]: y", "waiting_input"),
        ("Add file to the ch\nat? (Y)es/(N)o [Y\nes]:", "waiting_input"),  # a narrow terminal
        ("Add file to the chat? (Y)es/(N)o [Yes]: y\n", "active"),
        ("Run shell command? (Y)es/(N)o [Yes]: y\n\nRunning make\n12 %", "active"),
    ],
)
def test_a_prompt_and_a_question_are_where_the_cursor_is(person, text, activity):
    """F3, F16"""
    assert aider.read(project(person), text).activity == activity


@pytest.mark.parametrize(
    ("text", "is_draft"),
    [
        (">", False),
        ("> text", True),
        ("> text\n>", True),
        ("ask> text\nask>", True),
        ("> said\n\n>", False),
        ("x", False),
    ],
)
def test_a_draft_is_text_behind_the_prompt(person, text, is_draft):
    assert aider.has_draft(project(person), text) == is_draft


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "flags"),
    [
        ("permissionless", {"--yes-always"}),
        ("default", set()),
        ("auto-edit", {"--yes-always"}),
        ("suggest", {"--chat-mode", "ask"}),
    ],
)
def test_each_way_of_asking_has_its_flags(person, permissions, flags):
    argv = aider.launch(project(person, permissions=permissions), worker(person), "do it").argv
    assert set(argv) & {"--yes-always", "--chat-mode", "ask"} == flags


def test_a_start_says_everything_by_words_of_its_own(person):
    """F55, F56: its task is pasted, and its records and the system prompt are outside the worktree."""
    folder = str(person / "shop")
    os.mkdir(folder)
    forging.git(folder, "init", "--quiet")
    prompt = '--be "brief"; $HOME\n\\ é'
    shop, one = project(person, model="gpt-5", system_prompt=prompt), worker(person, workspace_path=folder)
    aider.prepare(shop, one)
    aider.prepare(shop, one)
    found = aider.launch(shop, one, "--help; rm -rf /")
    assert "--help; rm -rf /" not in found.argv and not found.has_prompt
    assert found.records == str(person / "records") and "--restore-chat-history" not in found.argv
    named = {found.argv[place]: found.argv[place + 1] for place, word in enumerate(found.argv[:-1]) if word[:2] == "--"}
    assert named["--model"] == "openai/gpt-5"
    with open(named["--read"]) as file:
        assert file.read() == prompt
    files = [named[f"--{name}"] for name in ("chat-history-file", "input-history-file", "analytics-log", "read")]
    assert {os.path.dirname(path) for path in files} == {found.records}
    assert stat.S_IMODE(os.stat(found.records).st_mode) == 0o700
    for name in (".aider.tags.cache.v4", ".aider.chat.history.md"):
        open(os.path.join(folder, name), "w").close()
    assert not forging.git(folder, "status", "--short")
    assert "--read" not in aider.launch(project(person), one, None).argv


def test_a_folder_that_cannot_be_written_to_is_said(person):
    folder = person / "shop"
    folder.mkdir()
    forging.git(str(folder), "init", "--quiet")
    (person / "records").write_text("")
    with pytest.raises(AoError, match="cannot write into"):
        aider.prepare(project(person), worker(person, workspace_path=str(folder)))


@pytest.mark.parametrize("text", ["/exit", "!rm -rf x", " /exit", "\n!ls"])
def test_no_message_is_a_command(person, text):
    """F4"""
    fitted = aider.fit(text)
    assert fitted.endswith(text) and fitted.lstrip()[0] not in "/!"


def test_its_conversation_is_resumed_and_none_that_was_never_spoken_in(person):
    """F40"""
    shop, one = project(person), worker(person)
    assert aider.resume(shop, one) is None
    folder = place(person)
    found = aider.resume(shop, one)
    assert found.argv == [*aider.launch(shop, one, None).argv, "--restore-chat-history"] and not found.has_prompt
    (folder / "chat.md").write_text("\n# aider chat started at 2026-11-25 18:28:33\n\n> Aider v0.86.2  \n")
    assert aider.resume(shop, one) is None


@pytest.mark.parametrize(
    ("publish", "agent", "is_ours"),
    [
        (None, "aider", True),
        ("agent", "aider", False),
        ("auto", "aider", True),
        (None, "codex", False),
        ("auto", "codex", True),
    ],
)
def test_what_it_commits_is_published_for_it_unless_somebody_says_otherwise(person, publish, agent, is_ours):
    assert prompts.opens_pr(project(person, publish=publish), {"agent": agent}) != is_ours


def doctored(person, monkeypatch):
    """What ao-doctor finds about the agent, with a program that only knows its version."""
    (person / "aider").write_text("#!/bin/sh\necho aider 0.86.2\n")
    (person / "aider").chmod(0o755)
    monkeypatch.setenv("PATH", f"{person}:{os.environ['PATH']}")
    return aider.check(project(person))


@pytest.mark.parametrize(
    ("name", "text", "is_key"),
    [
        (".aider.conf.yml", "model: gpt-5\n#openai-api-key: x\n", False),
        (".aider.conf.yml", "model: gpt-5\nopenai-api-key: x\n", True),
        (".aider.conf.yml", "api-key:\n  - gemini=x\n", True),
        (".env", "GEMINI_API_KEY=x\n", True),
        ("shop/.env", "GEMINI_API_KEY=x\n", False),
    ],
)
def test_the_doctor_says_what_is_missing_and_what_helps(person, monkeypatch, name, text, is_key):
    for known in list(os.environ):
        if known.endswith("_API_KEY"):
            monkeypatch.delenv(known)
    version, key = doctored(person, monkeypatch)
    assert (version.state, version.text) == ("ok", "aider 0.86.2")
    assert key.state == "warning" and "OPENAI_API_KEY" in key.remedy
    (person / "shop").mkdir()
    (person / name).write_text(text)
    assert len(doctored(person, monkeypatch)) == 2 - is_key
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    assert [one.state for one in doctored(person, monkeypatch)] == ["ok"]
