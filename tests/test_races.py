"""Others at the worst moment: commands in a look, people between look and act, two homes, no tmux, a reboot."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import forging
import living
import pytest
import scripts
from conftest import until
from living import AGENT
from talking import told
from terminals import logged, runs

from lib import clock, effects, git, launcher, lives, loop, paths, rounds, sessions, spawn, store
from lib.errors import AoError, Busy
from lib.runtime import tmux
from lib.scm import _merging, local
from lib.workspace import worktree

EASY = {"settle": "0s", "require_checks": False, "require_review": False}
MERGES = {"approved-and-green": {"action": "auto-merge"}}


@pytest.fixture
def world(home, tmp_path):
    return living.make(home, tmp_path)


@pytest.fixture
def other():
    """A second AO_HOME."""
    folder = tempfile.mkdtemp(prefix="ao-", dir="/tmp")
    yield folder
    tmux.kill_server(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def meanwhile(monkeypatch):
    """`meanwhile(module, "name", action)`: somebody does something right before or after the next call."""

    def arrange(module: Any, name: str, action: Callable[[], object], before: bool = False) -> list[object]:
        real, done = getattr(module, name), []

        def call(*args: Any, **options: Any) -> Any:
            monkeypatch.setattr(module, name, real)
            if before:
                done.append(action())
            found = real(*args, **options)
            if not before:
                done.append(action())
            return found

        monkeypatch.setattr(module, name, call)
        return done

    return arrange


def kill_server(home: str) -> None:
    """As the out-of-memory killer does it: the socket stays behind."""
    pid = int(tmux._tmux(home, "display-message", "-p", "#{pid}"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: not runs(pid), "the end of the server")


# --- a person's command during a look --------------------------------------------------------------------------------


def test_a_kill_during_a_look_wins(world, meanwhile):
    world.spawn()
    world.look()
    assert meanwhile(tmux, "look", lambda: world.ok("ao-kill", "shop-1")) == []
    world.look()
    assert (world.record("shop-1")["status"], world.record("shop-1")["runtime_state"]) == ("killed", "exited")
    world.look(2)
    assert world.record("shop-1")["outcome"] == "killed"


def test_a_restore_during_a_look_that_found_no_terminal_wins(world, meanwhile):
    living.pull(world, world.spawn())
    world.look()
    tmux.stop(world.home, "shop-1")
    world.look()
    done = meanwhile(tmux, "look", lambda: world.ok("ao-restore", "shop-1"))
    world.look()
    assert done and world.record("shop-1")["runtime_state"] in ("starting", "alive")
    world.look()
    assert (world.record("shop-1")["runtime_state"], world.record("shop-1")["missed_looks"]) == ("alive", None)


def test_a_claim_during_a_look_that_found_no_pull_request_wins(world, meanwhile):
    first = world.spawn("--task", "first")
    living.pull(world, first)
    world.look()
    world.ok("ao-kill", "shop-1")
    world.ok("ao-prune", "shop-1")
    world.spawn("--task", "second")
    done = meanwhile(local, "look", lambda: world.ok("ao-claim", "shop-2", "1"))
    world.look()
    record = world.record("shop-2")
    assert done and (record["pr"]["number"], record["branch"], record["doing"]) == (1, first["branch"], None)
    world.look(2)
    assert world.record("shop-2")["pr"]["number"] == 1


def test_a_message_sent_during_a_look_is_not_lost(world, meanwhile):
    world.spawn("--task", "x", "--no-prompt")
    done = meanwhile(tmux, "look", lambda: world.ok("ao-send", "shop-1", "hello"))
    world.look()
    assert done and [one["text"] for one in world.record("shop-1")["inbox"]] == ["hello"]
    assert world.record("shop-1")["runtime_state"] == "alive"


def test_a_session_archived_during_a_look_stays_archived(world, meanwhile):
    living.pull(world, world.spawn())
    world.look()
    world.ok("ao-kill", "shop-1")
    world.change("shop-1", outcome=None, runtime_state="alive")  # so that it is looked at

    def archive():
        world.ok("ao-kill", "shop-1")
        return world.ok("ao-prune", "shop-1", "--archive")

    done = meanwhile(local, "look", archive)
    world.look(2)
    assert done and world.records() == [] and world.record("shop-1")["outcome"] == "killed"
    assert not os.path.exists(paths.session(world.home, "shop", "shop-1") + store.BEFORE)


def test_what_a_person_restored_is_not_cleaned_up_by_who_saw_it_done(world):
    """F44: the decision is taken again on the newest record."""
    world.spawn()
    world.change("shop-1", outcome="done")
    seen = world.record("shop-1")
    world.ok("ao-kill", "shop-1")
    world.ok("ao-restore", "shop-1")
    with pytest.raises(Busy):
        lives.clean_up(world.home, world.project, seen, False, loop.clock(world.home))
    assert "shop-1" in tmux.look(world.home) and world.record("shop-1")["doing"] is None


def test_ticks_reacts_and_sends_at_once_deliver_each_message_once(home, tmp_path):
    """Two looks, two acts and a person side by side, several times."""
    log = os.path.join(home, "agent.log")
    world = living.make(home, tmp_path, [*AGENT, "--log", log])
    world.spawn("--task", "build the shed")
    texts = [f"message {number}" for number in range(3)]

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, os.path.join(scripts.BIN, words[0]), *words[1:]]
        return subprocess.Popen(command, cwd=world.folder, stderr=subprocess.PIPE, text=True)

    for text in texts:
        both = [start(name) for name in ("ao-tick", "ao-react") * 2]
        for one in [*both, start("ao-send", "shop-1", text)]:
            assert one.communicate(timeout=60)[1].count("Traceback") == 0 and one.returncode == 0

    def are_told() -> bool:
        for one in [start(name) for name in ("ao-tick", "ao-react") * 2]:
            one.communicate(timeout=60)
        return {one["state"] for one in world.record("shop-1")["inbox"]} == {"confirmed"}

    until(are_told, "the confirmations", 90)
    received = logged(log)
    assert [sum(text in one for one in received) for text in ("build the shed", *texts)] == [1] * 4


# --- people between a look and an act --------------------------------------------------------------------------------


@pytest.fixture
def ready(home, tmp_path):
    """A session whose pull request is merged by the next act."""
    world = living.make(home, tmp_path, merge=EASY, reactions=MERGES)
    living.pull(world, world.spawn())
    world.look(2)
    assert world.record("shop-1")["status"] == "mergeable"
    return world


def push(world):
    forging.commit(world.record("shop-1")["workspace_path"], "more.txt", "more\n", **forging.PERSON)


def merge_by_hand(world):
    world.git("merge", "--quiet", "--no-ff", "-m", "by hand", world.record("shop-1")["branch"])


def merge_another(world):
    forging.commit(world.repo, "another.txt", "another\n")


def rename(world):
    forging.git(world.record("shop-1")["workspace_path"], "branch", "-m", "feat/renamed")


def delete_worktree(world):
    shutil.rmtree(world.record("shop-1")["workspace_path"])


def delete_branch(world):
    forging.git(world.record("shop-1")["workspace_path"], "checkout", "--quiet", "--detach")
    world.git("branch", "-D", world.record("shop-1")["branch"])


def close(world):
    world.ok("ao-pr", "close", "1")


def switch_the_base_checkout(world):
    world.git("checkout", "--quiet", "-b", "mine")


MOMENTS = {
    "after the look": None,
    "while it is planned": (local, "plan_merge"),
    "once it is planned": (local, "merge"),
    "right before it lands": (_merging, "land"),
}
ENDS_UNMERGED = (delete_branch, close)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "act",
    [push, merge_by_hand, merge_another, rename, delete_worktree, delete_branch, close, switch_the_base_checkout],
)
def test_what_people_do_between_a_look_and_a_merge_is_respected(ready, meanwhile, moment, act):
    """F32: what was judged is merged, or what is there now is looked at again; it is never a failed merge."""
    place = MOMENTS[moment]
    done = meanwhile(*place, lambda: act(ready), before=True) if place else [act(ready)]
    rounds.act(ready.home)
    record = ready.record("shop-1")
    assert done and record["merge_failure"] is None and record["doing"] is None
    if act is push and not moment.startswith("right"):
        assert "more.txt" not in ready.git("ls-tree", "--name-only", "main").split()
    ready.look(3)
    rounds.act(ready.home)
    ready.look()
    record = ready.record("shop-1")
    landed = len(ready.git("log", "--format=%H", "main", "--", "b.txt").split())
    is_merged = act not in ENDS_UNMERGED or moment.startswith("right")  # then it was too late
    assert (record["status"] == "merged", landed) == ((True, 1) if is_merged else (False, 0)), record["status"]
    assert record["merge_failure"] is None
    if act is merge_another:
        assert "another.txt" in ready.git("ls-tree", "--name-only", "main").split()


def test_a_base_checkout_that_is_switched_in_the_last_moment_is_no_merge(ready, meanwhile):
    """What says whether it is merged is where the base branch is, and not that git had no complaint."""
    run, base = git.run, ready.git("rev-parse", "main")

    def switch(folder, *args, **options):
        if "--ff-only" in args:
            switch_the_base_checkout(ready)
        return run(folder, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(git, "run", switch)
        rounds.act(ready.home)
    assert ready.git("rev-parse", "main") == base
    assert ready.record("shop-1")["merge_failure"] is None and ready.record("shop-1")["status"] != "merged"
    ready.look()
    rounds.act(ready.home)
    assert ready.record("shop-1")["status"] == "merged" and ready.git("rev-parse", "main") != base


def test_a_merge_that_landed_and_could_not_be_noted_is_no_failed_merge(ready, monkeypatch):
    """F23: it has happened, and the next act notes it."""

    def full(*args):
        raise AoError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(local, "_say_merged", full)
        rounds.act(ready.home)
    assert "b.txt" in ready.git("ls-tree", "--name-only", "main").split()
    assert ready.record("shop-1")["merge_failure"] is None and ready.record("shop-1")["doing"]["effect"] == "merge"
    rounds.act(ready.home)
    assert ready.record("shop-1")["status"] == "merged" and ready.record("shop-1")["merge_failure"] is None


def test_a_pull_request_goes_to_one_of_two_spawns_at_once(world, meanwhile):
    """F42: the other one says which session has it."""
    first = world.spawn("--task", "first")
    living.pull(world, first)
    world.look()
    world.ok("ao-kill", "shop-1")
    world.ok("ao-prune", "shop-1")
    meanwhile(spawn, "_reserve", lambda: world.ok("ao-spawn", "--claim-pr", "1"), before=True)
    late = world.call("ao-spawn", "--claim-pr", "1")
    assert late.code == 1 and "pull request 1 has a session already: shop-2" in late.err
    assert len(world.records()) == 2 and world.git("branch", "--list", first["branch"])


# --- two homes on one repository --------------------------------------------------------------------------------------


def test_two_homes_take_turns_at_a_repository(world, other):
    with git.changing(world.home, world.repo), pytest.raises(Busy), pytest.MonkeyPatch.context() as patch:
        patch.setattr(git, "REPOSITORY_PATIENCE", 0.0)
        with git.changing(other, world.repo):
            pass
    with git.changing(other, world.repo):
        assert not world.git("status", "--porcelain")


def test_a_branch_that_another_home_takes_in_the_last_moment_stays_its_own(world, other, meanwhile):
    """F41: both work, each on a branch of its own."""
    world.issue(7, "Seven")
    done = meanwhile(worktree, "create", lambda: world.ok("ao-spawn", "7", AO_HOME=other), before=True)
    record = world.spawn("7")
    theirs = sessions.find(other, "shop-1")
    assert done and (record["branch"], theirs["branch"]) == ("feat/7-seven-2", "feat/7-seven")
    for one in (record, theirs):
        assert forging.git(one["workspace_path"], "symbolic-ref", "--short", "HEAD") == one["branch"]
    assert world.record("shop-1")["branch"] == record["branch"]


def test_a_failed_spawn_leaves_the_branch_that_somebody_made_in_the_last_moment(world, monkeypatch):
    """A branch without a commit of its own, in no checkout: only who made it may take it back."""
    monkeypatch.setattr(spawn, "_new_branch", lambda *args: "theirs")
    world.git("branch", "theirs")
    with pytest.raises(worktree.Taken):
        worktree.create(world.home, world.project, "shop-9", "theirs", world.git("rev-parse", "main"))
    assert world.git("branch", "--list", "theirs") and not os.path.exists(paths.worktree(world.home, "shop", "shop-9"))


def test_many_spawns_from_two_homes_at_once_all_work(world, other):
    """Twenty worktrees of one repository, made by twenty processes."""
    living.configure(world, max_sessions=20)
    command = [sys.executable, os.path.join(scripts.BIN, "ao-spawn"), "--task", "same", "--no-prompt"]
    environments = [{**os.environ, "AO_HOME": home} for home in (world.home, other) * 10]
    spawning = [
        subprocess.Popen(command, cwd=world.folder, env=one, stderr=subprocess.PIPE, text=True) for one in environments
    ]
    said = [one.communicate(timeout=200)[1] for one in spawning]
    assert [one.returncode for one in spawning] == [0] * 20, said
    found = [*sessions.everything(world.home).records, *sessions.everything(other).records]
    assert len({one["branch"] for one in found}) == len({one["workspace_path"] for one in found}) == 20
    for one in found:
        assert forging.git(one["workspace_path"], "symbolic-ref", "--short", "HEAD") == one["branch"]
    assert world.git("fsck", "--connectivity-only", "--no-dangling") == ""


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("is_checked_out", [True, False])
def test_merges_of_two_homes_at_once_both_land(home, other, tmp_path, monkeypatch, meanwhile, method, is_checked_out):
    """F35: the one that was overtaken looks again; nothing is lost and nothing is a failed merge."""
    world = living.make(home, tmp_path, merge={**EASY, "method": method}, reactions=MERGES)
    theirs = living.World(other, world.folder)
    living.pull(world, world.spawn(), "ours.txt")
    with monkeypatch.context() as patch:
        patch.setenv("AO_HOME", other)
        living.pull(theirs, theirs.spawn(), "theirs.txt")
    if not is_checked_out:
        world.git("checkout", "--quiet", "--detach")
    for one in (world, theirs):
        one.look(2)
    done = meanwhile(_merging, "land", lambda: world.git("rev-parse", "main"), before=True)
    meanwhile(local, "merge", lambda: rounds.act(other), before=True)
    rounds.act(home)
    assert done and theirs.record("shop-1")["status"] == "merged"
    assert world.record("shop-1")["merge_failure"] is None and world.record("shop-1")["status"] != "merged"
    world.look()
    rounds.act(home)
    assert world.record("shop-1")["status"] == "merged"
    assert {"ours.txt", "theirs.txt"} <= set(world.git("ls-tree", "--name-only", "main").split())
    for one in (world, theirs):
        one.ok("ao-kill", "shop-1", AO_HOME=one.home)
        one.ok("ao-prune", "shop-1", AO_HOME=one.home)
    assert world.git("for-each-ref", "refs/ao/backup") == "", "what was merged is no work that would be lost"


# --- the end of the tmux server ---------------------------------------------------------------------------------------


def test_a_server_killed_during_a_look_declares_nobody_dead(world, meanwhile):
    world.spawn()
    world.look()
    done = meanwhile(tmux, "_ask", lambda: kill_server(world.home), before=True)
    world.look()
    assert done and world.record("shop-1")["runtime_state"] == "alive"
    world.look()
    assert world.record("shop-1")["runtime_state"] == "gone" and world.record("shop-1")["is_lost"]


@pytest.mark.parametrize("point", ["paste", "press"])
def test_a_message_whose_terminal_goes_while_it_is_typed_arrives_once(home, tmp_path, meanwhile, point):
    log = os.path.join(home, "agent.log")
    world = living.make(home, tmp_path, [*AGENT, "--log", log])
    world.spawn("--task", "build the shed")

    def is_confirmed():
        world.look()
        rounds.act(home)
        return {one["state"] for one in world.record("shop-1")["inbox"]} == {"confirmed"}

    until(is_confirmed, "the task", 60)
    world.ok("ao-send", "shop-1", "paint it green")
    done = meanwhile(tmux, point, lambda: kill_server(home), before=point == "press")
    until(lambda: rounds.act(home) is None or done, "the message on its way", 60)
    world.look(2)
    assert world.record("shop-1")["is_lost"]
    assert "shop-1 runs again" in world.ok("ao-restore", "--lost").err
    until(is_confirmed, "the message", 60)
    assert sum("paint it green" in text for text in logged(log)) == 1


@pytest.mark.parametrize("before", [True, False])
def test_a_server_killed_during_a_spawn_or_a_restore_costs_nothing_but_a_restore(world, meanwhile, before):
    """Before the terminal is there a new server has it; afterwards the session is lost like any other."""
    world.spawn("--task", "first")
    meanwhile(tmux, "start", lambda: kill_server(world.home), before=before)
    world.call("ao-spawn", "--task", "second")
    for _ in range(2):
        rounds.look(world.home)
    assert world.record("shop-2")["runtime_state"] == ("alive" if before else "gone")
    meanwhile(tmux, "start", lambda: kill_server(world.home) if tmux.look(world.home) else None, before=before)
    world.call("ao-restore", "shop-1")
    for _ in range(2):
        rounds.look(world.home)
    world.ok("ao-restore", "--lost")
    assert sorted(tmux.look(world.home)) == ["shop-1", "shop-2"]
    world.look(2)
    assert [one["status"] for one in world.records()] == ["working", "working"]


# --- a reboot, and the clock ------------------------------------------------------------------------------------------


class Watch:
    """This machine's clocks, set by hand from now on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = clock.this_moment()
        monkeypatch.setattr(clock, "this_moment", lambda: self.at)

    def goes(self, wall: float, monotonic: float | None = None, boot: str | None = None) -> None:
        after = self.at.monotonic + (wall if monotonic is None else monotonic)
        self.at = clock.Look(self.at.wall + wall, after, boot or self.at.boot_id)


