"""What a power cut leaves of a file, cut at any byte: it is noticed, set aside, told of, and never believed."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator

import forging
import living
import pytest
from records import at, session
from talking import act, clock, configure, look, queue, record, told

from lib import costs, events, launch, launcher, loop, observe, overview, paths, rounds, sessions, store
from lib.agent import Launch
from lib.errors import Damaged, Unknown
from lib.scm import _pulls, local
from lib.tracker import local as tracker

OLD = (1.0, 1.0)  # the time of a file that nobody is just writing


def damages(data: bytes) -> Iterator[bytes]:
    """What a disk may have kept of these bytes: the beginning, and then nothing or zeros."""
    for end in range(len(data)):
        yield data[:end]
        yield data[:end] + bytes(len(data) - end)


def some(data: bytes) -> Iterator[bytes]:
    """The same at a few places: nothing, zeros, half of it, all but the end."""
    for end in (0, len(data) // 2, len(data) - 1):
        yield data[:end]
        yield data[:end] + bytes(len(data) - end)


def contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def damage(path: str, data: bytes) -> None:
    """In place, as a disk does it: what the file held before is in another place on the disk."""
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate(len(data))
    os.utime(path, OLD)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of writes need not reach the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def forge(tmp_path):
    """A world with each kind of file, all of them written more than once."""
    world = forging.make(tmp_path, ci=[{"name": "test", "run": "true"}])
    one = forging.spawn(world)
    forging.pull(world, one)
    forging.look(world, one)
    for title in ("One", "Two"):
        tracker.create(world.home, world.project, title, "")
    tracker.close(world.home, world.project, "1")
    new = session(id="shop-1", project_id="shop")
    assert sessions.create(world.home, new, at(0))
    sessions.update(world.home, new, lambda fresh: fresh.update(task="wait...\n...\nthen"), at(1))
    for count in (1, 2):
        store.update(paths.project(world.home, "shop"), lambda facts, count=count: facts.update(next_number=count))
        loop.pause(world.home, at(0), True)
        loop.look(world.home)
        days = {"2026-01-31": {"claude-sonnet-5": {"input_tokens": count}}}
        costs.save(world.home, [{**new, "cost": costs.taken(None, days)}])
    return world


def test_damage_at_any_byte_of_any_file_is_noticed(forge):
    """F45"""
    files = glob.glob(os.path.join(forge.home, "**", "*.yaml"), recursive=True)
    files = [path for path in files if os.sep + "events" + os.sep not in path and "worktrees" not in path]
    names = {os.path.basename(path) for path in files}
    assert names == {"shop-1.yaml", "shop.yaml", "1.yaml", "issues.yaml", "loop.yaml", "2026-01.yaml"}
    for path in files:
        whole = contents(path)
        assert store.is_whole(path) and store.earlier(path)
        for left in damages(whole):
            damage(path, left)
            assert not store.is_whole(path)
            with pytest.raises(Damaged):
                store.read(path)
        damage(path, whole)
        assert store.set_aside(path, "now") == ""


# --- records -------------------------------------------------------------------------------------------------------


def aside(home: str) -> list[str]:
    return sorted(glob.glob(os.path.join(home, "**", "*" + store.ASIDE + "*"), recursive=True))


@pytest.mark.parametrize("place", range(6))
def test_a_damaged_record_goes_on_from_the_state_before_and_a_person_is_told_once(home, place):
    """F45: what was open may have been sent by the state that is lost, and is not sent again."""
    configure(home)
    one = record(home)
    queue(home, one, "hello")
    before = sessions.find(home, "shop-1")
    sessions.update(home, one, lambda fresh: fresh.update(task="lost"), clock(1))
    path = paths.session(home, "shop", "shop-1")
    left = list(some(contents(path)))[place]
    damage(path, left)
    assert "what it held before is used" in look(home, 2)[0]["message"]
    found = sessions.find(home, "shop-1")
    assert (found["task"], found["inbox"][0]["state"]) == (before["task"], "unconfirmed")
    assert [contents(kept) for kept in aside(home)] == [left]
    for seconds in (3, 100, 1000):
        look(home, seconds)
        act(home, seconds)
    assert sum(aside(home)[0] in line for line in told(home)) == 1
    os.unlink(aside(home)[0])
    look(home, 1001)
    assert "file-damaged" not in store.read(paths.project(home, "shop"))["conditions"]


def test_an_id_is_never_used_again_whatever_was_damaged(home, tmp_path):
    """F45: not that of a record that was lost, and not after the project's own file was."""
    world = living.make(home, tmp_path)
    world.spawn("--task", "one")
    store.forget(paths.session(home, "shop", "shop-1") + store.BEFORE)
    for path in (paths.session(home, "shop", "shop-1"), paths.project(home, "shop")):
        damage(path, b"")
    store.forget(paths.project(home, "shop") + store.BEFORE)
    rounds.look(home)
    assert world.records() == [] and len(aside(home)) == 2
    rounds.act(home)
    rounds.act(home)
    assert [line.count("a file was damaged") for line in told(home)] == [1], "also where no session is left"
    world.ok("ao-spawn", "--task", "two")
    assert [one["id"] for one in world.records()] == ["shop-2"]
    for path in aside(home):
        os.unlink(path)
    assert not sessions.create(home, session(id="shop-1", project_id="shop"), at(0))


