"""Every program that ao starts, each with a time limit.

No shell ever stands between ao and a program, and a program that runs past its limit is ended with everything that it
started. This is the only module that imports subprocess; `LIMITS` is the only table of limits.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lib import faults, keeper, store
from lib.errors import AoError, Unknown

LIMITS = {  # seconds
    "git": 30,  # answers from the object store
    "git-write": 120,  # adding a worktree of a large repository
    "git-network": 60,  # fetch and push
    "tmux": 5,
    "gh": 20,  # one request to GitHub
    "tool": 10,  # asking a program for its version
    "install": 600,  # a system package, for ao-doctor --fix
    "post-create": 600,  # a project's set-up commands; `post_create` may install packages
    "check": 1800,  # one CI check; a project's own `timeout` is used instead where it says so
}
# A project's own programs, which start others and take their time. They end when ao's process is killed: they would be
# at work in a folder that its successor makes anew.
GUARDED = ("post-create", "check")
EMPTIED = ("check",)  # what such a program leaves running ends with it: its folder goes, and the next one begins afresh
ENDING = 2.0  # seconds between asking a program to end and ending it
# Is told of each program that has ended: its words, how many seconds it took, its exit code. cli sets it for AO_LOG.
heard: Callable[[Sequence[str], float, int | None], None] | None = None


class Result(NamedTuple):
    code: int
    out: str
    err: str


class TimedOut(Unknown):
    """The program did not end within its limit and was stopped."""


class Missing(AoError):
    """The program is not installed, or not on PATH."""


def run(
    limit: str,
    argv: Sequence[str],
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    output: int | None = None,
    seconds: float | None = None,
    changes: bool = False,
) -> Result:
    """Run `argv` to its end and return its exit code and what it printed (undecodable bytes replaced).

    `limit` is a key of LIMITS; `seconds` replaces it where a project configures its own. `output` is a file descriptor
    that takes stdout and stderr instead. A program that `changes` something goes on when this process is killed, and
    holds on to this thread's lasting locks until it has ended. Raises TimedOut, Missing, or AoError when the program
    cannot be started.
    """
    wait = LIMITS[limit] if seconds is None else seconds
    is_guarded, guard, began = limit in GUARDED, None, time.monotonic()
    changes = changes or is_guarded
    locks = store.lasting() if changes else []
    try:
        process = subprocess.Popen(
            _kept(argv, env, locks, is_guarded) if locks or is_guarded else list(argv),
            cwd=cwd,
            env=None if env is None else dict(env),
            pass_fds=locks,
            stdin=subprocess.DEVNULL if input is None and not is_guarded else subprocess.PIPE,
            stdout=subprocess.PIPE if output is None else output,
            stderr=subprocess.PIPE if output is None else subprocess.STDOUT,
            start_new_session=True,
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if cwd is not None and not os.path.isdir(cwd):
            raise AoError(f"cannot run '{argv[0]}' in '{cwd}': no such folder") from error
        raise Missing(f"cannot run '{argv[0]}': not found on PATH; see: ao-doctor") from error
    except (OSError, ValueError) as error:
        raise AoError(f"cannot run '{argv[0]}': {error}") from error
    try:
        if is_guarded:
            guard, process.stdin = process.stdin, None  # it stays open until the program has ended
        if changes:
            faults.step()
        out, err = process.communicate(None if input is None else input.encode("utf-8", "replace"), timeout=wait)
        if limit in EMPTIED:
            _end(process)
    except subprocess.TimeoutExpired:
        _end(process)
        raise TimedOut(f"'{' '.join(argv[:3])}' did not end within {wait:g} s") from None
    except BaseException:  # Ctrl-C: the child has a session of its own and would go on
        _end(process)
        raise
    finally:
        if guard:
            guard.close()
        if heard:
            heard(argv, time.monotonic() - began, process.returncode)
    if changes:
        faults.step()
    return Result(process.returncode, (out or b"").decode("utf-8", "replace"), (err or b"").decode("utf-8", "replace"))


def detach(argv: Sequence[str], log: str, env: Mapping[str, str]) -> None:
    """Start `argv` on its own, with no terminal and nobody waiting for it; `log` has what the newest one printed."""
    with open(log, "wb") as output:
        subprocess.Popen(
            list(argv),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    faults.step()


def _kept(argv: Sequence[str], env: Mapping[str, str] | None, locks: Sequence[int], ends: bool) -> list[str]:
    """`argv` under the keeper, which holds the locks; `ends`: it ends when nobody holds its standard input any more."""
    if not shutil.which(argv[0], path=(os.environ if env is None else env).get("PATH")):
        raise FileNotFoundError(argv[0])
    words = [",".join(map(str, locks)), "ends" if ends else "goes on"]
    return [sys.executable, "-IS", os.path.realpath(keeper.__file__), *words, *argv]


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)
            if sign == signal.SIGTERM:
                continue
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()
