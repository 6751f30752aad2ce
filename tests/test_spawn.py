"""Spawning: what a session is made of, what a failure leaves behind (nothing), what two at once do to each other."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import forging
import living
import pytest
import scripts
from conftest import until
from living import AGENT, CAT, launched

from lib import cli, effects, paths, plugins, proc, render, sessions, spawn, store
from lib.agent import command
from lib.runtime import tmux

SPAWN = os.path.join(scripts.BIN, "ao-spawn")


@pytest.fixture
def world(home, tmp_path):
    return living.make(home, tmp_path)


def process(world, *args, **env):
    return subprocess.Popen(
        [sys.executable, SPAWN, *args],
        cwd=world.folder,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def locks_held(world):
    held = []
    for folder, _, names in os.walk(world.home):
        paths_here = [os.path.join(folder, name.removesuffix(".lock")) for name in names if name.endswith(".lock")]
        held += [path for path in paths_here if store.is_held(path)]
    return held


def test_an_issue_becomes_a_session_with_branch_worktree_and_terminal(world):
    world.issue(12, "Bug: login fails")
    record = world.spawn("12")
    assert (record["id"], record["branch"], record["issue_id"]) == ("shop-1", "fix/12-bug-login-fails", "12")
    assert record["base_sha"] == world.git("rev-parse", "main")
    assert forging.git(record["workspace_path"], "branch", "--show-current") == record["branch"]
    assert "shop-1" in tmux.look(world.home)
    assert "Bug: login fails" in record["inbox"][0]["text"]
    assert record["doing"] is None


def test_what_is_done_and_run_is_told_to_who_asks_beside_the_answer(world):
    done = world.ok("ao-spawn", "--task", "work", "--json", AO_LOG="debug")
    assert json.loads(done.out)[0]["id"] == "shop-1"
    assert "ao-spawn: info: spawn.worktree shop-1: make the branch and the worktree\n" in done.err
    assert re.search(r"^ao-spawn: debug: git .*worktree add .* s, exit code 0$", done.err, re.MULTILINE), done.err
    assert "ao-spawn: debug: tmux " in done.err
    assert "debug" not in world.ok("ao-tick", AO_LOG="info").err


@pytest.mark.parametrize("command", [CAT, [*AGENT, "{prompt}"]])
def test_a_spawn_puts_nothing_into_the_worktree_that_could_be_committed(world, command):
    """F55: rules and task go by the terminal or beside it, and a tracked file of that name stays as it is."""
    forging.commit(world.repo, "AGENTS.md", "ours\n")
    forging.commit(world.repo, "CLAUDE.md", "ours too\n")
    living.configure(world, command, rules="Never use tabs.")
    world.issue(12, "Do it", "word " * 30_000)
    path = world.spawn("12")["workspace_path"]
    assert forging.git(path, "status", "--porcelain", "--ignored") == ""


@pytest.mark.parametrize(
    ("title", "branch"),
    [
        ('say "hi"; $(touch /tmp/x) `id`', "feat/12-say-hi-touch-tmp-x-id"),
        ("--force -rf", "feat/12-force-rf"),
        ("修正 ログイン", "feat/12"),
        ("x" * 300, "feat/12-" + "x" * 40),
        ("a\x1b[31mred\x07 \x00end", "feat/12-ared-end"),
        ("Docs: explain", "docs/12-docs-explain"),
    ],
)
def test_any_title_makes_a_safe_branch(world, title, branch):
    """F56"""
    world.issue(12, title)
    found = json.loads(world.ok("ao-spawn", "12", "--dry-run", "--json").out)[0]
    assert found["branch"] == branch
    assert world.git("check-ref-format", "--branch", branch) == branch


def test_a_branch_name_is_new_here_and_at_the_remote_in_any_case(world):
    world.git("branch", "feat/Work")
    world.git("update-ref", "refs/remotes/origin/feat/WORK-2", "main")
    assert world.spawn()["branch"] == "feat/work-3"


def test_a_branch_that_stands_where_a_folder_should_be_is_gone_around(world):
    """`docs` leaves no room for `docs/x`, and `feat/work/part` none for `feat/work`."""
    world.git("branch", "docs")
    world.git("branch", "feat/work/part")
    assert world.spawn("--task", "docs")["branch"] == "docs-docs"
    assert world.spawn("--task", "work")["branch"] == "feat/work-2"


def failing(world, monkeypatch, how):
    """Make the next spawn fail in one way."""
    if how == "unknown agent":
        return ["--agent", "nobody"]
    if how == "no such program":
        living.configure(world, ["no-such-agent"])
    if how == "post_create fails":
        living.configure(world, post_create=["touch made", "echo broken; exit 3"])
    if how == "post_create hangs":
        monkeypatch.setitem(proc.LIMITS, "post-create", 0.2)
        living.configure(world, post_create=["sleep 60"])
    if how == "link outside":
        os.symlink("/tmp", os.path.join(world.repo, "out"))
        world.git("add", "out")
        world.git("commit", "--quiet", "-m", "out")
        living.configure(world, symlinks=["out/x"])
    if how == "rules file missing":
        living.configure(world, rules_file="gone.md")
    if how == "no such template":
        return ["--template", "nothing"]
    if how == "terminal refused":
        monkeypatch.setattr(tmux, "start", refuse)
    if how == "tmux missing":
        git = os.path.join(world.folder, "bin")
        os.makedirs(git)
        for name in ("git", "sh", "cat"):
            os.symlink(shutil.which(name), os.path.join(git, name))
        monkeypatch.setenv("PATH", git)
    if how == "record folder cannot be written":
        monkeypatch.setattr(os, "link", lambda source, target: os.open("/", os.O_WRONLY))
    return []


def refuse(*args):
    raise tmux.AoError("cannot start a terminal: it says no")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("unknown agent", "there is no agent 'nobody'"),
        ("no such program", "there is no program 'no-such-agent'"),
        ("post_create fails", "failed with exit code 3; see: "),
        ("post_create hangs", "did not end within 0.2 s"),
        ("link outside", "cannot link 'out/x'"),
        ("rules file missing", "gone.md'"),
        ("no such template", "there is no template"),
        ("terminal refused", "it says no"),
        ("tmux missing", "'tmux'"),
        ("record folder cannot be written", "cannot write"),
    ],
)
def test_a_failed_spawn_leaves_nothing_behind_but_its_error(world, monkeypatch, how, said):
    """F38"""
    healthy = os.environ["PATH"]
    args = failing(world, monkeypatch, how)
    before = world.traces(healthy)
    done = world.call("ao-spawn", "--task", "work", *args, "--json")
    assert done.code == 1 and said in done.err and done.err.count("\n") == 1, done
    assert said in json.loads(done.out)[0]["error"]
    monkeypatch.undo()
    monkeypatch.setenv("AO_HOME", world.home)
    assert world.traces() == before
    assert locks_held(world) == []
    living.configure(world)
    assert world.spawn()["branch"] == "feat/work"


def test_a_repository_without_commits_is_said_in_one_line(home, tmp_path):
    world = living.make(home, tmp_path)
    shutil.rmtree(os.path.join(world.repo, ".git"))
    world.git("init", "--quiet")
    assert "it has no commits" in world.call("ao-spawn", "--task", "x").err


def test_the_output_of_set_up_commands_is_kept(world):
    living.configure(world, post_create=["echo hello $AO_SESSION_ID"])
    world.spawn()
    with open(paths.log(world.home, "shop", "shop-1.setup.log")) as file:
        assert file.read() == "hello shop-1\n"


def test_an_id_whose_worktree_folder_is_taken_is_left_alone(world):
    path = paths.worktree(world.home, "shop", "shop-1")
    os.makedirs(path)
    forging_file = os.path.join(path, "precious")
    open(forging_file, "w").close()
    assert world.spawn()["id"] == "shop-2"
    assert os.path.exists(forging_file)


def test_links_keep_what_is_there_and_never_leave_the_worktree(world):
    forging.commit(world.repo, "kept/file", "tracked\n")
    for name in (".env", "kept/file", "kept/local"):
        with open(os.path.join(world.repo, name), "w") as file:
            file.write("local\n")
    living.configure(world, symlinks=[".env", "kept/file", "kept/local", "absent"])
    path = world.spawn()["workspace_path"]
    assert os.readlink(os.path.join(path, ".env")) == os.path.join(world.repo, ".env")
    assert not os.path.islink(os.path.join(path, "kept/file"))
    assert os.path.islink(os.path.join(path, "kept/local"))
    for outside in ("/etc/passwd", "a/../../x"):
        living.configure(world, symlinks=[outside])
        assert "must be inside the repository" in world.call("ao-spawn", "--task", "x").err


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_spawn_that_is_interrupted_undoes_itself(world, sign):
    before = world.traces()
    living.configure(world, post_create=["touch started; sleep 60"])
    spawning = process(world, "--task", "work")
    until(lambda: os.path.exists(os.path.join(paths.worktree(world.home, "shop", "shop-1"), "started")))
    spawning.send_signal(sign)
    _, said = spawning.communicate(timeout=60)
    assert spawning.returncode == (143 if sign == signal.SIGTERM else 130)
    assert ("ao-spawn: interrupted; " in said) == (sign == signal.SIGINT)
    assert world.traces() == before
    assert locks_held(world) == []


SPAWN_POINTS = [
    f"{name}:{when}" for name in effects.EFFECTS if name.startswith("spawn.") for when in ("before", "after")
]


@pytest.mark.parametrize("point", SPAWN_POINTS)
def test_a_spawn_that_was_killed_is_adopted_or_undone_by_the_next_tick(world, point):
    """F38, F39: also that an empty reservation blocks nobody."""
    before = world.traces()
    spawning = process(world, "--task", "work", AO_FAULT=point)
    spawning.communicate(timeout=60)
    assert spawning.returncode == -signal.SIGKILL
    world.look()
    found = world.records()
    if point in ("spawn.pane:after", "spawn.inbox:before", "spawn.inbox:after"):
        assert [one["doing"] for one in found] == [None] and found[0]["outcome"] is None
        assert len(found[0]["inbox"]) == 1 and "shop-1" in tmux.look(world.home)
    else:
        assert [one["status"] for one in found] == ([] if point == "spawn.record:before" else ["errored"])
        assert {**world.traces(), "records": []} == before
        world.look(2)
        assert world.spawn()["branch"] == "feat/work"


def test_a_spawn_that_was_killed_does_not_stand_in_the_way_of_the_next_one(world):
    """F38: without a tick in between."""
    world.issue(1, "Fix it")
    process(world, "1", AO_FAULT="spawn.worktree:after").communicate(timeout=60)
    assert world.spawn("1")["branch"] == "fix/1-fix-it"
    assert [one["status"] for one in world.records()] == ["errored", "spawning"]


def test_a_message_to_a_session_whose_spawn_is_undone_is_not_lost_without_a_word(world):
    process(world, "--task", "work", AO_FAULT="spawn.worktree:after").communicate(timeout=60)
    world.ok("ao-send", "shop-1", "hello")
    world.look()
    [record] = world.records()
    assert record["status"] == "errored"
    assert [(one["text"], one["state"]) for one in record["inbox"]] == [("hello", "failed")]


def test_a_tick_leaves_a_spawn_alone_that_is_under_way(world):
    """F39"""
    living.configure(world, post_create=["touch started; while ! test -e go; do sleep 0.05; done"])
    spawning = process(world, "--task", "work")
    path = paths.worktree(world.home, "shop", "shop-1")
    until(lambda: os.path.exists(os.path.join(path, "started")))
    world.look(3)
    assert world.record("shop-1")["status"] == "spawning"
    assert world.call("ao-prune", "shop-1").code == 1
    open(os.path.join(path, "go"), "w").close()
    spawning.communicate(timeout=60)
    assert spawning.returncode == 0
    world.look()
    assert world.record("shop-1")["status"] == "working"


def test_an_issue_goes_to_one_of_many_spawns_at_once(world):
    """F42"""
    world.issue(7, "Seven")
    spawning = [process(world, "7") for _ in range(20)]
    said = [one.communicate(timeout=240)[1] for one in spawning]
    assert sorted(one.returncode for one in spawning) == [0] + [1] * 19
    assert sum("issue 7 has a session already: shop-1" in text for text in said) == 19
    assert len(world.records()) == 1


def test_several_sessions_at_once_get_names_of_their_own(world):
    spawning = [process(world, "--task", "same") for _ in range(4)]
    for one in spawning:
        assert one.communicate(timeout=240) and one.returncode == 0
    assert len({one["branch"] for one in world.records()}) == 4
    assert sorted(one["id"] for one in world.records()) == [f"shop-{n}" for n in range(1, 5)]


def test_a_full_project_takes_no_more_without_force(world):
    """F42"""
    living.configure(world, max_sessions=1)
    world.spawn("--task", "one")
    done = world.call("ao-spawn", "--task", "two", "--json")
    assert done.code == 1 and "max_sessions is 1" in done.err
    assert json.loads(done.out)[0]["skipped"] is True
    world.ok("ao-spawn", "--task", "two", "--force")


def test_two_homes_share_a_repository(world, tmp_path, monkeypatch):
    world.issue(7, "Seven")
    first = world.spawn("7")
    import tempfile

    other = tempfile.mkdtemp(prefix="ao-", dir="/tmp")
    try:
        monkeypatch.setenv("AO_HOME", other)
        second = json.loads(world.ok("ao-spawn", "7", "--json", AO_HOME=other).out)[0]
        assert (first["branch"], second["branch"]) == ("feat/7-seven", "feat/7-seven-2")
        assert second["id"] == "shop-1" and second["workspace_path"].startswith(other)
    finally:
        tmux.kill_server(other)
        shutil.rmtree(other)


@pytest.fixture
def remote(world, tmp_path):
    """A bare remote of the world's repository, and a second clone whose pushes the first has not fetched."""
    bare, clone = str(tmp_path / "bare.git"), str(tmp_path / "clone")
    forging.git(str(tmp_path), "clone", "--quiet", "--bare", world.repo, bare)
    world.git("remote", "add", "origin", bare)
    forging.git(str(tmp_path), "clone", "--quiet", bare, clone)
    return clone


