"""What people and agents do at GitHub with ao's commands, also when these are cut off in the middle."""

from __future__ import annotations

import json
import os
import signal

import forging
import github
import hubbing
import pytest
import scripts
from conftest import until

from lib import config, events, git, loop, paths, rounds, sessions
from lib.errors import AoError, Unknown
from lib.scm import _github_query
from lib.scm import github as scm
from lib.tracker import github as tracker

READY = {"require_checks": True, "settle": "0s"}


@pytest.fixture
def world(hub, home, tmp_path, monkeypatch):
    monkeypatch.setenv("AO_CONFIG", str(tmp_path / "ao.yaml"))
    return hubbing.make(hub, home, tmp_path, merge=READY)


@pytest.fixture
def ready(world):
    """A session with a pull request that is green, approved, and was looked at."""
    session = world.session()
    pull = world.pull(session)
    world.remote.roles["ann"] = "write"
    world.remote.check(pull, "test")
    pull.review("approved", author="ann")
    return session, pull


def ok(world, name, *args, **options):
    return world.local.ok(name, *args, **options)


def answer(world, name, *args):
    return json.loads(ok(world, name, *args, "--json").out)


# --- issues ----------------------------------------------------------------------------------------------------------


def test_an_issue_from_new_to_closed(world):
    assert ok(world, "ao-issue", "new", "Round up", "-b", "Half a cent.", "--label", "bug").out.startswith("#1 http")
    world.remote.commit("feat/x", {"x.txt": "x\n"})
    world.remote.pull("feat/x")
    ok(world, "ao-issue", "new", "Second")
    assert [one["id"] for one in answer(world, "ao-issue", "list")] == ["1", "3"]
    ok(world, "ao-issue", "label", "1", "urgent", "ui")
    ok(world, "ao-issue", "assign", "1")
    issue = world.remote.issues[1]
    issue.comment("Who am I?", None)  # whose account is gone
    ok(world, "ao-issue", "comment", "#1", "Mind the tax.")
    ok(world, "ao-issue", "comment", "#1", "Mind the tax.")
    assert (issue.labels, issue.assignees) == (["bug", "urgent", "ui"], [world.hub.me])
    assert [comment.body for comment in issue.comments] == ["Who am I?", "Mind the tax."]
    shown = ok(world, "ao-issue", "show", "1").out
    assert shown.startswith("# Round up\n\n#1, open, bug, urgent, ui, assigned to me, 2 comments\n\nHalf a cent.")
    ok(world, "ao-issue", "close", "1", "3")
    assert answer(world, "ao-issue", "list") == []
    ok(world, "ao-issue", "reopen", "1")
    assert [one["id"] for one in answer(world, "ao-issue", "list", "--label", "bug")] == ["1"]


def test_an_issue_whose_answer_was_lost_is_written_once(world):
    """F23"""
    world.hub.fail("bad_gateway", on="POST", done=True)
    new = ("ao-issue", "new", "Round up", "-b", "Half a cent.")
    assert "with 502" in world.local.call(*new).err
    assert ok(world, *new).out.startswith("#1 http")
    assert [issue.title for issue in world.remote.issues.values()] == ["Round up"]
    ok(world, "ao-issue", "close", "1")
    assert ok(world, *new).out.startswith("#2 http")


def test_an_assignment_that_github_leaves_out_is_said(world):
    world.remote.issue("One")
    world.remote.roles[world.hub.me] = "read"
    assert f"cannot assign issue '1' to '{world.hub.me}'" in world.local.call("ao-issue", "assign", "1").err


def test_a_list_goes_on_behind_a_page_and_ends_at_its_limit(world):
    for number in range(130):
        world.remote.issue(f"Issue {number}")
    project = world.local.project
    assert len(tracker.list(world.home, project, limit=1000)) == 130
    assert [one.id for one in tracker.list(world.home, project, limit=3)] == ["1", "2", "3"]


def test_what_is_no_issue_is_said(world):
    world.remote.commit("feat/x", {"x.txt": "x\n"})
    world.remote.pull("feat/x")
    assert "there is no issue '7'" in world.local.call("ao-issue", "show", "7").err
    assert "is a pull request" in world.local.call("ao-issue", "show", "1").err
    assert "not an issue number" in world.local.call("ao-issue", "show", "x").err


