"""Pull requests at GitHub, seen and merged through real gh and real git."""

from __future__ import annotations

import os
import time

import forging
import github
import hubbing
import pytest

from lib import clock, git, paths, store
from lib.errors import AoError, Unknown
from lib.scm import UNASKED, Blocked, Moved
from lib.scm import _github_pace as pace
from lib.scm import github as scm


@pytest.fixture
def world(hub, home, tmp_path):
    return hubbing.make(hub, home, tmp_path)


@pytest.fixture
def session(world):
    return world.session()


def known(session, pull):
    return {**session, "claimed_pr_number": pull.number}


def project(world):
    return world.local.project


# --- which pull request is a session's own ---------------------------------------------------------------------------


def test_a_session_finds_its_pull_request(world, session):
    assert world.look(session) is None
    pull = world.pull(session)
    world.remote.check(pull, "test")
    found = world.look(session)
    assert (found["number"], found["state"], found["head_sha"]) == (pull.number, "open", pull.head_sha)
    assert (found["ci_status"], found["mergeable"], found["from_fork"]) == ("passing", True, False)
    assert (found["owner"], found["repo"], found["additions"], found["deletions"]) == ("acme", "widgets", 1, 0)


def test_without_a_commit_of_its_own_nothing_is_asked(world, session):
    """F51, F13: there can be no pull request."""
    assert world.look(session) is None
    assert world.look({**session, "branch": ""}) is None
    assert world.hub.asked() == []


def test_an_old_pull_request_on_a_used_name_is_not_taken(world, session):
    """F13: neither a merged one from before, nor a closed one that began at the same commit."""
    branch, elsewhere = session["branch"], {"other.txt": "x\n"}
    world.remote.commit(branch, elsewhere, start=session["base_sha"])
    old = world.remote.pull(branch)
    world.remote.check(old, "test")
    old.close()
    world.remote.delete(branch)
    forging.commit(session["workspace_path"], "b.txt", "new\n")
    assert world.look(session) is None
    mine = world.pull(session, "c.txt")
    assert world.look(session)["number"] == mine.number


def test_a_fork_with_the_same_branch_name_is_not_taken(world, session):
    """F13"""
    world.push(session)
    fork = world.remote.fork("mallory")
    fork.commit(session["branch"], {"evil.txt": "x\n"})
    world.remote.pull(session["branch"], head_repo=fork, author="mallory")
    assert world.look(session) is None


def test_a_head_that_was_rewritten_or_edited_at_github_is_still_the_session_s(world, session):
    pull = world.pull(session)
    world.git(session, "commit", "--quiet", "--amend", "-m", "better")
    assert world.look(session)["number"] == pull.number
    world.git(session, "push", "--quiet", "--force")
    world.remote.commit(session["branch"], {"web.txt": "edited in the browser\n"})
    assert world.look(session)["number"] == pull.number


def test_a_renamed_branch_is_followed(world, session):
    """F14: before it is pushed by its name, afterwards by the pull request's number."""
    world.git(session, "branch", "-m", "better-name")
    renamed = {**session, "branch": "better-name"}
    pull = world.pull(renamed)
    assert world.look(renamed)["number"] == pull.number
    world.git(session, "branch", "-m", "best-name")
    assert world.look({**known(session, pull), "branch": "best-name"})["branch"] == "better-name"


def test_a_closed_pull_request_gives_way_to_a_new_one(world, session):
    pull = world.pull(session)
    first = world.look(session)
    pull.close()
    session = {**known(session, pull), "pr": {**first, "state": "closed"}}
    assert world.look(session)["state"] == "closed"
    second = world.remote.pull(session["branch"])
    assert world.look(session)["number"] == second.number


# --- facts -----------------------------------------------------------------------------------------------------------


