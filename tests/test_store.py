"""Files that survive crashes, races and each other's writers."""

from __future__ import annotations

import fcntl
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading

import pytest
from conftest import ROOT, until
from hypothesis import given
from hypothesis import strategies as st

from lib import store
from lib.errors import AoError, Busy, Damaged, Unreadable

ODD = ["on", "off", "yes", "no", "y", "~", "null", "true", "False", "012", "0o12", "0x1f", "1:30", "1_000", "1e5", ".5"]
ODD += ["2026-01-31", "2026-01-31T09:05:00Z", "=", "<<", "-", "- a", "? b", "a: b", "#c", "@d", "`e", "&f", "*g", "!h"]
ODD += ["", " ", "  lead", "trail ", "\t", "a\nb", "a\n\n", "...\n", "---", "wait...\nthen", "\r\n", "\u2028", "\x85"]
ODD += [
    "\x00",
    "\x1b[31m",
    "\x7f",
    "\ufeff",
    "\ufffe",
    "é",
    "日本",
    "👩‍💻",
    "'",
    '"',
    "\\",
    "%x",
    "{a}",
    "[b]",
    "a" * 500,
]


def script(code: str, *args: str) -> subprocess.Popen[str]:
    """A Python process of its own with the store at hand."""
    head = "import os, sys, time\nfrom lib import store\npath = sys.argv[1]\n"
    return subprocess.Popen([sys.executable, "-c", head + code, *args], cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "folder" / "x.yaml")


# --- what is written is what is read --------------------------------------------------------------------------------


def test_strings_stay_the_strings_they_are(path):
    store.write(path, {"values": ODD, **{text: place for place, text in enumerate(ODD)}})
    assert store.read(path) == {"values": ODD, **{text: place for place, text in enumerate(ODD)}}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_any_mapping_survives(value):
    assert store.loads(store.dumps(value)) == store.clean(value)


def test_lone_surrogates_are_replaced(path):
    store.write(path, {"a\ud800": ["\udfff", ("b\udc80",)]})
    assert store.read(path) == {"a\ufffd": ["\ufffd", ["b\ufffd"]]}


def test_what_another_yaml_would_take_for_something_else_is_quoted():
    text = store.dumps({"values": ["on", "012", "1:30", "2026-01-31"]})
    assert text == "values:\n- 'on'\n- '012'\n- '1:30'\n- '2026-01-31'\n...\n"


def test_one_value_in_two_places_has_no_anchor():
    twice = {"a": [1]}
    assert "&" not in store.dumps({"x": twice, "y": twice})


# --- damage is noticed ----------------------------------------------------------------------------------------------


def test_a_file_cut_at_any_byte_is_noticed():
    """F45: also behind a text that looks like the end."""
    data = store.dumps({"task": "wait...", "more": "first...\nsecond...\n", "é": {"list": ["...", 1]}}).encode()
    for end in range(len(data)):
        with pytest.raises(Damaged):
            store.loads(data[:end].decode("utf-8", "replace"))


@pytest.mark.parametrize(
    "content", [b"", b"...\n", b"- a\n...\n", b"a\n...\n", b"a: [\n...\n", b"\xff\xfe\n...\n", b"a: 1\n"]
)
def test_an_unreadable_file_stays_as_it_is(path, content):
    """F45: never overwritten, never taken for an empty one."""
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(Damaged, match="cannot read '"):
        store.update(path, lambda value: value.update(a=1))
    with open(path, "rb") as file:
        assert file.read() == content


def test_a_damaged_file_is_set_aside_and_never_over_another(path):
    os.makedirs(os.path.dirname(path))
    kept = []
    for content in ("one", "two"):
        with open(path, "w") as file:
            file.write(content)
        assert store.set_aside(path, "now", rested=60).endswith("(no '...' at its end)"), (
            "an editor may not have finished"
        )
        os.utime(path, (1, 1))
        said = store.set_aside(path, "2026-01-31T09:05:00.250Z", rested=60)
        kept.append(said.partition("set aside as '")[2].rstrip("'"))
        assert not os.path.exists(path)
    assert [pathlib.Path(name).read_text() for name in kept] == ["one", "two"]
    assert kept[0] == path + ".damaged-20260131090500250"


def test_a_sound_file_is_not_set_aside_and_neither_is_one_that_could_not_be_opened(path):
    store.write(path, {"a": 1})
    assert store.set_aside(path, "now") == ""
    os.unlink(path)
    os.makedirs(path)
    assert "cannot read" in store.set_aside(path, "now")
    assert os.path.isdir(path)
    with pytest.raises(Unreadable):
        store.read(path)


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(path, monkeypatch):
    store.write(path, {"a": 1})
    for name in ("fsync", "fchmod"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, lambda *args: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(AoError, match=r"cannot write '.*': No space left on device"):
                store.write(path, {"a": 2})
    with pytest.raises(Exception, match="cannot represent"):
        store.write(path, {"a": object()})
    assert store.read(path) == {"a": 1}
    assert {name for name in os.listdir(os.path.dirname(path)) if not name.endswith(store.BEFORE)} == {"x.yaml"}


def test_the_content_is_safe_before_the_name_and_the_name_before_anything_else(path, monkeypatch):
    calls = []

    def record(name):
        real = getattr(os, name)

        def call(*args, **kwargs):
            what = "folder" if name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode) else name
            calls.append(what)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "replace", "link"):
        record(name)
    store.write(path, {"a": 1})
    store.reserve(path + "2", {"a": 1})
    assert calls == ["fsync", "replace", "folder", "fsync", "link", "folder"]


