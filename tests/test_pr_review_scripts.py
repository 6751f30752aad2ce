"""ao-issue, ao-pr, ao-review and ao-ci as people and agents call them."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from forging import commit, git, look, make, project, pull, spawn
from scripts import call as run

from lib import here, store

SESSION = {"AO_SESSION_ID": "shop-1", "AO_PROJECT_ID": "shop"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    for name in ("AO_SESSION_ID", "AO_PROJECT_ID", "AO_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    made = make(tmp_path, ci=[{"name": "test", "run": "test -e b.txt"}])
    monkeypatch.setenv("AO_HOME", made.home)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def session(world):
    made = spawn(world)
    record = {**made, "status": "working", "rev": 1}
    store.write(os.path.join(world.home, "sessions", "shop", "shop-1.yaml"), record)
    return made


def _json(ran):
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


def test_a_review_that_is_written_again_after_a_crash_is_one_review(world, session):
    """F23"""
    pull(world, session)
    words = ("ao-review", "1", "--request-changes", "-m", "Round up.", "--as", "Ada")
    assert [_json(run(*words, "--json"))["threads"] for _ in range(2)] == [["pr1-1"], ["pr1-1"]]
    assert _json(run(*words[:4], "And test it.", *words[5:], "--json"))["threads"] == ["pr1-1", "pr1-2"]


def test_issues_from_new_to_closed(world):
    assert run("ao-issue", "list", "--json").out == "[]\n"
    assert run("ao-issue", "new", "Round up", "-b", "Half a cent.", "--label", "bug").out.startswith("#1 /")
    assert (
        _json(run("ao-issue", "new", "Second", "--file", "-", "--json", input="from stdin\n"))["body"] == "from stdin"
    )
    assert run("ao-issue", "list", "--all").out == run("ao-issue", "list", "--state", "all").out
    assert run("ao-issue", "list").out == "#1  open  Round up  bug\n#2  open  Second\n"
    assert run("ao-issue", "show", "#1").out == "# Round up\n\n#1, open, bug\n\nHalf a cent.\n"
    assert [issue["state"] for issue in _json(run("ao-issue", "close", "1", "--json"))] == ["closed"]
    assert [issue["id"] for issue in _json(run("ao-issue", "list", "--json"))] == ["2"]
    assert run("ao-issue", "list", "--state", "closed").out.startswith("#1  closed")
    run("ao-issue", "reopen", "1")
    assert len(_json(run("ao-issue", "list", "--json"))) == 2


def test_an_issue_that_is_not_there_is_one_line_and_exit_code_1(world):
    ran = run("ao-issue", "show", "7")
    assert (ran.code, ran.out) == (1, "") and ran.err.startswith("ao-issue: there is no issue '7'")
    assert ran.err.count("\n") == 1
    assert run("ao-issue", "new").code == 2
    assert run("ao-issue", "new", "T", "--file", "/nowhere").err == (
        "ao-issue: cannot read '/nowhere': No such file or directory\n"
    )


def test_an_agent_opens_a_pull_request_from_its_worktree(world, session):
    path = session["workspace_path"]
    ran = run("ao-pr", "open", "--title", "T", cwd=path, **SESSION)
    assert ran.code == 1 and "it has no commits that 'main' lacks" in ran.err
    commit(path, "b.txt", "b\n")
    os.mkdir(os.path.join(path, "sub"))
    opened = _json(run("ao-pr", "open", "--title", "T", "--body", "B", "--json", cwd=os.path.join(path, "sub")))
    assert (opened["number"], opened["branch"], opened["state"]) == (1, "feat/shop-1", "open")
    assert look(world, session)["number"] == 1
    ran = run("ao-pr", "open", "--title", "Other", cwd=path, **SESSION)
    assert (ran.code, ran.out) == (0, "#1  open  T  feat/shop-1 -> main\n")
    assert ran.err == "a pull request for 'feat/shop-1' is open already\n"


def test_an_agent_without_its_variables_does_not_approve_its_own_work_either(world, session, monkeypatch):
    """Where no person types, what is run in a session's worktree is its agent's doing."""
    pull(world, session)
    monkeypatch.chdir(session["workspace_path"])
    ran = run("ao-review", "1", "--approve")
    assert ran.code == 1 and "never reviews its own pull request" in ran.err


@pytest.mark.parametrize(
    ("stdin", "actor"), [(SimpleNamespace(isatty=lambda: True), ""), (SimpleNamespace(isatty=lambda: False), "shop-1")]
)
def test_who_types_in_a_worktree_is_a_person(world, session, monkeypatch, stdin, actor):
    monkeypatch.chdir(session["workspace_path"])
    monkeypatch.setattr("sys.stdin", stdin)
    assert here.actor() == actor


def test_a_command_without_standard_input_is_nobody_s_typing(world, session, monkeypatch):
    monkeypatch.chdir(session["workspace_path"])
    monkeypatch.setattr("sys.stdin", None)
    assert here.actor() == "shop-1"


def test_a_person_opens_one_from_the_main_checkout(world, tmp_path):
    project(tmp_path, world.repo, default_branch="main")
    git(world.repo, "checkout", "-q", "-b", "mine")
    commit(world.repo, "b.txt", "b\n")
    ran = run("ao-pr", "open", "--title", "Mine", "--draft", cwd=world.repo, AO_CONFIG=world.project.source)
    assert (ran.code, ran.out) == (0, "#1  draft  Mine  mine -> main\n")
    assert run("ao-pr", "ready", "1").out == "#1  open  Mine  mine -> main\n"
    git(world.repo, "checkout", "-q", "--detach")
    ran = run("ao-pr", "open", "--title", "Mine", cwd=world.repo)
    assert ran.code == 1 and "it is not a checkout with a branch" in ran.err


def test_a_copy_of_the_configuration_in_a_worktree_is_not_used(world, session):
    """F47."""
    with open(os.path.join(session["workspace_path"], "ao.yaml"), "w") as file:
        file.write("projects: {shop: {path: ., agent_config: {command: [cat]}, default_branch: nonsense}}\n")
    assert run("ao-issue", "new", "Where?", cwd=session["workspace_path"]).out == (
        f"#1 {world.repo}/docs/issues/0001-where.md\n"
    )


def test_pull_requests_are_listed_and_shown(world, session):
    assert run("ao-pr", "list", "--json").out == "[]\n"
    pull(world, session)
    look(world, session)
    run("ao-review", "1", "--comment", "-m", "why\nthat?", "--as", "Ada")
    assert run("ao-pr", "list").out == "#1  open  Add b  feat/shop-1 -> main\n"
    shown = run("ao-pr", "shop-1").out
    assert "  checks           pending\n" in shown and shown.endswith("\n  pr1-1            Ada: why that?\n")
    assert _json(run("ao-pr", "1", "--json"))["threads"] == ["pr1-1"]
    assert run("ao-pr", "close", "1").out.startswith("#1  closed")
    assert _json(run("ao-pr", "list", "--all", "--json"))[0]["state"] == "closed"
    assert run("ao-pr", "reopen", "1").out.startswith("#1  open")
    for script, *argv in (["ao-pr", "9"], ["ao-pr", "close", "9"], ["ao-review", "9", "--approve"], ["ao-ci", "9"]):
        ran = run(script, *argv)
        assert (ran.code, ran.err) == (1, f"{script}: there is no pull request 9; see: ao-pr list\n")


def test_inside_a_worktree_its_own_pull_request_is_shown(world, session):
    pull(world, session)
    assert run("ao-pr", cwd=session["workspace_path"]).out.startswith("#1  open")
    assert run("ao-pr", "--web", cwd=session["workspace_path"]).out == f"file://{world.home}/forge/shop/prs/1.yaml\n"
    ran = run("ao-pr")
    assert (ran.code, ran.err) == (2, "ao-pr: say which pull request: a session or a number\n")


def test_the_page_of_a_pull_request_opens_in_a_browser(world, session, monkeypatch):
    import webbrowser

    from lib.scm import local

    pull(world, session)
    seen = []
    monkeypatch.setattr(local, "url", lambda *_: "https://forge/1")
    monkeypatch.setattr(webbrowser, "open", lambda url: seen.append(url) or True)
    assert (run("ao-pr", "1", "--web").out, seen) == ("", ["https://forge/1"])


def test_a_project_of_another_forge_is_refused_in_one_line(world, session, monkeypatch):
    from lib import config

    real = config.setting
    monkeypatch.setattr(config, "setting", lambda scope, key: "github" if key == "scm" else real(scope, key))
    for script, *argv in (["ao-pr", "open", "--title", "T"], ["ao-ci", "1"]):
        ran = run(script, *argv)
        assert (ran.code, ran.err.count("\n")) == (1, 1) and "are kept by github" in ran.err


def test_a_number_that_is_none_is_said_in_a_sentence(world, session):
    ran = run("ao-claim", "shop-1", "x")
    assert (ran.code, ran.err) == (2, "ao-claim: 'x' is not the number of a pull request; see: ao-pr list\n")


def test_a_pull_request_is_shown_in_words_for_people(world, session):
    pull(world, session)
    look(world, session)
    run("ao-review", "1", "--approve", "-m", "Well\ndone.", "--as", "Ada")
    run("ao-review", "1", "--comment", "-m", "Why?", "--as", "Bo", "--file", "b.txt", "--line", "1")
    assert [line for line in run("ao-pr", "1").out.splitlines() if "head" not in line and "check " not in line] == [
        "#1  open  Add b  feat/shop-1 -> main",
        "  checks           pending",
        "  review           approved by Ada",
        "  merge            without a conflict",
        "  lines            1 added, 0 removed",
        "  approval         Ada: Well done.",
        "  pr1-2            Bo, b.txt:1: Why?",
    ]


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("a.txt", "1", "cannot comment on 'a.txt': pull request '1' does not change it"),
        ("nowhere.txt", "0", "cannot comment on 'nowhere.txt': pull request '1' does not change it"),
        ("b.txt", "9", "cannot comment on line 9 of 'b.txt': in pull request '1' it has 1 line\n"),
        ("./b.txt", "1", ""),
    ],
)
def test_a_comment_stands_in_a_line_of_a_file_that_the_pull_request_changes(world, session, file, line, said):
    pull(world, session)
    ran = run("ao-review", "1", "--comment", "-m", "Why?", "--file", file, "--line", line)
    assert ran.code == bool(said) and said in ran.err


def test_a_review_from_request_to_approval(world, session):
    pull(world, session)
    ran = run("ao-review", "shop-1", "--request-changes", "-m", "Round up.", "--file", "b.txt", "--line", "1")
    assert ran.out == "#1 changes_requested; open comments: pr1-1\n"
    assert run("ao-review", "1", "--approve", "--as", "Ada").out.startswith("#1 changes_requested")
    seen = _json(run("ao-review", "1", "--approve", "--json"))
    assert (seen["review_decision"], seen["approved_by"], seen["threads"]) == ("approved", ["Ada", "Grace"], [])


def test_an_agent_answers_and_settles_but_does_not_approve(world, session):
    pull(world, session)
    run("ao-review", "1", "--comment", "-m", "why?")
    assert run("ao-review", "1", "--comment", "-m", "because", **SESSION).out.endswith("open comments: pr1-1\n")
    assert run("ao-review", "1", "--resolve", "pr1-1", **SESSION).out.endswith("open comments: none\n")
    for decision in (["--approve"], ["--approve", "--as", "Ada"], ["--request-changes", "-m", "x"]):
        ran = run("ao-review", "1", *decision, **SESSION)
        assert ran.code == 1 and "never reviews its own pull request" in ran.err
    assert run("ao-review", "1", "--approve", AO_SESSION_ID="shop-2", AO_PROJECT_ID="shop").code == 0


@pytest.mark.parametrize("argv", [[], ["1"], ["1", "--approve", "--comment"], ["1", "--comment"]])
def test_a_review_that_says_nothing_is_wrong_usage(world, session, argv):
    pull(world, session)
    assert run("ao-review", *argv).code == 2


def test_checks_are_run_and_their_result_is_the_exit_code(world, session):
    pull(world, session)
    ran = run("ao-ci", "shop-1")
    assert ran.code == 0 and ran.out.startswith("passed  test")
    commit(world.repo, "c.txt", "c\n")
    commit(session["workspace_path"], "d.txt", "d\n")
    git(session["workspace_path"], "rm", "-q", "b.txt")
    git(session["workspace_path"], "commit", "-qm", "gone")
    look(world, session), look(world, session)
    ran = run("ao-ci", "1", "--json")
    assert ran.code == 1 and [check["status"] for check in json.loads(ran.out)] == ["failed"]


@pytest.mark.parametrize("script", ["ao-issue", "ao-pr", "ao-review", "ao-ci"])
def test_the_help_is_the_docstring(world, script):
    ran = run(script, "--help")
    assert ran.code == 0 and "Examples:" in ran.out