def test_130_checks_are_all_seen_the_newest_run_of_each(world, session):
    pull = world.pull(session)
    for number in range(130):
        world.remote.check(pull, f"job {number:03}")
    world.remote.check(pull, "job 129", "failure")
    world.remote.check(pull, "job 000", "failure")
    world.remote.check(pull, "job 000")
    found = world.look(session)
    assert len(found["ci_checks"]) == 130
    assert (found["ci_status"], found["failing_checks"], found["failing_check_names"]) == ("failing", 1, ["job 129"])


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], "none"),
        (["success", "skipped", "neutral"], "passing"),
        (["success", "queued"], "pending"),
        (["success", "in_progress", "failure"], "failing"),
        (["cancelled"], "failing"),
        (["timed_out"], "failing"),
        (["skipped"], "none"),
    ],
)
def test_checks_add_up(world, session, results, status):
    pull = world.pull(session)
    for number, result in enumerate(results):
        world.remote.check(pull, f"job {number}", result)
    assert world.look(session)["ci_status"] == status


def test_statuses_count_and_jobs_of_one_name_in_two_workflows_are_two(world, session):
    pull = world.pull(session)
    world.remote.check(pull, "build", workflow="CI")
    world.remote.check(pull, "build", "failure", workflow="Docs")
    world.remote.status(pull, "jenkins", "pending")
    states = {check["name"]: check["status"] for check in world.look(session)["ci_checks"]}
    assert states == {"CI / build": "passed", "Docs / build": "failed", "jenkins": "pending"}


def test_only_a_known_conflict_is_a_conflict(world, session):
    """F12"""
    world.hub.unknown_looks = 1
    pull = world.pull(session, "a.txt")
    assert world.look(session)["mergeable"] is None
    assert world.look(session)["mergeable"] is True
    world.remote.commit("main", {"a.txt": "theirs\n"})
    assert world.look(known(session, pull))["mergeable"] is None
    assert world.look(known(session, pull))["mergeable"] is False


def test_a_head_whose_checks_are_of_the_last_one_is_unknown(world, session):
    """Answers of GitHub may be late in one part and not in another."""
    pull = world.pull(session)
    world.remote.check(pull, "test")
    assert world.look(session)["ci_status"] == "passing"
    world.push(session, "c.txt")
    assert world.look(known(session, pull))["ci_status"] == "none"


def test_who_approved_and_who_wants_changes(world, session):
    pull = world.pull(session)
    world.remote.roles.update(ann="write", bob="write")
    assert world.look(session)["review_decision"] == "pending"
    pull.review("approved", author="passer-by")  # without a right to: says nothing
    assert (world.look(session)["review_decision"], world.look(session)["approved_by"]) == ("pending", [])
    pull.review("approved", author="ann")
    assert world.look(session)["approved_by"] == ["ann"]
    asked = pull.review("changes_requested", "Not like this.", author="bob")
    found = world.look(session)
    assert (found["review_decision"], len(found["threads"])) == ("changes_requested", 1)
    asked.dismiss()
    found = world.look(session)
    assert (found["review_decision"], found["threads"]) == ("approved", [])


# --- what stands in the way ------------------------------------------------------------------------------------------


def test_what_branch_protection_wants_is_said(world, session):
    """F31"""
    pull = world.pull(session)
    world.remote.roles["ann"] = "write"
    world.remote.protect(checks=["test", "lint"], reviews=1, strict=True)
    world.remote.check(pull, "test")
    assert world.look(session)["forge_blockers"] == ["GitHub requires an approving review"]
    pull.review("approved", author="ann")
    assert "a required check is missing" in world.look(session)["forge_blockers"][0]
    world.remote.check(pull, "lint", "failure")
    assert world.look(session)["forge_blockers"] == ["required check 'lint': failed"]
    world.remote.check(pull, "lint")
    assert world.look(session)["forge_blockers"] == []
    world.remote.commit("main", {"z.txt": "z\n"})
    assert "behind 'main'" in world.look(session)["forge_blockers"][0]


def test_an_unstable_one_is_not_ready_unless_checks_do_not_matter(world, session):
    """F31"""
    pull = world.pull(session)
    world.remote.check(pull, "lint", "failure")
    assert world.look(session)["forge_blockers"] == ["GitHub says that its checks do not pass"]
    hubbing.configure(world.local, merge={"require_checks": False})
    assert world.look(session)["forge_blockers"] == []