def test_files_are_private(path):
    store.write(path, {"a": 1})
    store.update(path, lambda value: value.update(a=2))
    modes = {
        name: stat.S_IMODE(os.stat(os.path.join(os.path.dirname(path), name)).st_mode)
        for name in ("x.yaml", "x.yaml.lock")
    }
    assert modes == {"x.yaml": 0o600, "x.yaml.lock": 0o600}


def test_two_writers_never_share_a_temporary_file(path, monkeypatch):
    """F44"""
    names, real = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: (names.append(source), real(source, target)))
    for value in range(5):
        store.write(path, {"a": value})
    assert len(set(names)) == 5
    assert {os.path.dirname(name) for name in names} == {os.path.dirname(path)}


def test_nothing_is_written_when_nothing_differs(path):
    store.write(path, {"a": {"b": 1}})
    inode = os.stat(path).st_ino
    before, after = store.update(path, lambda value: value["a"].update(b=1))
    assert (before, after, os.stat(path).st_ino) == ({"a": {"b": 1}}, {"a": {"b": 1}}, inode)
    before, after = store.update(path, lambda value: value["a"].update(b=2))
    assert (before["a"]["b"], after["a"]["b"], store.read(path)) == (1, 2, {"a": {"b": 2}})


def test_a_change_that_fails_writes_nothing(path):
    store.write(path, {"a": 1})

    def change(value):
        value["a"] = 2
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.update(path, change)
    assert store.read(path) == {"a": 1}
    assert not store.is_held(path)


def test_what_a_killed_writer_left_is_swept_away_and_what_a_living_one_has_is_not(path):
    """F44"""
    code = "os.replace = lambda *names: (print('written', flush=True), time.sleep(60))\nstore.write(path, {'a': 1})"
    writer, dead = script(code, path), script(code, path)
    assert [one.stdout.readline() for one in (writer, dead)] == ["written\n"] * 2
    dead.kill()
    dead.wait(60)
    assert len(os.listdir(os.path.dirname(path))) == 2
    store.sweep(os.path.dirname(path))
    assert len(os.listdir(os.path.dirname(path))) == 1
    writer.kill()
    writer.wait(60)
    store.sweep(os.path.dirname(path))
    assert os.listdir(os.path.dirname(path)) == []


# --- locks ----------------------------------------------------------------------------------------------------------


def test_eight_processes_lose_none_of_their_1600_updates(path):
    """F44"""
    code = "change = lambda value: value.update({'total': value.get('total', 0) + 1, str(os.getpid()): 1})\n"
    code += "for _ in range(200): store.update(path, change)"
    processes = [script(code, path) for _ in range(8)]
    assert [process.wait(240) for process in processes] == [0] * 8
    found = store.read(path)
    assert found["total"] == 1600
    assert len(found) == 9, "fields that a writer does not know survive"
    assert sorted(os.listdir(os.path.dirname(path))) == ["x.yaml", "x.yaml.before", "x.yaml.lock"]


def test_the_lock_is_a_file_beside_it_that_a_rename_does_not_move(path):
    """F44: a lock on the file itself would be on the inode that the rename replaces."""
    with store.lock(path):
        store.write(path, {"a": 1})
        inode = os.stat(path + ".lock").st_ino
        store.write(path, {"a": 2})
        with open(path + ".lock") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert os.stat(path + ".lock").st_ino == inode


def test_the_lock_of_a_killed_process_is_free_at_once(path):
    """F44: by the kernel, not by its age."""
    holder = script("with store.lock(path): print('held', flush=True); time.sleep(60)", path)
    assert holder.stdout.readline() == "held\n"
    assert store.is_held(path)
    os.utime(path + ".lock", (0, 0))
    with pytest.raises(Busy, match="another process holds it"), store.lock(path, patience=0.05):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    with store.lock(path, patience=0):
        assert store.is_held(path)
    assert not store.is_held(path)


def test_a_lock_holds_between_threads_too(path):
    with store.lock(path):
        found = []
        thread = threading.Thread(target=lambda: found.append(store.is_held(path)))
        thread.start()
        thread.join()
    assert found == [True]


def test_readers_take_no_lock_and_see_whole_files(path):
    store.write(path, {"a": 1})
    with store.lock(path):
        assert store.read(path) == {"a": 1}
    writer = script("while True: store.write(path, {'a': [os.urandom(2000).hex()] * 50, 'b': 2})", path)
    try:
        until(lambda: store.read(path).get("b"))
        for _ in range(50):
            assert store.read(path)["b"] == 2
    finally:
        writer.kill()
        writer.wait(60)


def test_of_many_who_reserve_a_name_one_gets_it_with_its_content(path):
    """F38: nobody ever sees an empty reservation."""
    code = "print(sum(store.reserve(path + str(n), {'owner': os.getpid()}) for n in range(50)))"
    processes = [script(code, path) for _ in range(8)]
    assert sum(int(process.communicate(timeout=240)[0]) for process in processes) == 50
    owners = [store.read(path + str(number))["owner"] for number in range(50)]
    assert set(owners) <= {process.pid for process in processes}
    assert len(os.listdir(os.path.dirname(path))) == 50


def test_a_folder_that_cannot_be_made_is_an_error_and_not_a_name_that_is_taken(tmp_path):
    (tmp_path / "folder").write_text("a file")
    for act in (store.reserve, store.write):
        with pytest.raises(AoError, match="cannot write"):
            act(str(tmp_path / "folder" / "x.yaml"), {})
