"""What every script does the same way: its help, its exit code, its one line when something cannot be done.

This is the only module of the library that prints or exits. It imports argparse and the configuration only where they
are used: ao-status and ao-hook start without either.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # see lib/__init__.py
import errno
import os
import sys

from lib import render
from lib.errors import AoError, UsageError

TYPE_CHECKING = False  # see render: typing is slow to import
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any, NoReturn

    from lib.config import Config, Project

LEVELS = ("debug", "info", "warning")  # of AO_LOG
LONGEST_WORD, MOST_WORDS = 40, 12  # of a program's command line that is logged
TERMINATED = 143
# What the machine refuses although nothing is wrong with the program: no space, no permission, a file for a folder.
REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.EAGAIN),
)
_notices = {"to": "stdout"}
_interrupt = {"says": ""}


def run(main: Callable[[list[str]], int]) -> int:
    """Call a script's main and return its exit code: 1 could not, 2 wrong usage, 130 interrupted.

    A bug keeps its traceback.
    """
    name = os.path.basename(sys.argv[0])
    _open_streams()
    on_interrupt("")
    if _is_logged("debug"):
        from lib import proc

        proc.heard = _log_program
    try:
        if _signal.getsignal(_signal.SIGINT) == _signal.SIG_DFL:  # see lib/__init__.py
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may lack a letter of a title
        code = main(sys.argv[1:])
        sys.stdout.flush()
        return code
    except AoError as error:
        say(f"{name}: {error}")
        return error.code
    except KeyboardInterrupt:
        if _interrupt["says"]:  # below the ^C that the terminal shows
            sys.stderr.write("\n" * sys.stderr.isatty())
            say(f"{name}: {_interrupt['says']}")
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        say(f"{name}: cannot use '{error.filename or 'the output'}': {error.strerror}; see: ao-doctor")
        _drop_output()
        return 1


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """An argument parser whose --help is the script's docstring followed by its options.

    From here on SIGTERM unwinds like Ctrl-C (exit code 143), so that programs that were started are ended too. A script
    that never comes here (the quick ones) simply dies of it.
    """
    import argparse
    import re

    class Parser(argparse.ArgumentParser):
        """One that names an option that does not exist, also where an argument is missing besides."""

        words: Sequence[str] = ()

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
            self.words = [word.partition("=")[0] for word in args or ()]
            for word in args[: args.index("--")] if "--" in args else args:
                if re.fullmatch("(--[a-z-]+=|-[a-z])--", word):  # argparse would take `--project=--` for an empty list
                    self.error(f"argument {word[:-2].rstrip('=')}: expected one argument")
            return super().parse_known_args(args, namespace)

        def error(self, message: str) -> NoReturn:
            bogus = [word for word in self.words if word[:1] == "-" < word and word not in self._option_string_actions]
            is_hidden = bogus and "arguments are required" in message
            problem = f"unrecognized arguments: {bogus[0]}" if is_hidden else message
            raise UsageError(f"{problem}; see: {self.prog} --help")

    _end_on_sigterm()
    first, _, rest = (doc or "").strip().partition("\n")
    return Parser(
        prog=name,
        description=first,
        epilog=rest.strip("\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def commands(parser: argparse.ArgumentParser) -> Callable[[str, str], argparse.ArgumentParser]:
    """A function that adds a subcommand by its name and help; `args.command` tells which was given."""
    group = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    return lambda name, help: group.add_parser(name, help=help, description=help, allow_abbrev=False)


def json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="answer with JSON")


def config_options(parser: argparse.ArgumentParser, project: bool = True) -> None:
    if project:
        parser.add_argument("--project", metavar="ID", help="the project that is meant, where there are several")
    parser.add_argument("--config", metavar="FILE", help="the ao.yaml to use instead of the nearest one")


def config(args: argparse.Namespace) -> Config:
    """The configuration that counts here; its warnings are chat."""
    from lib import config

    found = config.load(config.find(os.getcwd(), args.config))
    for warning in found.warnings:
        log("warning", warning)
    return found


def project(args: argparse.Namespace) -> Project:
    """The project that a command means: the one it names, the agent's own, the one around this folder, the only one."""
    found = config(args)
    if not found.source:
        raise AoError(f"there is no ao.yaml for '{os.getcwd()}'; write one with: ao-start")
    id = args.project or os.environ.get("AO_PROJECT_ID") or _around(found, os.getcwd())
    known = [*found.projects, *found.broken]
    if not known:
        raise AoError(f"there is no project in '{found.source}'; write it anew with: ao-start --force")
    if id is None and len(known) != 1:
        raise UsageError(f"which project of '{found.source}'? add --project with one of: {', '.join(known)}")
    id = id or known[0]
    if id in found.broken:
        raise AoError(f"cannot use project '{id}': {found.broken[id]}")
    if id not in found.projects:
        raise AoError(f"there is no project '{id}' in '{found.source}' (known: {', '.join(known)})")
    return found.projects[id]


def check_project(home: str, id: str | None) -> None:
    """AoError when there is no such project, neither in the configuration nor in the records; None means all."""
    if id is None:
        return
    from lib import config, paths

    known = set(os.listdir(paths.sessions(home)) if os.path.isdir(paths.sessions(home)) else ())
    if id in known:
        return
    found = config.examine(config.find(os.getcwd()))[0]
    known |= {*found.projects, *found.broken}
    if id not in known:
        raise AoError(f"there is no project '{id}' (known: {', '.join(sorted(known)) or 'none'})")


