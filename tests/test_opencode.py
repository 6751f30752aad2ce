"""The agent OpenCode: its database, screens and start, on samples of the real program (version 1.18.33).

`make test-clients` plays whole stories with the program itself.
"""

from __future__ import annotations

import fnmatch
import json
import os
import sqlite3
import time

import forging
import pytest
from conftest import ROOT
from records import session

from lib import config, costs, facts, proc
from lib.agent import Reading, opencode
from lib.clock import Clock, iso, parse
from lib.errors import Unknown

SAMPLES = os.path.join(ROOT, "tests", "samples", "opencode")
BORN = "2026-11-25T18:14:00.000Z"
LIMIT = "its usage limit is reached (attempt 1)"
AGAIN = "the model does not answer; it is tried again"


@pytest.fixture
def person(tmp_path, monkeypatch):
    """A person's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def database(person):
    """Where the program's database is; filled with `fill`."""
    folder = person / ".local" / "share" / "opencode"
    folder.mkdir(parents=True)
    db = sqlite3.connect(folder / "opencode.db", isolation_level=None)
    fill(db, "schema")
    yield db
    db.close()


def fill(db, *names):
    for name in names:
        with open(os.path.join(SAMPLES, f"{name}.sql")) as file:
            db.executescript(file.read())


def project(folder, **agent_config):
    path = os.path.join(str(folder), "ao.yaml")
    with open(path, "w") as file:
        shop = {"path": str(folder), "agent": "opencode", "agent_config": agent_config}
        json.dump({"projects": {"shop": shop}}, file)
    return config.load(path).projects["shop"]


def worker(person, **fields):
    names = {"workspace_path": "/src/shop-1", "agent": "opencode", "created_at": BORN, "project_id": "shop"}
    return session(**{**names, "agent_config": {"model": None}, **fields})


def recall(person, state=None, **fields):
    return opencode.recall(project(person), worker(person, **fields), {} if state is None else state)


def messages(db):
    """(session, id, what it is) of all, in order."""
    rows = db.execute("SELECT session_id, id, data FROM message ORDER BY time_created, id").fetchall()
    return [(conversation, id, json.loads(data)) for conversation, id, data in rows]


def write(db, conversation, id, message):
    at = message["time"]["created"]
    values = (id, conversation, at, message["time"].get("completed", at), json.dumps(message))
    db.execute("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?)", values)


def begun(message):
    """What is written of an answer before anything of it is there."""
    none = {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}
    gone = {name: one for name, one in message.items() if name not in ("finish", "error")}
    return {**gone, "tokens": none, "time": {"created": message["time"]["created"]}}


# --- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("main", [*["active", "ready"] * 3, "active", "blocked", *["active", "ready"] * 7]),
        ("sub-agent", [*["active", "ready"] * 3, "active"]),
    ],
)
def test_each_message_is_understood_as_it_comes(person, database, name, told):
    """F15, F16: a tool that runs is work, an interrupted turn is over, a sub-agent's turn is not the agent's."""
    fill(database, name)
    whole = messages(database)
    database.execute("DELETE FROM message")
    steps = [(at, name, place) for place, one in enumerate(whole) for name, at in one[2]["time"].items()]
    state, found = {}, []
    for _, name, place in sorted(steps, key=lambda step: (step[0], step[1] == "completed")):
        conversation, id, message = whole[place]
        is_half = message["role"] == "assistant" and name == "created"
        write(database, conversation, id, begun(message) if is_half else message)
        activity = recall(person, state).activity
        if not found or activity != found[-1]:
            found.append(activity)
        assert not found[0] or recall(person, state).session_id == whole[0][0]
    assert found == told
    assert recall(person, state)._replace(last_id="") == recall(person)._replace(last_id="")


def spent(db, *but):
    """The counts by the end of each step, other rows than those that are read."""
    found = dict.fromkeys(costs.TOKENS, 0)
    for conversation, data in db.execute("SELECT session_id, data FROM part").fetchall():
        part = json.loads(data)
        if part["type"] == "step-finish" and conversation not in but:
            found["input_tokens"] += part["tokens"]["input"]
            found["output_tokens"] += part["tokens"]["output"]
            found["cache_read_tokens"] += part["tokens"]["cache"]["read"]
            found["cache_creation_tokens"] += part["tokens"]["cache"]["write"]
    return found


