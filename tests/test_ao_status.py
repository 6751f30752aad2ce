"""ao-status: what it shows, from the cache and without, and that it only reads."""

from __future__ import annotations

import json
import os
import struct
import time
from typing import Any

import pytest
import scripts

from lib import cache, clock, overview, paths, render, sessions, status, store

NOW = time.time()
OPEN = {"number": 104, "state": "open", "ci_status": "failing", "review_decision": "pending", "url": "http://x/104"}


def put(home: str, id: str = "shop-1", ago: float = 7300.0, **fields: Any) -> dict[str, Any]:
    """Save the record of a session that works, or as `fields` say."""
    then = clock.Clock(NOW - ago)
    record = sessions.blank(id, "shop", then) | {"rev": 1, "runtime_state": "alive", "activity": "active"}
    record |= {"activity_since": then.iso, "activity_source": "screen", "branch": f"feat/{id}", **fields}
    record["status"] = status.derive(record, clock.Clock(NOW))
    store.write(paths.session(home, "shop", id), record)
    store.write(paths.loop(home), {})
    return record


def fleet(home: str) -> list[dict[str, Any]]:
    """Three that are shown by default and two that are not."""
    return [
        put(home, "shop-1", issue_title="Fix the café’s login"),
        put(home, "shop-2", pr=OPEN, claimed_pr_number=104, task="注文フォーム\nを直す"),
        put(home, "shop-9", runtime_state="gone", is_lost=True, issue_title="Went in the reboot"),
        put(home, "shop-10", outcome="killed", runtime_state="gone"),
        put(home, "shop-11", pr={**OPEN, "state": "merged"}, claimed_pr_number=104),
    ]


def answer(*argv: str) -> str:
    done = scripts.call("ao-status", *argv)
    assert (done.code, done.err) == (0, ""), done.err
    return done.out


def listed(*argv: str) -> list[str]:
    return [record["id"] for record in json.loads(answer("--json", *argv))]


# --- what it shows --------------------------------------------------------------------------------------------------


def test_the_default_view_has_the_live_and_the_lost_ones(home):
    """F43"""
    fleet(home)
    assert listed() == ["shop-1", "shop-2", "shop-9"]
    assert listed("--all") == ["shop-1", "shop-2", "shop-9", "shop-10", "shop-11"]


def test_a_table_says_who_waits_for_a_person(home):
    fleet(home)
    lines = [line.split() for line in answer().splitlines()]
    assert lines[0] == ["session", "status", "activity", "pr", "age", "branch", "about"]
    assert lines[2] == ["shop-2", "ci_failed", "active", "#104", "2h", "feat/shop-2", "注文フォーム", "を直す"]
    assert lines[3][2] == "lost" and lines[3][6] == "!"
    assert "failing" in answer("--pr")


def test_json_is_the_records_as_they_are(home):
    assert answer("--json") == "[]\n"  # F48: also when there is none
    records = fleet(home)
    assert json.loads(answer("--json", "--all")) == records
    assert json.loads(answer("shop-2", "--json")) == [records[1]]


def test_nothing_alive_says_what_to_do(home):
    assert answer() == "no session is alive; start one with: ao-spawn\n"
    put(home, outcome="killed")
    assert answer() == "no session is alive (1 ended: ao-status --all)\n"


def test_one_session_by_its_exact_id_or_a_prefix(home):
    """F49: an exact id is never ambiguous."""
    for id in ("shop-1", "shop-10"):
        put(home, id)
    assert [listed("shop-1"), listed("shop-10")] == [["shop-1"], ["shop-10"]]
    done = scripts.call("ao-status", "shop")
    assert (done.code, done.out) == (1, "") and "shop-1, shop-10" in done.err


def test_only_one_project(home):
    put(home)
    os.mkdir(os.path.join(home, "sessions", "web"))
    assert [listed("--project", "shop"), listed("--project", "web")] == [["shop-1"], []]


