"""The forge that is files, with real git."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from forging import commit, git, look, make, pull, spawn

from lib import ROOT, store
from lib.clock import Clock
from lib.errors import AoError, Unknown
from lib.scm import Blocked, Moved, _pulls, local
from lib.workspace import worktree

NOW = "2026-01-02T03:04:05.678Z"


def _plan(world, session, method="merge"):
    return local.plan_merge(world.home, world.project, session, method)


def _merge(world, session, plan):
    local.merge(world.home, world.project, session, plan)


def _main(world):
    return git(world.repo, "rev-parse", "main")


def _review(world, session, decision, author="Ada", actor="", body="why?"):
    said = {"decision": decision, "author": author, "body": body, "file": "b.txt", "line": 1}
    return local.review(world.home, world.project, session, said, actor, NOW)


def test_a_session_without_pull_request_has_definitely_none(tmp_path):
    world = make(tmp_path)
    assert look(world, spawn(world)) is None


def test_a_new_pull_request_is_seen_with_what_git_says_of_it(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    seen = look(world, session)
    assert (seen["number"], seen["state"], seen["mergeable"], seen["additions"]) == (1, "open", True, 1)
    assert seen["head_sha"] == git(session["workspace_path"], "rev-parse", "HEAD")
    assert (seen["ci_status"], seen["review_decision"]) == ("none", "pending")


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_each_method_merges_what_was_seen(tmp_path, method):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    commit(world.repo, "c.txt", "other\n", "meanwhile")
    plan = local.plan_merge(world.home, world.project, session, method)
    before = git(world.repo, "rev-parse", "main")
    assert before == plan["base_sha"]
    assert not local.is_merged(world.home, world.project, session, plan)
    local.merge(world.home, world.project, session, plan)
    assert git(world.repo, "rev-parse", "main") == plan["commit"]
    assert os.path.exists(os.path.join(world.repo, "b.txt")) and git(world.repo, "status", "--porcelain") == ""
    assert look(world, session)["state"] == "merged"
    assert local.is_merged(world.home, world.project, session, plan)
    assert git(world.repo, "for-each-ref", "refs/ao/merge") == ""
    subject, author, parents = git(world.repo, "show", "-s", "--format=%s|%an|%p").split("|")
    expected = {
        "merge": ("Merge pull request #1 from feat/shop-1", "Grace", 2),
        "squash": ("Add b (#1)", "Ada", 1),
        "rebase": ("change", "Ada", 1),
    }
    assert (subject, author, len(parents.split())) == expected[method]
    assert len(git(world.repo, "worktree", "list").splitlines()) == 2


def test_a_push_between_the_look_and_the_merge_blocks_it(tmp_path):
    """F32."""
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    plan = local.plan_merge(world.home, world.project, session, "merge")
    commit(session["workspace_path"], "evil.txt", "unseen\n")
    with pytest.raises(Moved, match="not looked at"):
        local.merge(world.home, world.project, session, plan)
    with pytest.raises(Moved, match="not looked at"):
        local.plan_merge(world.home, world.project, session, "merge")
    assert git(world.repo, "rev-parse", "main") == plan["base_sha"]


def test_an_unchanged_pull_request_is_not_written_again(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    look(world, session)
    path = os.path.join(world.home, "forge", "shop", "prs", "1.yaml")
    before = os.stat(path)
    look(world, session)
    assert os.stat(path).st_ino == before.st_ino
    assert store.read(path)["state"] == "open"


# --- merging -------------------------------------------------------------------------------------------------------


def test_a_squash_carries_title_number_and_body(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session, title="Add  b\nnow", body="It is needed.\n\nTruly.")
    plan = _plan(world, session, "squash")
    assert git(world.repo, "show", "-s", "--format=%B", plan["commit"]).strip() == (
        "Add b now (#1)\n\nIt is needed.\n\nTruly."
    )


def test_a_rebase_keeps_each_commit_and_its_author(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    commit(session["workspace_path"], "c.txt", "c\n", "second", GIT_AUTHOR_NAME="Joan", GIT_AUTHOR_EMAIL="j@x")
    git(world.repo, "branch", "bystander", session["branch"])
    git(world.repo, "config", "rebase.updateRefs", "true")
    commit(world.repo, "d.txt", "d\n", "meanwhile")
    look(world, session), look(world, session)
    _merge(world, session, _plan(world, session, "rebase"))
    log = git(world.repo, "log", "--format=%s %an", "main").splitlines()
    assert log == ["second Joan", "change Ada", "meanwhile Grace", "first Grace"]
    assert git(world.repo, "rev-parse", "bystander") == git(session["workspace_path"], "rev-parse", "HEAD")


def test_a_merge_lands_where_the_base_is_not_checked_out(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    git(world.repo, "checkout", "-q", "-b", "elsewhere")
    plan = _plan(world, session)
    _merge(world, session, plan)
    assert _main(world) == plan["commit"]
    assert git(world.repo, "status", "--porcelain") == "" and not os.path.exists(os.path.join(world.repo, "b.txt"))


def test_unrelated_edits_in_the_base_checkout_are_kept(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    with open(os.path.join(world.repo, "a.txt"), "a") as file:
        file.write("mine\n")
    _merge(world, session, _plan(world, session))
    assert git(world.repo, "status", "--porcelain") == " M a.txt"
    assert os.path.exists(os.path.join(world.repo, "b.txt"))


@pytest.mark.parametrize("name", ["a.txt", "b.txt"], ids=["changed", "untracked"])
def test_overlapping_edits_in_the_base_checkout_block_the_merge(tmp_path, name):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session, name=name)
    plan = _plan(world, session)
    with open(os.path.join(world.repo, name), "w") as file:
        file.write("mine\n")
    with pytest.raises(Blocked, match=f"base checkout has local changes: {name}; commit or stash"):
        _merge(world, session, plan)
    assert _main(world) == plan["base_sha"]
    assert git(world.repo, "grep", "--no-index", "-h", "mine", name) == "mine"
    assert look(world, session)["state"] == "open"


def test_a_base_that_moved_since_the_plan_blocks_the_merge(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    plan = _plan(world, session)
    moved = commit(world.repo, "c.txt", "c\n")
    with pytest.raises(Moved, match="'main' has moved on"):
        _merge(world, session, plan)
    assert _main(world) == moved
    _merge(world, session, _plan(world, session))


def test_a_conflict_is_known_and_blocks_the_merge(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session, name="a.txt", text="mine\n")
    commit(world.repo, "a.txt", "theirs\n")
    assert look(world, session)["mergeable"] is False
    for method in ("merge", "squash", "rebase"):
        with pytest.raises(Blocked, match="conflicts with 'main'"):
            _plan(world, session, method)


def test_a_rebase_that_conflicts_although_the_merge_is_clean_leaves_nothing(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    path = session["workspace_path"]
    commit(path, "a.txt", "mine\n")
    pull(world, session, name="a.txt", text="one\ntwo\nthree\n")
    commit(path, "c.txt", "c\n")
    look(world, session), look(world, session)
    commit(world.repo, "a.txt", "theirs\n")
    assert look(world, session)["mergeable"] is True
    with pytest.raises(Blocked, match="cannot rebase pull request '1'"):
        _plan(world, session, "rebase")
    assert len(git(world.repo, "worktree", "list").splitlines()) == 2


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_a_crash_between_merge_and_record_is_settled_by_asking_git(tmp_path, method):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    look(world, session)
    commit(world.repo, "c.txt", "c\n")
    plan = _plan(world, session, method)
    assert local.is_merged(world.home, world.project, session, plan) is False
    git(world.repo, "merge", "-q", "--ff-only", plan["commit"])  # and here the process died
    assert look(world, session)["state"] == "merged"
    assert local.is_merged(world.home, world.project, session, plan) is True
    assert git(world.repo, "for-each-ref", "refs/ao/merge") == ""
    _merge(world, session, plan)  # done already: success
    assert _main(world) == plan["commit"]


def test_the_planned_commit_survives_a_collection_of_garbage(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    plan = _plan(world, session)
    git(world.repo, "gc", "--quiet", "--prune=now")
    _merge(world, session, plan)
    assert _main(world) == plan["commit"]


def test_a_session_never_merges_or_approves_its_own_work(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    with pytest.raises(AoError, match="never merges its own pull request '1'"):
        local.plan_merge(world.home, world.project, session, "merge", actor="shop-1")
    for author, actor in (("Ada", "shop-1"), ("shop-1", "")):
        with pytest.raises(AoError, match="never reviews its own"):
            _review(world, session, "approved", author, actor)
    assert look(world, session)["approved_by"] == []
    local.plan_merge(world.home, world.project, session, "merge", actor="shop-2")


def test_a_draft_and_an_ended_pull_request_are_not_merged(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session, draft=True)
    assert look(world, session)["is_draft"]
    with pytest.raises(Blocked, match="it is a draft"):
        _plan(world, session)
    local.set_state(world.home, world.project, session, "ready", NOW)
    local.set_state(world.home, world.project, session, "close", NOW)
    assert look(world, session)["state"] == "closed"
    with pytest.raises(Blocked, match="it is closed"):
        _plan(world, session)
    local.set_state(world.home, world.project, session, "reopen", NOW)
    _merge(world, session, _plan(world, session))
    with pytest.raises(AoError, match="it is merged"):
        local.set_state(world.home, world.project, session, "close", NOW)


@pytest.mark.parametrize("configured", [True, False])
def test_a_merged_branch_goes_when_configured_and_no_worktree_has_it(tmp_path, configured):
    world = make(tmp_path, merge={"delete_branch": configured})
    session = spawn(world)
    head = pull(world, session)["head_sha"]
    _merge(world, session, _plan(world, session))
    assert local.delete_branch(world.home, world.project, session["branch"], head) is False
    assert git(world.repo, "branch", "--list", "feat/*") == "+ feat/shop-1"
    worktree.remove(world.home, world.project, session["workspace_path"])
    for _ in range(2):
        assert local.delete_branch(world.home, world.project, session["branch"], head) is configured
    assert git(world.repo, "branch", "--list", "feat/*") == ("" if configured else "  feat/shop-1")


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
def test_merged_commits_are_no_work_that_would_be_lost(tmp_path, method):
    world = make(tmp_path, merge={"delete_branch": True})
    session = spawn(world)
    pull(world, session)
    commit(world.repo, "c.txt", "c\n")
    path = session["workspace_path"]
    assert worktree.state(world.home, world.project, path).unmerged == 1
    _merge(world, session, _plan(world, session, method))
    assert worktree.state(world.home, world.project, path).unmerged == 0
    commit(path, "later.txt", "later\n")
    assert worktree.state(world.home, world.project, path).unmerged == 1


def test_a_merged_branch_with_more_commits_stays(tmp_path):
    world = make(tmp_path, merge={"delete_branch": True})
    session = spawn(world)
    head = pull(world, session)["head_sha"]
    _merge(world, session, _plan(world, session))
    commit(session["workspace_path"], "later.txt", "later\n")
    worktree.remove(world.home, world.project, session["workspace_path"])
    assert local.delete_branch(world.home, world.project, session["branch"], head) is False
    assert git(world.repo, "branch", "--list", "feat/*") == "  feat/shop-1"


# --- finding -------------------------------------------------------------------------------------------------------


def test_an_old_pull_request_on_a_reused_branch_name_is_not_taken(tmp_path):
    """F13."""
    world = make(tmp_path)
    old = spawn(world, "shop-1", "feat/x")
    pull(world, old)
    _merge(world, old, _plan(world, old))
    worktree.remove(world.home, world.project, old["workspace_path"])
    git(world.repo, "branch", "-D", "feat/x")
    fresh = spawn(world, "shop-2", "feat/x")
    assert look(world, fresh) is None
    pull(world, fresh, name="c.txt")
    assert look(world, fresh)["number"] == 2
    assert look(world, old)["state"] == "merged"


def test_a_persons_old_pull_request_on_a_reused_name_is_not_taken_and_a_new_one_is(tmp_path):
    """F13."""
    world = make(tmp_path)
    git(world.repo, "checkout", "-q", "-b", "feat/x")
    commit(world.repo, "b.txt", "b\n")
    person = {"id": "", "branch": "feat/x", "base_branch": "main"}
    local.open_pull(world.home, world.project, person, "Old", "", False, NOW)
    git(world.repo, "checkout", "-q", "main")
    git(world.repo, "branch", "-D", "feat/x")
    commit(world.repo, "z.txt", "z\n")
    session = spawn(world, branch="feat/x")
    assert look(world, session) is None
    local.set_state(world.home, world.project, {"id": "", "claimed_pr_number": 1}, "close", NOW)
    commit(session["workspace_path"], "c.txt", "c\n")
    local.open_pull(world.home, world.project, person, "New", "", False, NOW)
    assert look(world, session)["number"] == 2


def test_a_session_without_branch_has_no_pull_request(tmp_path):
    """F13."""
    world = make(tmp_path)
    session = spawn(world)
    commit(session["workspace_path"], "b.txt", "b\n")
    person = {"id": "", "branch": session["branch"], "base_branch": "main"}
    local.open_pull(world.home, world.project, person, "T", "", False, NOW)
    for nothing in ("", None):
        assert look(world, {**session, "branch": nothing}) is None
    assert look(world, {**session, "branch": nothing, "claimed_pr_number": 1})["number"] == 1


def test_a_closed_pull_request_is_replaced_by_the_one_that_its_session_opens_next(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    session["claimed_pr_number"] = 1
    local.set_state(world.home, world.project, session, "close", NOW)
    assert look(world, session)["state"] == "closed"
    pull(world, session, name="c.txt")
    assert look(world, session)["number"] == 2


def test_a_renamed_branch_is_followed(tmp_path):
    """F14."""
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    git(session["workspace_path"], "branch", "-m", "fix/better")
    session["branch"] = "fix/better"
    seen = look(world, session)
    assert (seen["number"], seen["branch"], seen["forge_blockers"]) == (1, "fix/better", [])
    _merge(world, session, _plan(world, session))


def test_what_cannot_be_read_is_unknown_and_hides_nobody_else(tmp_path):
    """F11."""
    world = make(tmp_path)
    sessions = [spawn(world, f"shop-{number}") for number in (1, 2, 3)]
    pull(world, sessions[0])
    pull(world, sessions[1], name="c.txt")
    sessions[0]["claimed_pr_number"] = 1
    with open(os.path.join(world.home, "forge", "shop", "prs", "1.yaml"), "a") as file:
        file.write("{")
    seen = look(world, *sessions)
    assert [isinstance(seen[session["id"]], AoError) for session in sessions] == [True, False, True]
    assert "prs/1.yaml" in str(seen["shop-1"])
    os.rename(world.repo, world.repo + "-away")
    with pytest.raises(Unknown):
        look(world, *sessions)


def test_many_pull_requests_cost_one_git_call_when_nothing_changed(tmp_path, monkeypatch):
    world = make(tmp_path)
    sessions = [spawn(world, f"shop-{number}") for number in (1, 2, 3)]
    for session in sessions:
        pull(world, session, name=session["id"])
    look(world, *sessions)
    calls, run = [], local.git.run
    monkeypatch.setattr(local.git, "run", lambda *args, **more: (calls.append(args[1]), run(*args, **more))[1])
    assert len(look(world, *sessions)) == 3
    assert calls == ["for-each-ref"]


# --- following -----------------------------------------------------------------------------------------------------


def test_a_head_is_believed_once_it_was_the_same_in_two_looks(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    first = pull(world, session)["head_sha"]
    second = commit(session["workspace_path"], "c.txt", "c\n")
    seen = look(world, session)
    assert seen["head_sha"] == first and "not looked at" in seen["forge_blockers"][0]
    third = commit(session["workspace_path"], "d.txt", "d\n")
    assert look(world, session)["head_sha"] == first
    answer = local.look(world.home, world.project, [session], Clock(1_800_000_100.0))[session["id"]]
    assert (answer["head_sha"], answer["forge_blockers"]) == (third, []) and second != third
    assert answer["head_seen_at"] == Clock(1_800_000_100.0).iso


def test_a_pull_request_is_refused_for_a_branch_without_commits(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    with pytest.raises(AoError, match="it has no commits that 'main' lacks"):
        local.open_pull(world.home, world.project, session, "T", "", False, NOW)
    with pytest.raises(AoError, match="there is no branch 'gone'"):
        local.open_pull(world.home, world.project, {**session, "branch": "gone"}, "T", "", False, NOW)
    assert look(world, session) is None


def test_a_second_open_returns_the_first(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    assert pull(world, session)["number"] == 1
    again, is_new = local.open_pull(world.home, world.project, session, "Other", "", False, NOW)
    assert (again["number"], again["title"], is_new) == (1, "Add b", False)


@pytest.mark.parametrize("how", [("--ff-only",), ("--no-ff", "-m", "by hand")], ids=["ff", "commit"])
def test_a_merge_by_hand_is_noticed(tmp_path, how):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    look(world, session)
    git(world.repo, "merge", "-q", *how, session["branch"])
    assert look(world, session)["state"] == "merged"


def test_a_branch_that_was_set_back_to_its_base_is_not_merged(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    head = pull(world, session)["head_sha"]
    commit(world.repo, "z.txt", "z\n")
    git(session["workspace_path"], "reset", "-q", "--hard", "main")
    for _ in range(3):
        seen = look(world, session)
    assert (seen["state"], seen["head_sha"]) == ("open", head)
    assert "has no commits that 'main' lacks" in seen["forge_blockers"][0]
    with pytest.raises(Blocked):
        _plan(world, session)


def test_an_open_pull_request_whose_branch_is_deleted_keeps_its_head(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    head = pull(world, session)["head_sha"]
    git(session["workspace_path"], "checkout", "-q", "--detach")
    git(world.repo, "branch", "-D", session["branch"])
    seen = look(world, session)
    assert (seen["state"], seen["head_sha"]) == ("open", head)
    assert seen["forge_blockers"] == ["branch 'feat/shop-1' is gone"]
    with pytest.raises(Blocked, match="is gone"):
        _plan(world, session)


def test_whether_it_can_be_merged_is_unknown_without_the_base(tmp_path):
    """F12."""
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    git(world.repo, "branch", "-m", "main", "trunk")
    seen = look(world, session)
    assert seen["mergeable"] is None and seen["forge_blockers"] == ["base branch 'main' is gone"]
    with pytest.raises(Blocked, match="there is no branch 'main'"):
        _plan(world, session)


def test_a_project_whose_base_is_not_called_main(tmp_path):
    """F41."""
    world = make(tmp_path, branch="trunk")
    session = spawn(world)
    pull(world, session)
    assert look(world, session)["base_branch"] == "trunk"


OPEN_MANY = """
import sys
from lib.scm import _pulls
fields = {**dict.fromkeys(_pulls.WORDS, ""), "state": "open", "session": "", "is_draft": False}
fields.update(against={}, runs=[], reviews=[])
for number in range(10):
    _pulls.create(sys.argv[1], "shop", {**fields, "branch": f"{sys.argv[2]}-{number}"})
    record, is_new = _pulls.create(sys.argv[1], "shop", {**fields, "branch": f"same-{number}"})