def counts(story):
    """All that a story says was spent."""
    found = dict.fromkeys(costs.TOKENS, 0)
    for models in story.days.values():
        for model in models.values():
            for name, count in model.items():
                found[name] += count
    return found


def test_every_conversation_of_a_worktree_counts_and_sub_agents_too(person, database):
    """F46"""
    fill(database, "main", "sub-agent")
    story = recall(person)
    assert counts(story) == spent(database) and counts(story)["input_tokens"]
    assert list(story.days["2026-11-25"]) == ["claude-sonnet-5"]
    [main] = database.execute("SELECT id FROM session WHERE title LIKE 'New session%'").fetchone()
    assert story.session_id == main


def test_what_it_thought_is_paid_like_what_it_said(person, database):
    fill(database, "sub-agent")
    before = counts(recall(person))["output_tokens"]
    conversation, id, message = messages(database)[-1]
    assert message["role"] == "assistant"
    message["tokens"]["reasoning"] = 1000
    write(database, conversation, id, message)
    assert counts(recall(person))["output_tokens"] == before + 1000


def test_what_a_fork_has_copied_counts_once_and_its_own_work_too(person, database):
    """F46"""
    fill(database, "sub-agent", "fork")
    [fork] = database.execute("SELECT id FROM session WHERE title LIKE '%fork%'").fetchone()
    assert counts(recall(person)) == spent(database, fork)
    message, later = messages(database)[-1][2], parse("2026-11-25T20:00:00.000Z") * 1000
    tokens = {"input": 7, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}}
    own = {**message, "role": "assistant", "finish": "stop", "tokens": tokens, "modelID": "m"}
    own["time"] = {"created": later, "completed": later + 1}
    write(database, fork, "msg_z", own)
    found = recall(person)
    assert counts(found)["input_tokens"] == spent(database, fork)["input_tokens"] + 7
    assert found.session_id == fork


def test_only_what_may_have_changed_is_read_again(person, database, monkeypatch):
    """Of a long conversation the messages since its last answer; of an idle one nothing, not even the file."""
    fill(database, "main")
    state, asked = {}, []
    before = recall(person, state)
    ask = opencode._ask
    monkeypatch.setattr(opencode, "_ask", lambda *args: asked.append(ask(*args)) or asked[-1])
    database.execute("UPDATE session SET time_updated = 1")
    assert recall(person, state) == before
    assert max(map(len, asked)) == 1
    path = opencode._file({})
    for name in (path, f"{path}-wal"):
        os.utime(name, (time.time() - 60, time.time() - 60))
    recall(person, state)
    asked.clear()
    assert recall(person, state) == before and not asked
    conversation, _, message = messages(database)[0]
    later = {**message, "time": {"created": parse("2026-11-25T20:00:00.000Z") * 1000}}
    write(database, conversation, "msg_z", later)
    assert recall(person, state).activity == "active"


def test_a_time_of_change_that_may_not_tell_of_the_next_one_is_not_trusted(person, database, monkeypatch):
    """Two writes at once have the same time."""
    fill(database, "main")
    monkeypatch.setattr(opencode, "_signature", lambda path: (["the same"], False))
    state = {}
    recall(person, state)
    conversation, _, message = messages(database)[0]
    write(database, conversation, "msg_z", {**message, "time": {"created": parse("2026-11-25T20:00:00.000Z") * 1000}})
    assert recall(person, state).activity == "active"


def test_no_question_to_the_database_goes_through_the_messages_of_everybody(database):
    """It is the one of all projects of a person."""
    asked = {"CONVERSATIONS": "aab", "MESSAGES": "ab", "SAID": "aab", "QUESTIONS": "a"}
    for name, values in asked.items():
        plan = database.execute(f"EXPLAIN QUERY PLAN {getattr(opencode, name)}", tuple(values)).fetchall()
        assert not [step[-1] for step in plan if step[-1].startswith(("SCAN message", "SCAN part"))]


def test_a_conversation_of_an_earlier_session_or_another_folder_is_not_its_own(person, database):
    """F15"""
    fill(database, "main")
    for fields in ({"created_at": "2026-11-25T19:00:00.000Z"}, {"workspace_path": "/src/shop-2"}):
        assert recall(person, **fields) == opencode.Story()
        assert opencode.resume(project(person), worker(person, **fields)) is None
        assert opencode.received(project(person), worker(person, **fields), ["m-3"], shown("error")) == {"m-3": False}


