"""The agent Claude Code: its transcripts, screens and start, on samples of the real program (version 2.1.197).

`make test-clients` plays whole stories with the program itself.
"""

from __future__ import annotations

import json
import os
import shutil
import threading

import pytest
from conftest import ROOT
from records import session

from lib import config, costs
from lib.agent import _tale, claude_code
from lib.clock import iso, parse
from lib.errors import AoError

SAMPLES = os.path.join(ROOT, "tests", "samples", "claude-code")
BORN = "2026-11-25T14:00:00.000Z"


@pytest.fixture
def person(tmp_path, monkeypatch):
    """A person's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    return tmp_path


def project(folder, **agent_config):
    path = os.path.join(str(folder), "ao.yaml")
    values = {"path": str(folder), "agent": "claude-code", "agent_config": agent_config}
    with open(path, "w") as file:
        json.dump({"projects": {"shop": values}}, file)
    return config.load(path).projects["shop"]


def worker(person, **fields):
    names = {"workspace_path": "/src/shop", "agent": "claude-code", "created_at": BORN, "project_id": "shop"}
    return session(**{**names, "agent_config": {"model": None, "records": str(person / ".claude")}, **fields})


def place(person, *names):
    """Put samples where the transcripts of /src/shop are; their paths."""
    folder = person / ".claude" / "projects" / "-src-shop"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(os.path.join(SAMPLES, f"{name}.jsonl"), folder)
        if os.path.isdir(os.path.join(SAMPLES, name)):
            shutil.copytree(os.path.join(SAMPLES, name), folder / name)
    return [folder / f"{name}.jsonl" for name in names]


def recall(person, state=None, **fields):
    return claude_code.recall(project(person), worker(person, **fields), {} if state is None else state)


def lines(name):
    with open(os.path.join(SAMPLES, f"{name}.jsonl"), "rb") as file:
        return file.read().splitlines(keepends=True)


# --- transcripts ------------------------------------------------------------------------------------------------------


def steps(person, name):
    """What is told after each line of a sample: the activities, each change once."""
    path, state, found = place(person, name)[0], {}, []
    path.write_bytes(b"")
    for line in lines(name):
        with open(path, "ab") as file:
            file.write(line)
        told = recall(person, state).activity
        if told != (found[-1] if found else None):
            found.append(told)
    return found


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("sub-agent", ["active", "ready"]),
        ("error", ["active", "blocked"]),
        ("interrupt-exit", ["active", "ready"]),
        ("question", ["active"]),
        ("limit-resume-queue", ["active", "blocked", "active", "ready"]),
        ("by-hand", ["active", "ready"] * 5),
    ],
)
def test_each_line_is_understood_as_it_comes(person, name, told):
    """F15, F16: a tool that runs is work, an interrupted turn is over, a resume by itself is no turn."""
    assert steps(person, name) == told


@pytest.mark.parametrize("name", ["sub-agent", "by-hand", "limit-resume-queue", "fork"])
def test_read_in_one_go_or_line_by_line_the_story_is_the_same(person, name):
    path, state = place(person, name)[0], {}
    whole = recall(person)
    path.write_bytes(b"")
    for line in lines(name):
        with open(path, "ab") as file:
            file.write(line[:7])
            file.flush()
            recall(person, state)
            file.write(line[7:])
        found = recall(person, state)
    assert found._replace(last_id="") == whole._replace(last_id="")


def test_what_a_resume_writes_by_itself_is_no_turn(person):
    [path] = place(person, "limit-resume-queue")
    whole = lines("limit-resume-queue")
    [meta] = [number for number, line in enumerate(whole) if b'"isMeta": true' in line]
    path.write_bytes(b"".join(whole[: meta + 2]))
    assert recall(person).activity == "blocked"


def test_since_when_is_told_by_the_turn_and_not_by_each_line(person):
    """A record need not be written for each line; what an earlier life began is not taken for the present one."""
    path, state, found = place(person, "by-hand")[0], {}, []
    path.write_bytes(b"")
    for line in lines("by-hand"):
        with open(path, "ab") as file:
            file.write(line)
        found.append(iso(recall(person, state).since))
    turns = [line for line in lines("by-hand") if b'"user"' in line and b'"content": "' in line]
    assert len(set(found)) - 1 <= 2 * len(turns) < len(found)
    assert found == sorted(found)


def usages(*paths):
    """The counts of each message once, by the simplest reading there is."""
    seen = {}
    for path in paths:
        with open(path) as file:
            for entry in map(json.loads, file):
                message = entry.get("message") or {}
                if message.get("usage") and message.get("model") != "<synthetic>":
                    seen[message["id"]] = message["usage"]
    return {
        "input_tokens": sum(one["input_tokens"] for one in seen.values()),
        "output_tokens": sum(one["output_tokens"] for one in seen.values()),
        "cache_read_tokens": sum(one["cache_read_input_tokens"] for one in seen.values()),
        "cache_creation_tokens": sum(one["cache_creation_input_tokens"] for one in seen.values()),
        "cache_creation_1h_tokens": sum(one["cache_creation"]["ephemeral_1h_input_tokens"] for one in seen.values()),
    }


def counts(story):
    """All that a story says was spent."""
    found = dict.fromkeys(costs.TOKENS, 0)
    for models in story.days.values():
        for model in models.values():
            for name, count in model.items():
                found[name] += count
    return found


def test_sub_agents_cost_too_and_say_nothing_about_the_turn(person):
    """F46"""
    [path] = place(person, "sub-agent")
    sub = path.parent / "sub-agent" / "subagents" / "agent-a4b34d451c60ddb69.jsonl"
    story = recall(person)
    assert counts(story) == usages(path, sub)
    assert counts(story)["input_tokens"] > usages(path)["input_tokens"] > 0
    assert story.session_id == "sub-agent"


def test_several_conversations_of_a_worktree_add_up_and_what_one_copied_counts_once(person, monkeypatch):
    """F46: a fork begins with a copy of what it was forked from, however long ago that was."""
    monkeypatch.setattr(_tale, "IDS_KEPT", 1)
    paths = place(person, "limit-resume-queue", "by-hand")
    state = {}
    recall(person, state)
    paths += place(person, "fork")
    assert counts(recall(person, state)) == usages(*paths) == counts(recall(person))


@pytest.mark.parametrize("is_rotated", [False, True])
def test_a_transcript_that_is_read_from_its_start_again_counts_once(person, monkeypatch, is_rotated):
    """F46: it was written anew, or cut short at its front; only the last messages are remembered."""
    monkeypatch.setattr(_tale, "IDS_KEPT", 1)
    [path], state = place(person, "by-hand"), {}
    whole = lines("by-hand")
    half = len(whole) * 2 // 3
    path.write_bytes(b"".join(whole[:half]))
    before = counts(recall(person, state))
    path.with_suffix(".new").write_bytes(b"".join(whole[half // 2 if is_rotated else 0 :]))
    os.replace(path.with_suffix(".new"), path)
    after = counts(recall(person, state))
    path.write_bytes(b"".join(whole))
    assert after == usages(path) != before


def test_a_conversation_of_an_earlier_session_in_the_same_folder_is_not_its_own(person):
    """F15"""
    place(person, "sub-agent")
    story = recall(person, created_at="2026-11-25T15:00:00.000Z")
    assert (story.activity, story.days) == (None, {})


def test_conversations_are_found_by_the_folder_that_was_noted_at_the_start(person, monkeypatch):
    """F15: cron knows nothing of the person's CLAUDE_CONFIG_DIR."""
    place(person, "error")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert recall(person).activity == "blocked"
    assert claude_code.recall(project(person), worker(person, workspace_path="/src/shop-1"), {}).activity is None