def test_issues_may_be_in_another_repository_and_at_an_enterprise_host(world):
    other = world.hub.repo("corp/issues", github.ENTERPRISE)
    other.issue("Elsewhere", labels=["kind/bug"])
    hubbing.configure(world.local, tracker_repo=f"{github.ENTERPRISE}/corp/issues")
    assert [one["title"] for one in answer(world, "ao-issue", "list")] == ["Elsewhere"]
    assert answer(world, "ao-spawn", "1", "--dry-run")[0]["branch"] == "fix/1-elsewhere"


def test_what_has_not_changed_is_asked_for_at_no_cost(world):
    """F51"""
    world.remote.issue("One")
    project = world.local.project
    assert tracker.get(world.home, project, "1") == tracker.get(world.home, project, "1")
    assert [request.status for request in world.hub.asked("GET")] == [200, 304]
    world.remote.issues[1].edit(title="Two")
    assert tracker.get(world.home, project, "1").title == "Two"


def test_a_tracker_that_cannot_be_asked_does_not_say_that_there_is_none(world):
    """F11"""
    world.hub.fail("server_error", times=None)
    with pytest.raises(Unknown):
        tracker.get(world.home, world.local.project, "1")


# --- spawning --------------------------------------------------------------------------------------------------------


def test_issues_are_spawned_assigned_and_told_with_their_labels(world):
    world.remote.issue("Totals are wrong", "By a cent.", labels=["bug", "priority: high"])
    world.remote.issue("Write a manual", labels=["documentation"])
    made = answer(world, "ao-spawn", "1", "2", "--assign")
    assert [one["branch"] for one in made] == ["fix/1-totals-are-wrong", "docs/2-write-a-manual"]
    rounds.act(world.home)
    assert [issue.assignees for issue in world.remote.issues.values()] == [[world.hub.me]] * 2
    task = made[0]["inbox"][0]["text"]
    assert "Labels: bug, priority: high" in task and "git push -u origin fix/1-totals-are-wrong && gh pr create" in task


def test_an_issue_that_was_opened_again_has_nothing_of_its_old_pull_request(world):
    """F13"""
    world.remote.issue("Login fails", labels=["bug"])
    world.remote.commit("fix/1-login-fails", {"x.txt": "x\n"})
    world.remote.pull("fix/1-login-fails").merge()
    world.remote.delete("fix/1-login-fails")
    [record] = answer(world, "ao-spawn", "1")
    forging.commit(record["workspace_path"], "y.txt", "y\n")
    world.local.look(2)
    record = world.local.record(record["id"])
    assert (record["pr"], record["status"]) == (None, "working")


def test_a_tracker_that_cannot_be_asked_keeps_no_one_from_being_served(world, ready):
    """F53: what it is to be told stays to be done."""
    _ = ready
    world.local.change("shop-1", issue_id="99", assign_issue=True)
    fault = world.hub.fail("server_error", on="assignees|/user", times=None)
    rounds.act(world.home)
    assert world.local.record("shop-1")["assign_issue"] and not world.local.record("shop-1").get("react_error")
    fault.stop()
    rounds.act(world.home)
    assert not world.local.record("shop-1")["assign_issue"]  # there is no issue 99: said once
    [event] = [one for one in events.read(world.home) if one["type"] == "issue_assigned"]
    assert "there is no issue '99'" in event["why_not"]


# --- pull requests ---------------------------------------------------------------------------------------------------


def test_pull_requests_are_listed_shown_closed_and_opened_again(world, ready):
    _, pull = ready
    pull.thread("Why?", "b.txt", 1)
    world.local.look()
    assert ok(world, "ao-pr", "list").out.startswith(f"#{pull.number}  open  change")
    shown = ok(world, "ao-pr", "shop-1").out
    assert "approved" in shown and "reviewer, b.txt:1: " in shown and "check test" in shown
    ok(world, "ao-pr", "close", str(pull.number))
    assert pull.state == "closed" and answer(world, "ao-pr", "list") == []
    ok(world, "ao-pr", "reopen", "shop-1")
    assert pull.state == "open"
    pull.ready(is_draft=True)
    ok(world, "ao-pr", "ready", "shop-1")
    assert not pull.is_draft
    assert "there is no pull request '99'" in world.local.call("ao-pr", "99").err
    assert "kept by github" in world.local.call("ao-pr", "open", "--title", "T").err


