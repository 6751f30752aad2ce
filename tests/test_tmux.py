"""Terminals: exact names, whole messages, and unknown that is never taken for no."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import pty
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

import pytest
from conftest import until
from terminals import agent, children, launch, left, logged, runs, send

from lib import proc
from lib.errors import AoError, Unknown
from lib.runtime import Gone, tmux

NOBODY = "look has no terminal"


@pytest.fixture
def fake_tmux(home, tmp_path, monkeypatch):
    """Put a `tmux` in front of PATH that says one line on stderr and fails; each call is one line in the file."""
    calls = tmp_path / "calls"
    calls.write_text("")

    def install(says: str, exit_code: int = 1, wait: str = "0") -> None:
        script = tmp_path / "bin" / "tmux"
        script.parent.mkdir(exist_ok=True)
        script.write_text(
            f"#!/bin/sh\necho x >> {calls}\nsleep {wait}\necho {shlex.quote(says)} >&2\nexit {exit_code}\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    install.calls = lambda: len(calls.read_text().splitlines())
    return install


# --- names -----------------------------------------------------------------------------------------------------------


def test_app_1_never_means_app_10(home):
    """F7"""
    launch(home, "app-10", ["cat"])
    for act in (
        lambda: tmux.screen(home, "app-1"),
        lambda: tmux.screen(home, "app-1", history=True),
        lambda: tmux.paste(home, "app-1", "not for you"),
        lambda: tmux.press(home, "app-1", "Enter"),
    ):
        with pytest.raises(Gone):
            act()
    tmux.stop(home, "app-1")
    assert list(tmux.look(home)) == ["app-10"]
    assert "not for you" not in tmux.screen(home, "app-10", history=True)


def test_a_dot_in_a_handle_stays_a_dot(home):
    launch(home, "web.api-1", ["cat"])
    assert list(tmux.look(home)) == ["web.api-1"]
    assert "running cat" in until(lambda: tmux.screen(home, "web.api-1"))
    tmux.stop(home, "web.api-1")
    assert tmux.look(home) == {}


def test_a_handle_is_taken_once(home):
    launch(home, "app-1", ["cat"])
    with pytest.raises(AoError, match="duplicate session") as raised:
        launch(home, "app-1", ["cat"])
    assert not isinstance(raised.value, Unknown)


def test_words_reach_the_program_as_they_are(home):
    """F8"""
    words = ["-x", "a;", ";", "#{pane_id}", "$HOME", "ünï 'q'"]
    folder = os.path.join(home, "a#{pid}b;")
    os.mkdir(folder)
    out = pathlib.Path(home, "out")
    code = f"import sys, os; open({str(out)!r}, 'w').write(ascii([*sys.argv[1:], os.getcwd(), os.environ['K']]))"
    tmux.start(home, "app-1", [sys.executable, "-c", code, *words], folder, {"K": "v;"})
    assert eval(until(lambda: out.exists() and out.read_text())) == [*words, folder, "v;"]


def test_a_single_word_is_a_program_and_not_a_shell_line(home):
    program = pathlib.Path(home, "my agent; true")
    program.write_text("#!/bin/sh\necho started\ncat\n")
    program.chmod(0o755)
    tmux.start(home, "app-1", [str(program)], home, {})
    until(lambda: "started" in tmux.screen(home, "app-1"), "the program")


def test_terminals_started_at_once_share_one_server(home):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: launch(home, f"app-{number}", ["cat"]), range(8)))
    assert sorted(tmux.look(home)) == [f"app-{number}" for number in range(8)]


# --- messages --------------------------------------------------------------------------------------------------------

MESSAGES = {
    "several lines": "first\n\n  third\nlast",
    "unicode": "naïve 日本語 🙂 ✳ e\u0301",
    "leading dash": "-l --help",
    "trailing semicolon": "run x;",
    "quotes and dollars": 'it\'s "$HOME" `id` $(id) #{pane_id} \\;',
    "long": "\n".join(f"line {number} " + "x" * 80 for number in range(60)),
    "one long line": "word " * 2000 + "end",
    "a tab": "a\tb",
}


@pytest.fixture(scope="module")
def listener(request):
    """One scripted agent for all messages."""
    folder = tempfile.mkdtemp(prefix="ao-", dir="/tmp")
    yield folder, agent(folder, "app-1")
    tmux.kill_server(folder)
    shutil.rmtree(folder)


@pytest.mark.parametrize("text", MESSAGES.values(), ids=MESSAGES.keys())
def test_a_message_arrives_as_one_block_byte_for_byte(listener, text):
    """F5, F8"""
    home, log = listener
    before = len(logged(log))
    send(home, "app-1", text)
    assert until(lambda: logged(log)[before:], "the message") == [text]


def test_control_characters_never_reach_an_agent(listener):
    """F5"""
    home, log = listener
    before = len(logged(log))
    send(home, "app-1", "a\x03\x04b\x1b[201~\r\nc\x7f\x9bd\x00")
    assert until(lambda: logged(log)[before:], "the message") == ["ab[201~\ncd"]


def test_letters_of_all_languages_arrive_and_are_seen_whatever_the_locale(home, monkeypatch):
    """cron and systemd set none."""
    for name in ("LANG", "LC_CTYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_ALL", "C")
    launch(home, "app-1", ["sh", "-c", "printf '\\033]2;✳ 日本\\007'; exec cat"])
    until(lambda: tmux.look(home)["app-1"].title == "✳ 日本", "the title")
    send(home, "app-1", "naïve 日本語 🙂")
    until(lambda: tmux.screen(home, "app-1").count("naïve 日本語 🙂\n") == 2, "the text and its echo")


def test_an_answer_that_looks_like_an_option_is_typed(home):
    launch(home, "app-1", ["cat"])
    until(lambda: "running cat" in tmux.screen(home, "app-1"), "the program")
    tmux.press(home, "app-1", "-l")
    until(lambda: tmux.screen(home, "app-1").endswith("\n-l"), "the answer")


def test_several_keys_are_pressed_one_by_one(home):
    launch(home, "app-1", ["cat"])
    until(lambda: "running cat" in tmux.screen(home, "app-1"), "the program")
    tmux.press(home, "app-1", "a Space b")
    until(lambda: tmux.screen(home, "app-1").endswith("\na b"), "the keys")
    tmux.press(home, "app-1", " ")
    tmux.press(home, "app-1", "c")
    until(lambda: tmux.screen(home, "app-1").endswith("\na b c"), "the blank")


def test_a_paste_for_a_terminal_that_ended_is_refused_and_the_others_live_on(home):
    """F4, F8"""
    launch(home, "app-2", ["cat"])
    path = launch(home, "app-1", ["sh", "-c", "exit 3"])
    assert left(path)["code"] == 3
    until(lambda: "app-1" not in tmux.look(home), "the end of the terminal")
    with pytest.raises(Gone):
        tmux.paste(home, "app-1", "rm -rf /")
    with pytest.raises(Gone):
        tmux.press(home, "app-1", "Enter")
    assert list(tmux.look(home)) == ["app-2"]
    assert "ao-app-1" not in tmux._tmux(home, "list-buffers")


def test_nothing_but_the_agent_s_own_pane_is_ever_typed_into(home):
    """F4: a person opened a shell in a second window and left it in front."""
    log = agent(home, "app-1")
    tmux._tmux(home, "new-window", "-t", "=app-1:", "-n", "mine", "--", "env", "cat")
    send(home, "app-1", "for the agent")
    assert until(lambda: logged(log)) == ["for the agent"]
    send(home, "app-1", "/exit")
    until(lambda: "app-1" not in tmux.look(home), NOBODY)
    with pytest.raises(Gone):
        tmux.paste(home, "app-1", "for the shell")
    tmux.stop(home, "app-1")
    with pytest.raises(Gone):
        tmux._tmux(home, "has-session", "-t", "=app-1")


# --- the screen ------------------------------------------------------------------------------------------------------


def test_the_screen_ends_where_the_text_or_the_cursor_is(home):
    launch(home, "app-1", ["sh", "-c", "printf 'question  \\n> '; exec cat"])
    until(lambda: tmux.screen(home, "app-1").endswith("question\n>"), "the prompt")
    send(home, "app-1", "typed")
    until(lambda: tmux.screen(home, "app-1").endswith("question\n> typed\ntyped\n"), "the echo")


def test_the_history_holds_the_past_with_long_lines_whole(home):
    launch(home, "app-1", [sys.executable, "-c", "print('x' * 450); [print(i) for i in range(300)]; input()"])
    until(lambda: "299" in tmux.screen(home, "app-1"), "the output")
    lines = tmux.screen(home, "app-1", history=True).split("\n")
    assert lines[0].startswith("ao: running ")
    assert lines[1:302] == ["x" * 450, *map(str, range(300))]
    assert "x" not in tmux.screen(home, "app-1")


def test_the_alternate_screen_has_no_history(home):
    code = r"import sys; print('past\n' * 100, '\33[?1049h\33[Hnow', end='', flush=True); sys.stdin.read()"
    launch(home, "app-1", [sys.executable, "-c", code])
    until(lambda: "now" in tmux.screen(home, "app-1"), "the output")
    assert tmux.screen(home, "app-1", history=True) == "now"


def test_a_look_tells_titles_and_copy_mode(home):
    launch(home, "app-1", ["sh", "-c", "printf '\\033]2;✳ two words \\007'; exec cat"])
    until(lambda: tmux.look(home)["app-1"].title == "✳ two words ", "the title")
    assert not tmux.look(home)["app-1"].in_mode
    tmux._tmux(home, "copy-mode", "-t", "=app-1:")
    assert tmux.look(home)["app-1"].in_mode


def test_a_look_tells_when_an_attached_person_typed(home):
    launch(home, "app-1", ["cat"])
    assert tmux.look(home)["app-1"].typed_at == 0.0
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", TMUX="/inside/another,1,0")
        command = tmux.attach(home, "app-1")
        os.execvp(command[0], command)
    try:
        until(lambda: tmux.look(home)["app-1"].typed_at > 0, "the attached person")
        first = tmux.look(home)["app-1"].typed_at
        until(lambda: time.time() > first + 1.1, "the next second")
        tmux.paste(home, "app-1", "what ao types does not count")
        assert tmux.look(home)["app-1"].typed_at == first
        os.write(terminal, b"k")
        until(lambda: tmux.look(home)["app-1"].typed_at > first, "the key")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    until(lambda: tmux.look(home)["app-1"].typed_at == 0.0, "the person to leave")


# --- no, and unknown ------------------------------------------------------------------------------------------------

DEFINITE = [
    "no server running on /tmp/x",
    "error connecting to /tmp/x (No such file or directory)",
    "no current target",
]
NO_PANE = ["can't find session: app-1", "can't find window: 0", "can't find pane: 0"]
UNKNOWN = [
    "error connecting to /tmp/x (Permission denied)",
    "error connecting to /tmp/x (Connection refused)",
    "server exited unexpectedly",
    "protocol version mismatch (client 8, server 7)",
    "lost server",
    "create session failed: : Resource temporarily unavailable",
    "unforeseen",
    "",
]


@pytest.mark.parametrize("says", DEFINITE)
def test_no_server_is_a_definite_none(home, fake_tmux, says):
    fake_tmux(says)
    assert tmux.look(home) == {}
    with pytest.raises(Gone):
        tmux.paste(home, "app-1", "x")
    tmux.stop(home, "app-1")


@pytest.mark.parametrize("says", NO_PANE)
def test_no_such_terminal_is_a_definite_no(home, fake_tmux, says):
    fake_tmux(says)
    with pytest.raises(Gone):
        tmux.screen(home, "app-1")


@pytest.mark.parametrize("says", UNKNOWN)
def test_any_other_failure_is_unknown_and_never_no(home, fake_tmux, says):
    """F10"""
    fake_tmux(says)
    for act in (
        lambda: tmux.look(home),
        lambda: tmux.screen(home, "app-1"),
        lambda: tmux.paste(home, "app-1", "x"),
        lambda: tmux.press(home, "app-1", "Enter"),
        lambda: tmux.stop(home, "app-1"),
        lambda: tmux.start(home, "app-1", ["a", "b"], home, {}),
    ):
        with pytest.raises(Unknown):
            act()


def test_a_server_that_exits_is_asked_once_more(home, fake_tmux):
    fake_tmux("server exited unexpectedly")
    with pytest.raises(Unknown):
        tmux.look(home)
    assert fake_tmux.calls() == 2


def test_a_tmux_that_hangs_is_unknown_within_its_limit(home, fake_tmux, monkeypatch):
    fake_tmux("", wait="600")
    monkeypatch.setitem(proc.LIMITS, "tmux", 0.2)
    with pytest.raises(Unknown, match="did not end within"):
        tmux.look(home)


def test_a_stopped_server_is_unknown_and_every_agent_survives(home, monkeypatch):
    """F10"""
    launch(home, "app-1", ["cat"])
    server = int(tmux._tmux(home, "display-message", "-p", "#{pid}"))
    with monkeypatch.context() as patched:
        patched.setitem(proc.LIMITS, "tmux", 0.3)
        os.kill(server, signal.SIGSTOP)
        try:
            with pytest.raises(Unknown):
                tmux.look(home)
        finally:
            os.kill(server, signal.SIGCONT)
    assert "app-1" in tmux.look(home)


def test_no_tmux_on_path_is_unknown_in_one_clear_line(home, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unknown, match="cannot run 'tmux': not found on PATH; see: ao-doctor"):
        tmux.look(home)


def test_a_look_at_nothing_starts_no_server(home):
    assert tmux.look(home) == {}
    assert os.listdir(home) == []


def test_the_server_stays_when_its_last_agent_ends(home):
    launch(home, "app-1", ["true"])
    until(lambda: tmux.look(home) == {}, NOBODY)
    assert tmux._tmux(home, "show-options", "-sv", "exit-empty").strip() == "off"


# --- where the server lives -----------------------------------------------------------------------------------------


def test_a_long_home_has_its_socket_in_a_private_folder(tmp_path):
    home = str(tmp_path / ("long" * 25))
    os.mkdir(home)
    path = tmux.socket(home)
    try:
        assert len(path) < 50
        assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
        assert path != tmux.socket(home + "x")
        launch(home, "app-1", ["cat"])
        assert list(tmux.look(home)) == ["app-1"]
    finally:
        tmux.kill_server(home)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o1777])
def test_a_folder_that_others_enter_never_holds_the_socket(monkeypatch, tmp_path, mode):
    folder = f"/tmp/ao-{os.getuid()}"
    seen = os.stat(tmp_path)
    monkeypatch.setattr(os, "mkdir", lambda path, mode: None)
    fields = [stat.S_IFDIR | mode, *list(seen)[1:]]
    monkeypatch.setattr(os, "lstat", lambda path: os.stat_result(fields))
    with pytest.raises(Unknown, match=folder):
        tmux.socket("/home/" + "x" * 100)


def test_a_person_s_tmux_settings_change_nothing(home, monkeypatch, tmp_path):
    (tmp_path / ".tmux.conf").write_text(
        "set -g destroy-unattached on\nset -g remain-on-exit on\nset -g base-index 5\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    launch(home, "app-1", ["cat"])
    launch(home, "app-2", ["true"])
    until(lambda: list(tmux.look(home)) == ["app-1"], "app-1 to stay and app-2 to go")


def test_the_server_knows_no_secret_of_whoever_started_it(home, monkeypatch):
    monkeypatch.setenv("GH_TOKEN", "s3cret")
    monkeypatch.setenv("TMUX", "/tmp/other,1,0")
    launch(home, "app-1", ["cat"])
    known = tmux._tmux(home, "show-environment", "-g")
    assert "s3cret" not in known
    assert "/tmp/other" not in known


def test_a_new_terminal_is_200_by_50(home):
    launch(home, "app-1", ["cat"])
    shown = tmux._tmux(home, "display-message", "-p", "-t", "=app-1:0.0", "#{pane_width} #{pane_height}")
    assert shown.split() in (["200", "50"], ["200", "49"])


# --- the end --------------------------------------------------------------------------------------------------------

STUBBORN = """
import os, signal, sys, time
for sign in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
    signal.signal(sign, signal.SIG_IGN)