def test_a_usage_limit_says_until_when(person):
    [path] = place(person, "limit-resume-queue")
    path.write_bytes(b"".join(lines("limit-resume-queue")[:9]))
    story = recall(person)
    assert (story.activity, story.text) == ("blocked", "You've hit your session limit · resets 3:20pm (UTC)")
    assert iso(story.until) == "2026-11-25T15:21:00.000Z"  # the program leaves out the seconds


@pytest.mark.parametrize(
    ("text", "until"),
    [
        ("You've hit your session limit · resets 3pm (UTC)", "2026-11-25T15:01:00.000Z"),
        ("You've hit your session limit · resets 10:24am (UTC)", "2026-11-26T10:25:00.000Z"),
        ("You've hit your session limit · resets 12:05am (UTC)", "2026-11-26T00:06:00.000Z"),
        ("You've hit your session limit · resets 12:30pm (America/New_York)", "2026-11-25T17:31:00.000Z"),
        ("You've hit your weekly limit · resets Nov 28, 2:45pm (UTC)", "2026-11-28T14:46:00.000Z"),
        ("You've hit your weekly limit · resets Nov 28, 9:45am (America/New_York)", "2026-11-28T14:46:00.000Z"),
        ("You've hit your Opus limit · resets Jan 24, 2027, 2:24pm (UTC)", "2027-01-24T14:25:00.000Z"),
        ("You've hit your session limit · resets 2:24pm (UTC)", "2026-11-25T14:25:00.000Z"),  # in this minute
        ("API Error: Request rejected (429) · This request would exceed your account's rate limit.", None),
        ("resets Feb 30, 3pm (UTC)", None),
        ("resets 99pm (UTC)", None),
    ],
)
def test_when_a_limit_ends_is_read_from_its_words(text, until):
    at = "2026-11-25T14:24:49.000Z"
    assert claude_code._reset(text, at) == (parse(until) or parse(at) + _tale.TRY_AGAIN)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd"])
