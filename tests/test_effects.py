"""Effects: each has one place, each can be cut off there, each runs under its session's lock."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, until

from lib import effects, faults, proc
from lib.errors import Busy

SESSION = {"id": "app-1", "project_id": "app"}


def places():
    """Each use of effects.effect(...) in lib and bin: [(its argument, file)]."""
    found = []
    for folder, _, names in [*os.walk(os.path.join(ROOT, "lib")), *os.walk(os.path.join(ROOT, "bin"))]:
        for name in names:
            if name.endswith((".pyc", ".md")):
                continue
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                calls = [node for node in ast.walk(ast.parse(file.read())) if isinstance(node, ast.Call)]
            found += [(ast.unparse(call.args[0]), name) for call in calls if ast.unparse(call.func) == "effects.effect"]
    return found


def test_every_effect_has_exactly_one_place():
    """F23: a crash in front of it, in it or behind it can be tried for each."""
    used = sorted(argument for argument, _ in places())
    assert used == sorted(repr(name) for name in effects.EFFECTS)


def test_an_effect_that_is_not_in_the_list_is_a_bug():
    with pytest.raises(KeyError, match=r"make\.coffee"), effects.effect("make.coffee"):
        pass


@pytest.mark.parametrize(("point", "prints"), [("before", ""), ("inside", "begun\n"), ("after", "begun\ndone\n")])
def test_a_process_can_be_cut_off_at_each_point(point, prints):
    code = "from lib import effects, faults\nwith effects.effect('merge.merge'):\n  print('begun', flush=True)\n"
    code += "  faults.step()\n  print('done', flush=True)\nprint('behind', flush=True)"
    environment = {**os.environ, faults.VARIABLE: f"merge.merge:{point}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, prints)


def test_without_a_fault_an_effect_just_happens():
    with effects.effect("merge.merge"):
        faults.step()


def test_each_effect_is_told_to_who_asks_with_its_session(home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ao-x"])
    for level in ("info", "warning"):
        monkeypatch.setenv("AO_LOG", level)
        with effects.hold(home, SESSION), effects.effect("kill.pane"):
            pass
    assert capsys.readouterr() == ("", "ao-x: info: kill.pane app-1: end the agent's terminal\n")


def test_an_effect_on_a_session_waits_for_no_other_and_keeps_others_away(home):
    other = {**SESSION, "id": "app-2"}
    with effects.hold(home, SESSION):
        assert effects.is_under_way(home, SESSION)
        assert not effects.is_under_way(home, other)
        with pytest.raises(Busy), effects.hold(home, SESSION):
            pass
        with effects.hold(home, other):
            pass
    assert not effects.is_under_way(home, SESSION)


def test_the_lock_of_a_killed_effect_is_free_and_its_intent_can_be_settled(home):
    code = "import sys, json\nfrom lib import effects\nwith effects.hold(sys.argv[1], json.loads(sys.argv[2])):\n"
    code += "  with effects.effect('kill.pane'): pass"
    environment = {**os.environ, faults.VARIABLE: "kill.pane:before"}
    command = [sys.executable, "-c", code, home, '{"id": "app-1", "project_id": "app"}']
    assert subprocess.run(command, cwd=ROOT, env=environment, timeout=60, check=False).returncode == -signal.SIGKILL
    assert not effects.is_under_way(home, SESSION)


def holding(home, code, **env):
    """A process that runs some code under the effect lock of SESSION; its exit code."""
    head = "import sys, json\nfrom lib import effects, proc\n"
    head += "with effects.hold(sys.argv[1], json.loads(sys.argv[2])):\n  "
    command = [sys.executable, "-c", head + code, home, '{"id": "app-1", "project_id": "app"}']
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, timeout=60, check=False).returncode


def test_the_lock_of_a_killed_process_is_held_until_what_it_has_started_has_ended(home):
    """F39, F44: its git or tmux goes on, and nobody undoes what is still being done."""
    program = "['sh', '-c', 'while ! test -e go; do sleep 0.02; done; touch gone-on']"
    code = f"proc.run('git-write', {program}, cwd=sys.argv[1], changes=True)"
    assert holding(home, code, AO_FAULT="step:1") == -signal.SIGKILL
    assert effects.is_under_way(home, SESSION)
    open(os.path.join(home, "go"), "w").close()
    until(lambda: not effects.is_under_way(home, SESSION), "the lock")
    assert os.path.exists(os.path.join(home, "gone-on"))


def test_what_a_program_leaves_running_holds_no_lock(home):
    """F50: a tmux server, or whatever a hook of git starts."""
    program = "['sh', '-c', 'sleep 60 </dev/null >/dev/null 2>&1 & echo $! >pid']"
    assert holding(home, f"proc.run('git-write', {program}, cwd=sys.argv[1], changes=True)") == 0
    with open(os.path.join(home, "pid")) as file:
        pid = int(file.read())
    os.kill(pid, 0)
    assert not effects.is_under_way(home, SESSION)
    os.kill(pid, signal.SIGKILL)


def test_a_program_under_a_lock_ends_as_it_would_alone(home):
    with effects.hold(home, SESSION):
        said = proc.run("git-write", ["sh", "-c", "cat; echo no >&2; exit 3"], input="yes", changes=True)
        assert said == (3, "yes", "no\n")
        assert proc.run("git-write", ["sh", "-c", "kill -9 $$"], changes=True).code == 128 + signal.SIGKILL
        with pytest.raises(proc.Missing, match="cannot run 'no-such-program'"):
            proc.run("git-write", ["no-such-program"], changes=True)
        with pytest.raises(proc.TimedOut):
            proc.run("git-write", ["sh", "-c", "sleep 60"], seconds=0.1, changes=True)


def test_of_a_folder_of_points_each_is_one_death(tmp_path):
    code = "from lib import effects\nwith effects.effect('merge.merge'): pass"
    for name in ("merge.merge:before", "merge.merge:after"):
        (tmp_path / name).touch()
    environment = {**os.environ, faults.VARIABLE: str(tmp_path)}
    codes = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=60, check=False).returncode
        for _ in range(3)
    ]
    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