# --- what cannot be asked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("unauthorized", {}, "gh auth login --hostname github.localhost"),
        ("rate_limit", {"seconds": 2}, "asks to wait until"),
        ("rate_limit", {"seconds": 2, "type": "RATE_LIMIT"}, "asks to wait until"),
        ("secondary", {"seconds": 2}, "asks to wait until"),
        ("secondary", {"seconds": 2, "status": 403}, "asks to wait until"),
        ("secondary", {"seconds": 2, "status": 200}, "asks to wait until"),
        ("server_error", {}, "with 500"),
        ("bad_gateway", {}, "with 502"),
        ("truncated", {}, "cut short|cannot ask"),
        ("cut", {}, "cut short|cannot ask"),
    ],
)
def test_a_forge_that_does_not_answer_is_unknown(world, session, kind, options, why):
    """F11"""
    pull = world.pull(session)
    world.hub.fail(kind, times=None, **options)
    with pytest.raises(Unknown, match=why):
        world.look(known(session, pull))


def test_time_runs_out_for_a_request(world, session, monkeypatch):
    """F11, F53"""
    from lib import proc

    pull = world.pull(session)
    monkeypatch.setitem(proc.LIMITS, "gh", 1)
    world.hub.fail("hang", times=None)
    with pytest.raises(Unknown, match="did not answer within 1 s"):
        world.look(known(session, pull))


def test_a_single_bad_part_does_not_lose_the_others(world):
    """F11"""
    records = [world.session(f"shop-{number}") for number in range(1, 4)]
    pulls = [world.pull(record, f"{record['id']}.txt") for record in records]
    world.hub.fail("partial", alias=f"p{pulls[1].number}")
    found = world.look(*(known(record, pull) for record, pull in zip(records, pulls, strict=True)))
    assert [id for id, pull in found.items() if isinstance(pull, AoError)] == ["shop-2"]
    assert found["shop-1"]["number"] == pulls[0].number and found["shop-3"]["number"] == pulls[2].number


def test_what_the_token_may_not_read_is_said(world, session):
    """F28: a fine-grained token is shown no check runs, whatever else it may do."""
    pull = world.pull(session)
    world.remote.check(pull, "test")
    text = "Resource not accessible by personal access token"
    world.hub.fail("partial", alias="contexts", type="FORBIDDEN", message=text)
    with pytest.raises(Unknown, match=f"pull request {pull.number}: {text} .*contexts"):
        world.look(known(session, pull))


@pytest.mark.parametrize(
    ("options", "size"),
    [({"type": "RESOURCE_LIMITS_EXCEEDED"}, 12), ({}, 12), ({"type": "FORBIDDEN"}, pace.MOST)],
)
def test_a_part_that_was_too_much_for_github_makes_the_next_batch_smaller(world, options, size):
    """F11: what is left out of an answer for its size would be left out each time."""
    records = [world.session(f"shop-{number}") for number in range(1, 3)]
    pulls = [world.pull(record, f"{record['id']}.txt") for record in records]
    world.hub.fail("partial", alias=f"p{pulls[1].number}", **options)
    found = world.look(*(known(record, pull) for record, pull in zip(records, pulls, strict=True)))
    assert isinstance(found["shop-2"], Unknown) and found["shop-1"]["number"] == pulls[0].number
    assert pace.Memory(world.home, project(world), hubbing.clock()).size == size


def test_an_account_that_may_not_see_the_repository_knows_nothing(world, session):
    """F11"""
    pull = world.pull(session)
    hubbing.configure(world.local, repo="github.localhost/acme/gone")
    with pytest.raises(Unknown, match="does not show 'acme/gone'"):
        world.look(known(session, pull))


# --- the budget ------------------------------------------------------------------------------------------------------


def test_a_cool_down_holds_for_every_process_until_its_end(world, session):
    """F51"""
    pull = world.pull(session)
    world.hub.fail("secondary", seconds=2)
    for _ in range(3):
        with pytest.raises(Unknown, match="asks to wait until"):
            world.look(known(session, pull))
    assert len(world.hub.asked()) == 1
    time.sleep(2.1)
    assert world.look(known(session, pull))["state"] == "open"


