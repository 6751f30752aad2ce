"""The event log: ids grow, torn lines harm nobody, repeats are dropped, every line is YAML and JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st
from records import START, pull, session

from lib import clock, events, sessions
from lib.clock import Clock

NOW = Clock(START)
DAY = 86400.0


def add(home, *texts, at=0.0):
    events.append(home, Clock(START + at), [{"type": "note", "text": text} for text in texts])


def found(home, **options):
    return [(event["id"], event.get("text")) for event in events.read(home, **options)]


def test_events_are_numbered_in_order_over_days(home):
    add(home, "a", "b")
    add(home, "c", at=DAY)
    add(home, at=DAY)
    assert found(home) == [(1, "a"), (2, "b"), (3, "c")]
    assert [os.path.basename(path) for path in events.files(home)] == ["2027-01-15.yaml", "2027-01-16.yaml"]


def test_ids_grow_also_when_the_clock_goes_back_a_day(home):
    add(home, "a", at=DAY)
    add(home, "b")
    add(home, "c", at=2 * DAY)
    assert found(home) == [(1, "a"), (2, "b"), (3, "c")]


def test_an_empty_file_of_a_new_day_starts_no_new_count(home):
    add(home, "a")
    open(os.path.join(home, "events", "2027-01-16.yaml"), "w").close()
    add(home, "b", at=DAY)
    assert found(home) == [(1, "a"), (2, "b")]


@pytest.mark.parametrize("torn", ["- {", '- {"id": 2, "type": "no', "- ", "x"])
def test_a_torn_last_line_is_ended_first(home, torn):
    add(home, "a")
    for _ in range(4):
        with open(events.files(home)[0], "a") as file:
            file.write(torn + "\n" + torn)
    add(home, "b")
    assert found(home) == [(1, "a"), (2, None), (3, "b")]
    assert events.last_id(home) == 3


def test_a_line_longer_than_the_tail_is_found(home):
    add(home, "a")
    events.append(home, NOW, [{"type": "big", "pr": {"checks": ["x" * 100] * 2000}}])
    add(home, "b")
    assert [number for number, _ in found(home)] == [1, 2, 3]


def test_writers_side_by_side_share_one_count(home):
    code = "import sys; from lib import events; from lib.clock import Clock\n"
    code += "for n in range(25): events.append(sys.argv[1], Clock(1.8e9), [{'type': 'x'}, {'type': 'y'}])"
    writers = [subprocess.Popen([sys.executable, "-c", code, home], cwd=ROOT) for _ in range(4)]
    assert [writer.wait(240) for writer in writers] == [0] * 4
    assert [event["id"] for event in events.read(home)] == list(range(1, 201))


ODD = "\x00\x1b\x7f\x85\u2028\u2029\ufeff\ufffe\uffff\ud800"
TEXTS = st.text(st.characters(codec=None))


@example({ODD: ODD})
@given(st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=2), max_size=3))
def test_every_line_is_yaml_and_json_on_one_line(event):
    line = events.line({**event, "id": 1, "at": "", "type": "note", "session_id": None})
    assert line.endswith("\n") and len(line.splitlines()) == 1
    assert yaml.load(line, Loader=yaml.CSafeLoader) == [json.loads(line[2:])] == [events.parse(line)]


def test_long_texts_are_cut_and_say_so(home):
    add(home, "x" * 10_000)
    (event,) = events.read(home)
    assert event["text"].endswith(" … (10000 characters)")


def test_reading_from_an_id_a_time_or_for_a_session(home):
    add(home, "a")
    events.append(home, Clock(START + 10), [{"type": "note", "text": "b", "session_id": "app-1"}])
    add(home, "c", at=DAY)
    assert found(home, after=1) == [(2, "b"), (3, "c")]
    assert found(home, since=clock.iso(START + 10)) == [(2, "b"), (3, "c")]
    assert found(home, since=clock.iso(START + DAY)) == [(3, "c")]
    assert found(home, session="app-1") == [(2, "b")]


def test_a_repeat_after_a_crash_is_dropped_and_two_messages_are_no_repeat(home):
    """The event is written before its record; who dies in between writes it again."""
    names = {"session_id": "app-1", "rev": 4}
    moved = {**names, "type": "status_changed", "to": "merged"}
    told = [{**names, "type": "message_changed", "message_id": id, "state": "failed"} for id in ("m-1", "m-2")]
    events.append(home, NOW, [moved, *told])
    events.append(home, NOW, [{"type": "tick_error", "session_id": "app-1"}, moved, *told, {**moved, "rev": 5}])
    types = [(event["type"], event["rev"]) for event in events.read(home) if "rev" in event]
    assert types == [("status_changed", 4), ("message_changed", 4), ("message_changed", 4), ("status_changed", 5)]


def test_what_is_found_after_a_crash_is_no_repeat_of_what_was_found_before_it(home):
    """The record was not written, and the next look saw something else: the log ends with what is true."""
    moved = {"session_id": "app-1", "rev": 4, "type": "status_changed", "from": "working"}
    other = {"session_id": "app-2", "rev": 4, "type": "status_changed", "to": "merged"}
    events.append(home, NOW, [{**moved, "to": "idle"}, other])
    events.append(home, NOW, [{**moved, "to": "terminated"}, other])
    assert [event["to"] for event in events.read(home)] == ["idle", "merged", "terminated"]


def test_an_event_is_written_before_its_record(home, monkeypatch):
    record = session(id="app-1")
    assert sessions.create(home, record, NOW)
    monkeypatch.setattr(sessions.store, "write", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sessions.update(home, record, lambda fresh: fresh.update(outcome="killed"), NOW)
    monkeypatch.undo()
    assert sessions.find(home, "app-1")["outcome"] is None
    sessions.update(home, record, lambda fresh: fresh.update(outcome="killed"), NOW)
    assert [event["type"] for event in events.read(home)] == ["spawned", "status_changed", "terminated"]


@pytest.mark.parametrize(
    ("change", "types"),
    [
        ({"status": "idle"}, ["status_changed"]),
        ({"status": "killed"}, ["status_changed", "terminated"]),
        ({"activity": "ready"}, ["activity_changed"]),
        ({"pr": pull()}, ["pr_enrichment_changed"]),
        ({"inbox": [{"id": "m-1", "state": "queued", "from": "x", "text": "y"}]}, ["message_changed"]),
        ({"waiting_for": "CI"}, []),
    ],
)
def test_a_difference_makes_its_events(change, types):
    before = session(rev=1)
    made = events.between(before, {**before, **change, "rev": 2})
    assert [event["type"] for event in made] == types
    assert all((event["session_id"], event["project_id"], event["rev"]) == ("app-1", "app", 2) for event in made)