def test_work_starts_from_what_is_new_at_the_remote(world, remote):
    """F41"""
    new = forging.commit(
        remote, "new.txt", "new\n", **forging.PERSON, GIT_COMMITTER_NAME="x", GIT_COMMITTER_EMAIL="x@x"
    )
    forging.git(remote, "push", "--quiet", "origin", "main")
    assert world.spawn()["base_sha"] == new
    assert world.git("rev-parse", "main") != new


def test_what_was_merged_here_and_not_pushed_is_not_lost_from_sight(world, remote):
    here = forging.commit(world.repo, "here.txt", "here\n")
    assert world.spawn()["base_sha"] == here


def test_a_remote_that_hangs_is_said_and_keeps_nobody(world, remote, monkeypatch):
    """F53"""
    world.git("config", "remote.origin.uploadpack", "sleep 60; git-upload-pack")
    monkeypatch.setitem(proc.LIMITS, "git-network", 0.3)
    done = world.ok("ao-spawn", "--task", "work")
    assert "could not fetch from 'origin': 'git fetch --quiet' did not end within 0.3 s" in done.err
    assert world.record("shop-1")["base_sha"] == world.git("rev-parse", "main")


def test_the_default_branch_need_not_be_main(home, tmp_path):
    """F41"""
    world = living.make(home, tmp_path, branch="trunk")
    world.git("checkout", "--quiet", "--detach")
    record = world.spawn()
    assert record["base_branch"] == "trunk" and record["base_sha"] == world.git("rev-parse", "trunk")


