"""The house: what lies where, what every script promises, what may import what."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys

import pytest
import scripts

from lib import ROOT, paths, proc
from lib.errors import AoError

TOP = {"Makefile", "README.md", "bin", "config", "lib", "templates", "tests"}
ORDER = (  # a module of lib/ imports only those before it, and slots; slots import only the floor
    *("errors", "clock", "faults", "paths", "store", "keeper", "proc", "threads", "cache", "plugins", "kinds"),
    *("config", "git", "render", "gh", "cli", "launcher"),
    *("ready", "status", "overview", "conditions", "due", "why", "events", "sessions", "effects", "prompts"),
    *("loop", "launch", "deliver", "notify", "projects", "facts", "merge", "spawn", "lives", "observe"),
    *("tell", "react", "fleet", "rounds", "here"),
)
FLOOR = ORDER[: ORDER.index("launcher") + 1]
SLOTS = ("runtime", "agent", "workspace", "scm", "tracker", "notifier")
TARGETS = [
    "setup",
    "demo",
    "test",
    "test-crash",
    "test-sabotage",
    "lint",
    "bench",
    "spawn",
    "tick",
    "react",
    "watch",
    "status",
    "doctor",
]
TARGETS += ["install", "install-cron", "clean"]


def python_files() -> list[str]:
    """Every file of lib/ and bin/ that holds Python, relative to the repository."""
    found = [os.path.join("bin", name) for name in scripts.NAMES]
    for here, folders, names in os.walk(os.path.join(ROOT, "lib")):
        folders[:] = [folder for folder in folders if folder != "__pycache__"]
        found += [os.path.relpath(os.path.join(here, name), ROOT) for name in names if name.endswith(".py")]
    return sorted(found)


def parsed(path: str, **options: tuple[int, int]) -> ast.Module:
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return ast.parse(file.read(), path, **options)


def calls(path: str, owner: str) -> list[ast.Call]:
    """The calls of OWNER.something(...) in a file."""
    nodes = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    return [node for node in nodes if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == owner]


# --- layout ---------------------------------------------------------------------------------------------------------


def test_the_top_level_holds_what_it_should_and_nothing_else():
    assert {name for name in os.listdir(ROOT) if not name.startswith(".") and name != "__pycache__"} == TOP


def test_every_script_is_executable_and_documented():
    assert scripts.NAMES
    for name in scripts.NAMES:
        assert os.access(os.path.join(scripts.BIN, name), os.X_OK), name
        first = (ast.get_docstring(parsed(f"bin/{name}")) or "").partition("\n")[0]
        assert re.fullmatch(r"[A-Z][^\n]{10,100}\.", first), f"{name}: {first!r}"


# --- every script ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", scripts.NAMES)
def test_help_works_through_a_symlink_from_anywhere_with_an_empty_environment(name, tmp_path):
    link = tmp_path / name
    link.symlink_to(os.path.join(scripts.BIN, name))
    done = subprocess.run(
        [sys.executable, str(link), "--help"],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    purpose = (ast.get_docstring(parsed(f"bin/{name}")) or "").partition("\n")[0]
    assert (done.returncode, done.stderr) == (0, "")
    assert purpose in " ".join(done.stdout.split())


@pytest.mark.parametrize("name", [name for name in scripts.NAMES if name != "ao-hook"])
def test_an_option_that_does_not_exist_is_wrong_usage(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AO_HOME", str(tmp_path))
    done = scripts.run(name, "--no-such-option", cwd=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_script_starts_by_itself_under_env_i():
    done = subprocess.run(
        ["env", "-i", os.path.join(scripts.BIN, "ao"), "version"],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ao 0.1.0\n"), done.stderr


def test_what_could_not_be_done_is_one_line():
    done = scripts.run("ao-config", "validate", "--config", "/no/such\n/file")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"ao-config: cannot read '.*\n", done.stderr)


@pytest.mark.parametrize("path", ["lib/__init__.py", *(f"bin/{name}" for name in scripts.NAMES)])
def test_an_old_python_can_parse_what_it_meets(path):
    parsed(path, feature_version=(3, 6))


def test_an_old_python_gets_one_clear_line(tmp_path):
    """With no .venv to go on with; the version is pretended, so that this holds on every machine."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(os.path.join(ROOT, "lib", "__init__.py"), tmp_path / "lib")
    code = "import sys; sys.version_info = (3, 6, 9); sys.argv = [sys.argv[1]]; sys.path.insert(0, '.'); import lib"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bin" / "ao-tick")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    line = f"ao-tick: needs Python 3.11 or newer, found 3.6; run: make -C {os.path.realpath(tmp_path)} setup\n"
    assert (done.returncode, done.stderr) == (1, line)


# --- what may import what -------------------------------------------------------------------------------------------


def imported(path: str) -> set[str]:
    """The modules of lib that a file imports, anywhere in it."""
    nodes = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.ImportFrom) and node.module]
    whole = {alias.name for node in nodes if node.module == "lib" for alias in node.names}
    return (whole | {str(node.module).split(".")[1] for node in nodes if str(node.module).startswith("lib.")}) - {
        "ROOT",
        "VERSION",
    }


