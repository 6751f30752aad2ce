"""From a bare repository to a configuration that works, and what the doctor finds."""

from __future__ import annotations

import functools
import json
import os
import shutil
import stat
import subprocess
import time

import pytest
import scripts
from records import session

from lib import clock, config, paths, plugins, sessions, store
from lib.runtime import tmux

start, doctor, shown = scripts.load("ao-start"), scripts.load("ao-doctor"), scripts.load("ao-config")


def git(folder, *args: str) -> None:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", *who, *args], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A repository with one commit on `trunk` and a test target; its folder is the current one."""
    monkeypatch.delenv("AO_CONFIG", raising=False)
    monkeypatch.setenv("AO_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    folder = tmp_path / "my shop"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    (folder / "Makefile").write_text("all:\ntest: all\n\ttrue\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.chdir(folder)
    return folder


def project(folder) -> config.Project:
    found = config.load(str(folder / "ao.yaml"))
    assert found.warnings == [] and found.broken == {}
    return found.projects["my-shop"]


def test_start_writes_a_valid_configuration_from_what_is_there(repo, capsys):
    git(repo, "remote", "add", "origin", "https://ada:t0ken@example.org/shop.git")
    assert start.main([]) == 0
    assert capsys.readouterr().out == f"{repo}/ao.yaml\n"
    written = project(repo)
    assert written.path == str(repo) and config.setting(written, "default_branch") == "trunk"
    assert config.setting(written, "ci") == [{"name": "test", "run": "make test", "timeout": "30m"}]
    assert config.reactions(written)["approved-and-green"]["action"] == "auto-merge"
    text = (repo / "ao.yaml").read_text()
    assert "t0ken" not in text and "origin: https://example.org/shop.git" in text


@pytest.mark.parametrize("scm", ["local", "github"])
def test_the_comments_of_a_new_configuration_stand_in_one_column(repo, scm):
    start.main(["--scm", scm])
    lines = [line for line in (repo / "ao.yaml").read_text().splitlines() if line.lstrip("# ").startswith(ALIGNED)]
    assert len(lines) == len(ALIGNED) and len({line.rindex(" # ") for line in lines}) == 1, lines


ALIGNED = ("scm: ", "tracker: ", "agent: ", "symlinks: ", "post_create: ", "rules: ")


def test_the_id_of_a_project_keeps_the_letters_that_ascii_has(repo, tmp_path):
    (tmp_path / "pr\u00f6ject v1.2").mkdir()
    git(tmp_path / "pr\u00f6ject v1.2", "init", "-q")
    start.main(["--repo", str(tmp_path / "pr\u00f6ject v1.2")])
    assert list(config.load(str(tmp_path / "pr\u00f6ject v1.2" / "ao.yaml")).projects) == ["project-v1.2"]


def test_start_without_a_test_command_says_as_in_the_file_that_nothing_is_checked(repo, capsys):
    (repo / "Makefile").unlink()
    start.main([])
    assert start.UNCHECKED in capsys.readouterr().err and start.UNCHECKED in (repo / "ao.yaml").read_text()
    assert config.setting(project(repo), "ci") == [] and not config.setting(project(repo), "merge.require_checks")
    (repo / "Makefile").write_text("test:\n")
    start.main(["--force"])
    assert config.setting(project(repo), "merge.require_checks")


@pytest.mark.parametrize(
    ("installed", "agent"), [((), "command"), (("gemini",), "command"), (("codex", "aider"), "codex")]
)
def test_start_takes_the_agent_that_is_installed_if_it_can_read_its_screen(
    repo, tmp_path, monkeypatch, capsys, installed, agent
):
    """F3"""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in installed:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(start.shutil, "which", functools.partial(shutil.which, path=str(programs)))
    start.main([])
    assert config.setting(project(repo), "agent") == agent
    assert (config.setting(project(repo), "agent_config.command") == []) == (agent != "command")
    said, text = capsys.readouterr().err, (repo / "ao.yaml").read_text()
    assert ("write how your agent is started" in said) == (agent == "command")
    assert ("also found: aider" in text) == (agent == "codex")


def test_start_knows_every_agent_that_has_a_module():
    assert set(start.AGENTS) == set(plugins.names("agent")) - {"command"}


def test_start_takes_origins_default_branch_and_not_what_is_checked_out(repo):
    """F41."""
    git(repo, "update-ref", "refs/remotes/origin/release", "HEAD")
    git(repo, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/release")
    start.main([])
    assert config.setting(project(repo), "default_branch") == "release"


def test_start_guesses_the_default_branch_from_the_branches_that_exist(repo):
    """F41: with nothing checked out that has a name."""
    git(repo, "branch", "-m", "trunk", "master")
    git(repo, "checkout", "-q", "--detach")
    assert start.default_branch(str(repo)) == "master"
    git(repo, "branch", "-m", "master", "trunk")
    assert start.default_branch(str(repo)) == "trunk"


def test_start_takes_an_id_that_means_no_other_repository(repo, tmp_path, capsys):
    start.main([])
    other = tmp_path / "elsewhere" / "my shop"
    other.parent.mkdir()
    git(tmp_path, "clone", "-q", str(repo), str(other))
    start.main(["--repo", str(other)])
    assert list(config.load(str(other / "ao.yaml")).projects) == ["my-shop"]
    record = {**sessions.blank("ms-1", "my-shop", clock.Clock(0.0)), "config_path": str(repo / "ao.yaml")}
    sessions.create(str(tmp_path / "home"), record, clock.Clock(0.0))
    for folder, id in ((other, "my-shop-2"), (repo, "my-shop")):
        start.main(["--force", "--repo", str(folder)])
        assert list(config.load(str(folder / "ao.yaml")).projects) == [id]
    assert f"project 'my-shop' is '{repo}' already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("def test_one(): assert True", "python3 -m pytest"),
        ("import pytest, unittest", "python3 -m pytest"),
        ("import unittest", "python3 -m unittest discover -s tests"),
    ],
)
def test_the_test_command_is_guessed_from_tests_in_python(tmp_path, text, command):
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(text)
    assert start.test_command(str(tmp_path)) == command


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("package.json", '{"scripts": {"test": "jest"}}', "npm test"),
        ("package.json", '{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}', ""),
        ("pyproject.toml", "[tool.pytest.ini_options]", "python3 -m pytest"),
        ("Cargo.toml", "", "cargo test"),
        ("go.mod", "", "go test ./..."),
        ("Makefile", "tests:\n", ""),
        ("README", "", ""),
    ],
)
def test_the_test_command_is_guessed_from_files(tmp_path, name, content, command):
    (tmp_path / name).write_text(content)
    assert start.test_command(str(tmp_path)) == command


