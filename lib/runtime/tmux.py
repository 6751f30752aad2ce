"""Agents' terminals in one tmux server of ao's own, whose socket lies in $AO_HOME.

tmux takes `-t app-1` for app-10 when there is no app-1, and some commands do so even for `=app-1`. An agent's pane is
therefore always `=app-1:0.0`, and what exists is asked in one `list-panes -a`. An answer counts as "no" only when
tmux, or the absence of its socket, said so in words that are listed here; everything else is Unknown.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from lib import ROOT, proc
from lib.errors import AoError, Unknown
from lib.runtime import Gone, Pane

CONF = os.path.join(ROOT, "templates", "tmux.conf")
LONGEST_SOCKET = 100  # bytes; the kernel takes 108 on Linux, 104 on macOS
COLUMNS, ROWS = "200", "50"
# Space-separated, the title last: the only field that may hold spaces.
LOOK = (
    "#{session_name} #{window_index}.#{pane_index} #{pane_pid} #{pane_in_mode}"
    " #{session_attached} #{session_activity} #{window_activity} #{pane_title}"
)
NO_SERVER = re.compile(r"no server running on |error connecting to .* \(No such file or directory\)|no current target")
NO_PANE = re.compile(r"can't find (session|window|pane)\b")
LOST_SERVER = re.compile(r"server exited unexpectedly|lost server")  # it was ending; the next call finds out
UNTYPABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # every control character but newline and tab
# The server keeps its environment for as long as it runs, so it starts with what a terminal needs and no more.
KEPT_ENVIRONMENT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
QUESTIONS = ("list-panes", "display-message")  # commands that change nothing
BETWEEN_KEYS = 0.3  # seconds: Escape and a key at once would be that key with Alt
NO_TERMINAL = ("0", "?", "??", "-")
ENDING = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))  # seconds to wait after each
STEP = 0.02


class Process(NamedTuple):
    parent: int
    terminal: str
    started: str  # tells a process from a later one with the same number


def start(home: str, handle: str, argv: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
    """Start `argv` in a terminal of 200×50 called `handle`. AoError when there is one of that name, Unknown.

    What is in `argv` and `environment` shows in the process list; the launcher takes the rest from its file.
    """
    settings = [word for item in environment.items() for word in ("-e", "=".join(item))]
    program = argv if len(argv) > 1 else ["env", *argv]  # tmux gives a single word to a shell
    where = ["-s", _name(handle), "-x", COLUMNS, "-y", ROWS, "-c", folder.replace("#", "##")]
    words = [*where, *settings, "--", *program]
    _tmux(home, "new-session", "-d", *(re.sub(";$", r"\\;", word) for word in words))


def look(home: str) -> dict[str, Pane]:
    """Every terminal by handle. {} is a definite "none". Raises Unknown."""
    try:
        listed = _tmux(home, "list-panes", "-a", "-F", LOOK)
    except Gone:
        return {}
    try:
        rows = [_pane(line) for line in listed.splitlines()]
    except ValueError as error:
        raise Unknown(f"cannot read what tmux answered: {listed[:80]!r}; see: ao-doctor") from error
    return {name: pane for name, place, pane in rows if place == "0.0"}


def screen(home: str, handle: str, history: bool = False) -> str:
    """The visible screen down to its last text or the cursor, without blanks at the ends of lines.

    A last line that is empty therefore says that the cursor stands below the text. With `history`, the whole
    scrollback with wrapped lines joined; a program in the alternate screen has none. Raises Gone or Unknown.
    """
    target = _target(handle)
    whole = ["-J", "-S", "-"] if history else []
    about = ["display-message", "-p", "-t", target, "#{alternate_on} #{pane_height} #{cursor_y}", ";"]
    shown = _tmux(home, *about, "capture-pane", "-p", *whole, "-t", target)
    facts, _, text = shown.partition("\n")
    try:
        alternate, height, cursor = (int(fact) for fact in facts.split())
    except ValueError as error:
        raise Unknown(f"cannot read what tmux answered: {facts[:80]!r}; see: ao-doctor") from error
    if history and alternate:
        return screen(home, handle)
    lines = [line.rstrip() for line in text.split("\n")[:-1]]
    below = height - 1 - cursor
    while below > 0 and lines and not lines[-1]:
        lines.pop()
        below -= 1
    return "\n".join(lines)


def paste(home: str, handle: str, text: str) -> None:
    """Paste `text` as one block, without Enter; control characters are stripped. Raises Gone or Unknown."""
    block = UNTYPABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if not block:
        return
    buffer = f"ao-{handle}"
    paste = ["paste-buffer", "-p", "-d", "-b", buffer, "-t", _target(handle)]
    try:
        _tmux(home, "load-buffer", "-b", buffer, "-", ";", *paste, input=block)
    except Gone:
        with contextlib.suppress(AoError):
            _tmux(home, "delete-buffer", "-b", buffer)
        raise


def press(home: str, handle: str, key: str) -> None:
    """Press a key by its tmux name: Enter, Escape, C-c, Up; or several, one by one. Raises Gone or Unknown."""
    for place, one in enumerate(key.split() or [key]):
        if place:
            time.sleep(BETWEEN_KEYS)
        _tmux(home, "send-keys", "-t", _target(handle), "--", one)


def stop(home: str, handle: str) -> None:
    """Make sure that the terminal and everything in it has ended; absent is success. Raises Unknown.

    The processes go first and the terminal last: whoever is interrupted in between still finds the terminal.
    """
    pane = look(home).get(handle)
    family = _family(pane.pid) if pane else {}
    launcher = {pid: family.pop(pid) for pid in list(family) if pane and pid == pane.pid}
    left = _end(family)
    with contextlib.suppress(Gone):
        _tmux(home, "kill-session", "-t", f"={_name(handle)}")
    left |= _end(launcher)
    if left:
        raise Unknown(f"cannot end '{handle}': process {min(left)} does not end; see: ps -fp {min(left)}")


def attach(home: str, handle: str) -> list[str]:
    """The command that puts a person in front of the terminal, also from inside another tmux."""
    return ["env", "-u", "TMUX", *_command(home), "attach-session", "-t", f"={_name(handle)}"]


def kill_server(home: str) -> None:
    """End every terminal and the server itself, which otherwise stays for the next agent. Raises Unknown."""
    for handle in look(home):
        stop(home, handle)
    with contextlib.suppress(Gone):
        _tmux(home, "kill-server")


def socket(home: str) -> str:
    """The path of the server's socket: in `home`, or in /tmp under a hash of it when that would be too long."""
    path = os.path.join(home, "tmux")
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    folder = f"/tmp/ao-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Unknown(
            f"cannot use '{folder}' for tmux: it is not a folder that only you can enter; set a shorter AO_HOME"
        )
    return os.path.join(folder, hashlib.sha256(os.fsencode(home)).hexdigest()[:16])


