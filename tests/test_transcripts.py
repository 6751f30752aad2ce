"""Transcripts: each line once, however the file grows, is cut short or replaced."""

from __future__ import annotations

import json
import os

import pytest
import test_aider
import test_claude_code
import test_codex
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from lib import clock, costs, sessions
from lib.agent import _tale


def lines(state, path):
    return list(_tale.appended(state, str(path)))


def test_only_whole_lines_that_were_appended_are_read(tmp_path):
    path, state = tmp_path / "t.jsonl", {}
    assert lines(state, path) == []
    path.write_bytes(b"one\ntw")
    assert lines(state, path) == [b"one"]
    assert lines(state, path) == []
    with open(path, "ab") as file:
        file.write("o\nthrée\n".encode())
    assert lines(state, path) == [b"two", "thrée".encode()]
    assert lines(state, path) == []


def test_a_file_that_was_cut_short_or_replaced_is_read_from_its_start(tmp_path):
    path, state = tmp_path / "t.jsonl", {}
    path.write_bytes(b"one\ntwo\n")
    lines(state, path)
    os.truncate(path, 4)
    assert lines(state, path) == [b"one"]
    other = tmp_path / "new"
    other.write_bytes(b"1\n2\n3\n4\n5\n")
    os.replace(other, path)
    assert lines(state, path) == [b"1", b"2", b"3", b"4", b"5"]


def test_a_file_that_is_gone_says_nothing_and_is_no_error(tmp_path):
    path, state = tmp_path / "t.jsonl", {}
    path.write_bytes(b"one\n")
    lines(state, path)
    path.unlink()
    assert lines(state, path) == []


def test_a_line_that_never_ends_is_not_read_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(_tale, "MOST", 8)
    path, state = tmp_path / "t.jsonl", {}
    path.write_bytes(b"x" * 20 + b"\none\n")
    found = [line for _ in range(4) for line in lines(state, path)]
    assert found[-1] == b"one" and state["files"][str(path)][1] == path.stat().st_size


def test_what_a_reader_did_not_come_to_is_read_again(tmp_path):
    """It may have died over a line."""
    path, state = tmp_path / "t.jsonl", {}
    path.write_bytes(b"one\ntwo\n")
    assert next(_tale.appended(state, str(path))) == b"one"
    assert lines(state, path) == [b"one", b"two"]


@given(st.lists(st.binary(max_size=9).map(lambda text: text.replace(b"\n", b"")), max_size=12), st.data())
def test_however_it_is_cut_each_line_is_read_once(tmp_path_factory, wanted, data):
    whole = b"".join(line + b"\n" for line in wanted)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    path, state, found = tmp_path_factory.mktemp("t") / "t.jsonl", {}, []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        with open(path, "ab") as file:
            file.write(whole[begin:end])
        found += lines(state, path)
    assert found == wanted


def test_a_message_in_several_lines_counts_once():
    """F46: one line per block, each with the usage of the whole, or with what is known of it so far."""
    state = {}
    assert _tale.news(state, "m1", {"in": 10, "out": 1}) == {"in": 10, "out": 1}
    assert _tale.news(state, "m1", {"in": 10, "out": 1}) == {"in": 0, "out": 0}
    assert _tale.news(state, "m1", {"in": 10, "out": 7}) == {"in": 0, "out": 6}
    assert _tale.news(state, "m2", {"in": 1, "out": 1}) == {"in": 1, "out": 1}
    assert _tale.news(state, "m1", {"in": 3, "out": 2}) == {"in": 0, "out": 0}


def test_messages_are_remembered_without_growing_for_ever():
    state = {}
    for number in range(1000):
        _tale.news(state, f"m{number}", {"in": 1})
    assert len(state["ids"]) <= 2 * _tale.IDS_KEPT
    assert _tale.news(state, "m999", {"in": 1}) == {"in": 0}


