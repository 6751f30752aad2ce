"""The house: what lies where, what every script promises, what may import what."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import signal
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
    *("config", "git", "render", "gh", "cli", "costs", "launcher"),
    *("budgets", "ready", "status", "overview", "rules", "conditions", "due", "why", "events"),
    *("sessions", "effects", "prompts"),
    *("loop", "launch", "deliver", "notify", "projects", "concerns"),
    *("facts", "merge", "publish", "spawn", "resume", "lives", "kept", "observe"),
    *("tell", "place", "chores", "react", "fleet", "rounds", "here"),
)
FLOOR = ORDER[: ORDER.index("launcher") + 1]
SLOTS = ("runtime", "agent", "workspace", "scm", "tracker", "notifier")
TARGETS = [
    "setup",
    "demo",
    "test",
    "test-sim",
    "test-crash",
    "test-clients",
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
def test_ctrl_c_while_a_script_starts_is_no_traceback(name, tmp_path):
    """F48: on a busy machine a second goes by before a script's own story begins; a shell calls this end 130."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nclass Slow:\n    def find_spec(self, name, *rest):\n        if name == 'lib.cli':\n"
        "            print('begins', flush=True)\n            time.sleep(60)\nsys.meta_path.insert(0, Slow())\n"
    )
    words = [sys.executable, os.path.join(scripts.BIN, name)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(tmp_path)}, **pipes) as process:
        assert process.stdout and process.stdout.readline() == "begins\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (-signal.SIGINT, "")


@pytest.mark.parametrize("name", [name for name in scripts.NAMES if name != "ao-hook"])
def test_an_option_that_does_not_exist_is_wrong_usage(name, tmp_path, monkeypatch):
    monkeypatch.setenv("AO_HOME", str(tmp_path))
    done = scripts.run(name, "--no-such-option", cwd=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["version"], ["status"]])
def test_a_script_starts_by_itself_under_env_i(words, tmp_path):
    """Also one that starts another: without a PATH, Python does not know which program it is."""
    done = subprocess.run(
        ["env", "-i", f"AO_HOME={tmp_path}", os.path.join(scripts.BIN, "ao"), *words],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_starts_python_again_has_its_path_also_under_env_i():
    code = f"import sys; sys.executable = ''; sys.path.insert(0, {ROOT!r}); from lib import launcher\n"
    argv = [sys.executable, "-c", code + "print(launcher.command('x')[0])"]
    done = subprocess.run(argv, env={}, capture_output=True, text=True, timeout=60, check=True)
    assert os.path.samefile(done.stdout.strip(), sys.executable)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ao-status", "--project", "nope"], 1, "there is no project 'nope' (known: recorded, written)"),
        (["ao-tick", "--project", "nope"], 1, "there is no project 'nope' (known: recorded, written)"),
        (["ao-status", "--project", "written"], 0, ""),
        (["ao-status", "--project", "recorded"], 0, ""),
        (["ao-status", ""], 2, "say which session: its id, or the beginning of one"),
        (["ao-events", ""], 2, "say which session: its id, or the beginning of one"),
        (["ao-watch", "--for", "banana"], 2, "argument --for: not a duration: 'banana'"),
        (["ao-events", "--since", "banana"], 2, "argument --since: not a duration: 'banana'"),
        (["ao-review", "1", "--comment", "-m", "x", "--line", "3"], 2, "--line says where in a file"),
        (["ao-logs", "--bogus"], 2, "unrecognized arguments: --bogus"),
        (["ao", "wakth"], 2, "there is no command 'wakth', did you mean 'watch'?; see: ao help"),
        (["ao", "nonsense"], 2, "there is no command 'nonsense'; see: ao help"),
    ],
)
def test_wrong_arguments_are_named(words, code, said, tmp_path, monkeypatch):
    monkeypatch.delenv("AO_CONFIG", raising=False)
    (tmp_path / "home" / "sessions" / "recorded").mkdir(parents=True)
    (tmp_path / "ao.yaml").write_text("projects: {written: {path: ., agent_config: {command: [x]}}}\n")
    done = scripts.call(*words, cwd=str(tmp_path), AO_HOME=str(tmp_path / "home"))
    assert (done.code, said in done.err) == (code, True), done.err


@pytest.mark.parametrize("words", [["ao-status"], ["ao-events"], ["ao-logs", "x"], ["ao-attach", "x"]])
def test_a_reader_does_not_make_ao_s_folder_and_no_folder_depends_on_where_one_is(words, tmp_path):
    scripts.call(*words, AO_HOME=str(tmp_path / "home"))
    assert not (tmp_path / "home").exists()
    done = scripts.call(*words, AO_HOME="home", cwd=str(tmp_path))
    assert (done.code, done.err) == (1, f"{words[0]}: AO_HOME must be an absolute path, not 'home'\n")
    done = scripts.call(*words, AO_HOME="", HOME="me", cwd=str(tmp_path))
    assert (done.code, done.err) == (1, f"{words[0]}: HOME must be an absolute path, not 'me/.ao'\n")
    assert list(tmp_path.iterdir()) == []


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


