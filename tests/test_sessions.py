"""Session records: changed field by field, found by id, read through a cache that is never wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT
from records import START, ago, at, session

from lib import concerns, events, observe, paths, sessions, store
from lib.clock import Clock
from lib.errors import AoError

NOW = Clock(START)


def create(home, id, project="app", **fields):
    record = session(id=id, project_id=project, **fields)
    assert sessions.create(home, record, NOW)
    return record


def archive(home, record):
    source, target = (find(home, record["project_id"], record["id"]) for find in (paths.session, paths.archived))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.replace(source, target)


def ids(home, **options):
    return [record["id"] for record in sessions.everything(home, **options).records]


def many(code, *args, count=8):
    """Processes of their own that run `code` at the same time: what each prints."""
    head = (
        "import os, sys\nfrom lib import sessions\nfrom lib.clock import Clock\nhome, now = sys.argv[1], Clock(1.8e9)\n"
    )
    command = [sys.executable, "-c", head + code, *args]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [process.communicate(timeout=100)[0] for process in running]


# --- changes --------------------------------------------------------------------------------------------------------


def test_a_change_is_applied_to_the_newest_record(home):
    """F44: no stale record is ever written back."""
    stale = create(home, "app-1")
    sessions.update(home, stale, lambda record: record.update(note="by another process", task="new"), NOW)
    found = sessions.update(home, stale, lambda record: record.update(branch="feat/x"), at(5))
    assert (found["note"], found["task"], found["branch"]) == ("by another process", "new", "feat/x")
    assert (found["rev"], found["updated_at"]) == (3, at(5).iso)
    assert sessions.find(home, "app-1") == found


def test_the_status_follows_every_change(home):
    record = create(home, "app-1")
    assert sessions.update(home, record, lambda fresh: fresh.update(outcome="killed"), NOW)["status"] == "killed"


def test_an_idle_record_is_never_rewritten(home):
    record = create(home, "app-1")
    path = paths.session(home, "app", "app-1")
    before = os.stat(path)
    for seconds in range(5):
        found = sessions.update(home, record, lambda fresh: fresh.update(task=fresh["task"]), at(seconds))
    now = os.stat(path)
    assert (now.st_ino, now.st_mtime_ns, found["rev"]) == (before.st_ino, before.st_mtime_ns, 1)
    assert len(list(events.read(home))) == 1


def test_an_event_alone_writes_no_record(home):
    record = create(home, "app-1")
    found = sessions.update(home, record, lambda fresh: [{"type": "note"}], NOW)
    assert (found["rev"], [event["type"] for event in events.read(home)]) == (1, ["spawned", "note"])


def test_eight_processes_lose_no_revision(home):
    create(home, "app-1")
    code = "one = sessions.find(home, 'app-1')\n"
    code += "for n in range(10): sessions.update(home, one, lambda r: r.update(count=r.get('count', 0) + 1), now)"
    many(code, home)
    found = sessions.find(home, "app-1")
    assert (found["count"], found["rev"]) == (80, 81)


def test_an_archived_record_is_not_brought_back_by_a_late_change(home):
    """F44"""
    record = create(home, "app-1")
    archive(home, record)
    with pytest.raises(sessions.Vanished):
        sessions.update(home, record, lambda fresh: fresh.update(task="x"), NOW)
    assert ids(home) == []
    assert sessions.find(home, "app-1")["id"] == "app-1"


def test_the_inbox_is_bounded_and_keeps_what_is_open_or_wanted(home):
    inbox = [{"id": f"m-{n}", "state": "confirmed", "from": "x", "at": ago(1), "text": ""} for n in range(70)]
    inbox[3]["state"] = "queued"
    wanted = {"ci-failed": {"intent": {"id": "m-5"}}}
    record = create(home, "app-1")
    found = sessions.update(home, record, lambda fresh: fresh.update(inbox=inbox, conditions=wanted), NOW)
    kept = [message["id"] for message in found["inbox"]]
    assert len(kept) == sessions.INBOX_KEPT
    assert {"m-3", "m-5", "m-69"} <= set(kept) and "m-4" not in kept


# --- ids ------------------------------------------------------------------------------------------------------------


def test_of_eight_processes_one_gets_an_id_and_the_record_is_whole(home):
    """F38, F42"""
    code = "print(int(sessions.create(home, sessions.blank('app-1', 'app', now), now)))"
    assert sum(int(text) for text in many(code, home)) == 1
    assert sessions.find(home, "app-1")["rev"] == 1
    assert [event["type"] for event in events.read(home)] == ["spawned"]


def test_an_id_is_unique_over_all_projects_and_never_used_again(home):
    record = create(home, "app-1")
    assert not sessions.create(home, session(id="app-1", project_id="other"), NOW)
    archive(home, record)
    for project in ("app", "other"):
        assert not sessions.create(home, session(id="app-1", project_id=project), NOW)


@pytest.mark.parametrize("id", ["", "../x", "a/b", ".hidden", "x.yaml", "x.lock", "-x", "a b", "x" * 65])
def test_an_id_that_is_no_file_name_is_refused(home, id):
    """F56"""
    with pytest.raises(AoError, match="not a valid session id"):
        sessions.create(home, session(id=id), NOW)


def test_an_exact_id_is_found_before_a_prefix(home):
    """F49"""
    for id in ("app-1", "app-10", "app-11", "web-1"):
        create(home, id)
    assert sessions.find(home, "app-1")["id"] == "app-1"
    assert sessions.find(home, "w")["id"] == "web-1"
    with pytest.raises(AoError, match="can mean several sessions: app-1, app-10, app-11"):
        sessions.find(home, "app")
    for text in ("nobody", "../app/app-1", "app/app-1", "/etc/passwd", "a\0b", "app-1.yaml", "*", "x" * 500):
        with pytest.raises(AoError, match="there is no session"):
            sessions.find(home, text)


def test_an_archived_session_is_found_by_its_exact_id_only(home):
    archive(home, create(home, "app-17"))
    create(home, "app-1")
    assert sessions.find(home, "app-17")["id"] == "app-17"
    assert sessions.find(home, "app")["id"] == "app-1"


# --- reading them all -----------------------------------------------------------------------------------------------


def test_records_are_listed_by_project_and_number(home):
    for id in ("app-10", "app-9", "app-orchestrator-1"):
        create(home, id)
    create(home, "web-1", project="web")
    assert ids(home) == ["app-9", "app-10", "app-orchestrator-1", "web-1"]
    assert ids(home, project="web") == ["web-1"]


def test_the_cache_is_never_wrong(home):
    one, two = create(home, "app-1"), create(home, "app-2")
    assert ids(home) == ids(home) == ["app-1", "app-2"]
    for round in range(20):
        sessions.update(home, one, lambda fresh, round=round: fresh.update(task=f"task {round:02}"), NOW)
        assert [record["task"] for record in sessions.everything(home).records] == [f"task {round:02}", None]
    sessions.remove(home, two)
    assert ids(home) == ["app-1"]
    create(home, "app-3")
    assert ids(home) == ["app-1", "app-3"]


@pytest.mark.parametrize("content", [b"", b"not a cache", b"\xe9\x05\x00\x00\x00"])
def test_a_cache_that_is_damaged_or_gone_is_built_again(home, content):
    create(home, "app-1")
    assert ids(home) == ["app-1"]
    folder = os.path.join(home, "cache")
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
    assert ids(home) == ["app-1"]


def test_a_reader_that_changes_what_it_read_changes_nothing_for_others(home):
    create(home, "app-1")
    sessions.everything(home).records[0]["task"] = "scribbled"
    assert sessions.everything(home).records[0]["task"] is None


# --- damage ---------------------------------------------------------------------------------------------------------


def break_file(path, text="id: app-1\nproject_id: app\n"):
    with open(path, "w") as file:
        file.write(text)
    os.utime(path, (1, 1))


def test_a_damaged_record_is_set_aside_by_the_tick_and_told_of_once(home):
    """F45: nobody takes it for empty, nobody writes over it, and the others are looked at."""
    create(home, "app-2", outcome="killed", runtime_state="exited")
    path = paths.session(home, "app", "app-1")
    break_file(path)
    fleet = sessions.everything(home)
    assert ([record["id"] for record in fleet.records], list(fleet.damaged)) == (["app-2"], [path])
    for seconds in (0, 5, 10):
        observe.run(home, at(seconds))
    (event,) = [event for event in events.read(home) if event["type"] == "tick_error"]
    aside = event["message"].partition("set aside as '")[2].rstrip("'")
    assert "it was cut short" in event["message"] and event["project_id"] == "app"
    with open(aside) as file:
        assert file.read() == "id: app-1\nproject_id: app\n"
    assert sessions.everything(home).damaged == {}


NONSENSE = [{"rev": "many"}, {"id": "app-7"}, {"status": None}, {"conditions": []}, {"inbox": {}}, {"told": "x"}]
NONSENSE += [{"pr": "none"}, {"hold": ["person"]}, {"conditions": {"ci-failed": "open"}}, {"inbox": ["hello"]}]


@pytest.mark.parametrize("change", NONSENSE)
def test_a_record_edited_to_nonsense_stays_where_it_is_and_is_told_of_once(home, change):
    create(home, "app-1", outcome="killed", runtime_state="exited")
    path = paths.session(home, "app", "app-1")
    store.update(path, lambda record: record.update(change))
    assert list(sessions.everything(home).damaged) == [path]
    for seconds in (0, 5):
        observe.run(home, at(seconds))
    assert len([event for event in events.read(home) if event["type"] == "tick_error"]) == 1
    assert os.path.exists(path)


def test_a_damaged_project_file_is_set_aside_and_ids_go_on(home):
    """F45"""
    record = create(home, "app-1", outcome="killed", runtime_state="exited", status="killed")
    path = paths.project(home, "app")
    os.makedirs(os.path.dirname(path))
    break_file(path, "next_number: 2\n")
    for _ in range(2):
        concerns.evaluate(home, [record], [], {}, NOW)
    assert len([event for event in events.read(home) if event["type"] == "tick_error"]) == 1
    assert sorted(store.read(path)["conditions"]) == ["all-complete", "file-damaged"]
    assert len([name for name in os.listdir(os.path.dirname(path)) if "damaged" in name]) == 1