def test_a_list_of_pull_requests_says_what_it_leaves_out(world):
    world.remote.fleet(101)
    pulls = {pull.number: pull for pull in world.remote.pulls()}
    world.hub.fail("partial", alias="p50", type="FORBIDDEN", message="Not for you.")
    done = ok(world, "ao-pr", "list", "--json")
    assert {one["number"] for one in json.loads(done.out)} == set(pulls) - {1, 50}
    assert "pull request 50: Not for you." in done.err and "only the newest 100" in done.err


def test_a_review_is_posted_in_ones_own_name(world):
    session = world.session()
    pull = world.pull(session, author="ann")
    ok(world, "ao-review", str(pull.number), "--request-changes", "-m", "Smaller.", "--file", "b.txt", "--line", "1")
    assert [(one.author, one.state) for one in pull.reviews] == [(world.hub.me, "changes_requested")]
    ok(world, "ao-review", str(pull.number), "--comment", "-m", "Why?")
    ok(world, "ao-review", str(pull.number), "--comment", "-m", "Why?")
    assert [one.body for one in pull.reviews if one.state == "commented"] == ["Why?"]
    ok(world, "ao-review", str(pull.number), "--request-changes", "-m", "Smaller.", "--file", "b.txt", "--line", "1")
    [thread] = pull.threads  # F23: said once, whoever died before knowing it
    assert (thread.path, thread.line, thread.comments[0].body) == ("b.txt", 1, "Smaller.")
    ok(world, "ao-review", str(pull.number), "--comment", "-m", "Too long.", "--file", "b.txt")
    assert pull.reviews[-1].body == "b.txt: Too long."
    id, *_ = answer(world, "ao-pr", str(pull.number))["threads"]  # of the thread that the reviewer began
    ok(world, "ao-review", str(pull.number), "--resolve", id)
    assert thread.resolved_by
    ok(world, "ao-review", str(pull.number), "--approve")
    assert pull.opinions()[world.hub.me].state == "approved"
    assert "leave out --as" in world.local.call("ao-review", str(pull.number), "--approve", "--as", "Bo").err


def test_who_cannot_approve_is_told_what_to_do(world):
    session = world.session()
    pull = world.pull(session, author=world.hub.me)
    refused = world.local.call("ao-review", str(pull.number), "--approve")
    assert refused.code == 1 and "own login" in refused.err and "merge.require_review: false" in refused.err


def test_comments_are_forwarded_by_hand_at_once(world, ready):
    _, pull = ready
    pull.thread("Why a float?", "b.txt", 1)
    ok(world, "ao-review", "--check")
    [message] = world.local.record("shop-1")["inbox"]
    assert "Why a float?" in message["text"] and "reviewer on b.txt:1 (http" in message["text"]


def test_a_persons_pull_request_is_taken_over_with_its_commits(world):
    """Also when the branch here is behind; never over changes."""
    session = world.session()
    first = world.remote.commit("ann/idea", {"idea.txt": "idea\n"})
    pull = world.remote.pull("ann/idea", author="ann")
    world.local.git("fetch", "--quiet")
    world.local.git("branch", "ann/idea", first)
    world.remote.commit("ann/idea", {"more.txt": "more\n"})
    path = os.path.join(session["workspace_path"], "dirty.txt")
    with open(path, "w") as file:
        file.write("x")
    assert "not committed" in world.local.call("ao-claim", "shop-1", str(pull.number)).err
    os.unlink(path)
    ok(world, "ao-claim", "shop-1", str(pull.number))
    record = world.local.record("shop-1")
    assert (record["branch"], record["claimed_pr_number"]) == ("ann/idea", pull.number)
    assert world.git(session, "rev-parse", "HEAD") == pull.head_sha
    assert record["pr"]["head_sha"] == pull.head_sha


def from_fork(world, branch, **options):
    """A pull request of ann's from her fork."""
    fork = world.remote.fork("ann")
    fork.commit(branch, {"idea.txt": "idea\n"})
    return fork, world.remote.pull(branch, head_repo=fork, author="ann", **options)