"""


def test_pull_requests_opened_at_once_get_different_numbers_and_a_branch_only_one(tmp_path):
    world = make(tmp_path)
    running = [subprocess.Popen([sys.executable, "-c", OPEN_MANY, world.home, str(n)], cwd=ROOT) for n in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    found = _pulls.everything(world.home, "shop").records
    assert [record["number"] for record in found] == list(range(50, 0, -1))
    assert len({record["branch"] for record in found}) == 50


# --- reviews -------------------------------------------------------------------------------------------------------


def test_the_newest_word_of_each_reviewer_counts(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    assert _review(world, session, "changes_requested")["review_decision"] == "changes_requested"
    assert _review(world, session, "approved", "Grace")["review_decision"] == "changes_requested"
    seen = _review(world, session, "approved")
    assert (seen["review_decision"], seen["approved_by"], seen["threads"]) == ("approved", ["Ada", "Grace"], [])
    seen = _review(world, session, "changes_requested", "Grace")
    assert (seen["review_decision"], seen["approved_by"]) == ("changes_requested", ["Ada"])
    seen = _review(world, session, "commented", "Grace")
    assert (seen["review_decision"], seen["threads"]) == ("changes_requested", ["pr1-4", "pr1-5"])


def test_a_new_head_dismisses_no_review(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    _review(world, session, "changes_requested")
    commit(session["workspace_path"], "c.txt", "c\n")
    look(world, session)
    seen = look(world, session)
    assert (seen["review_decision"], seen["threads"]) == ("changes_requested", ["pr1-1"])


def test_comments_are_open_until_they_are_settled_and_bots_are_told_apart(tmp_path):
    """F25"""
    world = make(tmp_path)
    session = spawn(world)
    pull(world, session)
    _review(world, session, "commented", body="why?")
    _review(world, session, "commented", "lint[bot]", body="long line")
    seen = _review(world, session, "commented", "shop-1", "shop-1", body="because")
    assert (seen["threads"], seen["bot_threads"], seen["review_decision"]) == (["pr1-1"], ["pr1-2"], "pending")
    said = local.comments(world.home, world.project, session)
    assert [(one.id, one.author, one.is_bot, one.body) for one in said] == [
        ("pr1-1", "Ada", False, "why?"),
        ("pr1-2", "lint[bot]", True, "long line"),
    ]
    assert (said[0].file, said[0].line, said[0].url) == ("b.txt", 1, seen["url"] + "#pr1-1")
    for _ in range(2):
        seen = local.resolve(world.home, world.project, session, "pr1-1")
    assert seen["threads"] == []
    with pytest.raises(AoError, match=r"no thread 'pr1-9'.*open: pr1-2"):
        local.resolve(world.home, world.project, session, "pr1-9")


def test_without_required_reviews_nobody_is_waited_for(tmp_path):
    world = make(tmp_path, merge={"require_review": False})
    session = spawn(world)
    pull(world, session)
    assert look(world, session)["review_decision"] == "none"
    assert _review(world, session, "changes_requested")["review_decision"] == "changes_requested"
