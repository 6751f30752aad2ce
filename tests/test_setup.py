"""What brings ao onto a machine: the set-up, cron's line, the service, what CI runs."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import scripts

from lib import ROOT

TOOLS = ("chmod", "dirname", "env", "mkdir", "touch", "tr")  # what the scripts use of any system
INSTALL = "install -y --no-install-recommends"


def program(folder: Path, name: str, text: str) -> None:
    """A program of this name in a folder, a script for sh."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def shell(script: str, *args: str, cwd: object = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", script, *args],
        cwd=str(cwd or ROOT),
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", ["config/setup.sh", "config/github-schema.sh", "config/install-cron.sh", ".ci/run"])
def test_shell_scripts_parse(name):
    subprocess.run(["sh", "-n", os.path.join(ROOT, name)], timeout=60, check=True)


# --- set-up ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path):
    """A system that has everything, in `programs`; its apt-get notes what it is asked for and brings tmux and git.

    Its python3 makes a .venv in which there is nothing to install.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    for tool in TOOLS:
        (programs / tool).symlink_to(str(shutil.which(tool)))
    make_venv = "mkdir -p .venv/bin; echo '#!/bin/sh' > .venv/bin/python; chmod +x .venv/bin/python"
    program(programs, "python3", f'[ "$2" != venv ] || {{ {make_venv}; }}')
    bring = f"for word; do case $word in git|tmux) echo > {programs}/$word; chmod +x {programs}/$word; esac; done"
    program(programs, "apt-get", f"echo $* >> {tmp_path}/apt-get\n{bring}")
    program(programs, "id", "echo 0")
    for name in ("git", "tmux", "make"):
        program(programs, name, f'echo {name} "$@"')
    shutil.copytree(os.path.join(ROOT, "config"), tmp_path / "config")
    return tmp_path


def set_up(system: Path, requirements: str = "requirements.txt") -> subprocess.CompletedProcess[str]:
    args = (f"config/{requirements}", ".venv/.ready")
    return shell(str(system / "config" / "setup.sh"), *args, cwd=system, PATH=str(system / "programs"))


def asked(system: Path) -> list[str]:
    """What apt-get was asked for."""
    path = system / "apt-get"
    return path.read_text().splitlines() if path.exists() else []


def test_where_nothing_is_lacking_nothing_is_installed(system):
    done = set_up(system)
    assert (done.returncode, asked(system)) == (0, []), done
    assert (system / ".venv" / ".ready").exists()


def test_what_the_system_lacks_is_installed_and_nothing_else(system):
    for name in ("git", "tmux"):
        (system / "programs" / name).unlink()
    done = set_up(system)
    assert (done.returncode, asked(system)) == (0, ["update", f"{INSTALL} git ca-certificates tmux"]), done
    assert "setup: installing git ca-certificates tmux with apt-get" in done.stderr
    assert (system / ".venv" / ".ready").exists()


def test_only_who_runs_the_tests_needs_gh_and_npm(system):
    done = set_up(system, "requirements-dev.txt")
    assert (done.returncode, asked(system)) == (0, ["update", f"{INSTALL} gh npm ca-certificates"]), done


def test_a_python_that_cannot_make_a_venv_is_completed(system):
    program(system / "programs", "python3", 'case "$*" in *ensurepip*) exit 1; esac')
    set_up(system)
    assert asked(system) == ["update", f"{INSTALL} python3-venv"]


def test_a_system_without_python_gets_it_and_is_told_when_it_is_too_old(system):
    program(system / "programs", "python3", 'if [ "$1" = --version ]; then echo Python 3.8.1; else exit 1; fi')
    if os.access("/usr/bin/python3", os.X_OK):  # the last name that the set-up tries
        text = (system / "config" / "setup.sh").read_text()
        (system / "config" / "setup.sh").write_text(text.replace("/usr/bin/python3", "/no/python3"))
    done = set_up(system)
    assert asked(system) == ["update", f"{INSTALL} python3 python3-venv"]
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "setup: needs Python 3.11 or newer, found Python 3.8.1",
    )


@pytest.mark.parametrize("why", ["no apt-get", "not root, and sudo wants a password"])
def test_where_nothing_may_be_installed_what_is_lacking_is_said(system, why):
    (system / "programs" / "tmux").unlink()
    if why == "no apt-get":
        (system / "programs" / "apt-get").unlink()
    else:
        program(system / "programs", "id", "echo 1000")
        program(system / "programs", "sudo", "exit 1")
    done = set_up(system)
    assert (done.returncode, asked(system)) == (1, [])
    assert re.fullmatch("setup: this system lacks: tmux *; install these, then run make again\n", done.stderr)
    assert not (system / ".venv").exists()


def test_a_new_enough_python_is_taken_even_if_the_first_one_is_not(system):
    programs = system / "programs"
    (programs / "python3").rename(programs / "python3.12")
    program(programs, "python3", "exit 1")
    done = set_up(system)
    assert (done.returncode, asked(system)) == (0, []), done
    assert done.stderr == f"setup: making .venv with {programs}/python3.12\n"


def test_install_says_when_its_folder_is_not_on_the_path(tmp_path):
    for path, said in ((os.environ["PATH"], True), (f"{tmp_path}/bin:{os.environ['PATH']}", False)):
        done = subprocess.run(
            ["make", "-s", "install", f"PREFIX={tmp_path}"],
            cwd=ROOT,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout == f"linked into {tmp_path}/bin\n" and os.path.exists(tmp_path / "bin" / "ao-spawn")
        assert (f'export PATH="{tmp_path}/bin:$PATH"' in done.stderr) == said


# --- CI -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", ["", "git", "tmux", "python3"])
def test_ci_installs_what_any_of_its_programs_lacks_and_runs_the_checks(system, lacking):
    if lacking:
        (system / "programs" / lacking).unlink()
    done = shell(os.path.join(ROOT, ".ci", "run"), PATH=str(system / "programs"))
    assert (done.returncode, done.stdout) == (0, "make lint test\n"), done
    packages = "make git tmux python3 python3-venv"
    assert asked(system) == (["update -q", f"install -qy {packages}"] if lacking else [])


# --- cron and systemd -----------------------------------------------------------------------------------------------


def cron(tmp_path, listing: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Install the loop into a crontab that is a file; `crontab -l` runs `listing`."""
    fake = tmp_path / "crontab"
    fake.write_text(f'#!/bin/sh\ncd {tmp_path}\nif [ "$1" = -l ]; then {listing}; else cat > new; mv new table; fi\n')
    fake.chmod(0o755)
    return subprocess.run(
        ["sh", os.path.join(ROOT, "config", "install-cron.sh")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_cron_gets_one_line_however_often_and_keeps_the_others(tmp_path):
    """With names in which cron, sh or sed could see more than letters."""
    table, odd = tmp_path / "table", "/50%|&'\"$x y"
    table.write_text("0 0 * * * backup\n")
    for _ in range(2):
        assert cron(tmp_path, "cat table", AO_HOME=odd).returncode == 0
    kept, line = table.read_text().splitlines()
    assert kept == "0 0 * * * backup"
    assert line.startswith("* * * * * PATH=") and line.endswith(f"'{ROOT}/bin'/ao-watch --for 1m --quiet")
    assert not re.search(r"(?<!\\)%", line)
    words = shlex.split(line.replace("\\%", "%"))[5:]
    assert words[1:3] == ["LANG=C.UTF-8", f"AO_HOME={odd}"] and words[0].startswith(f"PATH={tmp_path}:")


def test_a_crontab_that_cannot_be_read_is_left_alone_and_one_that_is_not_there_is_made(tmp_path):
    table = tmp_path / "table"
    table.write_text("0 0 * * * backup\n")
    done = cron(tmp_path, "echo you are not allowed >&2; exit 1")
    assert (done.returncode, table.read_text()) == (1, "0 0 * * * backup\n")
    assert "you are not allowed" in done.stderr
    assert cron(tmp_path, "echo no crontab for ada >&2; exit 1").returncode == 0
    assert len(table.read_text().splitlines()) == 1


@pytest.mark.parametrize("home", ["home", ".ao"])
def test_the_crontab_runs_as_it_is_installed(tmp_path, home):
    """cron gives a line to sh with a HOME and little else; without AO_HOME the loop's folder is ~/.ao."""
    named = {} if home == ".ao" else {"AO_HOME": str(tmp_path / home)}
    assert cron(tmp_path, "echo no crontab for ada >&2; exit 1", **named).returncode == 0
    *_, command = (tmp_path / "table").read_text().split(" ", 5)
    command = command.replace("\\%", "%").replace("--for 1m", "--for 0s")
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd="/",
        env={"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / home / "loop.yaml").exists()


def test_the_service_starts_what_make_install_has_linked(tmp_path, monkeypatch):
    with open(os.path.join(ROOT, "config", "ao.service")) as file:
        text = file.read()
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    service = unit["Service"]
    program, *options = service["ExecStart"].split()
    done = subprocess.run(
        ["make", "-s", "install", f"HOME={tmp_path}", "-o", ".venv/.ready"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    linked = program.replace("%h", str(tmp_path))
    assert os.path.realpath(linked) == os.path.join(ROOT, "bin", "ao-watch"), done
    monkeypatch.setenv("AO_HOME", str(tmp_path / "home"))
    assert scripts.call("ao-watch", *options, "--for", "0s") == (0, "", "")
    assert os.path.dirname(program) in dict(word.split("=", 1) for word in service["Environment"].split())["PATH"]
    assert service["KillMode"] == "process"  # the terminals are its children, and must not end with it
    assert unit["Install"]["WantedBy"] == "default.target"


def test_cron_runs_the_loops_of_two_homes(tmp_path):
    table = tmp_path / "table"
    table.write_text("")
    for home in ("/a", "/b", "/a"):
        assert cron(tmp_path, "cat table", AO_HOME=home).returncode == 0
    assert [re.search(r"AO_HOME='(.+?)'", line)[1] for line in table.read_text().splitlines()] == ["/b", "/a"]