def test_a_damaged_project_file_does_not_keep_a_project_without_sessions_from_its_first(home, tmp_path):
    world = living.make(home, tmp_path)
    path = paths.project(home, "shop")
    for count in (4, 5):
        store.update(path, lambda facts, count=count: facts.update(next_number=count))
    damage(path, contents(path)[:9])
    done = world.call("ao-spawn", "--task", "x")
    assert done.code == 1 and "it was cut short" in done.err and done.err.count("\n") == 1
    assert len(rounds.look(home)) == 1 and rounds.look(home) == []
    assert world.spawn()["id"] == "shop-4"


def test_one_project_whose_file_cannot_be_read_stops_no_other(home):
    configure(home)
    record(home)
    os.makedirs(paths.project(home, "shop"))
    record(home, "other-1", project_id="other")
    assert "cannot read" in look(home, 1)[-1]["message"]
    assert store.read(paths.project(home, "other"))["conditions"]


def test_a_paused_fleet_stays_paused(home):
    configure(home)
    record(home)
    loop.pause(home, clock(), True)
    rounds.look(home)
    for left in list(some(contents(paths.loop(home)))):
        damage(paths.loop(home), left)
        assert loop.read(home)["paused_at"] and rounds.act(home) == []
        rounds.look(home)
        assert store.read(paths.loop(home))["paused_at"]


# --- the forge -----------------------------------------------------------------------------------------------------


def test_a_damaged_pull_request_goes_on_from_the_state_before(forge):
    """F45"""
    one = {**forging.spawn(forge, "shop-2"), "claimed_pr_number": 1}
    path = _pulls.path(forge.home, "shop", 1)
    for left in some(contents(path)):
        _pulls.change(forge.home, "shop", 1, lambda fields: fields.update(note=fields["note"] + "x"))
        damage(path, left)
        assert forging.look(forge, one)["number"] == 1
    assert len(aside(forge.home)) == 6


def test_a_damaged_pull_request_without_a_state_before_is_neither_none_nor_opened_twice(forge):
    """F11: it is unknown, and its number and its branch stay taken."""
    one = {**forging.spawn(forge, "shop-2"), "claimed_pr_number": 1}
    path = _pulls.path(forge.home, "shop", 1)
    os.unlink(path + store.BEFORE)
    damage(path, b"")
    found = local.look(forge.home, forge.project, [one], clock())["shop-2"]
    assert isinstance(found, Unknown) and "cut short" in str(found) and contents(path) == b""
    forging.commit(one["workspace_path"], "c.txt", "new\n", **forging.PERSON)
    with pytest.raises(Unknown, match="cut short"):
        local.open_pull(forge.home, forge.project, one, "Again", "", False, clock().iso)
    assert _pulls.numbers(forge.home, "shop") == [1]


def test_a_damaged_list_of_issues_neither_reopens_one_nor_gives_a_number_twice(forge):
    tracker.close(forge.home, forge.project, "2")
    path = os.path.join(paths.forge(forge.home, "shop"), "issues.yaml")
    os.unlink(os.path.join(forge.repo, "docs", "issues", "0002-two.md"))
    damage(path, contents(path)[:-1])
    with pytest.raises(Damaged):
        tracker.get(forge.home, forge.project, "1")
    (problem,) = observe._mend(forge.home, clock(), None)
    assert problem["project_id"] == "shop"
    assert tracker.get(forge.home, forge.project, "1").state == "closed"
    assert tracker.create(forge.home, forge.project, "Three", "").id == "3"


# --- the log, caches, launch files, reports --------------------------------------------------------------------------