def reboot(world, watch: Watch | None = None) -> None:
    kill_server(world.home)
    if watch:
        watch.at = clock.Look(watch.at.wall + 86_400, 30.0, "another boot")


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_after_a_reboot_one_word_brings_back_what_was_lost_and_nothing_else(home, tmp_path, monkeypatch, looks):
    """F43, F50: also before anybody has looked; and no process is taken for one that had its number before."""
    world = living.make(home, tmp_path, [*AGENT, "{prompt}"])
    watch = Watch(monkeypatch)
    for task in ("one", "two", "three"):
        world.spawn("--task", task)
    world.ok("ao-kill", "shop-3")
    world.look()
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        reboot(world, watch)
        left = launcher.exit_file(paths.launch(home, "shop", "shop-2"))
        with open(left, "w") as file:  # it ended by itself right before; its number is somebody else's now
            json.dump({"code": 0, "at": clock.iso(watch.at.wall - 86_400), "pid": bystander.pid}, file)
        for _ in range(looks):
            world.look()
            watch.goes(5)
        done = world.ok("ao-restore", "--lost")
        assert list(tmux.look(home)) == ["shop-1"], done
        world.look(3)
        assert [one["status"] for one in world.records()] == ["working", "terminated", "killed"]
        assert world.record("shop-2")["exit_code"] == 0
        assert bystander.poll() is None
        world.ok("ao-kill", "shop-2")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