if os.fork() == 0:
    {"stays": int, "leaves": os.setsid, "orphan": lambda: os.fork() and os._exit(0)}[sys.argv[1]]()
open(sys.argv[2] + "." + str(os.getpid()), "w").close()
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize("kind", ["stays", "leaves", "orphan"])
def test_stop_ends_everything_in_the_terminal_however_stubborn(home, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tmux, "ENDING", ((signal.SIGTERM, 0.3), (signal.SIGKILL, 60.0)))
    mark = str(tmp_path / "pid")
    launch(home, "app-1", [sys.executable, "-c", STUBBORN, kind, mark])
    launch(home, "app-2", ["cat"])
    until(lambda: len(os.listdir(tmp_path)) == 2, "two processes")
    pids = [int(name.split(".")[1]) for name in os.listdir(tmp_path)]
    assert all(map(runs, pids))
    tmux.stop(home, "app-1")
    assert not any(map(runs, pids))
    assert list(tmux.look(home)) == ["app-2"]


def test_stop_is_a_goal_and_absent_is_success(home):
    tmux.stop(home, "app-1")
    path = launch(home, "app-1", ["cat"])
    until(lambda: children(tmux.look(home)["app-1"].pid), "the agent")
    tmux.stop(home, "app-1")
    tmux.stop(home, "app-1")
    assert left(path)["code"] == 143


def test_whoever_stops_its_own_terminal_lives_to_say_so(home, tmp_path):
    said = tmp_path / "said"
    code = (
        f"import sys, signal; sys.path.insert(0, {os.path.dirname(os.path.dirname(os.path.abspath(__file__)))!r});"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        f"from lib.runtime import tmux; tmux.stop({home!r}, 'app-1'); open({str(said)!r}, 'w').close()"
    )
    launch(home, "app-1", ["sh", "-c", f'{sys.executable} -c "$0"; true', code])
    until(said.exists, "the end of stop")
    assert tmux.look(home) == {}


def test_processes_are_found_without_proc_too():
    by_ps = tmux._processes_by_ps()
    by_proc = tmux._processes()
    assert by_ps[os.getpid()].parent == by_proc[os.getpid()].parent == os.getppid()


def test_kill_server_ends_all(home):
    launch(home, "app-1", ["cat"])
    pid = until(lambda: children(tmux.look(home)["app-1"].pid), "the agent")[0]
    tmux.kill_server(home)
    assert not runs(pid)
    assert tmux.look(home) == {}
    tmux.kill_server(home)
    gone = subprocess.run([*tmux._command(home), "list-sessions"], capture_output=True, text=True, check=False)
    assert "no server running" in gone.stderr