def test_start_never_rewrites_unless_forced_and_then_keeps_the_old_one(repo, capsys):
    (repo / "ao.yaml").write_text("projects: {}\n")
    with pytest.raises(start.AoError, match="is already there"):
        start.main([])
    assert (repo / "ao.yaml").read_text() == "projects: {}\n"
    assert [start.main(["--force"]), start.main(["--force"])] == [0, 0]
    kept = [path.read_text() for path in repo.iterdir() if path.name.startswith("ao.yaml.backup-")]
    assert len(kept) == 2 and "projects: {}\n" in kept
    assert project(repo).id == "my-shop"


def test_start_outside_of_a_repository_says_what_helps(tmp_path):
    with pytest.raises(start.AoError, match=r"is not in a git repository; make one with: git init"):
        start.main(["--repo", str(tmp_path)])
    with pytest.raises(start.UsageError, match="there is no scm 'cvs'"):
        start.main(["--repo", str(tmp_path), "--scm", "cvs"])


# --- doctor ---------------------------------------------------------------------------------------------------------


def findings(capsys, *args: str) -> dict[str, list[dict[str, str]]]:
    """What the doctor says, by check."""
    capsys.readouterr()
    code = doctor.main([*args, "--json"])
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(capsys.readouterr().out):
        found.setdefault(finding["check"], []).append(finding)
    assert code == int(any(each["state"] == "bad" for group in found.values() for each in group))
    return found


def bad(found: dict[str, list[dict[str, str]]]) -> list[str]:
    return [each["check"] for group in found.values() for each in group if each["state"] == "bad"]


def configure(repo, command: str = "sh") -> None:
    (repo / "ao.yaml").write_text(f"projects: {{shop: {{path: ., agent_config: {{command: [{command}]}}}}}}\n")


def test_a_healthy_world_has_nothing_bad(repo, capsys):
    configure(repo)
    found = findings(capsys)
    assert bad(found) == []
    assert {"python", "packages", "git", "tmux", "home", "disk", "config", "project shop", "agent of shop"} <= set(
        found
    )
    assert found["project shop"][0]["text"] == f"'{repo}', trunk"
    assert doctor.main([]) == 0


def test_a_model_that_no_budget_can_count_is_said(repo, capsys):
    text = "projects: {{shop: {{path: ., budget: {{day_usd: 5}}, agent_config: {{command: [sh], model: {}}}}}}}\n"
    for model, count in (("claude-sonnet-5", 0), ("no-such-model", 1)):
        (repo / "ao.yaml").write_text(text.format(model))
        found = [each for each in findings(capsys)["agent of shop"] if "no price" in each["text"]]
        assert len(found) == count and all(each["state"] == "warning" for each in found)