def test_a_forks_pull_request_is_claimed_pushed_to_and_merged(world):
    """F33: what has its branch's name at origin, and even its commits, is another branch and stays; theirs does too."""
    hubbing.configure(world.local, merge={**READY, "delete_branch": True, "method": "squash"})
    session = world.session()
    fork, pull = from_fork(world, "idea")
    ok(world, "ao-claim", "shop-1", str(pull.number))
    record = world.local.record("shop-1")
    assert (record["branch"], record["pr"]["from_fork"], record["pr"]["branch"]) == ("idea", True, "idea")
    assert "another pull request. The branch belongs to another repository. Push with" in record["inbox"][-1]["text"]
    head = forging.commit(session["workspace_path"], "more.txt", "more\n")
    world.git(session, "push", "--quiet")
    assert fork.refs["idea"] == pull.head_sha == head and "idea" not in world.remote.refs
    assert world.look(record)["head_sha"] == head
    world.git(session, "commit", "--quiet", "--amend", "-m", "better")
    world.git(session, "push", "--quiet", "--force-with-lease")
    head = world.git(session, "rev-parse", "HEAD")
    assert fork.refs["idea"] == pull.head_sha == head
    world.git(session, "push", "--quiet", "origin", "HEAD:refs/heads/idea")  # somebody's, at the same commit
    world.remote.roles["bob"] = "write"
    world.remote.check(pull, "test")
    pull.review("approved", author="bob")
    ok(world, "ao-merge", "shop-1")
    assert pull.merged
    ok(world, "ao-kill", "shop-1")
    ok(world, "ao-prune", "shop-1")
    assert world.remote.refs["idea"] == fork.refs["idea"] == head
    assert "idea" not in git.branches(world.local.repo)
    assert "ao-pr-" not in world.local.git("config", "--list")


@pytest.mark.parametrize("point", ["claim.branch:inside", "claim.pull:after"])
def test_a_claim_of_a_fork_that_was_cut_off_is_done_by_the_next_one(world, point):
    """F23"""
    session = world.session()
    fork, pull = from_fork(world, "idea")
    done = scripts.run("ao-claim", "shop-1", str(pull.number), cwd=world.local.folder, AO_FAULT=point)
    assert done.returncode == -signal.SIGKILL, done
    ok(world, "ao-claim", "shop-1", str(pull.number))
    record = world.local.record("shop-1")
    assert (record["branch"], record["pr"]["number"], record["doing"]) == ("idea", pull.number, None)
    head = forging.commit(session["workspace_path"], "more.txt", "more\n")
    world.git(session, "push", "--quiet")
    assert fork.refs["idea"] == pull.head_sha == head and "idea" not in world.remote.refs
    assert len([line for line in world.local.git("remote").split() if line.startswith("ao-pr-")]) == 1


def test_two_branches_of_a_fork_are_pushed_each_by_its_own_session(world):
    """Also one that is called main there; nothing of origin's main is touched."""
    session, other = world.session(), world.session("shop-2")
    fork, pull = from_fork(world, "main")
    fork.commit("idea", {"other.txt": "x\n"})
    theirs = world.remote.pull("idea", head_repo=fork, author="ann")
    ours = world.remote.refs["main"]
    ok(world, "ao-claim", "shop-1", str(pull.number))
    ok(world, "ao-claim", "shop-2", str(theirs.number))
    assert [world.local.record(id)["branch"] for id in ("shop-1", "shop-2")] == ["ann-main", "idea"]
    assert "branch ann-main is checked out" in " ".join(world.local.record("shop-1")["inbox"][-1]["text"].split())
    forging.commit(other["workspace_path"], "more.txt", "more\n")  # which is not pushed yet
    head = forging.commit(session["workspace_path"], "more.txt", "more\n")
    world.local.git("config", "push.default", "nothing")
    world.git(session, "push", "--quiet")
    assert fork.refs["main"] == pull.head_sha == head
    assert (world.remote.refs["main"], fork.refs["idea"]) == (ours, theirs.head_sha)
    ok(world, "ao-claim", "shop-1", str(pull.number))  # again
    assert world.local.record("shop-1")["branch"] == "ann-main"


def test_a_forks_branch_is_not_taken_for_one_of_that_name(world):
    """Neither the remote's, of which its head has all, nor another session's."""
    fork = world.remote.fork("ann")
    fork.commit("idea", {"idea.txt": "idea\n"})
    world.session("shop-2", "fix")
    world.remote.commit("idea", {}, start=world.remote.refs["main"])
    fork.commit("fix", {"fix.txt": "x\n"})
    world.session()
    world.local.git("fetch", "--quiet")
    for branch in ("idea", "fix"):
        pull = world.remote.pull(branch, head_repo=fork, author="ann")
        ok(world, "ao-claim", "shop-1", str(pull.number))
        assert world.local.record("shop-1")["branch"] == f"ann-{branch}"
        assert world.local.git("rev-parse", f"ann-{branch}") == pull.head_sha
    assert world.local.record("shop-2")["branch"] == "fix"