def test_a_repository_is_found_through_a_symlink(home, tmp_path):
    world = living.make(home, tmp_path)
    os.symlink(world.repo, tmp_path / "link")
    living.configure(world, path=str(tmp_path / "link"))
    assert os.path.isdir(world.spawn()["workspace_path"])


def test_a_dry_run_shows_what_is_then_run_and_changes_nothing(home, tmp_path):
    world = living.make(home, tmp_path, [*AGENT, "{prompt}"], symlinks=[".env"], post_create=["true"])
    world.issue(3, "Three")

    def everything():
        return sorted(
            os.path.join(folder, name)
            for top in (home, world.repo)
            for folder, _, names in os.walk(top)
            for name in names
            if "/cache" not in folder
        )

    before = everything()
    shown = json.loads(world.ok("ao-spawn", "3", "--dry-run", "--json").out)[0]
    assert everything() == before
    said = world.ok("ao-spawn", "3", "--dry-run").out
    (line,) = re.findall("^argv: (.*?)^sent: ", said, re.MULTILINE | re.DOTALL)
    assert unmarked(shlex.split(line)) == unmarked(shown["argv"]), "a shell understands it as it is printed"
    assert "\nsymlinks: .env\npost_create: true\n" in said and said.endswith("\nsent: -\n")
    record = world.spawn("3")
    for key in ("id", "branch", "base_branch", "base_sha", "workspace_path"):
        assert shown[key] == record[key]
    assert shown["sent"] is None
    assert unmarked(shown["argv"]) == unmarked(launched(world, "shop-1")["argv"])
    living.configure(world)
    world.issue(4, "Four")
    shown = json.loads(world.ok("ao-spawn", "4", "--dry-run", "--json").out)[0]
    assert shown["argv"] == CAT
    assert unmarked([shown["sent"]]) == unmarked([world.spawn("4")["inbox"][0]["text"]])