def test_why_shows_the_rule_the_question_and_what_is_open(home):
    """F28"""
    opened = {"since": clock.iso(NOW - 700), "attempts": 0, "intent": None, "result": None, "waiting_for": "a person"}
    put(home, activity="waiting_input", question="Which\x1b[2J port?", conditions={"agent-needs-input": opened})
    text = answer("--why")
    for words in (
        "shop-1 is needs_input: ",
        "it asks: Which\ufffd[2J port?",
        "waits for: a configuration that can be read",
        "it closes when: ",
    ):
        assert words in text
    assert json.loads(answer("--why", "--json"))[0]["why"] == text.splitlines()


def test_why_tells_of_a_failed_merge_until_there_is_another_head(home):
    failure = {"head_sha": "a" * 40, "error": "the base checkout has local changes", "at": clock.iso(NOW)}
    for head, is_told in (("a" * 40, True), ("b" * 40, False)):
        put(home, pr={"number": 1, "state": "open", "head_sha": head}, merge_failure=failure)
        assert ("a merge failed: the base" in answer("--why")) == is_told


def test_that_no_loop_runs_is_said_beside_what_may_be_old(home):
    put(home)
    assert overview.OLD == clock.LONGEST_LOOK_GAP
    os.utime(paths.loop(home), (0, time.time() - 300))
    for options in ([], ["--why"]):
        assert scripts.call("ao-status", *options).err == "ao-status: nobody has looked for 5m; start: ao-watch\n"
    assert scripts.call("ao-status", "--json").err == ""
    os.unlink(paths.loop(home))
    assert "nobody has looked yet" in scripts.call("ao-status").err
    put(home, outcome="done", runtime_state="gone")
    os.unlink(paths.loop(home))
    assert scripts.call("ao-status", "--all").err == ""


def test_why_says_that_nothing_is_known_of_an_agent_without_patterns_and_hooks(home):
    put(home, activity=None, runtime_state="alive")
    assert "  activity: unknown; its screen has told nothing" in answer("--why")


def test_a_damaged_record_is_told_of_and_hides_no_other(home):
    fleet(home)
    with open(paths.session(home, "shop", "shop-1"), "w") as file:
        file.write("id: [")
    for _ in range(2):
        done = scripts.call("ao-status", "--json")
        assert done.code == 0 and "shop-1.yaml" in done.err
        assert [record["id"] for record in json.loads(done.out)] == ["shop-2", "shop-9"]


# --- the cache ------------------------------------------------------------------------------------------------------


def kept(home: str) -> str:
    return paths.cache(home, "sessions")


def test_the_quick_way_and_the_long_way_print_the_same(home):
    """From the cache, without it, through argparse, and for each session alone."""
    fleet(home)
    for options in ([], ["--all"], ["--all", "--pr"], ["--json"], ["--json", "--all"]):
        os.path.exists(kept(home)) and os.unlink(kept(home))
        cold, warm, parsed = answer(*options), answer(*options), answer(*options, "--project", "shop")
        assert cold == warm == parsed and "shop-1" in cold
    assert [json.loads(answer(id, "--json"))[0] for id in listed("--all")] == json.loads(answer("--json", "--all"))


@pytest.mark.parametrize("damage", ["absent", "cut short", "zeros inside", "another version", "another code", "empty"])
def test_a_cache_that_is_wrong_is_made_anew(home, monkeypatch, damage):
    fleet(home)
    right = answer("--json", "--all")
    with open(kept(home), "rb") as file:
        data = file.read()
    found = cache.load(home, "sessions")
    stale = {**found, "entries": {path: {**entry, "json": b"{}"} for path, entry in found["entries"].items()}}
    if damage == "absent":
        os.unlink(kept(home))
    elif damage == "another version":
        with monkeypatch.context() as other:
            other.setattr(cache, "SEED", 1)
            cache.save(home, "sessions", stale)
    elif damage == "another code":
        cache.save(home, "sessions", {**stale, "code": []})
    else:
        wrong = {"cut short": data[:-9], "zeros inside": data[:99] + bytes(99) + data[198:], "empty": b""}[damage]
        with open(kept(home), "wb") as file:
            file.write(wrong)
    assert answer("--json", "--all") == right
    with open(kept(home), "rb") as file:
        assert file.read() == data


def test_a_change_shows_at_once(home):
    records = fleet(home)
    answer()
    sessions.update(home, records[0], lambda fresh: fresh.update(outcome="killed"), clock.Clock(NOW))
    assert listed() == ["shop-2", "shop-9"]
    os.unlink(paths.session(home, "shop", "shop-2"))
    assert listed() == ["shop-9"]