def test_a_time_zone_that_is_not_known_here_is_that_of_this_machine(zone):
    assert claude_code._reset(f"resets 3pm ({zone})", "2026-11-25T14:24:49.000Z") > 1.7e9


def test_lines_that_make_no_sense_are_no_lines(person):
    [path] = place(person, "sub-agent")
    before = recall(person)
    with open(path, "ab") as file:
        file.write(
            b'not json\n[1]\n{"type": "user"}\n\xff\xfe\n{"timestamp": "2027", "message": null, "type": "new-kind"}\n'
        )
    assert recall(person) == before


def test_what_it_has_is_known_from_its_transcript(person):
    """F1: what waits in its own queue it has as long as it runs; that queue ends with it."""
    place(person, "limit-resume-queue")
    shop, ids = project(person), ["m-abcdefgh", "m-nowhere1"]
    assert claude_code.received(shop, worker(person), ids, "") == {"m-abcdefgh": True, "m-nowhere1": False}
    path = place(person, "limit-resume-queue")[0]
    all_lines = lines("limit-resume-queue")
    [queued] = [number for number, line in enumerate(all_lines) if b'"enqueue"' in line]
    path.write_bytes(b"".join(all_lines[: queued + 1]))
    for fields, has in (
        ({}, True),
        ({"runtime_state": "exited"}, False),
        ({"restored_at": "2026-11-25T14:21:00.000Z"}, True),
        ({"restored_at": "2026-11-25T14:22:00.000Z"}, False),
    ):
        assert claude_code.received(shop, worker(person, **fields), ids[:1], "") == {"m-abcdefgh": has}, fields


def test_a_message_that_its_screen_shows_may_have_arrived(person):
    """F1: nothing is pasted twice because a transcript is late."""
    place(person, "error")
    shop = project(person)
    assert claude_code.received(shop, worker(person), ["m-late0001"], "…(ao message m-late0001)…") == {
        "m-late0001": None
    }
    assert claude_code.received(shop, worker(person), ["m-late0001"], None) == {"m-late0001": None}


# --- screens ----------------------------------------------------------------------------------------------------------


def screen(name):
    with open(os.path.join(SAMPLES, "screens", f"{name}.txt")) as file:
        return file.read()