def unmarked(words):
    """Texts without the marks around what others wrote, which nobody can know beforehand."""
    import re

    return [re.sub("untrusted-[0-9a-f]{8}", "untrusted", word) for word in words]


def test_one_issue_that_fails_does_not_stop_the_others(world):
    world.issue(1, "One")
    world.issue(3, "Three")
    done = world.call("ao-spawn", "1", "2", "3", "1", "--json")
    results = json.loads(done.out)
    assert done.code == 1 and "2 created, 0 skipped, 1 failed" in done.err
    assert [one.get("issue_id") for one in results] == ["1", None, "3"]
    assert "there is no issue '2'" in results[1]["error"]
    assert world.call("ao-spawn", "1", "3").err.endswith("0 created, 2 skipped, 0 failed\n")


def test_json_is_valid_and_the_exit_code_tells(world):
    done = world.ok("ao-spawn", "--task", "x", "--json")
    assert json.loads(done.out)[0]["id"] == "shop-1"
    assert world.call("ao-spawn").code == 2
    assert world.call("ao-spawn", "--task", "  ").code == 2
    assert world.call("ao-spawn", "1", "--task", "x").code == 2


def test_of_several_tasks_none_is_left_out_in_silence(world):
    done = world.call("ao-spawn", "--task", "x", "--task", "y")
    assert (done.code, done.err) == (2, "ao-spawn: --task is given 2 times: start one session after the other\n")
    assert sessions.everything(world.home).records == []