def age(text: str) -> float:
    """Seconds, for an option that takes a duration."""
    import argparse

    from lib import clock

    try:
        return clock.duration(text)
    except AoError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def count(text: str) -> int:
    """A number of things, for an option."""
    import argparse

    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not '{text}'")
    return int(text)


def text_from(path: str) -> str:
    """The text of a file that an argument names; `-` is standard input."""
    try:
        if path == "-":
            bytes_in = getattr(sys.stdin, "buffer", None)
            return bytes_in.read().decode("utf-8", "replace") if bytes_in else sys.stdin.read()
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise AoError(f"cannot read '{path}': {error.strerror}") from error


def each(name: str, items: Iterable[str], act: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    """What acting on each item answered; `{id, error}` for one that failed, which is said and stops no other."""
    found = []
    for item in items:
        try:
            found.append(act(item))
        except AoError as error:
            found.append({"id": item, "error": one_line(str(error))})
            say(f"{name}: {found[-1]['error']}")
    return found


def attach(home: str, session: Mapping[str, Any]) -> NoReturn:
    """Become the terminal of a session's agent."""
    from lib import plugins

    if not is_at_terminal():
        raise AoError(f"cannot attach to '{session['id']}': this is no terminal; see: ao-logs {session['id']}")
    command = plugins.load("runtime", session["runtime"]).attach(home, session["runtime_handle"])
    say("leave this terminal with Ctrl-b d; the agent goes on")
    os.execvp(command[0], command)


def is_at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def answer(value: Any) -> None:
    """Print `value` as JSON on stdout, in one write: UTF-8, whatever the terminal speaks."""
    import json

    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))  # of a lone surrogate: as JSON spells it


def say(text: str) -> None:
    """Chat for a person, on stderr: one line, in which nothing is left that a terminal would obey."""
    sys.stderr.write(one_line(text) + "\n")


def log(level: str, text: str) -> None:
    """Chat for who asks for it with AO_LOG: `debug` tells every program that is run, `info` what is done to the world.

    Without AO_LOG warnings only.
    """
    if _is_logged(level):
        say(f"{os.path.basename(sys.argv[0])}: {level}: {text}")


def notices(to: str) -> None:
    """Where notifications go in this process: stdout, stderr (beside --json), or "" for nowhere (--quiet)."""
    _notices["to"] = to


def notice(text: str) -> None:
    """A notification for who looks at the terminal."""
    stream = {"stdout": sys.stdout, "stderr": sys.stderr}.get(_notices["to"])
    if stream:
        stream.write(text + "\n")
        stream.flush()


def rest(seconds: float) -> None:
    """Wait before printing what is new, or end as `| head` wants it: it shows only to who asks that nobody reads on."""
    import select

    output = select.poll()
    output.register(1, 0)
    if output.poll(seconds * 1000):
        raise BrokenPipeError


def on_interrupt(text: str) -> None:
    """What Ctrl-C leaves behind from here on: said when it comes, where silence would leave it open."""
    _interrupt["says"] = text


def one_line(text: str) -> str:
    return " ".join(render.plain(text).split())


def number(text: str) -> int | None:
    """The number that `12` or `#12` names, None for anything else."""
    digits = text.removeprefix("#")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def _open_streams() -> None:
    """Let a stream that whoever started this has closed lead nowhere: the next file opened would take its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _drop_output() -> None:
    """Let nothing be written any more, where writing fails: the interpreter would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _is_logged(level: str) -> bool:
    wanted = os.environ.get("AO_LOG", "").lower()
    return LEVELS.index(level) >= LEVELS.index(wanted if wanted in LEVELS else "warning")


def _log_program(argv: Sequence[str], seconds: float, code: int | None) -> None:
    """Never what it read or its environment; of a variable that is set on its command line only the name."""
    words = [
        name + "=…" if set_ and name.isupper() else word for word in argv for name, set_, _ in [word.partition("=")]
    ]
    short = [word if len(word) <= LONGEST_WORD else word[:LONGEST_WORD] + "…" for word in words[:MOST_WORDS]]
    log("debug", f"{' '.join(short)}{' …' * (len(words) > MOST_WORDS)}: {seconds:.3f} s, exit code {code}")


def _end_on_sigterm() -> None:
    import contextlib
    import signal

    def end(signum: int, frame: Any) -> None:
        raise SystemExit(TERMINATED)

    with contextlib.suppress(ValueError):  # not the main thread: whoever runs it there decides
        signal.signal(signal.SIGTERM, end)


def _around(found: Config, folder: str) -> str | None:
    """The project whose repository, or one of whose worktrees, holds `folder`."""
    from lib import paths

    inside = os.path.realpath(folder) + os.sep
    roots = [(project.path, id) for id, project in found.projects.items()]
    roots += [
        (os.path.realpath(os.path.dirname(paths.worktree(paths.home(make=False), id, "any"))), id)
        for id in found.projects
    ]
    return max(((root, id) for root, id in roots if inside.startswith(root + os.sep)), default=("", None))[1]
