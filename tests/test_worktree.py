"""Worktrees: made whole or not at all, and never removed with work in them that is not saved."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
from forging import commit, git, make, project, spawn

from lib import ROOT, config, paths
from lib import git as ours
from lib.errors import AoError
from lib.workspace import State, worktree

NOW = "2026-01-02T03:04:05.678Z"


def _write(path, text="text\n"):
    with open(path, "w") as file:
        file.write(text)


def _leftovers(world):
    branches = git(world.repo, "for-each-ref", "--format=%(refname:short)", "refs/heads")
    return branches.split(), len(git(world.repo, "worktree", "list").splitlines())


def test_a_new_worktree_has_its_own_branch_at_the_base(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    assert session["workspace_path"] == paths.worktree(world.home, "shop", "shop-1")
    assert worktree.head(session["workspace_path"]) == ("feat/shop-1", session["base_sha"])
    assert worktree.state(world.home, world.project, session["workspace_path"]) == State(True, False, 0)


CREATE_MANY = """
import sys
from lib import config
from lib.workspace import worktree
home, source, base, first, last = sys.argv[1:]
project = config.load(source).projects["shop"]
for number in range(int(first), int(last)):
    worktree.create(home, project, f"shop-{number}", f"feat/{number}", base)
"""


def test_twenty_worktrees_can_be_added_at_once(tmp_path):
    world = make(tmp_path)
    base = git(world.repo, "rev-parse", "HEAD")
    bounds = [round(20 * part / 8) for part in range(9)]
    running = []
    for first, last in itertools.pairwise(bounds):
        argv = [sys.executable, "-c", CREATE_MANY, world.home, world.project.source, base, str(first), str(last)]
        running.append(subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, cwd=ROOT))
    assert [process.communicate()[1] for process in running] == [""] * 8
    branches, count = _leftovers(world)
    assert (len(branches), count) == (21, 21)


def test_a_failed_create_leaves_nothing(tmp_path):
    """F38."""
    world = make(tmp_path)
    base = git(world.repo, "rev-parse", "HEAD")
    git(world.repo, "config", "filter.bad.smudge", "false")
    git(world.repo, "config", "filter.bad.required", "true")
    commit(world.repo, ".gitattributes", "*.bad filter=bad\n")
    _write(os.path.join(world.repo, "x.bad"))
    git(world.repo, "-c", "filter.bad.clean=cat", "add", "x.bad")
    git(world.repo, "-c", "filter.bad.clean=cat", "commit", "-qm", "bad")
    with pytest.raises(AoError, match="cannot create worktree 'shop-1'"):
        worktree.create(world.home, world.project, "shop-1", "feat/x", git(world.repo, "rev-parse", "HEAD"))
    assert _leftovers(world) == (["main"], 1)
    assert not os.path.exists(paths.worktree(world.home, "shop", "shop-1"))
    worktree.create(world.home, world.project, "shop-1", "feat/x", base)


def test_a_branch_that_exists_is_never_taken_over_or_touched(tmp_path):
    """F41."""
    world = make(tmp_path)
    git(world.repo, "branch", "feat/x")
    base = git(world.repo, "rev-parse", "HEAD")
    with pytest.raises(AoError, match="the branch 'feat/x' exists already"):
        worktree.create(world.home, world.project, "shop-1", "feat/x", base)
    with pytest.raises(AoError, match="cannot create worktree 'shop-1'"):  # a name below a branch
        worktree.create(world.home, world.project, "shop-1", "feat/x/y", base)
    assert _leftovers(world) == (["feat/x", "main"], 1)


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "x.lock", ""])
def test_a_bad_branch_name_is_refused(tmp_path, branch):
    """F56"""
    world = make(tmp_path)
    with pytest.raises(AoError, match="not a valid branch name"):
        worktree.create(world.home, world.project, "shop-1", branch, git(world.repo, "rev-parse", "HEAD"))


def test_a_post_checkout_hook_that_fails_does_not_hurt(tmp_path):
    world = make(tmp_path)
    hook = os.path.join(world.repo, ".git", "hooks", "post-checkout")
    _write(hook, "#!/bin/sh\nexit 1\n")
    os.chmod(hook, 0o755)
    assert os.path.exists(os.path.join(spawn(world)["workspace_path"], "a.txt"))


def test_an_empty_repository_is_said_in_one_line(tmp_path):
    repo = str(tmp_path / "repo")
    git(str(tmp_path), "init", "-q", repo)
    with pytest.raises(AoError, match="an empty repository needs a first commit") as caught:
        worktree.create(str(tmp_path / "home"), project(tmp_path, repo), "shop-1", "feat/x", "main")
    assert "\n" not in str(caught.value)


def test_what_would_be_lost_is_told(tmp_path):
    world = make(tmp_path)
    path = spawn(world)["workspace_path"]
    commit(path, "b.txt", "b\n")
    assert worktree.state(world.home, world.project, path) == State(True, False, 1)
    _write(os.path.join(path, "new.txt"))
    assert worktree.state(world.home, world.project, path) == State(True, True, 1)
    assert worktree.state(world.home, world.project, path + "x") == State(False, False, 0)


def test_ignored_files_and_commits_on_a_remote_would_not_be_lost(tmp_path):
    world = make(tmp_path)
    commit(world.repo, ".gitignore", "build\n")
    git(str(tmp_path), "clone", "-q", "--bare", world.repo, "remote.git")
    git(world.repo, "remote", "add", "origin", str(tmp_path / "remote.git"))
    path = spawn(world)["workspace_path"]
    commit(path, "b.txt", "b\n")
    _write(os.path.join(path, "build"))
    assert worktree.state(world.home, world.project, path).unmerged == 1
    git(path, "push", "-q", "origin", "HEAD")
    assert worktree.state(world.home, world.project, path) == State(True, False, 0)
    assert worktree.backup(world.home, world.project, "shop-1", path, NOW) is None


def test_a_backup_holds_all_work_and_leaves_the_index_alone(tmp_path):
    """F36."""
    world = make(tmp_path)
    commit(world.repo, ".gitignore", "ignored*\n")
    path = spawn(world)["workspace_path"]
    commit(path, "committed.txt", "committed\n")
    _write(os.path.join(path, "staged.txt"))
    _write(os.path.join(path, "ignored-but-added"))
    git(path, "add", "-f", "staged.txt", "ignored-but-added")
    _write(os.path.join(path, "a.txt"), "changed\n")
    _write(os.path.join(path, "untracked.txt"))
    _write(os.path.join(path, "ignored"))
    before = git(path, "status", "--porcelain", "--ignored")
    ref = worktree.backup(world.home, world.project, "shop-1", path, NOW)
    assert ref == "refs/ao/backup/shop-shop-1-20260102030405678"
    assert git(path, "status", "--porcelain", "--ignored") == before
    kept = git(world.repo, "ls-tree", "-r", "--name-only", ref).split()
    assert kept == [".gitignore", "a.txt", "committed.txt", "ignored-but-added", "staged.txt", "untracked.txt"]
    assert git(world.repo, "show", f"{ref}:a.txt") == "changed"
    assert git(world.repo, "rev-parse", f"{ref}^") == git(path, "rev-parse", "HEAD")
    assert worktree.backup(world.home, world.project, "shop-1", path, NOW) == ref  # a crash lay in between
    _write(os.path.join(path, "untracked.txt"), "more\n")
    other = worktree.backup(world.home, world.project, "shop-1", path, NOW)
    assert other == ref + "x" and git(world.repo, "show", f"{ref}:untracked.txt") != "more"  # never moved


def test_work_in_the_middle_of_a_conflict_is_saved(tmp_path):
    world = make(tmp_path)
    path = spawn(world)["workspace_path"]
    commit(path, "a.txt", "mine\n")
    commit(world.repo, "a.txt", "theirs\n")
    subprocess.run(["git", "rebase", "-q", "main"], cwd=path, capture_output=True, check=False)
    assert worktree.head(path)[0] == ""
    ref = worktree.backup(world.home, world.project, "shop-1", path, NOW)
    assert "<<<<<<<" in git(world.repo, "show", f"{ref}:a.txt")


def test_a_branch_without_commits_is_saved_too(tmp_path):
    world = make(tmp_path)
    path = spawn(world)["workspace_path"]
    git(path, "checkout", "-q", "--orphan", "fresh")
    assert worktree.state(world.home, world.project, path) == State(True, True, 0)
    ref = worktree.backup(world.home, world.project, "shop-1", path, NOW)
    assert git(world.repo, "ls-tree", "--name-only", ref) == "a.txt"


def test_a_repository_inside_with_work_of_its_own_stops_the_backup(tmp_path):
    world = make(tmp_path)
    path = spawn(world)["workspace_path"]
    inner = os.path.join(path, "inner")
    git(path, "clone", "-q", world.repo, inner)
    assert worktree.backup(world.home, world.project, "shop-1", path, NOW)
    git(inner, "config", "user.name", "x")
    git(inner, "config", "user.email", "x@example.org")
    commit(inner, "b.txt", "b\n")
    with pytest.raises(AoError, match="has work of its own"):
        worktree.backup(world.home, world.project, "shop-1", path, NOW[:-2] + "9Z")


def test_submodules_do_not_hurt(tmp_path):
    other = make(tmp_path / "other")
    world = make(tmp_path)
    allow = ("-c", "protocol.file.allow=always")
    git(world.repo, *allow, "submodule", "--quiet", "add", other.repo, "sub")
    git(world.repo, "commit", "-qm", "sub")
    path = spawn(world)["workspace_path"]
    assert worktree.state(world.home, world.project, path) == State(True, False, 0)
    git(path, *allow, "submodule", "--quiet", "update", "--init")
    _write(os.path.join(path, "new.txt"))
    assert worktree.backup(world.home, world.project, "shop-1", path, NOW)
    _write(os.path.join(path, "sub", "a.txt"), "changed\n")
    with pytest.raises(AoError, match="has work of its own"):
        worktree.backup(world.home, world.project, "shop-1", path, NOW[:-2] + "9Z")
    worktree.remove(world.home, world.project, path)
    assert _leftovers(world)[1] == 1


def test_removing_frees_the_folder_keeps_the_branch_and_is_done_once(tmp_path):
    """F37."""
    world = make(tmp_path)
    path = spawn(world)["workspace_path"]
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o555)
    os.symlink(outside, os.path.join(path, "link"))
    os.makedirs(os.path.join(path, "cache", "sub"))
    _write(os.path.join(path, "cache", "sub", "file"), "x" * 100_000)
    os.chmod(os.path.join(path, "cache", "sub"), 0o555)
    assert worktree.remove(world.home, world.project, path) >= 100_000
    assert not os.path.exists(path) and outside.stat().st_mode & 0o777 == 0o555
    assert _leftovers(world) == (["feat/shop-1", "main"], 1)
    assert worktree.remove(world.home, world.project, path) == 0


def test_nothing_but_a_worktree_of_the_project_is_removed(tmp_path):
    world = make(tmp_path)
    path = spawn(world)["workspace_path"]
    folder = os.path.dirname(path)
    os.symlink(world.repo, os.path.join(folder, "link"))
    bad = [world.repo, world.home, folder, os.path.join(path, "..", "..", "other"), os.path.join(path, "sub")]
    for wrong in [*bad, os.path.join(folder, "link"), os.path.join(folder, "..", "shop"), "/"]:
        with pytest.raises(AoError, match="it is not a worktree under"):
            worktree.remove(world.home, world.project, wrong)
    assert os.path.exists(os.path.join(world.repo, "a.txt")) and os.path.exists(path)


def test_a_worktree_is_saved_and_removed_also_when_git_forgot_it(tmp_path):
    world = make(tmp_path)
    path = spawn(world)["workspace_path"]
    _write(os.path.join(path, "new.txt"))
    subprocess.run(["rm", "-r", os.path.join(world.repo, ".git", "worktrees")], check=True)
    assert worktree.state(world.home, world.project, path).dirty
    ref = worktree.backup(world.home, world.project, "shop-1", path, NOW)
    assert git(world.repo, "show", f"{ref}:new.txt") == "text"
    assert worktree.remove(world.home, world.project, path) > 0
    assert not os.path.exists(path)


def test_a_worktree_comes_back_at_the_same_path_with_its_commits(tmp_path):
    world = make(tmp_path)
    session = spawn(world)
    path = session["workspace_path"]
    sha = commit(path, "b.txt", "b\n")
    assert worktree.reopen(world.home, world.project, "shop-1", "feat/shop-1") == path
    subprocess.run(["rm", "-r", path], check=True)  # behind git's back
    assert worktree.reopen(world.home, world.project, "shop-1", "feat/shop-1") == path
    assert worktree.head(path) == ("feat/shop-1", sha)
    with pytest.raises(AoError, match="is gone"):
        worktree.reopen(world.home, world.project, "shop-1", "feat/other")


def test_a_branch_that_is_checked_out_elsewhere_is_not_reopened(tmp_path):
    world = make(tmp_path)
    path = spawn(world)["workspace_path"]
    worktree.remove(world.home, world.project, path)
    git(world.repo, "checkout", "-q", "feat/shop-1")
    with pytest.raises(AoError, match="already checked out"):
        worktree.reopen(world.home, world.project, "shop-1", "feat/shop-1")
    assert not os.path.exists(path)


def test_the_base_of_a_project_need_not_be_called_main(tmp_path):
    world = make(tmp_path, branch="trunk")
    path = spawn(world)["workspace_path"]
    assert config.setting(world.project, "default_branch") is None
    assert ours.default_branch(world.repo) == "trunk"
    assert worktree.state(world.home, world.project, path).unmerged == 0