def test_a_file_can_be_the_issue(world):
    path = os.path.join(world.folder, "my idea.md")
    with open(path, "w") as file:
        file.write("# Bigger buttons\n\nMuch bigger.\n")
    record = world.spawn("--local-issue", path)
    assert (record["issue_id"], record["branch"]) == ("file-my idea", "feat/file-my-idea-bigger-buttons")
    assert "Much bigger." in record["inbox"][0]["text"]
    assert "has a session already" in world.call("ao-spawn", "--local-issue", path).err


def test_no_prompt_says_nothing_and_prompt_says_more(world):
    assert world.spawn("--task", "x", "--no-prompt")["inbox"] == []
    world.issue(5, "Five")
    assert "Mind the gap." in world.spawn("5", "--prompt", "Mind the gap.")["inbox"][0]["text"]


def test_a_task_too_long_for_a_command_line_goes_to_a_file(home, tmp_path):
    world = living.make(home, tmp_path, [*AGENT, "{prompt}"])
    world.issue(1, "Long", "word " * 30_000)
    world.spawn("1")
    said = launched(world, "shop-1")["argv"][-1]
    assert said.startswith("Read the file ") and len(said) < 1000
    with open(said.split()[3].rstrip(",")) as file:
        assert "word word" in file.read()


def test_the_agent_knows_who_it_is_and_nothing_of_who_spawned_it(world):
    world.call("ao-spawn", "--task", "x", GIT_DIR="/nowhere", AO_SESSION_ID="shop-9", TMUX="x")
    found = launched(world, "shop-1")["environment"]
    assert found["AO_SESSION_ID"] == "shop-1" and found["PATH"].startswith(scripts.BIN)
    assert not {"GIT_DIR", "TMUX", "AO_FAULT"} & set(found)
    assert world.record("shop-1")["spawned_by"] == "shop-9"
    assert os.stat(paths.launch(world.home, "shop", "shop-1")).st_mode & 0o777 == 0o600