def test_a_cache_that_cannot_be_written_is_not_missed(home):
    fleet(home)
    with open(os.path.join(home, "cache"), "w"):
        pass  # a file where the folder should be
    assert listed() == ["shop-1", "shop-2", "shop-9"]


def test_readers_write_nothing_and_start_nothing(home, tmp_path, monkeypatch):
    """F10 and F52: no terminal and no forge is asked, so none that is slow can make a session look dead."""
    fleet(home)
    for name in ("tmux", "git", "gh"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/calls\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    before = written(home)
    for options in ([], ["--json"], ["--why"], ["shop-1"]):
        answer(*options)
    assert written(home) == before and not (tmp_path / "calls").exists()


def written(home: str) -> dict[str, float]:
    files = [os.path.join(here, name) for here, _, names in os.walk(home) for name in names]
    return {path: os.stat(path).st_mtime_ns for path in files if f"{home}/cache/" not in path}


# --- on a terminal --------------------------------------------------------------------------------------------------


def test_a_frame_is_written_over_the_last_one_and_cut_to_the_screen():
    import fcntl
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 8, 0, 0))
    with open(slave, "w") as stream:
        first = render.redraw(stream, "one\ntwo\n")
        second = render.redraw(stream, "a long line\n" + "line\n" * 8, first, "said\n")
        stream.flush()
        found = ""
        while found.count("\x1b[J") < 3:
            found += os.read(master, 65536).decode()
    os.close(master)
    assert (first, second) == ([3, 3], [7, 4, 4, 8])
    frames = ["one\ntwo\n\x1b[J", "\x1b[2A\r\x1b[Jsaid\na long…\nline\nline\nand 6 m…\n\x1b[J"]
    assert found.replace("\r\n", "\n").replace("\x1b[2K", "") == "".join(frames)


ROW = ["shop-orchestrator-1", ("changes_requested", "red"), "waiting_input", "#104", "2h", "b" * 40, "words " * 20]
NAMES = ["session", "status", "activity", "pr", "age", "branch", "about"]


@pytest.mark.parametrize("room", [200, 120, 80, 60, 40, 24, 10])
@pytest.mark.parametrize("colour", [False, True])
def test_ids_stay_whole_and_columns_give_way_to_others_on_a_narrow_terminal(room, colour):
    lines = render.table([ROW], NAMES, room, colour, overview.SPARE).splitlines()
    assert max(render.width(render.harmless(line)) for line in lines) <= room
    assert lines[1].startswith(ROW[0][: room - 1])
    assert ("changes_requested" in lines[1]) == (room >= 40)
    assert [name for name in NAMES if name in lines[0].split()] == {
        200: NAMES,
        120: NAMES,
        80: [name for name in NAMES if name not in ("branch", "age", "activity")],
        60: ["session", "status", "pr"],
        40: ["session", "status"],
        24: ["session"],
        10: [],
    }[room]


def test_what_ended_by_itself_is_shown_until_a_person_has_settled_it(home):
    put(home, "shop-1", runtime_state="exited", activity="exited", ended_at=clock.Clock(NOW).iso)
    put(home, "shop-2", outcome="errored")
    put(home, "shop-3", outcome="errored", pruned_at=clock.Clock(NOW).iso)
    put(home, "shop-4", outcome="killed")
    assert listed() == ["shop-1", "shop-2"]


def test_a_pause_is_said_before_anything_else(home):
    put(home, "shop-1")
    store.write(paths.loop(home), {"paused_at": clock.Clock(NOW).iso, "look": {}})
    done = scripts.call("ao-status")
    assert done.code == 0 and "the fleet is paused" in done.out + done.err
    store.write(paths.loop(home), {"paused_at": None, "look": {}})
    done = scripts.call("ao-status")
    assert "paused" not in done.out + done.err


def test_why_says_that_nothing_is_done_while_the_fleet_is_paused(home):
    put(home, "shop-1", pr=OPEN)
    store.write(paths.loop(home), {"paused_at": clock.Clock(NOW).iso, "look": {}})
    assert " the fleet is paused: nothing is sent" in scripts.call("ao-status", "--why", "shop-1").out