def test_conversations_are_found_in_the_folder_that_was_noted_at_the_start(person, database, monkeypatch):
    fill(database, "main")
    records = os.path.dirname(opencode._file({}))
    monkeypatch.setenv("XDG_DATA_HOME", str(person / "elsewhere"))
    assert recall(person).activity is None
    assert recall(person, agent_config={"records": records}).activity == "ready"
    assert opencode.launch(project(person), worker(person), None).records == str(person / "elsewhere" / "opencode")


def test_an_error_says_what_it_is_and_since_when(person, database):
    fill(database, "main")
    failed = next(message for _, _, message in messages(database) if "error" in message)
    done = failed["time"]["completed"]
    database.execute("DELETE FROM message WHERE time_created > ?", (failed["time"]["created"],))
    story = recall(person)
    assert (story.activity, story.text) == ("blocked", "no such thing")
    assert iso(story.since) == iso(done / 1000)


def test_a_question_of_it_is_known_without_its_screen(person, database):
    """F2"""
    fill(database, "main")
    [(id, message_id, data)] = database.execute(
        "SELECT id, message_id, data FROM part WHERE data LIKE '%\"question\",%'"
    )
    whole = messages(database)
    conversation, message = next((one[0], one[2]) for one in whole if one[1] == message_id)
    database.execute("DELETE FROM message WHERE time_created > ?", (message["time"]["created"],))
    write(database, conversation, message_id, begun(message))
    assert recall(person).activity == "active"
    part = json.loads(data)
    part["state"]["status"] = "running"
    database.execute("UPDATE part SET data = ? WHERE id = ?", (json.dumps(part), id))
    story = recall(person)
    assert (story.activity, story.text) == ("waiting_input", "Which color?")


def test_what_cannot_be_read_is_unknown_and_changes_nothing(person, database):
    fill(database, "main")
    state = {}
    before = recall(person, state)
    database.execute("ALTER TABLE session RENAME TO sessions")
    assert recall(person, state) == before
    assert opencode.received(project(person), worker(person), ["m-3"], None) == {"m-3": None}
    with pytest.raises(Unknown):
        opencode.resume(project(person), worker(person))
    database.close()
    for name in os.listdir(os.path.dirname(opencode._file({}))):
        os.remove(os.path.join(os.path.dirname(opencode._file({})), name))
    assert recall(person, state) == before
    assert opencode.resume(project(person), worker(person)) is None


def test_nobody_is_kept_waiting_by_a_look(person, database):
    """Neither a look by a writer in the middle of its work, nor a writer by a look; and a look writes nothing."""
    fill(database, "main")
    before = recall(person)
    database.execute("BEGIN IMMEDIATE")
    database.execute("DELETE FROM message")
    began = time.monotonic()
    assert recall(person) == before
    assert time.monotonic() - began < opencode.PATIENCE
    database.execute("ROLLBACK")
    with pytest.raises(Unknown, match="readonly"):
        opencode._ask(worker(person), "DELETE FROM message")


def test_it_is_read_after_its_program_has_ended(person, database):
    fill(database, "main")
    before = recall(person)
    database.close()
    assert not os.path.exists(opencode._file({}) + "-wal")
    assert recall(person) == before


# --- messages ---------------------------------------------------------------------------------------------------------


def shown(name):
    with open(os.path.join(SAMPLES, "screens", f"{name}.txt")) as file:
        return file.read().rstrip("\n")


@pytest.mark.parametrize(
    ("runs", "screen", "has"),
    [(True, "error", False), (True, "busy", None), (True, "question", None), (True, None, None), (False, None, False)],
)
def test_what_it_has_is_known_from_its_database(person, database, runs, screen, has):
    """F1, F5: what it was told, and not what it has read or said; what is not there may be on its way."""
    fill(database, "main")
    [(conversation, id, _)] = [one for one in messages(database) if one[2].get("finish") == "stop"][:1]
    part = json.dumps({"type": "text", "text": "(ao message m-9)"})
    database.execute("INSERT INTO part VALUES ('prt_z', ?, ?, 1, 1, ?)", (id, conversation, part))
    one = worker(person, runtime_state="alive" if runs else "exited")
    history = screen and shown(screen)
    found = opencode.received(project(person), one, ["m-1", "m-2", "m-3", "m-9", "m-4"], history)
    assert found == {"m-1": True, "m-2": True, "m-3": True, "m-9": has, "m-4": has}