def test_the_agent_knows_what_it_works_on_and_where_ao_is(world):
    world.issue(12, "Twelve")
    found = launched(world, world.spawn("12")["id"])["environment"]
    names = ("AO_SESSION_ID", "AO_ISSUE_ID", "AO_PROJECT_ID", "AO_HOME", "AO_CONFIG")
    assert [found[name] for name in names] == ["shop-1", "12", "shop", world.home, f"{world.folder}/ao.yaml"]
    assert launched(world, world.spawn("--task", "x")["id"])["environment"]["AO_ISSUE_ID"] == ""


def test_the_options_say_which_agent_works_where_with_which_text_and_for_whom(world, tmp_path, monkeypatch):
    started, load = [], plugins.load

    def start(home, handle, *args):
        started.append(handle)
        tmux.start(home, handle, *args)

    def prepare(project, session):
        command.prepare(project, session)
        started.append(f"robot for {session['id']}")

    own = {
        ("runtime", "elsewhere"): SimpleNamespace(**{**vars(tmux), "start": start}),
        ("agent", "robot"): SimpleNamespace(**{**vars(command), "prepare": prepare}),
    }
    monkeypatch.setattr(plugins, "load", lambda slot, name: own.get((slot, name)) or load(slot, name))
    shutil.copytree(render.TEMPLATES, tmp_path / "templates")
    (tmp_path / "templates" / "prompts" / "haiku.md").write_text("In three lines: {{ task }}")
    monkeypatch.setattr(render, "TEMPLATES", str(tmp_path / "templates"))
    options = ("--agent", "robot", "--model", "m-1", "--runtime", "elsewhere", "--template", "haiku")
    record = world.spawn("--task", "spring", *options, "--spawned-by", "shop-7")
    assert (record["agent"], record["runtime"], record["spawned_by"]) == ("robot", "elsewhere", "shop-7")
    assert record["agent_config"]["model"] == "m-1"
    assert record["inbox"][0]["text"] == "In three lines: spring\n"
    assert started == ["robot for shop-1", "shop-1"]


def test_scripts_name_the_issue_the_project_and_its_configuration_from_anywhere(world):
    world.issue(12, "Twelve")
    where = ("--project", "shop", "--config", f"{world.folder}/ao.yaml")
    assert "there is no ao.yaml" in world.call("ao-spawn", "--issue", "12", "--dry-run", cwd="/").err
    assert world.call("ao-spawn", "--issue", "12", "--project", "no", *where[2:], cwd="/").code == 1
    world.ok("ao-spawn", "--issue", "12", *where, cwd="/")
    record = world.record("shop-1")
    assert (record["issue_id"], record["config_path"]) == ("12", where[3])


def test_open_goes_to_the_terminal_of_the_last_one_that_was_made(world, monkeypatch):
    went = []
    monkeypatch.setattr(os, "execvp", lambda *args: went.append(args))
    monkeypatch.setattr(cli, "is_at_terminal", lambda: True)
    world.issue(1, "One")
    world.issue(2, "Two")
    assert world.ok("ao-spawn", "1", "2", "--open").code == 0
    command = tmux.attach(world.home, "shop-2")
    assert went == [(command[0], command)]
    world.ok("ao-spawn", "--task", "x", "--open", "--dry-run")
    assert world.call("ao-spawn", "9", "--open").code == 1
    assert len(went) == 1, "there is nothing to go to"


def test_undoing_leaves_a_branch_that_others_have_checked_out_or_committed_to(world):
    sha = world.git("rev-parse", "main")
    record = {**sessions.blank("shop-1", "shop", sessions.Clock(1e9)), "runtime": "tmux", "workspace": "worktree"}
    record |= {"base_sha": sha, "workspace_path": paths.worktree(world.home, "shop", "shop-1")}
    world.git("worktree", "add", "--quiet", "-b", "theirs", os.path.join(world.folder, "theirs"))
    world.git("branch", "older", forging.git(world.repo, "commit-tree", "-m", "x", "HEAD^{tree}"))
    world.git("branch", "empty")
    for branch in ("theirs", "older", "empty"):
        spawn.roll_back(world.home, world.project, {**record, "branch": branch})
    assert world.git("branch", "--format=%(refname:short)").split() == ["main", "older", "theirs"]