@pytest.mark.parametrize("why", ["not allowed", "archived", "gone", "only a reader"])
def test_a_fork_that_cannot_be_pushed_to_is_refused(world, why):
    session = world.session()
    fork, pull = from_fork(world, "idea")
    if why == "not allowed":
        pull.may_maintainers_push = False
    elif why == "archived":
        fork.is_archived = True
    elif why == "gone":
        pull.head_repo = None
    else:
        world.remote.roles[world.hub.me] = "read"
    said = world.local.call("ao-claim", "shop-1", str(pull.number))
    assert said.code == 1 and ("is gone" if why == "gone" else "ann/widgets', and you may not push") in said.err
    assert "another repository" in world.local.call("ao-spawn", "--claim-pr", str(pull.number)).err or why == "gone"
    record = world.local.record("shop-1")
    assert (record["branch"], record["claimed_pr_number"]) == (session["branch"], None)
    assert "idea" not in git.branches(world.local.repo) and "ao-pr-" not in world.local.git("config", "--list")


def test_a_fork_of_ones_own_is_pushed_to_although_no_maintainer_may(world):
    world.session()
    fork, pull = from_fork(world, "idea")
    pull.may_maintainers_push, fork.roles[world.hub.me] = False, "write"
    ok(world, "ao-claim", "shop-1", str(pull.number))


@pytest.mark.parametrize("branch", ["-f", "--upload-pack=touch pwned", "../../etc", "a b", "x.lock", ""])
def test_a_branch_that_is_an_option_or_a_path_is_refused(world, branch):
    """F56"""
    world.session()
    _, pull = from_fork(world, "idea")
    pull.head = branch
    assert "is not a valid branch name" in world.local.call("ao-claim", "shop-1", str(pull.number)).err
    assert "ao-pr-" not in world.local.git("config", "--list")


@pytest.mark.parametrize(
    "name", ["ann/../../acme/widgets", "-ann/widgets", "ann", "evil.org/ann/widgets", "ann/wid gets"]
)
def test_a_fork_with_a_name_that_is_none_is_refused(world, monkeypatch, name):
    """F56: what is pushed to is made of it."""
    world.session()
    _, pull = from_fork(world, "idea")
    monkeypatch.setattr(_github_query, "source", lambda *asked: (name, True))
    assert world.local.call("ao-claim", "shop-1", str(pull.number)).code == 1
    assert "ao-pr-" not in world.local.git("config", "--list")


def test_what_is_published_for_an_agent_goes_to_the_fork(world):
    """Also before the first look at its pull request."""
    hubbing.configure(world.local, publish="auto", merge=READY)
    session = world.session()
    fork, pull = from_fork(world, "main")
    ok(world, "ao-claim", "shop-1", str(pull.number))
    for seen in (world.local.record("shop-1")["pr"], None):
        head = forging.commit(session["workspace_path"], "more.txt", f"{seen}\n")
        record = {**world.local.record("shop-1"), "head_sha": head, "pr": seen}
        scm.publish(world.home, world.local.project, record, "more", "", "2027-01-15T08:00:00Z")
        assert fork.refs["main"] == pull.head_sha == head
    assert list(world.remote.refs) == ["main"] and world.remote.pulls() == [pull]
    assert "git push" not in world.local.record("shop-1")["inbox"][-1]["text"]


def test_a_session_is_spawned_for_a_forks_pull_request(world):
    fork, pull = from_fork(world, "main")
    record = world.local.spawn("--claim-pr", str(pull.number))
    text = " ".join(record["inbox"][-1]["text"].split())
    assert record["branch"] == "ann-main" and "plain `git push`" in text
    assert "gh pr create" not in text and "push -u origin" not in text
    head = forging.commit(record["workspace_path"], "more.txt", "more\n")
    world.git(record, "push", "--quiet")
    assert fork.refs["main"] == pull.head_sha == head