def test_who_moves_is_looked_at_often_and_who_rests_seldom(world, session):
    """F51"""
    pull = world.pull(session)
    record = known(session, pull)

    def looks(begin: float, end: float, step: float = 5.0) -> int:
        before = len(world.hub.asked())
        at = begin
        while at < end:
            record["pr"] = world.look(record, seconds=at, fresh=False) or record["pr"]
            at += step
        return len(world.hub.asked()) - before

    world.remote.check(pull, "test", "queued")
    assert looks(0, 60) >= 10
    world.remote.check(pull, "test")
    assert looks(60, 90) >= 4
    assert 8 <= looks(1000, 1600) <= 12  # once a minute


def test_about_who_is_not_due_nobody_is_asked(world, session):
    """F51"""
    pull = world.pull(session)
    record = known(session, pull)
    record["pr"] = world.look(record, fresh=False)
    count = len(world.hub.asked())
    assert world.look(record, seconds=1, fresh=False) is UNASKED
    assert world.look({**record, "pr_unknown_since": "x"}, seconds=2, fresh=False) == "unknown"
    assert len(world.hub.asked()) == count
    world.look(record, seconds=3)
    assert len(world.hub.asked()) == count + 1


# --- merging ---------------------------------------------------------------------------------------------------------


def merge(world, session, method="merge"):
    record = {**session, "pr": world.look(session)}
    plan = scm.plan_merge(world.home, project(world), record, method)
    scm.merge(world.home, project(world), record, plan)
    return plan


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_merge_merges_and_deletes_its_branch_although_a_worktree_has_it(world, session, method):
    """F33"""
    hubbing.configure(world.local, merge={"delete_branch": True})
    pull = world.pull(session)
    plan = merge(world, known(session, pull), method)
    assert pull.merged and pull.state == "closed"
    assert session["branch"] not in world.remote.refs
    assert scm.is_merged(world.home, project(world), session, plan)
    assert world.look(known(session, pull))["state"] == "merged"


def test_at_an_enterprise_host_all_is_the_same(hub, home, tmp_path):
    """Its API has other paths, and GraphQL no budget."""
    remote = hub.repo("corp/tools", github.ENTERPRISE)
    world = hubbing.World(hub, remote, hubbing.clone(home, tmp_path, remote, merge={"delete_branch": True}))
    session = world.session()
    pull = world.pull(session)
    pull.thread("Why?")
    remote.check(pull, "test", "failure", log="boom")
    found = world.look(session)
    assert (found["number"], found["owner"], found["ci_status"], len(found["threads"])) == (1, "corp", "failing", 1)
    assert "boom" in scm.failures(home, project(world), known(session, pull))[0].log
    merge(world, known(session, pull))
    assert pull.merged and list(remote.refs) == ["main"]
    assert github.HOST not in {request.host for request in hub.asked()}


def test_a_push_between_look_and_merge_is_not_merged(world, session):
    """F32: neither one before the plan, nor one right before the merge."""
    pull = world.pull(session)
    record = {**known(session, pull), "pr": world.look(session)}
    plan = scm.plan_merge(world.home, project(world), record, "merge")
    world.push(session, "c.txt")
    with pytest.raises(Moved):
        scm.merge(world.home, project(world), record, plan)
    with pytest.raises(Moved):
        scm.plan_merge(world.home, project(world), record, "merge")
    assert not pull.merged


def test_what_github_refuses_to_merge_is_said(world, session):
    pull = world.pull(session)
    record = {**known(session, pull), "pr": world.look(session)}
    world.remote.methods["squash"] = False
    plan = scm.plan_merge(world.home, project(world), record, "squash")
    with pytest.raises(Blocked, match="Squash merges are not allowed"):
        scm.merge(world.home, project(world), record, plan)
    pull.ready(is_draft=True)
    with pytest.raises(Blocked, match="it is a draft"):
        scm.plan_merge(world.home, project(world), record, "merge")


def test_a_merge_whose_answer_is_lost_is_asked_about(world, session):
    pull = world.pull(session)
    record = {**known(session, pull), "pr": world.look(session)}
    plan = scm.plan_merge(world.home, project(world), record, "merge")
    world.hub.fail("bad_gateway", on="PUT", done=True)
    with pytest.raises(Unknown):
        scm.merge(world.home, project(world), record, plan)
    assert scm.is_merged(world.home, project(world), record, plan)