@pytest.fixture
def elsewhere(tmp_path):
    """A checkout with one script, which says which Python runs it, and a .venv of another version than this one."""
    for folder in ("lib", "bin", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(os.path.join(ROOT, "lib", "__init__.py"), tmp_path / "lib")
    (tmp_path / "bin" / "ao-x").write_text(
        "import os, sys\nsys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))\n"
        "import lib\nprint('run by', sys.executable, *sys.argv[1:])\n"
    )
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\necho "run again by $0: $*"\n')
    python.chmod(0o755)
    return tmp_path


def start(script: str, *args: str, **env: str) -> str:
    return subprocess.run(
        [sys.executable, script, *args], cwd="/", env=env, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_a_script_that_another_python_starts_goes_on_under_that_of_the_venv(elsewhere):
    """Through a symlink, with its arguments as they are; the interpreter's full path says which .venv it belongs to."""
    root = os.path.realpath(elsewhere)
    (elsewhere / "link").symlink_to(elsewhere / "bin" / "ao-x")
    said = start(str(elsewhere / "link"), "a b", "*")
    assert said == f"run again by {root}/.venv/bin/python: {root}/bin/ao-x a b *\n"


def test_a_script_stays_with_a_python_for_which_the_venv_has_packages(elsewhere):
    packages = elsewhere / ".venv" / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    packages.mkdir(parents=True)
    assert start(str(elsewhere / "bin" / "ao-x"), "a") == f"run by {sys.executable} a\n"


def test_a_stray_lib_among_the_packages_does_not_win(elsewhere, tmp_path):
    """Were lib/ without its __init__.py, any other `lib` would be taken, wherever it lies."""
    packages = elsewhere / ".venv" / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    for folder in (packages / "lib", tmp_path / "strange" / "lib"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('a stray lib')\n")
    said = start(str(elsewhere / "bin" / "ao-x"), PYTHONPATH=str(tmp_path / "strange"))
    assert said == f"run by {sys.executable}\n"
    script = os.path.join(scripts.BIN, "ao")
    assert start(script, "version", PYTHONPATH=str(tmp_path / "strange")) == "ao 0.1.0\n"


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


COMPLETIONS = {  # what is typed: all that is offered
    "ao st": "start status stop",
    "ao help sta": "start status",
    "ao completion ": "bash fish zsh",
    "ao pr o": "open",
    "ao-pr o": "open",
    "ao config ": "path plugins show validate",
    "ao hook r": "received report",
    "ao hook -": "--help --message -h -m",
    "ao start --": "--force --help --repo --run --scm",  # and none of those that it gives to git
    "ao status --w": "--watch --why",
    "ao-status --p": "--pr --project",
    "ao logs -": "--help -f -h -n",
    "ao tick --": "--help --json --project",
    "ao watch --co": "--config",
    "ao watch --pro": "",
    "ao spawn ": "12 7",
    "ao spawn 7 1": "12",
    "ao issue close ": "12 7",
    "ao-kill ": "shop-1",
    "ao attach ": "shop-1",
    "ao send shop-": "shop-1",
    "ao restore ": "shop-2 shop-3",
    "ao-prune shop-": "shop-2 shop-3",
    "ao-events shop-": "shop-1 shop-2 shop-3",
    "ao status --project shop-": "",
}
ASK = {
    "bash": """offer() {
        COMP_WORDS=($1); case "$1" in *" ") COMP_WORDS+=("") ;; esac
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _ao; printf '%s\\n' "${COMPREPLY[*]}"
    }""",
    "fish": "function offer; echo (complete -C $argv[1] | string split -f 1 \\t); end",
}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_offer_what_there_is_and_nothing_else(shell, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    text = scripts.run("ao", "completion", shell).stdout
    if shell == "zsh":  # it takes bash's, and to press Tab there it would need a terminal
        subprocess.run([shell, "-n", "-c", text], timeout=60, check=True)
        return
    for number, status in enumerate(("working", "merged", "terminated"), 1):
        path = tmp_path / "my home" / "sessions" / "shop" / f"shop-{number}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"id: shop-{number}\nstatus: {status}\n")
    (tmp_path / "docs" / "issues").mkdir(parents=True)
    for name in ("0007-rounding.md", "0012-a-login-page.md", "notes.md"):
        (tmp_path / "docs" / "issues" / name).write_text("# Title\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, timeout=60, check=True)
    questions = "".join(f"offer '{line}'\n" for line in COMPLETIONS)
    done = subprocess.run(
        [shell, "-c", f"{text}\n{ASK[shell]}\n{questions}"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "AO_HOME": str(tmp_path / "my home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answers = [" ".join(sorted(line.split())) for line in done.stdout.splitlines()]
    assert dict(zip(COMPLETIONS, answers, strict=True)) == COMPLETIONS, done.stderr


# --- make -----------------------------------------------------------------------------------------------------------


def test_make_alone_lists_the_targets():
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert re.findall(r"^  make ([a-z-]+) +[a-z]", done.stdout, re.MULTILINE) == TARGETS


def test_recipes_are_one_line():
    with open(os.path.join(ROOT, "Makefile")) as file:
        lines = file.read().splitlines()
    assert not [line for line, after in itertools.pairwise(lines) if line[:1] == after[:1] == "\t"]


def test_a_test_without_an_ao_home_of_its_own_cannot_write_to_the_person_s() -> None:
    with pytest.raises(AoError, match="cannot make ao's folder"):
        paths.home()


@pytest.mark.parametrize("value", [None, "", "~/.ao"])
def test_ao_s_folder_is_below_the_person_s_where_nothing_else_is_said(value, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is not None:
        monkeypatch.setenv("AO_HOME", value)
    assert paths.home() == str(tmp_path / ".ao") and os.path.isdir(tmp_path / ".ao")


def test_only_its_owner_can_enter_ao_s_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AO_HOME", str(tmp_path / "home"))
    before = os.umask(0)
    try:
        assert stat.S_IMODE(os.stat(paths.home()).st_mode) == 0o700
    finally:
        os.umask(before)