@pytest.mark.parametrize("text", ["/exit", "!rm -rf x", " /exit", "\n!ls"])
def test_no_message_is_a_command(person, text):
    """F4"""
    assert opencode.fit(text) == f"A message:\n{text}"
    assert opencode.fit("--dash; and @a.txt;") == "--dash; and @a.txt;"


# --- screens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "activity", "obstacle", "part"),
    [
        ("home", "ready", "", ""),
        ("error", "ready", "", ""),
        ("interrupted", "ready", "", ""),
        ("busy", "active", "", ""),
        ("queued", "active", "", ""),
        ("retry", "blocked", "", AGAIN),
        ("limit", "blocked", "", LIMIT),
        ("draft", "ready", "its input box holds text", ""),
        ("slash", "ready", "its input box holds text", ""),
        ("shell", "ready", "it would run what is typed", ""),
        ("palette", "ready", "a window is open in it", ""),
        ("question", "waiting_input", "a question is open", "Which color?\n1. Red\nr\n2. Blue"),
        ("perm", "waiting_input", "a question is open", "Permission required\n# Shell command\n$ ls; echo hi > x.txt"),
        ("sub2", "waiting_input", "a question is open", "Permission required\n# Shell command\n$ ls"),
    ],
)
def test_a_screen_is_read(person, name, activity, obstacle, part):
    """F2, F3, F4, F16"""
    shop, screen = project(person), shown(name)
    found = opencode.read(shop, screen)
    assert found.activity == activity and found.is_sure
    assert part in found.question + found.trouble and bool(part) == bool(found.question + found.trouble)
    assert "shop1" not in found.question  # which is beside it
    assert opencode.obstacle(shop, screen) == obstacle
    assert opencode.has_draft(shop, screen) == (obstacle == "its input box holds text")


def test_what_was_said_earlier_is_no_dialog_and_no_work(person):
    shop, screen = project(person), shown("error")
    said = screen.replace(
        "no such thing", "esc interrupt [retrying in 59m attempt #1]\n  ┃  Red  enter confirm  esc dismiss"
    )
    assert said != screen and opencode.read(shop, said) == Reading("ready", is_sure=True)
    assert opencode.obstacle(shop, said) == ""


@pytest.mark.parametrize("text", ["", "opencode", "\n  ┃  Starting\n"])
def test_a_screen_without_anything_known_says_nothing(person, text):
    assert opencode.read(project(person), text) == Reading(None)
    assert opencode.obstacle(project(person), text) == "it shows no input box"


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("attempt #1", 0),
        ("in 28s attempt #1", 0),
        ("in 59m 58s attempt #1", 3598),
        ("in 1h 29m attempt #1", 5400),
        ("in 4h attempt #1", 14460),
        ("in ~1 day attempt #1", 86400),
        ("in ~3 weeks attempt #1", 1814400),
    ],
)
def test_a_long_wait_for_the_model_is_a_usage_limit(person, said, wait):
    """F16"""
    screen = shown("limit").replace("in 59m 58s attempt #1", said)
    found = opencode.read(project(person), screen)
    assert found.activity == "blocked" and found.wait == wait
    assert (found.trouble, found.key) == ((LIMIT, "Escape Escape") if wait else (AGAIN, ""))


def test_a_limit_that_only_the_screen_tells_of_parks_it_once(person):
    """F16: until its end, and not anew by the notice that still stands there then."""
    reading = opencode.read(project(person), shown("limit"))
    record, now = worker(person, screen=None), parse("2026-11-25T19:00:00.000Z")
    for ahead in (0, 60, 4000):
        facts._look_at_screen(record, reading, Clock(now + ahead))
        assert record["screen"]["until"] == iso(now + 3598)
    facts._look_at_screen(record, reading._replace(trouble=LIMIT.replace("1", "2")), Clock(now + 4000))
    assert record["screen"]["until"] == iso(now + 4000 + 3598)
    facts._look_at_screen(record, Reading("ready", is_sure=True), Clock(now + 4001))
    assert "until" not in record["screen"]


# --- starting ---------------------------------------------------------------------------------------------------------


def settings(found):
    return json.loads(found.environment["OPENCODE_CONFIG_CONTENT"])