# --- what is behind a red check --------------------------------------------------------------------------------------


def test_a_failed_job_comes_with_its_step_and_the_end_of_that_step_s_log(world, session):
    """F25"""
    pull = world.pull(session)
    log = {"Run make": "all is built", "Run tests": "\x1b[31mtest_x failed\x1b[0m\nExpected 1, got 2"}
    world.remote.check(pull, "test", "failure", log=log)
    world.remote.check(pull, "lint")
    [failure] = scm.failures(world.home, project(world), known(session, pull))
    assert (failure.name, failure.step) == ("test", "Run tests")
    assert "/job/" in failure.url
    lines = failure.log.split("\n")
    assert lines[-3:] == ["test_x failed", "Expected 1, got 2", "##[error]Process completed with exit code 1."]
    assert "all is built" not in failure.log and "Post job" not in failure.log and "\x1b" not in failure.log


def test_other_checks_say_of_themselves_what_is_wrong(world, session):
    """F25"""
    pull = world.pull(session)
    world.remote.check(pull, "scan", "failure", app="scanner", summary="2 problems in a.txt")
    world.remote.status(pull, "jenkins", "failure", "Build #7 broke", "https://ci.example.org/7")
    failures = {one.name: one for one in scm.failures(world.home, project(world), known(session, pull))}
    assert "2 problems in a.txt" in failures["scan"].log
    assert (failures["jenkins"].log, failures["jenkins"].url) == ("Build #7 broke", "https://ci.example.org/7")


def test_a_log_that_is_gone_leaves_the_rest(world, session):
    pull = world.pull(session)
    world.remote.check(pull, "test", "failure", log="boom")
    world.hub.fail("status", on="logs", status=410, message="Gone")
    [failure] = scm.failures(world.home, project(world), known(session, pull))
    assert failure.name == "test" and failure.step and "cannot be read" in failure.log
    world.hub.fail("bad_gateway", on="logs")
    with pytest.raises(Unknown):
        scm.failures(world.home, project(world), known(session, pull))


# --- what reviewers wrote --------------------------------------------------------------------------------------------


def comments(world, session, pull):
    return scm.comments(world.home, project(world), known(session, pull))


def test_of_60_threads_those_that_are_open_are_told(world, session):
    """F25"""
    pull = world.pull(session)
    threads = [pull.thread(f"remark {number}", "b.txt", 1) for number in range(60)]
    for thread in threads[:20]:
        thread.resolve()
    found = comments(world, session, pull)
    assert [one.body.rpartition("\n")[2] for one in found] == [f"remark {number}" for number in range(20, 60)]
    assert {(one.author, one.file, one.line, one.is_bot) for one in found} == {("reviewer", "b.txt", 1, False)}
    assert found[0].body.startswith("@@ -1 +1 @@\n-old\n+new\n\n") and "/pull/" in found[0].url
    assert world.look(known(session, pull))["threads"] == [one.id for one in found]


def test_more_than_a_page_of_threads_is_seen(world, session):
    """F25: not only the first page."""
    pull = world.pull(session)
    for number in range(120):
        pull.thread(f"remark {number}")
    assert len(world.look(known(session, pull))["threads"]) == 120


def test_what_the_agent_answered_waits_for_the_reviewer_and_a_reply_is_new(world, session):
    """F25: the agent's own replies are not sent to it; agent and person are one login."""
    pull = world.pull(session)
    thread = pull.thread("Why a float?")
    mine = pull.thread("I want this smaller.", author=world.hub.me)
    first = [one.id for one in comments(world, session, pull)]
    assert len(first) == 2
    thread.reply("Because.", author=world.hub.me)
    mine.reply("Done.", author=world.hub.me)
    assert comments(world, session, pull) == []
    thread.reply("That is no reason.")
    found = comments(world, session, pull)
    assert [one.id in first for one in found] == [True, False]
    assert found[1].body.endswith("That is no reason.")


def test_an_edited_comment_is_new(world, session):
    """F25"""
    pull = world.pull(session)
    thread = pull.thread("Use x.")
    before = comments(world, session, pull)[0].id
    thread.comments[0].edit("Use y.")
    after = comments(world, session, pull)[0]
    assert after.id != before and after.body.endswith("Use y.")