# --- merging ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["before", "after"])
@pytest.mark.parametrize("after", ["act", "merge", "kill"])
def test_a_merge_that_was_cut_off_is_asked_about_and_not_done_twice(world, ready, point, after):
    """F23"""
    world.local.look()
    base = world.remote.refs["main"]
    done = scripts.run("ao-merge", "shop-1", cwd=world.local.folder, AO_FAULT=f"merge.merge:{point}")
    assert done.returncode == -signal.SIGKILL, done
    assert world.local.record("shop-1")["doing"]["effect"] == "merge"
    if after == "act":
        rounds.act(world.home)
        assert world.local.record("shop-1")["doing"] is None
    ok(world, "ao-kill" if after == "kill" else "ao-merge", "shop-1")
    record, was_killed = world.local.record("shop-1"), after == "kill" and point == "before"
    assert record["status"] == ("killed" if was_killed else "merged")
    merges = forging.git(world.remote.path, "rev-list", "--merges", "--count", f"{base}..main")
    assert merges == ("0" if was_killed else "1")


@pytest.mark.parametrize("point", ["before", "after"])
def test_an_assignment_that_was_cut_off_is_made_once(world, ready, point):
    """F23"""
    world.remote.issue("One")
    world.local.change("shop-1", issue_id="2", assign_issue=True)
    done = scripts.run("ao-react", cwd=world.local.folder, AO_FAULT=f"issue.assign:{point}")
    assert done.returncode == -signal.SIGKILL
    rounds.act(world.home)
    assert world.remote.issues[2].assignees == [world.hub.me]
    assert not world.local.record("shop-1")["assign_issue"]


def test_what_github_refuses_is_a_merge_that_failed_and_is_said(world, ready):
    """F34"""
    _, pull = ready
    world.local.look()
    world.remote.methods["squash"] = False
    assert "Squash merges are not allowed" in world.local.call("ao-merge", "shop-1", "--method", "squash").err
    assert world.local.record("shop-1")["status"] == "merge_failed"
    assert "a merge failed: " in ok(world, "ao-status", "shop-1", "--why").out
    ok(world, "ao-merge", "shop-1")
    assert pull.merged


@pytest.mark.parametrize(
    ("status", "message", "becomes"),
    [
        (405, "Required status check is expected", "merge_failed"),
        (422, "Head repository is gone", "merge_failed"),
        (409, "Head branch was modified", "mergeable"),  # to be looked at again: nothing has failed
        (502, "Bad gateway", "mergeable"),  # it may have happened: asked about
    ],
)
def test_every_refusal_of_a_merge_is_said_and_tried_again_as_it_deserves(world, ready, status, message, becomes):
    """F34"""
    _, pull = ready
    world.local.look()
    world.hub.fail("status", on="PUT", status=status, message=message)
    assert message in world.local.call("ao-merge", "shop-1").err
    rounds.act(world.home)  # settles what is open
    record = world.local.record("shop-1")
    assert (record["status"], record["doing"], pull.merged) == (becomes, None, None)
    if becomes == "merge_failed":
        assert f"{message} ({status})" in ok(world, "ao-status", "shop-1", "--why").out
    ok(world, "ao-merge", "shop-1")
    assert pull.merged and world.local.record("shop-1")["status"] == "merged"


def test_a_merge_whose_branch_cannot_be_deleted_yet_is_no_failed_merge(world, ready):
    """F33"""
    session, pull = ready
    hubbing.configure(world.local, merge={**READY, "delete_branch": True})
    world.local.look()
    world.hub.fail("bad_gateway", on="git/ref", times=1)
    assert "is merged, but not tidied up" in world.local.call("ao-merge", "shop-1").err
    assert pull.merged and not world.local.record("shop-1")["merge_failure"]
    rounds.act(world.home)
    assert world.local.record("shop-1")["status"] == "merged" and session["branch"] not in world.remote.refs


def test_a_merge_that_is_shown_late_is_not_made_again(world, ready):
    """F23: answers of GitHub may be older than what it has done."""
    _, pull = ready
    hubbing.configure(world.local, merge=READY, reactions={"approved-and-green": {"action": "auto-merge"}})
    world.local.look()
    world.hub.lag(seconds=3)
    for _ in range(3):
        rounds.act(world.home)
        rounds.look(world.home, fresh=True)
    assert pull.merged and len(world.hub.asked("PUT")) == 1
    assert world.local.record("shop-1")["status"] == "mergeable"
    until(lambda: rounds.look(world.home, fresh=True) or world.local.record("shop-1")["status"] == "merged", "merged")
    assert len(world.hub.asked("PUT")) == 1