def test_what_is_missing_is_said_with_what_helps(repo, capsys):
    configure(repo, "no-such-agent")
    assert findings(capsys)["agent of shop"][0]["text"] == "'no-such-agent' is not on PATH"
    (repo / "ao.yaml").write_text("projects:\n  shop: {path: /nowhere, agent_config: {command: [sh]}}\n  odd: {}\n")
    found = findings(capsys)
    assert found["project shop"][0]["text"] == "'/nowhere' is not a git repository"
    assert "projects.odd.path: is missing" in found["config"][0]["text"]
    (repo / "ao.yaml").write_text("a: [\n")
    assert findings(capsys)["config"][0]["state"] == "bad"
    (repo / "ao.yaml").unlink()
    assert findings(capsys)["config"][0] == {
        "check": "config",
        "state": "warning",
        "text": f"there is no ao.yaml for '{repo}'",
        "remedy": "write one with: ao-start",
    }


def test_a_repository_without_commits_is_said(repo, capsys):
    configure(repo)
    (repo / "empty").mkdir()
    git(repo / "empty", "init", "-q")
    (repo / "ao.yaml").write_text("projects: {shop: {path: empty, agent_config: {command: [sh]}}}\n")
    assert findings(capsys)["project shop"][0]["remedy"] == "make a first commit"


def test_fix_mends_what_is_safe_and_leaves_the_rest(repo, capsys):
    configure(repo)
    home = os.environ["AO_HOME"]
    folder = os.path.join(home, "sessions", "shop")
    os.makedirs(folder)
    for name in ("shop-1.yaml", ".tmp-old", ".tmp-new", "shop-2.yaml.damaged-1"):
        with open(os.path.join(folder, name), "w") as file:
            file.write("half: ")
    os.utime(os.path.join(folder, ".tmp-old"), (0, time.time() - 7200))
    os.chmod(home, 0o755)
    found = findings(capsys, "--fix")
    assert stat.S_IMODE(os.stat(home).st_mode) == 0o700
    assert sorted(os.listdir(folder)) == [".tmp-new", "shop-1.yaml", "shop-2.yaml.damaged-1"]
    assert sorted(each["state"] for each in found["files"]) == ["bad", "warning"]


def test_a_damaged_loop_file_does_not_stop_the_other_checks(repo, capsys):
    configure(repo)
    with open(os.path.join(os.environ["AO_HOME"], "loop.yaml"), "w") as file:
        file.write("look: {wa")
    found = findings(capsys)
    assert bad(found) == ["files", "loop"]


def test_terminals_and_worktrees_that_no_record_owns_are_listed(home, repo, monkeypatch, capsys):
    monkeypatch.setenv("AO_HOME", home)
    configure(repo)
    for id in ("shop-1", "shop-2"):
        tmux.start(home, id, ["cat"], home, {})
        os.makedirs(os.path.join(home, "worktrees", "shop", id))
    store.write(os.path.join(home, "sessions", "shop", "shop-1.yaml"), {"id": "shop-1"})
    found = findings(capsys)
    assert [one["text"] for one in found["terminals"]] == ["no session has terminal 'shop-2'"]
    assert [one["text"] for one in found["worktrees"]] == [f"no session has worktree '{home}/worktrees/shop/shop-2'"]


def test_a_loop_that_runs_and_does_not_look_is_told_of(repo, capsys):
    configure(repo)
    home = os.environ["AO_HOME"]
    store.write(os.path.join(home, "loop.yaml"), {"look": {"wall": time.time() - 300}})
    assert findings(capsys)["loop"][0]["state"] == "ok"
    with store.lock(paths.lock(home, "tick")):
        assert "running: tick, but the last look was: 5m ago" in findings(capsys)["loop"][0]["text"]


def test_a_lock_that_a_hung_process_holds_is_found(repo, capsys):
    configure(repo)
    path = os.path.join(os.environ["AO_HOME"], "sessions", "shop", "shop-1.yaml")
    store.write(path, session(id="shop-1", project_id="shop"))
    with store.lock(path):
        assert bad(findings(capsys)) == ["locks"]
    assert bad(findings(capsys)) == []


@pytest.mark.parametrize(("said", "state"), [("tmux 3.3a", "ok"), ("tmux 2.9", "bad"), ("tmux next-3.5", "ok")])
def test_versions_are_compared_as_numbers(monkeypatch, said, state):
    monkeypatch.setattr(doctor.proc, "run", lambda *args: doctor.proc.Result(0, said + "\n", ""))
    assert doctor.program("tmux", (3, 2), "-V").state == state


def test_a_test_notification_reaches_who_is_told(repo, capsys):
    configure(repo)
    found = findings(capsys, "--test-notify")
    assert found["notifier"][0]["text"] == "stdout was sent a test"
    assert bad(findings(capsys, "--test-notify", "pigeon")) == ["notifier"]
    with open(os.path.join(os.environ["AO_HOME"], "logs", "notifications.log")) as file:
        assert "[info]: a test from ao-doctor" in file.read()