def test_bots_are_told_apart_and_a_review_s_words_last_as_long_as_its_head(world, session):
    pull = world.pull(session)
    pull.thread("Possible bug.", author="bugbot[bot]")
    pull.review("commented", "Nice, but think of Windows.", author="ann")
    found = world.look(known(session, pull))
    assert (len(found["threads"]), len(found["bot_threads"])) == (1, 1)
    world.push(session, "c.txt")
    found = world.look(known({**session, "told": {"changes-requested": found["threads"]}}, pull))
    assert (len(found["threads"]), len(found["bot_threads"])) == (0, 1)


def test_what_a_reviewer_wrote_right_before_a_push_is_told_all_the_same(world, session):
    """F25: no look came in between."""
    pull = world.pull(session)
    session["created_at"] = clock.iso(world.hub.now() - 60)
    pull.review("commented", "Think of Windows.", author="ann")
    world.push(session, "c.txt")
    assert [one.body for one in comments(world, session, pull)] == ["Think of Windows."]
    found = world.look(known(session, pull))
    assert len(found["threads"]) == 1
    assert world.look(known({**session, "told": {"changes-requested": found["threads"]}}, pull))["threads"] == []
    later = {**session, "restored_at": clock.iso(world.hub.now() + 60)}  # a new agent, which has the commits before it
    assert world.look(known(later, pull))["threads"] == []


def test_who_may_not_decide_is_heard_too(world, session):
    """F25: a passer-by blocks nothing, also not below the many empty reviews that replies to threads are."""
    pull = world.pull(session)
    world.remote.roles["ann"] = "write"
    pull.review("changes_requested", "Think of Windows.", author="passer-by")
    pull.review("changes_requested", "Not like this.", author="ann")
    for _ in range(60):
        pull.review("commented", "", author=world.hub.me)
    assert [one.body for one in comments(world, session, pull)] == ["Not like this.", "Think of Windows."]
    pull.review("approved", author="ann")
    assert [one.body for one in comments(world, session, pull)] == ["Think of Windows."]
    assert world.look(known(session, pull))["review_decision"] == "approved"


def test_what_people_of_the_repository_say_below_the_pull_request_is_told_once(world, session):
    """F25: not what programs report there, passers-by say, or the agent itself."""
    pull = world.pull(session)
    world.remote.roles["ann"] = "write"
    pull.comment("Long ago.", "ann")
    session["created_at"] = clock.iso(world.hub.now() + 1)
    assert comments(world, session, pull) == []
    session["created_at"] = clock.iso(world.hub.now() - 60)
    for author in ("passer-by", "coverage[bot]", world.hub.me, None):
        pull.comment("Hear, hear.", author)
    [found] = comments(world, session, pull)
    assert (found.author, found.body, found.is_bot) == ("ann", "Long ago.", False) and "#issuecomment-" in found.url
    told = {**session, "told": {"changes-requested": [found.id]}}
    assert comments(world, told, pull) == []
    pull.comments[0].edit("Use y.")
    assert [one.body for one in comments(world, told, pull)] == ["Use y."]


def test_the_words_of_a_review_in_ones_own_name_are_told(world, session):
    """Agent and person are one login, and agents do not review themselves."""
    pull = world.pull(session)
    pull.review("commented", "Think of Windows.", author=world.hub.me)
    assert [one.body for one in comments(world, session, pull)] == ["Think of Windows."]


def test_comments_that_cannot_be_shown_are_unknown_and_not_settled(world, session):
    """F11"""
    pull = world.pull(session)
    pull.thread("Why?")
    world.hub.fail("bad_gateway", on="nodes\\(ids", times=None)
    with pytest.raises(Unknown):
        world.look(known(session, pull))


# --- taking over -----------------------------------------------------------------------------------------------------


