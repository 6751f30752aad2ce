"""Kill, restore, claim, prune: each says what should be, may be said twice, and is finished by whoever comes next."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading

import forging
import living
import pytest
import scripts
from conftest import until
from living import AGENT, launched
from records import MERGE, RED, intend, pull
from talking import told
from terminals import logged

from lib import conditions, effects, launch, lives, loop, paths, rounds, sessions
from lib.errors import Unknown
from lib.rules import Rules
from lib.runtime import tmux


@pytest.fixture
def world(home, tmp_path):
    return living.make(home, tmp_path)


def kill_server(home):
    tmux._tmux(home, "kill-server")
    until(lambda: not tmux.look(home))


def backups(world):
    return world.git("for-each-ref", "--format=%(refname)", "refs/ao/backup").split()


# --- kill ----------------------------------------------------------------------------------------------------------


def test_kill_ends_the_agent_and_keeps_worktree_and_record(world):
    """F36, F37: also when it is said twice, and to one that is unknown among others."""
    path = world.spawn()["workspace_path"]
    open(os.path.join(path, "draft"), "w").close()
    done = world.call("ao-kill", "shop-1", "shop-9", "shop-1")
    assert done.code == 1 and "there is no session 'shop-9'" in done.err
    assert done.err.count("shop-1 is killed; its worktree stays") == 2
    assert tmux.look(world.home) == {} and os.path.exists(os.path.join(path, "draft"))
    record = world.record("shop-1")
    assert (record["outcome"], record["runtime_state"], record["doing"]) == ("killed", "exited", None)
    assert record["inbox"][0]["state"] == "failed"


@pytest.mark.parametrize("gone", ["terminal", "server", "worktree", "configuration"])
def test_kill_and_prune_take_what_is_gone_for_done(world, gone):
    """F37"""
    path = world.spawn()["workspace_path"]
    if gone == "terminal":
        tmux.stop(world.home, "shop-1")
    elif gone == "server":
        kill_server(world.home)
    elif gone == "worktree":
        shutil.rmtree(path)
    else:
        os.unlink(os.path.join(world.folder, "ao.yaml"))
    world.ok("ao-kill", "shop-1")
    pruned = world.call("ao-prune", "shop-1")
    if gone == "configuration":
        assert pruned.code == 1 and "ao.yaml'" in pruned.err.split("\n")[0]
        return
    assert pruned.code == 0 and not os.path.exists(path)
    assert "shop-1" not in world.git("worktree", "list")
    world.ok("ao-prune", "shop-1")


def test_killing_a_merged_session_leaves_it_merged(world):
    """F19"""
    world.spawn()
    world.change("shop-1", pr={"state": "merged", "number": 1})
    world.ok("ao-kill", "shop-1")
    assert world.record("shop-1")["status"] == "merged"


def test_killing_a_session_that_is_done_leaves_it_done(world):
    world.spawn()
    world.change("shop-1", outcome="done")
    world.ok("ao-kill", "shop-1")
    assert world.record("shop-1")["status"] == "done" and tmux.look(world.home) == {}


@pytest.mark.parametrize("prune_too", [True, False])
def test_the_agreed_cleaning_of_a_merged_session(world, prune_too):
    record = world.spawn()
    world.change("shop-1", pr={"state": "merged", "branch": "x", "head_sha": "0" * 40, "number": 1})
    lives.clean_up(world.home, world.project, world.record("shop-1"), prune_too, loop.clock(world.home))
    assert tmux.look(world.home) == {} and os.path.exists(record["workspace_path"]) is not prune_too
    assert world.record("shop-1")["status"] == "merged"


def test_a_terminal_that_cannot_be_asked_leaves_the_kill_to_the_next_run(world, monkeypatch):
    """F10"""
    world.spawn()
    with monkeypatch.context() as broken:
        broken.setattr(tmux, "stop", unknown)
        assert world.call("ao-kill", "shop-1").code == 1
    assert world.record("shop-1")["doing"]["effect"] == "kill"
    rounds.act(world.home)
    assert world.record("shop-1")["status"] == "killed" and tmux.look(world.home) == {}


def unknown(*args):
    raise Unknown("tmux does not answer")


# --- restore -------------------------------------------------------------------------------------------------------


def test_restore_gives_the_task_again_with_what_was_told(home, tmp_path):
    """F40: once, from a shell whose environment is next to nothing."""
    world = living.make(home, tmp_path, [*AGENT, "{prompt}"])
    world.ok("ao-spawn", "--task", "build the shed", FAVOURITE="blue")
    world.ok("ao-send", "shop-1", "paint it green")
    inbox = world.record("shop-1")["inbox"]
    world.change("shop-1", inbox=[{**inbox[0], "state": "confirmed"}])
    tmux.stop(home, "shop-1")
    world.look(2)
    assert world.record("shop-1")["status"] == "terminated"
    world.ok("ao-restore", "shop-1", PATH="/usr/bin:/bin")
    found = launched(world, "shop-1")
    assert "build the shed" in found["argv"][-1] and "paint it green" in found["argv"][-1]
    assert "You have worked on this before" in found["argv"][-1]
    assert found["environment"]["FAVOURITE"] == "blue"
    assert set(os.environ["PATH"].split(":")) <= set(found["environment"]["PATH"].split(":"))
    world.look()
    record = world.record("shop-1")
    assert (record["status"], record["outcome"], record["exit_code"]) == ("working", None, None)
    assert [one["text"] for one in record["inbox"]] == ["paint it green"]


def test_a_restored_agent_is_told_when_it_is_ready_for_it(home, tmp_path):
    """F40: what is typed earlier would be lost."""
    log = os.path.join(home, "agent.log")
    world = living.make(home, tmp_path, [*AGENT, "--delay", "0.5", "--log", log])
    world.spawn("--task", "build the shed")
    world.ok("ao-kill", "shop-1")
    world.ok("ao-restore", "shop-1")

    def is_told():
        world.look()
        rounds.act(home)
        return {one["state"] for one in world.record("shop-1")["inbox"]} == {"confirmed"}

    until(is_told, "the confirmation")
    assert [text.count("build the shed") for text in logged(log)] == [1]
    assert "message-waiting" not in world.record("shop-1")["conditions"], "the task of the first life is not missed"


def test_a_restored_agent_without_argument_is_given_its_task_once(world):
    """F40"""
    world.spawn("--task", "build the shed")
    for _ in range(2):
        world.ok("ao-kill", "shop-1")
        world.ok("ao-restore", "shop-1")
    world.change("shop-1", runtime_state="gone")
    tmux.stop(world.home, "shop-1")
    world.ok("ao-restore", "shop-1")
    waiting = [one for one in world.record("shop-1")["inbox"] if one["state"] == "queued"]
    assert len(waiting) == 1 and waiting[0]["text"].count("build the shed") == 1


def test_what_an_agent_asked_in_an_earlier_life_is_no_question_any_more(world):
    world.spawn("--task", "build the shed")
    ours = {"AO_HOME": world.home, "AO_PROJECT_ID": "shop", "AO_SESSION_ID": "shop-1"}
    assert scripts.run("ao-hook", "report", "waiting_input", "-m", "which colour?", **ours).returncode == 0
    world.look()
    assert world.record("shop-1")["question"] == "which colour?"
    world.ok("ao-kill", "shop-1")
    world.ok("ao-restore", "shop-1")
    world.look()
    record = world.record("shop-1")
    assert (record["runtime_state"], record["question"], record["status"]) == ("alive", None, "working")


def test_restore_does_not_need_the_issue_any_more(world):
    world.issue(4, "Four")
    world.spawn("4")
    world.ok("ao-kill", "shop-1")
    shutil.rmtree(os.path.join(world.repo, "docs"))
    world.ok("ao-restore", "shop-1")
    assert "Four" in world.record("shop-1")["inbox"][0]["text"]


def test_restore_brings_a_pruned_worktree_back_with_its_links_and_set_up(world):
    open(os.path.join(world.repo, ".env"), "w").close()
    living.configure(world, symlinks=[".env"], post_create=["touch ready-made"])
    path = world.spawn()["workspace_path"]
    forging.commit(path, "work.txt", "kept\n", **forging.PERSON)
    world.ok("ao-kill", "shop-1")
    world.ok("ao-prune", "shop-1")
    world.ok("ao-restore", "shop-1")
    assert {"work.txt", ".env", "ready-made"} <= set(os.listdir(path))


def test_restoring_what_runs_changes_nothing_and_succeeds(world):
    world.spawn()
    before = world.record("shop-1")
    assert "shop-1 runs already" in world.ok("ao-restore", "shop-1").err
    assert world.record("shop-1") == before
    other = world.call("ao-restore", "shop-1", "--workspace", world.repo)
    assert other.code == 1 and "its agent runs" in other.err


@pytest.mark.parametrize("why", ["its pull request is merged", "there is no program"])
def test_restore_refuses_and_changes_nothing(world, why):
    world.spawn()
    world.ok("ao-kill", "shop-1")
    if why == "its pull request is merged":
        world.change("shop-1", pr={"state": "merged", "number": 1})
    if why == "there is no program":
        living.configure(world, ["no-such-agent"])
    before = world.record("shop-1")
    done = world.call("ao-restore", "shop-1")
    assert done.code == 1 and why in done.err and done.err.count("\n") == 1
    after = world.record("shop-1")
    assert {**after, "rev": 0, "updated_at": 0} == {**before, "rev": 0, "updated_at": 0}


def test_a_dead_terminal_that_no_tick_has_noticed_can_be_restored(world):
    world.spawn()
    world.look()
    kill_server(world.home)
    assert world.record("shop-1")["status"] == "working"
    world.ok("ao-restore", "shop-1")
    assert "shop-1" in tmux.look(world.home)


def test_one_unknown_session_does_not_stop_the_restore_of_others(world):
    world.spawn()
    world.ok("ao-kill", "shop-1")
    done = world.call("ao-restore", "shop-9", "shop-1")
    assert done.code == 1 and "shop-1 runs again" in done.err


def test_what_went_with_the_terminals_comes_back_at_one_word(world):
    """F43: but not what was killed, nor an agent that ended by itself."""
    for task in "abcd":
        world.spawn("--task", task)
    world.ok("ao-kill", "shop-3")
    world.look()
    kill_server(world.home)
    world.look(2)
    assert [one["status"] for one in world.records()] == ["terminated", "terminated", "killed", "terminated"]
    rounds.act(world.home)
    assert len(told(world.home)) == 1 and "3 agents went with their terminals" in told(world.home)[0]
    world.change("shop-4", runtime_state="exited", exit_code=0)
    done = world.ok("ao-restore", "--lost")
    assert sorted(tmux.look(world.home)) == ["shop-1", "shop-2"], done
    assert "no session was lost" in world.ok("ao-restore", "--lost").err


def test_a_session_whose_spawn_was_undone_is_restored_on_a_new_branch_of_the_same_name(world):
    scripts.run("ao-spawn", "--task", "x", cwd=world.folder, AO_FAULT="spawn.worktree:after")
    world.look()
    assert world.record("shop-1")["status"] == "errored"
    world.ok("ao-restore", "shop-1")
    assert world.git("rev-parse", "feat/x").strip() == world.record("shop-1")["base_sha"]
    assert "shop-1" in tmux.look(world.home)


def test_restore_in_another_worktree_leaves_that_to_its_owner(world):
    record = world.spawn()
    world.ok("ao-kill", "shop-1")
    mine = os.path.join(world.folder, "mine")
    world.git("worktree", "add", "--quiet", mine)
    world.ok("ao-restore", "shop-1", "--workspace", mine)
    assert world.record("shop-1")["workspace_path"] == mine
    world.ok("ao-kill", "shop-1")
    world.ok("ao-prune", "shop-1")
    assert os.path.isdir(mine) and not os.path.exists(record["workspace_path"])
    assert world.call("ao-restore", "shop-1", "--workspace", "/tmp").code == 1


# --- prune ---------------------------------------------------------------------------------------------------------


def test_prune_refuses_a_live_session(world):
    """F36"""
    path = world.spawn()["workspace_path"]
    for more in ((), ("--dry-run",)):
        done = world.call("ao-prune", "shop-1", *more)
        assert done.code == 1 and "end it first: ao-kill shop-1" in done.err
    assert os.path.isdir(path) and "shop-1" in tmux.look(world.home)


def test_prune_saves_work_first_and_says_where(world):
    """F36"""
    path = world.spawn()["workspace_path"]
    forging.commit(path, "committed.txt", "1\n", **forging.PERSON)
    with open(os.path.join(path, "untracked.txt"), "w") as file:
        file.write("2\n")
    world.ok("ao-kill", "shop-1")
    before = json.loads(world.ok("ao-prune", "--dry-run", "--json").out)
    assert (before[0]["dirty"], before[0]["unmerged"]) == (True, 1) and os.path.isdir(path) and not backups(world)
    assert path in world.ok("ao-prune", "--dry-run").out
    done = json.loads(world.ok("ao-prune", "--json").out)
    assert backups(world) == [done[0]["backup"]]
    assert world.git("show", f"{done[0]['backup']}:untracked.txt") == "2"
    assert world.git("show", f"{done[0]['backup']}:committed.txt") == "1"
    assert not os.path.exists(path) and world.git("branch", "--list", "feat/work")


def test_the_agreed_cleaning_saves_what_was_not_committed(world):
    """F36: also of merged work, where the agent has gone on in its worktree."""
    record = world.spawn()
    with open(os.path.join(record["workspace_path"], "draft"), "w") as file:
        file.write("mine\n")
    world.change("shop-1", pr={"state": "merged", "branch": "x", "head_sha": "0" * 40, "number": 1})
    lives.clean_up(world.home, world.project, world.record("shop-1"), True, loop.clock(world.home))
    assert not os.path.exists(record["workspace_path"])
    assert world.git("show", f"{backups(world)[0]}:draft") == "mine"


def test_what_an_agent_did_whose_spawn_was_killed_is_saved_before_that_is_undone(world):
    """F36: it ran and ended before anybody looked again."""
    living.configure(world, ["sh", "-c", "echo mine > draft"])
    scripts.run("ao-spawn", "--task", "x", cwd=world.folder, AO_FAULT="spawn.pane:after")
    until(lambda: not tmux.look(world.home), "the end of the agent")
    world.look()
    record = world.record("shop-1")
    assert record["status"] == "errored" and backups(world)[0] in record["error"]
    assert world.git("show", f"{backups(world)[0]}:draft") == "mine"
    assert not os.path.exists(record["workspace_path"])


@pytest.mark.parametrize("after", ["restore", "terminals"])
def test_nothing_but_a_prune_takes_work_away(world, after):
    """F36: not a kill and a restore, not the end of all terminals."""
    path = world.spawn()["workspace_path"]
    forging.commit(path, "committed.txt", "1\n", **forging.PERSON)
    with open(os.path.join(path, "draft"), "w") as file:
        file.write("mine\n")
    before = forging.git(path, "status", "--porcelain"), forging.git(path, "rev-parse", "HEAD")
    if after == "restore":
        world.ok("ao-kill", "shop-1")
    else:
        kill_server(world.home)
    world.look(2)
    rounds.act(world.home)
    world.ok("ao-restore", "shop-1")
    world.look(2)
    assert (forging.git(path, "status", "--porcelain"), forging.git(path, "rev-parse", "HEAD")) == before


def test_pruned_bytes_are_true(world):
    """F36: "cleaned 24", and 4.5 GB still there."""
    path = world.spawn()["workspace_path"]
    with open(os.path.join(path, "big"), "wb") as file:
        file.write(os.urandom(2_000_000))
    world.ok("ao-kill", "shop-1")
    shown = json.loads(world.ok("ao-prune", "--dry-run", "--json").out)[0]["bytes"]
    assert json.loads(world.ok("ao-prune", "--json").out)[0]["bytes"] == shown >= 2_000_000
    assert world.ok("ao-prune", "--json").out == "[]\n"


def test_prune_goes_on_after_one_that_fails(world):
    for task in "ab":
        world.spawn("--task", task)
        world.ok("ao-kill", world.records()[-1]["id"])
    done = world.call("ao-prune", "shop-9", "shop-1", "shop-2", "--json")
    assert done.code == 1 and ["error" in one for one in json.loads(done.out)] == [True, False, False]


def test_an_archived_session_is_found_by_its_id_and_its_number_is_not_used_again(world):
    world.spawn()
    world.ok("ao-kill", "shop-1")
    world.ok("ao-prune", "--archive")
    assert world.records() == [] and world.record("shop-1")["status"] == "killed"
    assert not os.path.exists(paths.launch(world.home, "shop", "shop-1"))
    for again in (("ao-prune", "shop-1", "--archive"), ("ao-kill", "shop-1")):
        world.ok(*again)
    os.unlink(paths.project(world.home, "shop"))
    assert world.spawn()["id"] == "shop-2"


def test_what_is_archived_is_not_called_lost(world):
    world.spawn()
    world.ok("ao-kill", "shop-1")
    world.ok("ao-prune", "--archive")
    assert world.call("ao-restore", "shop-1")[::2] == (1, "ao-restore: session 'shop-1' is archived\n")


@pytest.mark.parametrize("delete", [True, False])
def test_a_merged_branch_goes_with_its_worktree_only_where_that_is_wanted(world, delete):
    """F33: the merge succeeds although the worktree has the branch checked out."""
    living.configure(
        world, merge={"settle": "0s", "require_review": False, "require_checks": False, "delete_branch": delete}
    )
    session = world.spawn()
    living.pull(world, session)
    world.look()
    world.ok("ao-merge", "shop-1")
    assert world.record("shop-1")["status"] == "merged"
    world.ok("ao-prune", "shop-1")
    assert backups(world) == [] and not os.path.exists(session["workspace_path"])
    assert bool(world.git("branch", "--list", session["branch"])) is not delete


# --- claim ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def abandoned(world):
    """A pull request whose session was killed and pruned."""
    session = world.spawn("--task", "first")
    living.pull(world, session)
    world.look()
    world.ok("ao-kill", "shop-1")
    world.ok("ao-prune", "shop-1")
    return session


def test_with_a_claim_what_was_to_be_said_about_another_pull_request_is_over_at_once(world, abandoned):
    """Also when it is killed right behind it: the next round would type what waits."""
    session, clock = world.spawn("--task", "second"), loop.clock(world.home)

    def about_another(record):
        record["pr"] = pull(RED, number=9)
        conditions.evaluate(record, Rules({}, MERGE), clock)
        intend(record, "ci-failed")
        record["inbox"].append({"id": "m-1", "from": "ci-failed", "text": "x", "state": "queued", "attempts": 0})

    sessions.update(world.home, session, about_another, clock)
    done = scripts.run("ao-claim", "shop-2", "1", cwd=world.folder, AO_FAULT="claim.pull:after")
    assert done.returncode == -signal.SIGKILL
    rounds.act(world.home)
    record = world.record("shop-2")
    assert record["pr"]["number"] == 1
    assert [one["state"] for one in record["inbox"] if one["id"] == "m-1"] == ["failed"]


def test_a_session_takes_over_a_pull_request(world, abandoned):
    path = world.spawn("--task", "second")["workspace_path"]
    world.ok("ao-claim", "shop-2", "1")
    world.ok("ao-claim", "shop-2", "#1")
    record = world.record("shop-2")
    assert (record["claimed_pr_number"], record["branch"]) == (1, abandoned["branch"])
    assert record["base_sha"] == world.git("rev-parse", "main")
    assert record["claimed_pr_url"] and record["pr"]["number"] == 1 and record["doing"] is None
    assert forging.git(path, "branch", "--show-current") == abandoned["branch"]
    assert [one["text"][:36] for one in record["inbox"][1:]] == ["You have taken over pull request 1 ("]
    refused = world.call("ao-review", "1", "--approve", AO_SESSION_ID="shop-2")
    assert refused.code == 1


def test_a_spawn_can_take_over_a_pull_request(world, abandoned):
    record = world.spawn("--claim-pr", "1")
    assert (record["claimed_pr_number"], record["branch"]) == (1, abandoned["branch"])
    assert record["base_sha"] == world.git("rev-parse", "main")
    assert "b.txt" in os.listdir(record["workspace_path"])
    assert "You have taken over pull request 1" in record["inbox"][0]["text"]
    world.look(2)
    assert world.record("shop-2")["pr"]["number"] == 1
    assert "has a session already: shop-2" in world.call("ao-spawn", "--claim-pr", "1").err


def test_a_failed_take_over_leaves_the_branch(world, abandoned):
    before = world.traces()
    living.configure(world, post_create=["false"])
    assert world.call("ao-spawn", "--claim-pr", "1").code == 1
    assert world.traces() == before
    assert world.call("ao-spawn", "--claim-pr", "7").code == 1


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("dirty", "changes that are not committed"),
        ("elsewhere", "already checked out"),
        ("live", "has a session already: shop-3"),
        ("merged", "it is closed"),
        ("killed", "see: ao-restore shop-2"),
        ("none", "there is no pull request 5; see: ao-pr list"),
    ],
)
def test_a_claim_is_refused_and_changes_nothing(world, abandoned, why, said):
    import re

    path = world.spawn("--task", "second")["workspace_path"]
    number = "1"
    if why == "dirty":
        open(os.path.join(path, "draft"), "w").close()
    elif why == "elsewhere":
        world.git("worktree", "add", "--quiet", os.path.join(world.folder, "mine"), abandoned["branch"])
    elif why == "live":
        world.spawn("--claim-pr", "1")
    elif why == "merged":
        world.ok("ao-pr", "close", "1")
    elif why == "killed":
        world.ok("ao-kill", "shop-2")
    else:
        number = "5"
    before = world.record("shop-2")
    done = world.call("ao-claim", "shop-2", number)
    assert done.code == 1 and re.search(said, done.err) and done.err.count("\n") == 1, done
    after = world.record("shop-2")
    assert {**after, "rev": 0, "updated_at": 0} == {**before, "rev": 0, "updated_at": 0}


# --- what a crash leaves -------------------------------------------------------------------------------------------

CRASHES = [
    (script, point, status)
    for script, points, status in (
        ("ao-kill", ("kill.pane",), "killed"),
        ("ao-prune", ("backup.ref", "prune.worktree"), "killed"),
        ("ao-restore", ("restore.pane",), "spawning"),
    )
    for point in (f"{name}:{when}" for name in points for when in ("before", "after"))
    for status in [status]
]


@pytest.mark.parametrize(("script", "point", "status"), CRASHES)
def test_what_a_killed_command_began_is_finished_by_the_next_run(world, script, point, status):
    """F23"""
    path = world.spawn()["workspace_path"]
    with open(os.path.join(path, "draft"), "w") as file:
        file.write("x\n")
    if script != "ao-kill":
        world.ok("ao-kill", "shop-1")
    done = scripts.run(script, "shop-1", cwd=world.folder, AO_FAULT=point)
    assert done.returncode == -signal.SIGKILL
    assert world.record("shop-1")["doing"]["effect"] == script[3:]
    rounds.act(world.home)
    record = world.record("shop-1")
    assert (record["doing"], record["status"]) == (None, status)
    assert ("shop-1" in tmux.look(world.home)) is (point == "restore.pane:after")
    if script == "ao-prune":
        assert not os.path.exists(path) and world.git("show", f"{backups(world)[0]}:draft") == "x"


POINTS = ("claim.branch:before", "claim.branch:after", "claim.pull:before", "claim.pull:after")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("again", [True, False])
def test_a_claim_that_was_cut_off_is_finished_and_its_agent_told_once(world, abandoned, point, again):
    """F23"""
    world.spawn("--task", "second")
    world.look(2)
    done = scripts.run("ao-claim", "shop-2", "1", cwd=world.folder, AO_FAULT=point)
    assert done.returncode == -signal.SIGKILL
    world.look()
    if again:
        world.ok("ao-claim", "shop-2", "1")
    else:
        rounds.act(world.home)
    record = world.record("shop-2")
    assert (record["doing"], record["claimed_pr_number"], record["branch"]) == (None, 1, abandoned["branch"])
    assert sum("pull request 1" in one["text"] for one in record["inbox"]) == 1


def test_a_worktree_that_was_half_removed_is_no_work_to_be_saved(world):
    path = world.spawn()["workspace_path"]
    world.ok("ao-kill", "shop-1")
    done = scripts.run("ao-prune", "shop-1", cwd=world.folder, AO_FAULT="prune.worktree:inside")
    assert done.returncode == -signal.SIGKILL and not os.path.exists(path)
    world.ok("ao-prune", "shop-1")
    assert os.listdir(os.path.dirname(path)) == [] and backups(world) == []


def test_an_archive_that_was_cut_off_is_asked_for_again(world):
    world.spawn()
    world.ok("ao-kill", "shop-1")
    for point in ("before", "after"):
        scripts.run("ao-prune", "shop-1", "--archive", cwd=world.folder, AO_FAULT=f"archive.record:{point}")
        world.ok("ao-prune", "shop-1", "--archive")
        assert lives.is_archived(world.home, {"project_id": "shop", "id": "shop-1"})


@pytest.mark.parametrize("effect", ["kill", "cleanup", "prune", "restore", "claim", "spawn"])
def test_whatever_was_begun_is_settled_before_something_else(world, effect):
    world.spawn()
    world.change("shop-1", doing={"effect": effect, "at": "2026-01-01T00:00:00.000Z", "number": 1, "had_pr": None})
    world.ok("ao-kill", "shop-1")
    record = world.record("shop-1")
    assert record["doing"] is None and record["outcome"] == "killed"


def test_a_cleanup_that_was_cut_off_still_removes_the_worktree(world):
    path = world.spawn()["workspace_path"]
    world.change("shop-1", pr={"state": "merged", "branch": "x", "head_sha": "0" * 40, "number": 1})
    world.change("shop-1", doing={"effect": "cleanup", "at": "2026-01-01T00:00:00.000Z", "prune": True})
    assert world.record("shop-1")["status"] == "cleanup"
    rounds.act(world.home)
    assert world.record("shop-1")["status"] == "merged" and not os.path.exists(path)


def test_an_effect_that_is_under_way_is_left_alone(world, monkeypatch):
    world.spawn()
    monkeypatch.setattr(lives, "PATIENCE", 0.05)
    with effects.hold(world.home, world.record("shop-1")):
        assert world.call("ao-kill", "shop-1").code == 1
        world.change("shop-1", doing={"effect": "kill", "at": "2026-01-01T00:00:00.000Z"})
        rounds.act(world.home)
        assert "shop-1" in tmux.look(world.home)
    rounds.act(world.home)
    assert tmux.look(world.home) == {}


def test_a_restore_of_one_that_runs_changes_nothing(world):
    world.spawn()
    before = world.record("shop-1")
    assert "runs already" in world.ok("ao-restore", "shop-1").err
    assert world.record("shop-1") == before


def test_what_a_prune_saved_is_told_where_it_is_needed(world):
    path = world.spawn()["workspace_path"]
    open(os.path.join(path, "draft"), "w").close()
    world.ok("ao-kill", "shop-1")
    pruned = world.ok("ao-prune", "shop-1")
    [ref] = backups(world)
    assert world.record("shop-1")["backup_ref"] == ref
    for done in (pruned, world.ok("ao-restore", "shop-1"), world.ok("ao-status", "--why", "shop-1")):
        assert ref in done.out + done.err


def test_a_claim_says_who_has_the_branch_and_how_to_free_it(world):
    owner = world.spawn("--task", "one")
    forging.commit(owner["workspace_path"], "a.txt", "two\n")
    world.ok("ao-pr", "open", "--title", "One", cwd=owner["workspace_path"])
    world.ok("ao-kill", "shop-1")
    world.spawn("--task", "two", "--no-prompt")
    done = world.call("ao-claim", "shop-2", "1")
    assert done.code == 1 and "ao-prune shop-1" in done.err


def test_what_an_agent_said_last_can_be_read_when_its_terminal_is_gone(world):
    living.configure(world, ["sh", "-c", "echo so long; exit 3"])
    world.spawn("--task", "x", "--no-prompt")
    until(lambda: world.look() or world.record("shop-1")["runtime_state"] == "exited")
    until(lambda: not tmux.look(world.home))
    assert "so long" in world.ok("ao-logs", "shop-1").out


def test_one_that_was_killed_and_begins_anew_is_told_again_what_is_open(world):
    """F40: what was said to a conversation that is gone."""
    path = world.spawn("--task", "x", "--no-prompt")["workspace_path"]
    forging.commit(path, "a.txt", "two\n")
    world.ok("ao-pr", "open", "--title", "One", cwd=path)
    world.ok("ao-review", "1", "--request-changes", "-m", "name the ZEBRA", "--as", "riley")
    world.look(2)
    rounds.act(world.home)
    assert [one["from"] for one in world.record("shop-1")["inbox"]] == ["changes-requested"]
    message = {**world.record("shop-1")["inbox"][0], "state": "confirmed"}
    world.change("shop-1", inbox=[message])
    world.look()
    assert "changes-requested" in world.record("shop-1")["told"]
    world.ok("ao-kill", "shop-1")
    world.look()
    assert world.record("shop-1")["conditions"] == {}
    world.ok("ao-restore", "shop-1")
    world.look(2)
    rounds.act(world.home)
    sent = [one["state"] for one in world.record("shop-1")["inbox"] if "ZEBRA" in one["text"]]
    assert sent == ["confirmed", "queued"]


def test_following_what_an_ended_agent_printed_ends_too(world):
    living.configure(world, ["sh", "-c", "echo so long; exit 3"])
    world.spawn("--task", "x", "--no-prompt")
    until(lambda: world.look() or not tmux.look(world.home))
    assert "so long" in world.ok("ao-logs", "shop-1", "-f").out


def test_following_shows_what_an_agent_printed_last(world):
    go = os.path.join(world.folder, "go")
    living.configure(world, ["sh", "-c", f"echo hello; until [ -e {go} ]; do sleep 0.05; done; echo so long"])
    world.spawn("--task", "x", "--no-prompt")
    until(lambda: "hello" in tmux.screen(world.home, "shop-1"))
    threading.Timer(0.5, os.mknod, [go]).start()
    printed = world.ok("ao-logs", "shop-1", "-f").out.split("\n")
    assert [line for line in printed if line in ("hello", "so long")] == ["hello", "so long"]


def test_following_one_that_is_ended_from_outside_ends_quietly(world, monkeypatch):
    world.spawn("--task", "x", "--no-prompt")
    monkeypatch.setattr("lib.cli.rest", lambda seconds: tmux.stop(world.home, "shop-1"))
    monkeypatch.setattr(launch, "last_screen", lambda home, session: None)
    assert world.call("ao-logs", "shop-1", "-f")[::2] == (0, "")


def test_what_an_earlier_life_said_last_is_not_told_of_the_next(world):
    living.configure(world, ["sh", "-c", "echo so long"])
    world.spawn("--task", "x", "--no-prompt")
    until(lambda: world.look() or not tmux.look(world.home))
    world.look(2)
    living.configure(world, ["sleep", "600"])
    world.ok("ao-restore", "shop-1")
    world.ok("ao-kill", "shop-1")
    assert "so long" not in world.call("ao-logs", "shop-1").out


def test_a_session_that_is_busy_keeps_no_other_from_its_comments(world, monkeypatch):
    for id in ("shop-1", "shop-2"):
        path = world.spawn("--task", id, "--no-prompt")["workspace_path"]
        forging.commit(path, id, "two\n")
        world.ok("ao-pr", "open", "--title", id, cwd=path)
        world.ok("ao-review", id, "--request-changes", "-m", "Round up.", "--as", "riley")
    world.look()
    monkeypatch.setattr(lives, "PATIENCE", 0.1)
    with effects.hold(world.home, world.record("shop-1")):
        done = world.call("ao-review", "--check")
    assert done.code == 1 and "something is being done about 'shop-1' just now" in done.err
    assert "shop-2: changes-requested is forwarded" in done.err