# --- config ---------------------------------------------------------------------------------------------------------


def test_secrets_are_never_shown(repo, capsys, monkeypatch):
    """F56: neither what comes from the environment nor what is called a secret."""
    monkeypatch.setenv("AO_TEST_KEY", "k3y-from-env")
    (repo / "ao.yaml").write_text(
        "notifiers: {slack: {webhook_url: 'https://hook/s3cret'}}\n"
        "projects: {shop: {path: ., rules: '${AO_TEST_KEY}', agent_config: {command: [sh, '${AO_TEST_KEY}']}}}\n"
    )
    for args in (["show"], ["show", "--json"]):
        assert shown.main(args) == 0
        out = capsys.readouterr().out
        assert "k3y" not in out and "s3cret" not in out and "(hidden)" in out
    answer = json.loads(out)
    assert answer["projects"]["shop"]["agent_config"]["command"] == ["sh", "(hidden)"]
    assert "defaults" not in answer["projects"]["shop"] and answer["projects"]["shop"]["path"] == str(repo)


def test_validate_names_every_mistake_and_warning(repo, capsys):
    (repo / "ao.yaml").write_text("projects:\n  shop:\n    max_sessions: x\n    zzz: 1\n")
    assert shown.main(["validate", "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (len(answer["errors"]), len(answer["warnings"])) == (3, 1)
    assert shown.main(["validate"]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 4
    configure(repo)
    assert shown.main(["validate"]) == 0
    assert capsys.readouterr().out == f"{repo}/ao.yaml: 1 project, no mistakes\n"


def test_validate_looks_at_what_the_settings_name_and_answers_in_the_order_of_lines(repo, tmp_path, capsys):
    (repo / "ao.yaml").write_text(
        "projects:\n  shop:\n    path: .\n    symlinks: [Makefile, .env]\n    zzz: 1\n    rules_file: RULES.md\n"
        "    default_branch: main\n    agent_config: {command: [sh]}\n"
        f"  other:\n    path: {tmp_path}\n    agent_config: {{command: [sh]}}\npoll_interval: soon\n"
    )
    assert shown.main(["validate"]) == 1
    assert [line.removeprefix(f"{repo}/ao.yaml:") for line in capsys.readouterr().out.splitlines()] == [
        f"4: projects.shop.symlinks: there is no '.env' in '{repo}' (warning)",
        "5: projects.shop.zzz: unknown setting, ignored (warning)",
        f"6: projects.shop.rules_file: there is no file '{repo}/RULES.md'",
        f"7: projects.shop.default_branch: there is no branch 'main' in '{repo}'",
        f"10: projects.other.path: '{tmp_path}' is not a git repository",
        "12: poll_interval: not a duration: 'soon' (write 30s, 5m, 2h or 1d)",
    ]
    (repo / "ao.yaml").write_text("")
    assert shown.main(["validate"]) == 0
    assert "ao.yaml:1: projects: there is none; ao-start writes one (warning)\n" in capsys.readouterr().out


def test_path_and_plugins_answer_in_both_forms(repo, capsys):
    configure(repo)
    shown.main(["path"])
    assert capsys.readouterr().out == f"{repo}/ao.yaml\n"
    shown.main(["plugins", "--json"])
    assert json.loads(capsys.readouterr().out)["notifier"] == ["stdout"]


def test_the_doctor_tells_of_a_pause_and_of_torn_lines_of_the_log(repo, capsys):
    home = os.environ["AO_HOME"]
    store.write(paths.loop(home), {"paused_at": "2026-01-01T00:00:00.000Z"})
    os.makedirs(os.path.join(home, "events"), exist_ok=True)
    with open(os.path.join(home, "events", "2026-01-01.yaml"), "w") as file:
        file.write('{"id": "e-1", "at": "2026')
    os.makedirs(os.path.join(home, "forge", "shop", "prs"))
    with open(os.path.join(home, "forge", "shop", "prs", "1.yaml"), "w") as file:
        file.write("a: [")
    start.main([])
    doctor.main(["--json"])
    found = json.loads(capsys.readouterr().out.partition("\n")[2])
    said = " ".join(f"{one['text']}: {one['remedy']}." for one in found if one["state"] != "ok")
    assert "the fleet is paused since 2026-01-01T00:00:00Z" in said and "merged: ao-stop --resume." in said
    assert f"1 lines of '{home}/events/2026-01-01.yaml' are damaged" in said
    assert f"cannot read '{home}/forge/shop/prs/1.yaml'" in said and "mend it by hand" in said