def test_a_pull_request_of_a_person_is_fetched(world, session):
    world.remote.commit("ann/idea", {"idea.txt": "idea\n"})
    pull = world.remote.pull("ann/idea", author="ann")
    found = scm.pull(world.home, project(world), {"id": "", "claimed_pr_number": pull.number})
    scm.fetch(world.home, project(world), found)
    assert git.commit(world.local.repo, "refs/heads/ann/idea") == pull.head_sha
    assert world.local.git("rev-parse", "--abbrev-ref", "ann/idea@{upstream}") == "origin/ann/idea"
    world.local.git("update-ref", "refs/heads/ann/idea", world.git(session, "commit-tree", "HEAD^{tree}", "-m", "x"))
    with pytest.raises(AoError, match="has other commits"):
        scm.fetch(world.home, project(world), found)


# --- safety ----------------------------------------------------------------------------------------------------------


def test_no_token_gets_into_a_file_a_log_or_an_argument(world, session, monkeypatch):
    """F56"""
    from lib import proc

    seen = []
    real = proc.run
    monkeypatch.setattr(proc, "run", lambda limit, argv, **more: seen.append(argv) or real(limit, argv, **more))
    pull = world.pull(session)
    world.look(known(session, pull))
    texts = ["\n".join(" ".join(argv) for argv in seen)]
    for folder, _, names in os.walk(world.home):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                texts.append(file.read().decode("utf-8", "replace"))
    assert all("gho_secret" not in text for text in texts)


def test_a_token_for_another_host_stays_at_home(monkeypatch):
    """F56: a remote may name any host."""
    from lib import gh

    monkeypatch.setenv("GH_ENTERPRISE_TOKEN", "secret")
    assert "GH_ENTERPRISE_TOKEN" not in gh._environment("evil.example.org")
    monkeypatch.setenv("GH_HOST", "ghe.example.org")
    assert gh._environment("ghe.example.org")["GH_ENTERPRISE_TOKEN"] == "secret"
    assert gh._environment("evil.example.org")["GH_HOST"] == "evil.example.org"


def test_a_damaged_budget_file_is_set_aside(world, session):
    path = paths.host(world.home, "github.localhost")
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as file:
        file.write("half: {")
    pull = world.pull(session)
    assert world.look(known(session, pull))["number"] == pull.number
    assert store.read(path)["graphql"]["remaining"] < 5000


# --- publishing what an agent has committed --------------------------------------------------------------------------


def committed(world, session, name="b.txt"):
    head = forging.commit(session["workspace_path"], name, "new\n")
    return {**session, "head_sha": head}


def publish(world, session):
    scm.publish(world.home, project(world), session, "mend the shed", "- it leaked", "2027-01-15T08:00:00Z")


def test_what_is_published_is_one_pull_request_however_often_it_is_done(world, session):
    """F23: who was killed in between has pushed, and maybe more."""
    session = committed(world, session)
    world.git(session, "push", "--quiet", "origin", session["branch"])
    publish(world, session)
    publish(world, session)
    later = committed(world, session, "c.txt")
    publish(world, later)
    [pull] = world.remote.pulls()
    assert (pull.title, pull.body, pull.base) == ("mend the shed", "- it leaked", "main")
    assert world.look(later)["head_sha"] == pull.head_sha == later["head_sha"]


def test_what_was_amended_is_published_over_what_it_was(world, session):
    publish(world, committed(world, session))
    world.git(session, "commit", "--quiet", "--amend", "-m", "better")
    amended = {**session, "head_sha": world.git(session, "rev-parse", "HEAD")}
    publish(world, amended)
    assert [pull.head_sha for pull in world.remote.pulls()] == [amended["head_sha"]]


def test_commits_that_others_have_pushed_are_not_published_over(world, session):
    session = committed(world, session)
    publish(world, session)
    theirs = world.remote.commit(session["branch"], {"theirs.txt": "x\n"})
    with pytest.raises(AoError, match="has commits at GitHub that are not here"):
        publish(world, committed(world, session, "c.txt"))
    world.git(session, "fetch", "--quiet", "origin")  # which brings them here, but not into the branch
    with pytest.raises(AoError, match="has commits at GitHub that are not here"):
        publish(world, committed(world, session, "d.txt"))
    assert world.remote.refs[session["branch"]] == theirs
    world.git(session, "pull", "--quiet", "--rebase", "origin", session["branch"])
    publish(world, committed(world, session, "e.txt"))
    assert git.contains(world.remote.path, world.remote.refs[session["branch"]], theirs)
