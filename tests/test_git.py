"""Questions to git, answered from real repositories."""

from __future__ import annotations

import os
import subprocess

import pytest
from forging import commit, git, make

from lib import git as ours
from lib import proc


def _asked(folder):
    return git(folder, "branch", "--show-current"), git(folder, "rev-parse", "HEAD")


def _no_process(*args, **kwargs):
    raise AssertionError("a process was started")


def test_the_head_is_read_without_starting_git(tmp_path, monkeypatch):
    repo = make(tmp_path).repo
    loose = _asked(repo)
    git(repo, "worktree", "add", "-q", "-b", "feat/x", "../tree")
    tree = str(tmp_path / "tree")
    inner = commit(tree, "b.txt", "b\n")
    git(repo, "pack-refs", "--all")
    monkeypatch.setattr(proc, "run", _no_process)
    assert ours.head(repo) == loose
    assert ours.head(tree) == ("feat/x", inner)


def test_a_packed_branch_that_moved_on_is_seen_where_it_is_now(tmp_path):
    repo = make(tmp_path).repo
    git(repo, "pack-refs", "--all")
    assert ours.head(repo) == _asked(repo)
    sha = commit(repo, "b.txt", "b\n")
    assert ours.head(repo) == ("main", sha)
    git(repo, "pack-refs", "--all")
    assert ours.head(repo) == ("main", sha)


def test_a_detached_head_has_no_branch_and_a_folder_without_git_no_head(tmp_path):
    repo = make(tmp_path).repo
    sha = git(repo, "rev-parse", "HEAD")
    git(repo, "checkout", "-q", "--detach")
    assert ours.head(repo) == ("", sha)
    assert ours.head(str(tmp_path)) is None
    assert ours.head(str(tmp_path / "nowhere")) is None


def test_a_branch_without_commits_has_no_sha(tmp_path):
    git(str(tmp_path), "init", "-q", "--initial-branch", "trunk")
    assert ours.head(str(tmp_path)) == ("trunk", "")
    assert ours.default_branch(str(tmp_path)) is None


def test_a_worktree_whose_repository_is_gone_has_no_head(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / ".git").write_text("gitdir: /nowhere/at/all\n")
    assert ours.head(str(tree)) is None


def test_the_default_branch_is_the_remotes_else_what_is_checked_out(tmp_path):
    """F41."""
    repo = make(tmp_path, branch="trunk").repo
    assert ours.default_branch(repo) == "trunk"
    clone = str(tmp_path / "clone")
    git(str(tmp_path), "clone", "-q", repo, clone)
    git(clone, "checkout", "-q", "-b", "feature")
    assert ours.default_branch(clone) == "trunk"
    assert ours.remotes(clone) == {"origin": repo}


def test_merging_trees_touches_nothing_and_tells_a_conflict(tmp_path):
    repo = make(tmp_path).repo
    git(repo, "checkout", "-q", "-b", "one")
    one = commit(repo, "a.txt", "ONE\ntwo\nthree\n")
    git(repo, "checkout", "-q", "-b", "two", "main")
    two = commit(repo, "a.txt", "1\ntwo\nthree\n")
    three = commit(repo, "c.txt", "c\n")
    before = git(repo, "for-each-ref"), git(repo, "status", "--porcelain")
    assert ours.merge_tree(repo, one, two) is None
    assert ours.merge_tree(repo, two, three) == git(repo, "rev-parse", "two^{tree}")
    assert (git(repo, "for-each-ref"), git(repo, "status", "--porcelain")) == before
    with pytest.raises(ours.AoError, match="cannot merge"):
        ours.merge_tree(repo, one, "0" * 40)


def test_histories_without_a_common_commit_conflict(tmp_path):
    repo = make(tmp_path).repo
    main = git(repo, "rev-parse", "main")
    git(repo, "checkout", "-q", "--orphan", "island")
    island = commit(repo, "z.txt", "z\n")
    assert ours.merge_tree(repo, main, island) is None
    assert ours.merge_base(repo, main, island) is None


def test_git_can_commit_where_nobody_told_it_a_name(tmp_path, monkeypatch):
    repo = make(tmp_path).repo
    git(repo, "config", "--unset", "user.name")
    git(repo, "config", "--unset", "user.email")
    git(repo, "config", "user.useConfigOnly", "true")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    sha = ours.commit_tree(repo, git(repo, "rev-parse", "HEAD^{tree}"), ["HEAD"], "hello\n", {})
    assert git(repo, "show", "-s", "--format=%an %cn %s", sha) == "ao ao hello"


def test_a_hooks_variables_do_not_lead_git_elsewhere(tmp_path, monkeypatch):
    repo = make(tmp_path).repo
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert list(ours.branches(repo)) == ["main"]


def test_every_variable_that_git_calls_local_is_kept_from_it():
    told = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True)
    assert set(told.stdout.split()) - {"GIT_INTERNAL_SUPER_PREFIX"} <= ours.LOCAL_VARIABLES
