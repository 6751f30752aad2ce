"""Transcripts: each line once, however the file grows, is cut short or replaced."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from lib import transcripts


def lines(state, path):
    return list(transcripts.appended(state, str(path)))


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


def test_what_a_reader_did_not_come_to_is_read_again(tmp_path):
    """It may have died over a line."""
    path, state = tmp_path / "t.jsonl", {}
    path.write_bytes(b"one\ntwo\n")
    assert next(transcripts.appended(state, str(path))) == b"one"
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
    assert transcripts.news(state, "m1", {"in": 10, "out": 1}) == {"in": 10, "out": 1}
    assert transcripts.news(state, "m1", {"in": 10, "out": 1}) == {"in": 0, "out": 0}
    assert transcripts.news(state, "m1", {"in": 10, "out": 7}) == {"in": 0, "out": 6}
    assert transcripts.news(state, "m2", {"in": 1, "out": 1}) == {"in": 1, "out": 1}
    assert transcripts.news(state, "m1", {"in": 3, "out": 2}) == {"in": 0, "out": 0}


def test_messages_are_remembered_without_growing_for_ever():
    state = {}
    for number in range(1000):
        transcripts.news(state, f"m{number}", {"in": 1})
    assert len(state["ids"]) <= 2 * transcripts.IDS_KEPT
    assert transcripts.news(state, "m999", {"in": 1}) == {"in": 0}


def test_the_tail_is_whole_lines(tmp_path):
    path = tmp_path / "t.jsonl"
    assert transcripts.tail(str(path)) == []
    path.write_bytes(b"first\nsecond\nthird\nunfini")
    assert transcripts.tail(str(path)) == [b"first", b"second", b"third"]
    assert transcripts.tail(str(path), most=16) == [b"third"]