def test_a_failed_spawn_is_in_the_log(world):
    from lib import events

    world.call("ao-spawn", "--task", "x", "--template", "nothing")
    found = [one for one in events.read(world.home) if one["type"] == "spawn_failed"]
    assert [(one["session_id"], one["project_id"]) for one in found] == [("shop-1", "shop")]


def test_an_exact_id_wins_over_a_longer_one(world):
    """F49"""
    world.change(world.spawn()["id"], task="one")
    record = world.record("shop-1")
    for number in (10, 11):
        sessions.create(world.home, {**record, "id": f"shop-{number}"}, sessions.Clock(1e9))
    assert world.record("shop-1")["id"] == "shop-1"
    with pytest.raises(sessions.AoError, match="can mean several"):
        world.record("shop-")


def test_a_spawn_in_an_empty_environment_starts_an_agent_that_lives(world):
    """Python does not know its own path then, and git, tmux and the agent's terminal are started through it."""
    living.configure(world, ["/bin/cat"])
    argv = ["env", "-i", f"AO_HOME={world.home}", os.path.join(scripts.BIN, "ao"), "spawn", "--task", "x"]
    done = subprocess.run(argv, cwd=world.folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    until(lambda: "ao: running cat" in tmux.screen(world.home, "shop-1"), "the agent")


def test_who_is_taken_to_a_terminal_is_told_how_to_leave_it(world, monkeypatch):
    became = []
    monkeypatch.setattr(os, "execvp", lambda program, words: became.append(words))
    world.spawn("--task", "y")
    assert "this is no terminal; see: ao-logs shop-1" in world.call("ao-attach", "shop-1").err and not became
    world.ok("ao-kill", "shop-1")
    monkeypatch.setattr(cli, "is_at_terminal", lambda: True)
    said = [world.ok("ao-spawn", "--task", "x", "--open").err, world.call("ao-attach", "shop-2").err]
    assert all(text.endswith("leave this terminal with Ctrl-b d; the agent goes on\n") for text in said)
    assert became == [tmux.attach(world.home, "shop-2")] * 2


@pytest.mark.parametrize("word", ["label", "comment"])
def test_what_a_tracker_does_not_have_is_said(world, word):
    said = world.call("ao-issue", word, "1", "x")
    assert said[::2] == (1, f"ao-issue: issues of tracker 'local' have no {word}s\n")


# --- what is refused, and what is said -------------------------------------------------------------------------------


def test_an_empty_issue_id_starts_nothing(world):
    done = world.call("ao-spawn", "")
    assert (done.code, world.records()) == (2, []) and "the id of an issue is empty" in done.err


def test_a_closed_issue_is_worked_on_only_when_that_is_meant(world):
    world.issue(12, "Do it")
    world.ok("ao-issue", "close", "12")
    done = world.call("ao-spawn", "12")
    assert (done.code, world.records()) == (1, []) and "issue 12 is closed" in done.err and "--force" in done.err
    assert world.ok("ao-spawn", "12", "--force").code == 0


def test_a_spawn_says_that_nothing_will_be_done_while_the_fleet_is_paused(world):
    world.ok("ao-stop")
    assert "ao-stop --resume" in world.ok("ao-spawn", "--task", "x").err


def test_a_spawn_from_within_a_worktree_uses_the_configuration_of_its_session(world):
    """Its worktree may hold a copy of ao.yaml, which would name the worktree as the repository."""
    inside = world.spawn()["workspace_path"]
    shutil.copy(os.path.join(world.folder, "ao.yaml"), inside)
    done = world.ok("ao-spawn", "--task", "more", "--json", cwd=inside)
    [second] = json.loads(done.out)
    assert world.record(second["id"])["config_path"] == os.path.join(world.folder, "ao.yaml")


def test_a_project_id_means_one_repository_only(world, tmp_path):
    """Two repositories of one name would mix up their sessions and pull requests."""
    world.spawn()
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = living.make(world.home, other)
    done = elsewhere.call("ao-spawn", "--task", "x")
    assert done.code == 1 and "give it another id in ao.yaml" in done.err and world.repo in done.err
    assert len(world.records()) == 1
    shutil.rmtree(world.repo)  # it has moved, perhaps to there
    assert elsewhere.call("ao-spawn", "--task", "x").code == 0