@pytest.mark.parametrize(
    ("permissions", "auto", "edit", "bash", "read"),
    [
        ("permissionless", True, "allow", "allow", "allow"),
        ("default", False, "allow", "allow", "allow"),
        ("auto-edit", False, "allow", "ask", "allow"),
        ("suggest", False, "ask", "ask", "allow"),
    ],
)
def test_each_way_of_asking_has_its_settings(person, permissions, auto, edit, bash, read):
    """Whatever the order in which a person has allowed what."""
    found = opencode.launch(project(person, permissions=permissions), worker(person), "task")
    allowed = settings(found).get("permission", {})
    merged = {"edit": "allow", "*": "allow", "bash": "allow", **allowed}

    def answer(tool):
        return [action for name, action in merged.items() if fnmatch.fnmatchcase(tool, name)][-1]

    assert ("--auto" in found.argv, answer("edit"), answer("bash"), answer("read")) == (auto, edit, bash, read)
    own = settings(found)["agent"]
    assert own["title"] == {"disable": True}  # whose tokens nobody would count
    assert [own.get(name, {}).get("permission", {}) for name in ("build", "general")] == [allowed, allowed]


def test_a_start_says_everything_by_words_of_its_own(person):
    """F55, F56: no shell, no option out of a task, nothing in the tracked tree."""
    prompt = '--be "brief"; $HOME\n\\ é \x7f'
    here = person / "shop-1"
    here.mkdir()
    forging.git(str(here), "init", "--quiet")
    shop, one = project(person, model="anthropic/a", system_prompt=prompt), worker(person, workspace_path=str(here))
    opencode.prepare(shop, one)
    found = opencode.launch(shop, one, "--help; rm -rf /")
    assert found.argv[-1] == "--prompt=--help; rm -rf /" and found.has_prompt
    assert found.argv[found.argv.index("--model") + 1] == "anthropic/a"
    [path] = settings(found)["instructions"]
    with open(path) as file:
        assert file.read() == prompt
    assert forging.git(str(here), "status", "--short", "--ignored") == ""
    again = opencode.launch(project(person), worker(person, agent_config={"model": "b/c"}), None)
    assert again.argv[again.argv.index("--model") + 1] == "b/c"  # ao-spawn --model
    assert not again.has_prompt and not any("--prompt" in word for word in again.argv)
    assert "instructions" not in settings(again)


def test_the_conversation_that_was_spoken_in_last_is_resumed_and_none_of_a_sub_agent(person, database):
    """F40"""
    assert opencode.resume(project(person), worker(person)) is None
    fill(database, "sub-agent")
    [main] = database.execute("SELECT id FROM session WHERE parent_id IS NULL").fetchone()
    again = opencode.resume(project(person), worker(person))
    assert again.argv[-2:] == ["--session", main] and not again.has_prompt
    last = database.execute("SELECT max(time_created) FROM session").fetchone()[0]  # the start of the sub-agent
    database.execute("DELETE FROM message WHERE time_created > ? + 100", (last,))
    assert opencode.resume(project(person), worker(person)).argv[-1] == main
    fill(database, "main")  # which is older
    assert opencode.resume(project(person), worker(person)).argv[-1] == main


def test_the_doctor_says_what_is_missing_and_what_helps(person, monkeypatch):
    listed = {"--version": proc.Result(0, "1.18.33\n", ""), "list": proc.Result(0, "└  0 credentials\n", "")}
    monkeypatch.setattr(proc, "run", lambda limit, argv, **_: listed[argv[-1]])
    shop = project(person)
    assert [one.state for one in opencode.check(shop)] == ["ok", "warning"]
    assert opencode.check(shop)[1].remedy == "opencode auth login"
    listed["list"] = proc.Result(0, "└  0 credentials\n└  1 environment variable\n", "")
    assert [one.state for one in opencode.check(shop)] == ["ok"]
    listed["list"] = proc.Result(0, "└  0 credentials\n", "")
    (person / ".config" / "opencode").mkdir(parents=True)
    (person / ".config" / "opencode" / "opencode.json").write_text('{"provider": {}}')
    assert [one.state for one in opencode.check(shop)] == ["ok"]
    listed["--version"] = proc.Result(1, "", "broken")
    assert [one.state for one in opencode.check(shop)] == ["bad"]