@pytest.mark.parametrize(
    ("name", "activity", "obstacle", "part"),
    [
        ("ready", "ready", "", ""),
        ("error", "ready", "", ""),
        ("busy", "active", "", ""),
        ("queued", "active", "", ""),
        ("draft", "active", "its input box holds text", ""),
        ("pasted", "ready", "its input box holds text", ""),
        ("retrying", "blocked", "", ""),
        ("limit", "blocked", "a question is open", ""),
        ("permission", "waiting_input", "a question is open", "git add -A; git commit -qm x"),
        ("question", "waiting_input", "a question is open", "Which port?"),
        ("plan", "waiting_input", "a question is open", "exit plan mode"),
        ("trust", "waiting_input", "a question is open", "agent_config.trust"),
        ("key", "waiting_input", "a question is open", "claude /login"),
        ("bypass", "waiting_input", "a question is open", "agent_config.permissions"),
        ("shell", None, "it shows no input box", ""),
    ],
)
def test_a_screen_is_read(person, name, activity, obstacle, part):
    """F2, F3: also each dialog at the start, with how to be spared it."""
    shop = project(person)
    reading = claude_code.read(shop, screen(name))
    assert reading.activity == activity and part in reading.question
    assert claude_code.obstacle(shop, screen(name)) == obstacle
    assert bool(reading.question) == (activity == "waiting_input")
    assert bool(reading.trouble) == (activity == "blocked")
    assert reading.key == ("Escape" if name == "limit" else "")
    assert claude_code.has_draft(shop, screen(name)) == (name in ("draft", "pasted"))


@pytest.mark.parametrize("text", ["", "\n" * 49, "ao: running claude in /src/shop", "EXIT 1"])
def test_a_screen_without_anything_known_says_nothing(person, text):
    assert claude_code.read(project(person), text).activity is None
    assert claude_code.obstacle(project(person), text) == "it shows no input box"


def test_what_was_said_earlier_is_no_dialog(person):
    past = "❯ 1. Do you want to proceed?\n  2. No\n\n● Do you want to proceed? esc to interrupt …\n\n" + "said\n" * 9
    assert claude_code.read(project(person), past + screen("ready")).activity == "ready"


@pytest.mark.parametrize("text", ["/exit", "!rm -rf x", " /exit", "\n!ls"])
def test_no_message_is_a_command(person, text):
    """F4"""
    fitted = claude_code.fit(text)
    assert fitted.endswith(text) and fitted.lstrip()[0] not in "/!"
    assert claude_code.fit("as it is: /exit\n!ls") == "as it is: /exit\n!ls"


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("permissions", "flags"),
    [
        ("permissionless", ["--dangerously-skip-permissions"]),
        ("default", ["--permission-mode", "default"]),
        ("auto-edit", ["--permission-mode", "acceptEdits"]),
        ("suggest", ["--permission-mode", "plan"]),
    ],
)
def test_each_way_of_asking_has_its_flag(person, permissions, flags):
    found = claude_code.launch(project(person, permissions=permissions), worker(person), "do it")
    assert [word for word in found.argv if word in flags] == flags
    others = {word for words in claude_code.PERMISSIONS.values() for word in words} - set(flags)
    assert not others & set(found.argv)


def test_a_start_says_everything_by_words_of_its_own(person):
    """F55, F56: no shell, no option out of a task, nothing in the tracked tree."""
    shop = project(person, model="claude-opus-5", system_prompt="--be brief; $HOME")
    found = claude_code.launch(shop, worker(person), "--help; rm -rf /")
    assert found.argv[0] == "claude" and found.argv[-2:] == ["--", "--help; rm -rf /"] and found.has_prompt
    assert found.argv[found.argv.index("--append-system-prompt") + 1] == "--be brief; $HOME"
    assert found.argv[found.argv.index("--model") + 1] == "claude-opus-5"
    one = worker(person, agent_config={"model": "claude-haiku-5-5"})
    again = claude_code.launch(shop, one, None)
    assert again.argv[again.argv.index("--model") + 1] == "claude-haiku-5-5"  # ao-spawn --model
    assert "--" not in again.argv and not again.has_prompt
    assert found.records == str(person / ".claude")


def test_hooks_call_ao_hook_by_its_full_path(person):
    argv = claude_code.launch(project(person), worker(person), "x").argv
    settings = json.loads(argv[argv.index("--settings") + 1])
    commands = [hook["command"] for event in settings["hooks"].values() for one in event for hook in one["hooks"]]
    assert commands and all(command.split()[0] == os.path.join(ROOT, "bin", "ao-hook") for command in commands)


