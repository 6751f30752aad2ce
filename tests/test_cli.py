"""What every script does the same way, and which project a command means."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys

import pytest

from lib import ROOT, cli
from lib.errors import AoError, UsageError
from lib.notifier import stdout

HEAD = "import sys; sys.argv = ['ao-x']; from lib import cli; from lib.errors import AoError\n"


def python(code: str, **options: object) -> subprocess.Popen[str]:
    """A process that runs `code` as the script ao-x would."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-c", HEAD + code], cwd=ROOT, text=True, **pipes)


@pytest.mark.parametrize(
    ("body", "code", "err"),
    [
        ("return 0", 0, ""),
        ("raise AoError('cannot do \"x\":\\n  no')", 1, 'ao-x: cannot do "x": no\n'),
        ("raise KeyboardInterrupt", 130, ""),
        ("cli.parser('Do.', 'ao-x').parse_args(['--help'])", 0, ""),
    ],
)
def test_exit_codes_and_the_one_line(body, code, err):
    """F48"""
    process = python(f"def main(argv):\n    {body}\nsys.exit(cli.run(main))")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (code, err)


def test_a_bug_keeps_its_traceback():
    process = python("sys.exit(cli.run(lambda argv: 1 // 0))")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "ZeroDivisionError" in said and "Traceback" in said


def test_sigterm_ends_a_script_cleanly():
    """F50: what it started and holds is let go of on the way out."""
    code = (
        "import time\ndef main(argv):\n    cli.parser('Do.', 'ao-x')\n    try:\n        print('on', flush=True)\n"
        "        time.sleep(60)\n    finally:\n        print('clean', flush=True)\nsys.exit(cli.run(main))"
    )
    process = python(code)
    assert process.stdout and process.stdout.readline() == "on\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (143, "clean\n", "")


def test_a_closed_pipe_is_no_error():
    read, write = os.pipe()
    os.close(read)
    process = python("def main(argv):\n    print('x' * 100000)\n    return 0\nsys.exit(cli.run(main))", stdout=write)
    os.close(write)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 0


def test_who_follows_ends_with_its_reader_and_not_with_the_next_news():
    code = "def main(argv):\n    print('one', flush=True)\n    cli.rest(3600)\nsys.exit(cli.run(main))"
    with python(code) as process:
        assert process.stdout and process.stdout.readline() == "one\n"
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr and process.stderr.read()) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_leads_nowhere(closed, tmp_path):
    """Neither to a traceback nor into a file that is opened later, by this process or by one that it starts."""
    body = (
        "import os\ndef main(argv):\n    file = open(argv[0], 'w')\n    print('out')\n    cli.say('ao-x: err')\n"
        "    sys.stdin.read()\n    os.system('echo child; echo child >&2')\n    return 3\nsys.exit(cli.run(main))"
    )
    path = str(tmp_path / "file")
    code = HEAD.replace("'ao-x'", f"'ao-x', {path!r}") + body
    words = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, input=b"", timeout=60, check=False)
    assert done.returncode == 3 and not os.path.getsize(path)
    assert b"Traceback" not in done.stderr and (done.stderr == b"ao-x: err\nchild\n" or "2>" in closed)


def test_logs_are_for_who_asks_and_never_on_stdout(monkeypatch, capsys):
    """F48"""
    monkeypatch.setattr(sys, "argv", ["ao-x"])
    for level in (None, "debug", "nonsense"):
        monkeypatch.setenv("AO_LOG", level) if level else monkeypatch.delenv("AO_LOG", raising=False)
        cli.log("debug", "small")
        cli.log("warning", "big")
    assert capsys.readouterr() == (
        "",
        "ao-x: warning: big\nao-x: debug: small\nao-x: warning: big\nao-x: warning: big\n",
    )


@pytest.mark.parametrize("level", ["debug", "info"])
def test_debug_tells_each_program_by_its_words_time_and_exit_code(level):
    """And nothing of what it read, or of what its environment holds."""
    code = (
        "from lib import proc\nimport contextlib\ndef main(argv):\n"
        "    proc.run('tool', ['sh', '-c', 'cat >&2; exit 3', 'A_KEY=s3cr'], input='s3cr', env={'B_KEY': 's3cr'})\n"
        "    proc.run('tool', ['echo', 'x' * 500, *'abcdefghijklmnop'])\n"
        "    with contextlib.suppress(AoError):\n"
        "        proc.run('tool', ['sleep', '60'], seconds=0.1)\n"
        "    return 0\nsys.exit(cli.run(main))"
    )
    process = python(code, env={**os.environ, "AO_LOG": level})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    expected = (
        r"ao-x: debug: sh -c cat >&2; exit 3 A_KEY=…: \d\.\d{3} s, exit code 3\n"
        r"ao-x: debug: echo x{40}… a b c d e f g h i j …: \d\.\d{3} s, exit code 0\n"
        r"ao-x: debug: sleep 60: \d\.\d{3} s, exit code -15\n"
    )
    assert re.fullmatch(expected if level == "debug" else "", err), err


