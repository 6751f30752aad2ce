"""The forge that is files, with real git."""

from __future__ import annotations

import os

import pytest
from forging import commit, git, look, make, pull, spawn

from lib import store
from lib.scm import Blocked, local


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
    with pytest.raises(Blocked, match="not looked at"):
        local.merge(world.home, world.project, session, plan)
    with pytest.raises(Blocked, match="not looked at"):
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