def test_a_conversation_is_resumed_and_one_that_is_gone_is_begun_anew_under_another_name(person):
    """F40"""
    shop, one = project(person), worker(person)
    first = claude_code.launch(shop, one, "x").argv[2]
    assert claude_code.resume(shop, one) is None
    folder = person / ".claude" / "projects" / "-src-shop"
    folder.mkdir(parents=True)
    (folder / f"{first}.jsonl").write_text('{"type": "mode", "mode": "normal"}\n')
    assert claude_code.resume(shop, one) is None  # it was never spoken in
    assert claude_code.launch(shop, one, "x").argv[2] != first  # which the program would refuse
    shutil.copy(os.path.join(SAMPLES, "error.jsonl"), folder / f"{first}.jsonl")
    found = claude_code.resume(shop, one)
    assert found.argv[1:3] == ["--resume", first] and "--" not in found.argv


def settings(person):
    with open(person / ".claude.json") as file:
        return json.load(file)


def test_trust_changes_one_entry_of_the_persons_settings_and_nothing_else(person):
    claude_code._trust("/src/shop")
    assert settings(person) == {"projects": {"/src/shop": {"hasTrustDialogAccepted": True}}}
    mine = {"numStartups": 3, "projects": {"/a": {"x": 1}, "/src/shop": {"allowedTools": ["Bash"]}}}
    (person / ".claude.json").write_text(json.dumps(mine))
    claude_code._trust("/src/shop")
    mine["projects"]["/src/shop"]["hasTrustDialogAccepted"] = True
    assert settings(person) == mine
    before = os.stat(person / ".claude.json")
    claude_code._trust("/src/shop")
    assert os.stat(person / ".claude.json").st_ino == before.st_ino
    assert os.listdir(person) == [".claude.json"]


def test_settings_that_cannot_be_read_are_left_alone(person):
    (person / ".claude.json").write_text("{half")
    with pytest.raises(AoError, match="cannot read"):
        claude_code._trust("/src/shop")
    assert (person / ".claude.json").read_text() == "{half"
    assert os.listdir(person) == [".claude.json"]


def test_many_who_trust_at_once_lose_nothing(person):
    threads = [threading.Thread(target=claude_code._trust, args=(f"/src/{number}",)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(settings(person)["projects"]) == 8


def test_a_lock_that_was_left_behind_keeps_nobody(person, monkeypatch):
    lock = person / ".claude.json.lock"
    lock.mkdir()
    os.utime(lock, (1, 1))
    claude_code._trust("/src/shop")
    assert not lock.exists()
    lock.mkdir()
    monkeypatch.setattr(claude_code, "LOCK_STALE", 0.3)
    os.utime(lock, (2**32, 2**32))
    with pytest.raises(AoError, match="held by another program"):
        claude_code._trust("/src/other")


def test_it_is_prepared_without_a_change_to_what_is_tracked(person, tmp_path_factory):
    """F55"""
    import forging

    world = forging.make(tmp_path_factory.mktemp("w"))
    one = forging.spawn(world)
    for _ in range(2):
        claude_code.prepare(project(person), one)
    os.makedirs(os.path.join(one["workspace_path"], ".claude"))
    with open(os.path.join(one["workspace_path"], ".claude", "settings.local.json"), "w"):
        pass
    assert forging.git(one["workspace_path"], "status", "--porcelain") == ""
    with open(os.path.join(world.repo, ".git", "info", "exclude")) as file:
        assert file.read().count("settings.local.json") == 1
    assert not os.path.exists(person / ".claude.json")  # trust was not asked for


def doctored(person, monkeypatch, **agent_config):
    """What ao-doctor finds about the agent, with a program that only knows its version."""
    (person / "claude").write_text("#!/bin/sh\necho 2.1.197\n")
    (person / "claude").chmod(0o755)
    monkeypatch.setenv("PATH", f"{person}:{os.environ['PATH']}")
    return claude_code.check(project(person, **agent_config))


def test_the_doctor_says_what_is_missing_and_what_helps(person, monkeypatch):
    for name in claude_code.LOGINS:
        monkeypatch.delenv(name, raising=False)
    version, login, trust = doctored(person, monkeypatch)
    assert (version.state, version.text) == ("ok", "2.1.197")
    assert (login.state, login.remedy) == ("warning", "claude /login")
    assert trust.state == "warning" and "agent_config.trust: true" in trust.remedy
    claude_code._trust(str(person))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    assert [one.state for one in doctored(person, monkeypatch)] == ["ok"]
    (person / ".claude.json").unlink()
    assert [one.state for one in doctored(person, monkeypatch, trust=True)] == ["ok"]