def test_nothing_is_merged_without_a_check_or_an_approval(world):
    """F31: seconds after it was opened, in a repository without CI too."""
    session = world.session()
    pull = world.pull(session)
    said = world.local.call("ao-merge", "shop-1").err
    assert "nobody has approved it" in said and "there is no check" in said and not pull.merged
    world.remote.roles["ann"] = "write"
    pull.review("approved", author="ann")
    hubbing.configure(world.local, merge={"require_checks": False, "settle": "0s"})
    ok(world, "ao-merge", "shop-1")
    assert pull.merged


# --- when GitHub cannot be asked -------------------------------------------------------------------------------------


def test_a_limit_in_the_middle_changes_nothing_and_work_goes_on_after_it(world, ready):
    """F11, F51: statuses stay, nothing fires again, readers ask nobody."""
    world.local.look()
    before = world.local.record("shop-1")
    world.hub.leave(0, reset_in=3)
    world.local.change("shop-1", pr_unknown_since="2020-01-01T00:00:00.000Z")  # so that it is asked about
    world.local.look(2)
    blind = world.local.record("shop-1")
    assert blind["pr_unknown_since"] and blind["status"] == before["status"]
    assert blind["conditions"].get("approved-and-green") == before["conditions"]["approved-and-green"]
    count = len(world.hub.asked())
    ok(world, "ao-status", "--all", "--pr")
    world.local.look(3)
    assert len(world.hub.asked()) == count
    until(lambda: world.local.look() or not world.local.record("shop-1")["pr_unknown_since"], "it is known again")
    assert world.local.record("shop-1")["status"] == before["status"]


# --- doctor, start ---------------------------------------------------------------------------------------------------


def findings(world, *checks):
    found = json.loads(world.local.call("ao-doctor", "--json").out)
    return [(one["state"], one["text"]) for one in found if one["check"] in ("github", "gh", *checks)]


def test_the_doctor_knows_who_gh_is_and_what_is_left(world):
    found = dict(reversed(one) for one in findings(world))
    assert found[f"{github.HOST}: logged in as me"] == "ok"
    assert found[f"{github.HOST}/acme/widgets: found"] == "ok"
    assert any("4999 of 5000" in text or "5000 of 5000" in text for text in found)
    assert any(text.startswith("gh version") for text in found)


def test_the_doctor_says_that_agents_get_no_token_of_the_environment(world, monkeypatch):
    """F56: neither do launch files hold one."""
    monkeypatch.setenv("GH_TOKEN", "gho_secret")
    assert any(state == "warning" and text.startswith("GH_TOKEN is set") for state, text in findings(world))
    record = answer(world, "ao-spawn", "--task", "x")[0]
    with open(paths.launch(world.home, "shop", record["id"])) as file:
        assert "gho_secret" not in file.read()


def test_the_doctor_says_how_to_log_in(world):
    world.hub.fail("unauthorized", times=None)
    assert (
        "bad",
        f"{github.HOST}: gh is not logged in at {github.HOST}; run: gh auth login --hostname {github.HOST}",
    ) in (findings(world))


def test_the_doctor_says_what_the_token_lacks(world):
    world.hub.scopes = "read:org"
    assert ("bad", f"{github.HOST}: the token lacks the scope 'repo'") in findings(world)
    world.hub.scopes = None
    text = f"{github.HOST}: the token has no scopes; to a fine-grained one GitHub shows no check runs"
    assert ("warning", text) in findings(world)


def test_a_repository_at_github_gets_a_configuration_for_github(world):
    ok(world, "ao-start", cwd=world.local.repo)
    written = config.load(os.path.join(world.local.repo, "ao.yaml")).projects["repo"]
    assert config.setting(written, "scm") == config.setting(written, "tracker") == "github"
    assert config.setting(written, "merge.require_checks")


def test_a_remote_that_is_none_of_github_s_is_said(world):
    world.local.git("remote", "set-url", "origin", "/srv/git/shop.git")
    with pytest.raises(AoError, match="set repo: host/owner/name"):
        tracker.get(world.home, world.local.project, "1")
    session = world.session()
    world.local.change(session["id"], claimed_pr_number=1)
    problems = rounds.look(world.home)
    assert "set repo: host/owner/name" in problems[0]["message"]
    assert sessions.find(world.home, "shop-1")["pr_unknown_since"]
    assert loop.read(world.home)