JUMPS = {
    "an hour forward": (3600, 0),
    "an hour back": (-3600, 0),
    "a day back": (-86_400, 0),
    "a weekend asleep": (2.5 * 86_400, 0),
    "a weekend without the loop": (2.5 * 86_400, 2.5 * 86_400),
}


@pytest.mark.parametrize("jump", JUMPS)
def test_no_timer_fires_and_no_reaction_repeats_when_time_jumps(home, tmp_path, monkeypatch, jump):
    world = living.make(
        home,
        tmp_path,
        [*AGENT, "--log", os.path.join(home, "agent.log")],
        reactions={"agent-idle": {"threshold": "15m"}, "changes-requested": {"escalate_after": "20m"}},
    )
    watch = Watch(monkeypatch)
    living.pull(world, world.spawn("--task", "x"))

    def go_on(minutes: float) -> list[Any]:
        """So many minutes in which somebody looks and acts; what a person and the agent have heard by then."""
        for _ in range(int(minutes * 2)):
            world.look()
            rounds.act(home)
            watch.goes(30)
        return [told(home), [one["text"] for one in world.record("shop-1")["inbox"]]]

    go_on(1)
    world.ok("ao-review", "shop-1", "--request-changes", "-m", "rename it", "--as", "ada")

    def is_told() -> bool:
        return len(go_on(0.5)[1]) == 2 and {one["state"] for one in world.record("shop-1")["inbox"]} == {"confirmed"}

    until(is_told, "the review", 60)
    before = go_on(2)
    watch.goes(*JUMPS[jump])
    assert go_on(3) == before
    assert "a person" not in json.dumps(before[0])


def test_who_asks_whether_a_lock_is_held_keeps_nobody_from_it(home, monkeypatch):
    """To ask it takes the lock together with whoever else asks, for a moment that others wait."""
    one, path = {"id": "app-1", "project_id": "app"}, paths.lock(home, "effect", "app", "app-1")
    with store.lock(path):
        assert effects.is_under_way(home, one)
    asking = os.open(path + ".lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    assert not effects.is_under_way(home, one)
    monkeypatch.setattr(time, "sleep", lambda seconds: os.close(asking))
    with effects.hold(home, one):
        pass