def test_a_module_imports_only_those_before_it():
    files = [path for path in python_files() if os.path.dirname(path) == "lib" and not path.endswith("__init__.py")]
    assert {os.path.basename(path)[:-3] for path in files} == set(ORDER)
    for path in files:
        name = os.path.basename(path)[:-3]
        later = imported(path) - set(ORDER[: ORDER.index(name)]) - set(SLOTS if name not in FLOOR else ())
        assert not later, f"{path} imports {later}"


def test_a_slot_imports_only_the_floor_and_itself():
    for path in python_files():
        slot = os.path.basename(os.path.dirname(path))
        if slot in SLOTS:
            assert not imported(path) - set(FLOOR) - {slot}, path


def test_nothing_else_starts_programs():
    for path in python_files():
        names = {alias.name for node in ast.walk(parsed(path)) if isinstance(node, ast.Import) for alias in node.names}
        if path not in ("lib/proc.py", "lib/launcher.py"):
            assert not names & {"subprocess", "pty", "multiprocessing"}, path


def test_every_program_has_a_time_limit_that_is_named_where_it_is_started():
    """F53: the keys of the one table, each used, each literal."""
    used = set()
    for path in python_files():
        limits = [call.args[0] for call in calls(path, "proc") if call.func.attr == "run"]
        limits += [key.value for call in calls(path, "git") for key in call.keywords if key.arg == "limit"]
        if path == "lib/git.py":  # passes on what its callers name
            continue
        assert all(isinstance(limit, ast.Constant) for limit in limits), path
        used |= {limit.value for limit in limits}
    assert used | {"git"} == set(proc.LIMITS)


# --- ao -------------------------------------------------------------------------------------------------------------


def test_ao_help_lists_every_command_with_its_purpose():
    done = scripts.run("ao", "help")
    for name in scripts.NAMES[1:]:
        first = (ast.get_docstring(parsed(f"bin/{name}")) or "").partition("\n")[0]
        assert re.search(rf"^  ao {name[3:]} +{re.escape(first)}$", done.stdout, re.MULTILINE), name
    assert scripts.run("ao").stdout == done.stdout


def test_ao_becomes_the_command_it_is_given(tmp_path):
    done = scripts.run("ao", "config", "plugins", "--json", AO_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, scripts.run("ao-config", "plugins", "--json").stdout)
    assert scripts.run("ao", "help", "config").stdout.startswith("usage: ao-config")


def test_an_unknown_command_names_the_nearest_one():
    done = scripts.run("ao", "confg")
    assert (done.returncode, done.stderr) == (
        2,
        "ao: there is no command 'confg', did you mean 'config'?; see: ao help\n",
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_know_commands_and_options(shell):
    text = scripts.run("ao", "completion", shell).stdout
    for word in ("config", "validate", "json", "config"):
        assert word in text
    if shell == "bash":
        ask = "COMP_WORDS=(ao config --js); COMP_CWORD=2; _ao; echo ${COMPREPLY[*]}"
        done = subprocess.run(["bash", "-c", text + ask], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "--json\n"


# --- make -----------------------------------------------------------------------------------------------------------


def test_make_alone_lists_the_targets():
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert re.findall(r"^  make ([a-z-]+) +[a-z]", done.stdout, re.MULTILINE) == TARGETS


def test_recipes_are_one_line():
    with open(os.path.join(ROOT, "Makefile")) as file:
        lines = file.read().splitlines()
    assert not [line for line, after in itertools.pairwise(lines) if line[:1] == after[:1] == "\t"]


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
    assert line.startswith("* * * * * PATH=") and line.endswith(f"{ROOT}/bin/ao-watch' --for 1m --quiet")
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


def test_setup_takes_a_new_enough_python_even_if_the_first_one_is_not(tmp_path):
    """The set-up's own search, with a python3 that is too old first on PATH."""
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(old.stat().st_mode | stat.S_IXUSR)
    new = tmp_path / "python3.12"
    new.symlink_to(sys.executable)
    with open(os.path.join(ROOT, "config", "setup.sh")) as file:
        functions = file.read().split("lacking()")[0].replace('cd "$(dirname "$0")/.."', "")
    done = subprocess.run(
        ["sh", "-c", functions + "\nfind_python"],
        env={"PATH": f"{tmp_path}:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == str(new)


@pytest.mark.parametrize("name", ["config/setup.sh", "config/github-schema.sh", "config/install-cron.sh", ".ci/run"])
def test_shell_scripts_parse(name):
    subprocess.run(["sh", "-n", os.path.join(ROOT, name)], timeout=60, check=True)


def test_a_test_without_an_ao_home_of_its_own_cannot_write_to_the_person_s() -> None:
    with pytest.raises(AoError, match="cannot make ao's folder"):
        paths.home()