def _command(home: str) -> list[str]:
    return ["tmux", "-u", "-f", CONF, "-S", socket(home)]


def _tmux(home: str, *words: str, input: str | None = None) -> str:
    """What one tmux command printed. Gone for a definite no, AoError for a name that is taken, else Unknown."""
    result = _ask(home, words, input)
    if result.code and LOST_SERVER.search(result.err):
        result = _ask(home, words, input)
    if result.code == 0:
        return result.out
    reason = " ".join(result.err.split()) or f"exit code {result.code}"
    if NO_SERVER.search(reason) or NO_PANE.search(reason):
        raise Gone(f"there is no such terminal: {reason}")
    if reason.startswith("duplicate session"):
        raise AoError(f"cannot start a terminal: {reason}")
    raise Unknown(f"tmux {words[0]} failed: {reason}; see: ao-doctor")


def _ask(home: str, words: Sequence[str], input: str | None) -> proc.Result:
    environment = {key: os.environ[key] for key in KEPT_ENVIRONMENT if key in os.environ}
    try:
        # The server stays in the folder that it was started from: not in one that will be removed.
        argv, changes = [*_command(home), *words], words[0] not in QUESTIONS
        return proc.run("tmux", argv, cwd="/", env=environment, input=input, changes=changes)
    except proc.Missing as error:
        raise Unknown(str(error)) from error


def _name(handle: str) -> str:
    """tmux would turn a dot into `_`, and so one handle into another; `+` is in no handle."""
    return handle.replace(".", "+")


def _target(handle: str) -> str:
    return f"={_name(handle)}:0.0"


def _pane(line: str) -> tuple[str, str, Pane]:
    """Handle, window and pane, and what is known of it."""
    name, place, pid, in_mode, attached, activity, printed, title = line.split(" ", 7)
    typed_at = float(activity) if attached != "0" else 0.0
    return name.replace("+", "."), place, Pane(int(pid), in_mode != "0", title, typed_at, float(printed))


def _family(root: int) -> dict[int, Process]:
    """The processes that share the terminal of `root` or descend from one that does, by number."""
    everything = _processes()
    if root not in everything:
        return {}
    terminal = everything[root].terminal
    shared = () if terminal in NO_TERMINAL else everything
    family = {root, *(pid for pid in shared if everything[pid].terminal == terminal)}
    grown = True
    while grown:
        children = {pid for pid, process in everything.items() if process.parent in family} - family
        family |= children
        grown = bool(children)
    return {pid: everything[pid] for pid in family if pid != os.getpid()}  # whoever stops its own terminal lives on


def _end(family: Mapping[int, Process]) -> dict[int, Process]:
    """Ask these processes to end, then end them; returns those that are still there."""
    left = dict(family)
    for sign, seconds in ENDING:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, sign)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            time.sleep(STEP)
            left = _still(left)
    return left


def _still(family: Mapping[int, Process]) -> dict[int, Process]:
    now = _processes(family)
    return {pid: process for pid, process in family.items() if pid in now and now[pid].started == process.started}


def _processes(wanted: Iterable[int] | None = None) -> dict[int, Process]:
    """The processes of this machine that have not ended, by number."""
    if not os.path.isdir("/proc/self"):
        return _processes_by_ps()
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()] if wanted is None else wanted
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # pid (name) state parent group session terminal …; the name may hold anything, also `)`
            fields = file.read().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                found[pid] = Process(int(fields[1]), fields[4], fields[19])
    return found


def _processes_by_ps() -> dict[int, Process]:
    listed = proc.run("tool", ["ps", "-A", "-o", "pid=,ppid=,stat=,tty=,lstart="]).out
    rows = (line.split(None, 4) for line in listed.splitlines())
    return {int(row[0]): Process(int(row[1]), row[3], row[4]) for row in rows if not row[2].startswith("Z")}