def test_the_log_goes_on_behind_its_last_whole_line(home, quick):
    for count in range(4):
        events.append(home, at(count), [{"type": "note", "text": f"é {count}"}])
    (path,) = events.files(home)
    whole = contents(path)
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    for left in damages(whole):
        damage(path, left)
        kept = sum(end <= len(left.rstrip(b"\0")) + left.endswith(b"}") for end in ends)
        events.append(home, at(9), [{"type": "new"}])
        found = list(events.read(home))
        texts = [one["text"] for one in found if one["type"] == "note"]
        assert texts == [f"é {count}" for count in range(len(texts))] and len(texts) >= kept
        assert found[-1]["type"] == "new" and events.last_id(home) == found[-1]["id"]
        assert [one["id"] for one in found] == list(range(1, len(found) + 1)), "ids grow"
        damage(path, b"")


def test_a_log_that_has_lost_its_end_says_so(home):
    events.append(home, at(0), [{"type": "note"}, {"type": "note"}])
    (path,) = events.files(home)
    damage(path, contents(path)[:-5])
    events.append(home, at(1), [{"type": "new"}])
    assert [one["type"] for one in events.read(home)] == ["note", "log_damaged", "new"]


def test_a_damaged_cache_is_no_cache(home, quick):
    for number in (1, 2):
        assert sessions.create(home, session(id=f"app-{number}"), at(0))
    expected = sessions.everything(home)
    path = paths.cache(home, overview.CACHE)
    whole = contents(path)
    for left in damages(whole[:400]):
        damage(path, left)
        assert sessions.everything(home) == expected
    for left in some(whole):
        damage(path, left)
        assert sessions.everything(home) == expected


def test_a_damaged_launch_file_is_kept_and_the_next_life_has_one_of_its_own(home):
    project = configure(home)
    one = record(home)
    launch.prepare(home, project, one, Launch(["cat"], {"SECRET": "x"}, True))
    path = paths.launch(home, "shop", "shop-1")
    whole = contents(path)
    for left in damages(whole):
        damage(path, left)
        assert launch._read(path) == {}
    launch.prepare(home, project, one, Launch(["cat"], {}, True))
    assert json.loads(contents(path))["argv"] == ["cat"]
    assert [contents(kept) for kept in aside(home)] == [left]
    look(home, 1)
    act(home, 1)
    assert any(aside(home)[0] in line for line in told(home))


def test_a_damaged_exit_file_says_nothing_and_that_of_an_earlier_life_goes_for_good(home):
    project = configure(home)
    one = record(home)
    left_by = launcher.exit_file(paths.launch(home, "shop", "shop-1"))
    launch.prepare(home, project, one, Launch(["cat"], {}, True))
    launcher._leave(left_by, 3)
    whole = contents(left_by)
    assert launch.ended(home, one)["code"] == 3
    for left in damages(whole):
        damage(left_by, left)
        assert launch.ended(home, one) is None
    damage(left_by, whole)
    launch.prepare(home, project, one, Launch(["cat"], {}, True))
    assert not os.path.exists(left_by)


REPORTS = [f"{1_700_000_000 + count}.250\t{what}\n" for count, what in enumerate(("report\tready\t", "done\t\té x"))]


def test_reports_are_never_read_twice_and_what_is_damaged_is_none(home, quick):
    """A report of an agent's end that is read again would end its next life."""
    one, whole, new = record(home), "".join(REPORTS).encode(), b"1700000009.000\treport\tactive\t\n"
    path = paths.report(home, "shop", "shop-1")
    os.makedirs(os.path.dirname(path))
    open(path, "wb").close()

    def read(start: int) -> tuple[list[str], int]:
        found, end = observe._read_reports(home, {**one, "reports_read": start})
        return [f"{line[0]:.3f}\t" + "\t".join(line[1:]) + "\n" for line in found], end

    for left in damages(whole):
        damage(path, left)
        found, end = read(len(whole))
        assert found == [] and end == len(left)
        damage(path, left + new)
        assert read(end)[0] == [new.decode()]
        found = read(0)[0]
        assert found[-1] == new.decode() and found[:-1] == REPORTS[: len(found) - 1]


def test_what_nobody_can_read_is_left_to_a_person_by_every_command(home, tmp_path):
    """One line and an exit code, never a traceback and never another file."""
    world = living.make(home, tmp_path)
    path = world.spawn()["workspace_path"]
    record_path = paths.session(home, "shop", "shop-1")
    whole = contents(record_path)
    for left in (b"", bytes(40), whole[:100]):
        damage(record_path, left)
        for command in (("ao-kill", "shop-1"), ("ao-send", "shop-1", "x"), ("ao-restore", "shop-1"), ("ao-status",)):
            done = world.call(*command)
            assert "Traceback" not in done.err and "shop-1.yaml'" in done.err, done
        assert contents(record_path) == left and os.path.isdir(path)