def test_json_is_always_json(capsys):
    """F48"""
    cli.answer([])
    assert capsys.readouterr().out == "[]\n"


# --- the project that a command means -------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two projects and a broken one in an ao.yaml, and the folder it lies in as the current one."""
    monkeypatch.delenv("AO_CONFIG", raising=False)
    monkeypatch.delenv("AO_PROJECT_ID", raising=False)
    monkeypatch.setenv("AO_HOME", str(tmp_path / "home"))
    (tmp_path / "ao.yaml").write_text(
        "projects:\n  shop: {path: shop, agent_config: {command: [x]}}\n"
        "  inner: {path: shop/inner, agent_config: {command: [x]}}\n  odd: {}\n"
    )
    for folder in ("shop/inner/src", "shop/src", "home/worktrees/shop/shop-1/src"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def meant(project: str | None = None) -> str:
    return cli.project(argparse.Namespace(project=project, config=None)).id


def test_the_project_around_the_folder_is_meant(world, monkeypatch):
    monkeypatch.chdir(world / "shop" / "src")
    assert meant() == "shop"
    monkeypatch.chdir(world / "shop" / "inner" / "src")
    assert meant() == "inner"
    assert meant("shop") == "shop"


def test_in_a_worktree_and_for_an_agent_its_project_is_meant(world, monkeypatch):
    monkeypatch.setenv("AO_CONFIG", str(world / "ao.yaml"))
    monkeypatch.chdir(world / "home" / "worktrees" / "shop" / "shop-1" / "src")
    assert meant() == "shop"
    monkeypatch.setenv("AO_PROJECT_ID", "inner")
    assert meant() == "inner"


def test_where_it_is_not_clear_the_choices_are_named(world):
    with pytest.raises(UsageError, match="add --project with one of: shop, inner, odd"):
        meant()
    with pytest.raises(AoError, match="there is no project 'shep'"):
        meant("shep")
    with pytest.raises(AoError, match=r"cannot use project 'odd': .*ao.yaml:4: projects.odd.path: is missing"):
        meant("odd")


def test_the_only_project_is_meant_from_anywhere(world, monkeypatch):
    (world / "ao.yaml").write_text("projects: {shop: {path: shop, agent_config: {command: [x]}}}\n")
    assert meant() == "shop"


def test_without_a_configuration_the_way_to_one_is_named(world):
    (world / "ao.yaml").unlink()
    with pytest.raises(AoError, match=r"there is no ao.yaml for .* write one with: ao-start"):
        meant()
    (world / "ao.yaml").touch()
    with pytest.raises(AoError, match=r"there is no project in '.*ao.yaml'; write it anew with: ao-start --force"):
        meant()


# --- notifications on the terminal ----------------------------------------------------------------------------------

NOTE = {
    "id": "n-1",
    "at": "2026-01-31T09:05:00.000Z",
    "priority": "urgent",
    "project_id": "shop",
    "session_id": "app-3",
    "status": "needs_input",
    "message": "asks:\n \x1b[2Jmay I?",
    "pr_url": "file:///pr/1",
    "issue_url": None,
}
LINE = "[urgent] shop app-3 (needs_input): asks: \ufffd[2Jmay I? file:///pr/1\n"


@pytest.mark.parametrize(("to", "expected"), [("stdout", (LINE, "")), ("stderr", ("", LINE)), ("", ("", ""))])
def test_a_notification_is_one_harmless_line_and_always_in_the_log(tmp_path, monkeypatch, capsys, to, expected):
    """F29: with nobody at the terminal it is still written down."""
    monkeypatch.setitem(cli._notices, "to", to)
    stdout.send(str(tmp_path), NOTE, {})
    stdout.send(str(tmp_path), {**NOTE, "session_id": None}, {})
    log = (tmp_path / "logs" / "notifications.log").read_text().splitlines(keepends=True)
    assert log[0] == f"2026-01-31T09:05:00.000Z {LINE[:-1]} [n-1]\n" and len(log) == 2
    assert tuple(text[: len(LINE)] for text in capsys.readouterr()) == expected
    assert (stdout.has(str(tmp_path), "n-1"), stdout.has(str(tmp_path), "n-2")) == (True, False)
    assert stdout.problem({}) == ""