def test_the_tail_is_whole_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    assert _tale.tail(str(path)) == []
    path.write_bytes(b"first\nsecond\nthird\nunfini")
    assert _tale.tail(str(path)) == [b"first", b"second", b"third"]
    assert _tale.tail(str(path), most=16) == [b"third"]


# --- what no program has written --------------------------------------------------------------------------------------

WRONG = [None, 7, 1e999, -5, 10**400, "x", "zzzz/../x", ["x"], {"a": 1}]
WRITERS = {  # agent -> (its tests, where its transcript is, samples of it)
    "claude-code": (test_claude_code, ".claude/projects/-src-shop/s.jsonl", ["error", "limit-resume-queue"]),
    "codex": (test_codex, ".codex/sessions/2026/11/25/rollout-s.jsonl", ["queue"]),
    "aider": (test_aider, "records/log.jsonl", ["log"]),
}


def spoilt(value):
    """A value of JSON again and again, each time with something else in one place of it."""
    yield from WRONG
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        for other in spoilt(item):
            copy = value.copy()
            copy[key] = other
            yield copy


@pytest.fixture
def writer(request, tmp_path, monkeypatch):
    """The tests of an agent, where its transcript is, and the lines of its samples."""
    monkeypatch.setenv("HOME", str(tmp_path))
    tests, name, samples = WRITERS[request.param]
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    text = b""
    for sample in samples:
        with open(os.path.join(ROOT, "tests", "samples", request.param, f"{sample}.jsonl"), "rb") as file:
            text += file.read()
    return tests, path, text.splitlines(keepends=True)


@pytest.mark.parametrize("writer", WRITERS, indirect=True)
def test_whatever_a_transcript_holds_is_read_to_its_end_and_its_costs_can_be_written(writer, tmp_path, home):
    """One line that the program cannot have written would hide all that comes after it, and stop the ledger."""
    tests, path, lines = writer
    wrong = [json.dumps(one).encode() + b"\n" for line in lines for one in spoilt(json.loads(line))]
    path.write_bytes(lines[0] + b"".join(wrong) + b"[" * 100_000 + b"\n\xff{}\n" + b"".join(lines))
    state = {}
    story = tests.recall(tmp_path, state)
    assert state["files"][str(path)][1] == path.stat().st_size
    assert story.days and all(clock.parse(f"{day}T00:00:00.000Z") is not None for day in story.days)
    record = {**sessions.blank("app-1", "app", clock.Clock(0.0)), "cost": costs.taken(None, story.days)}
    costs.save(home, [record])
    assert {row["day"] for row in costs.rows(home, costs.months(home))} == set(story.days)


@pytest.mark.parametrize("writer", WRITERS, indirect=True)
def test_lines_that_say_nothing_change_nothing(writer, tmp_path):
    tests, path, lines = writer
    path.write_bytes(b"".join(lines))
    plain = tests.recall(tmp_path)
    path.write_bytes(
        b"".join(line + b'{"timestamp": "9999", "type": "user", "message": 7, "payload": 7}\n' for line in lines)
    )
    assert tests.recall(tmp_path) == plain


@pytest.mark.parametrize("writer", ["claude-code", "codex"], indirect=True)
def test_a_message_is_found_between_lines_that_are_damaged(writer, tmp_path):
    """F1"""
    tests, path, lines = writer
    [*_, id] = [name for line in lines if (name := line.partition(b"(ao message ")[2].partition(b")")[0].decode())]
    mark = f"(ao message {id})"
    wrong = [{"type": "user", "message": mark}, {"type": "event_msg", "payload": mark}, {"type": [mark]}, [mark]]
    path.write_bytes(b"".join(lines) + b"".join(json.dumps(one).encode() + b"\n" for one in wrong))
    agent = tests.claude_code if tests is test_claude_code else tests.codex
    assert agent.received(tests.project(tmp_path), tests.worker(tmp_path), [id], None) == {id: True}
    assert agent.resume(tests.project(tmp_path), tests.worker(tmp_path)) is not None
