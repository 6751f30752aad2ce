#!/usr/bin/env python3
"""The main job, shown on a small repository: four issues, four agents at once, four merged pull requests.

`make demo` runs it. Everything happens in a temporary folder with a tmux server of its own, and is gone afterwards;
with KEEP=1 it stays, and its folder is the last line printed. What is printed on the way is ao's own event log.

A demo that is killed is cleaned up by its watcher, which waits for the end of a pipe, and where the watcher was killed
too, by the next demo: a folder that is not to stay has a lock, which is held for as long as its demo lives.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))))

import world as worlds
from checking import Check, announcements, checks
from telling import Teller, heading, introduce, painted
from world import ISSUES, REVIEWER, World

from lib import render, sessions, status, store
from lib.errors import AoError, Busy
from lib.runtime import tmux

MOST = float(os.environ.get("MOST", "90"))  # seconds, once everything is set up
SPAN = f"{MOST + 30:.0f}s"  # after which the loop ends by itself, should nobody be left to end it
ENDING = (signal.SIGTERM, signal.SIGHUP)
PREFIX = "ao-demo-"  # of the folder's name
WATCHER = ("sh", "-c", 'read -r _ || exec "$@"', "sh")  # becomes what is behind it when nobody lives to write a line
LOOKS = {
    "ao-status --all --why": "why each session is as it is",
    "ao-events; ao-events shop-2": "all that happened, or to one of them",
    "ao-pr list --all; ao-pr 3": "the pull requests, or one of them",
    "cat ../agents/shop-2.log": "every message that an agent got",
    "cat ../ao.yaml ../ao-watch.log": "the configuration, and what the loop said",
}


def main() -> int:
    for sign in ENDING:
        signal.signal(sign, lambda number, frame: sys.exit(128 + number))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if sys.argv[1:2] == ["--remove"]:
        return remove(sys.argv[2:])
    keep = os.environ.get("KEEP", "") not in ("", "0")
    sweep()
    folder, code = os.path.realpath(tempfile.mkdtemp(prefix=PREFIX)), 1
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(guarded(folder))
            code = demo(folder)
        except (KeyboardInterrupt, BrokenPipeError):
            code = 130
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:
            traceback.print_exc()
        for sign in (signal.SIGINT, *ENDING):
            signal.signal(sign, signal.SIG_IGN)  # what has begun to be cleaned up is cleaned up
        clean(folder, keep, keep or code == 1)
    if keep or code == 1:
        where_to_look(folder)
    elif code == 0:
        print("\nAll of it is gone again; `make demo KEEP=1` leaves it standing, to look around.")
    else:
        print("\ndemo: interrupted; all of it is gone again", file=sys.stderr)
    return code


@contextlib.contextmanager
def guarded(folder: str) -> Iterator[None]:
    """Let the folder and all that runs in it go with this process, should it be killed."""
    again = [sys.executable, os.path.realpath(__file__), "--remove", folder]
    quiet = subprocess.DEVNULL
    with store.lock(mark(folder)):
        watcher = subprocess.Popen(
            [*WATCHER, *again], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
        )
        yield
        watcher.communicate(b"\n")


def mark(folder: str) -> str:
    """What is locked as long as the demo of this folder lives; a file beside it says that the folder is to stay."""
    return os.path.join(folder, "demo")


def sweep() -> None:
    """Remove what earlier demos of this person left when they were killed, and nothing that is to stay."""
    for home in glob.glob(os.path.join(tempfile.gettempdir(), PREFIX + "*", "home")):
        folder = os.path.dirname(home)
        if os.path.exists(mark(folder) + ".lock") and os.stat(folder).st_uid == os.getuid():
            with contextlib.suppress(Busy), store.lock(mark(folder), patience=0):
                if not os.path.exists(mark(folder) + ".kept"):
                    clean(folder, keep=False, is_kept=False)


def remove(folders: Sequence[str]) -> int:
    for folder in folders:
        if not os.path.basename(os.path.realpath(folder)).startswith(PREFIX):
            print(f"demo: '{folder}' is not the folder of a demo", file=sys.stderr)
            return 2
        clean(os.path.realpath(folder), keep=False, is_kept=False)
    return 0


def demo(folder: str) -> int:
    world = worlds.build(folder)
    introduce(world)
    teller = Teller(world, time.monotonic())
    why = play(world, teller)
    return 0 if report(world, teller, why) else 1


def clean(folder: str, keep: bool, is_kept: bool) -> None:
    """End every process of the demo unless it is to `keep` standing, and remove its folder unless that is kept."""
    home = os.path.join(folder, "home")
    if os.path.isdir(home):
        try:
            if not keep or not tmux.look(home):
                tmux.kill_server(home)
        except AoError as error:
            print(f"demo: {error}", file=sys.stderr)
        for sign in () if keep else (signal.SIGTERM, signal.SIGKILL):
            end(home, sign)
    if is_kept:
        with open(mark(folder) + ".kept", "w"):
            pass
    else:
        shutil.rmtree(folder, ignore_errors=True)


def end(home: str, sign: signal.Signals) -> None:
    """Ask what still works in this AO_HOME to end, and wait for it: checks run in processes of their own."""
    left, until = processes(home), time.monotonic() + 5
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
    while left and time.monotonic() < until:
        time.sleep(0.05)
        left = processes(home)


def processes(home: str) -> list[int]:
    """The processes that have this AO_HOME in their environment."""
    listed = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, check=True).stdout
    lines = listed.decode("utf-8", "replace").splitlines()
    return [int(line.split()[0]) for line in lines if f" AO_HOME={home} " in line + " "]


def where_to_look(folder: str) -> None:
    heading("Where to look")
    home, bin, shop = (shlex.quote(path) for path in (f"{folder}/home", f"{worlds.ROOT}/bin", f"{folder}/shop"))
    print(f"  export AO_HOME={home} PATH={bin}:$PATH")
    print(f"  cd {shop}")
    for command, shows in LOOKS.items():
        print(f"  {command:<31}  {shows}")
    remove = shlex.join([os.path.realpath(__file__), "--remove", folder])
    print(f"To be rid of it, with all that still runs in it: {remove}")
    print(folder)


# --- the job ---------------------------------------------------------------------------------------------------------


def play(world: World, teller: Teller) -> str:
    """Let ao do its work: "" when it is all done, else why it ended."""
    heading("ao-spawn 1 2 3 4; ao-watch --interval 1")
    with started(world, "ao-spawn", *ISSUES) as spawn:
        while spawn.poll() is None:
            teller.go_on()
            time.sleep(0.1)
    if spawn.returncode:
        return "ao-spawn failed: " + log(world, "ao-spawn")
    with started(world, "ao-watch", "--interval", "1", "--for", SPAN) as watch:
        return follow(world, teller, watch)


def follow(world: World, teller: Teller, watch: subprocess.Popen[bytes]) -> str:
    said: set[worlds.Review] = set()
    while time.monotonic() - teller.began < MOST:
        teller.go_on()
        records = sessions.everything(world.home).records
        for review in worlds.reviews(world, records):
            if review not in said:
                said.add(review)
                worlds.run(world, *script("ao-review"), *worlds.arguments(review))
                teller.line(REVIEWER, verdict(review), "yellow" if review.says else "", review.says)
        if is_complete(teller, records):
            return ""
        for one in records:
            if not status.is_merged(one) and status.has_ended(one):
                return f"the agent of {one['id']} has ended, and its work is not merged"
        if watch.poll() is not None:
            return "ao-watch ended: " + log(world, "ao-watch")
        time.sleep(0.3)
    return f"it is not done after {MOST:g} s"


def verdict(review: worlds.Review) -> str:
    if review.says:
        return f"reviews #{review.number} and asks for changes, at {worlds.FILE}:{review.line}"
    return f"reviews #{review.number} and approves it"


def is_complete(teller: Teller, records: Sequence[Mapping[str, Any]]) -> bool:
    ended = [one for one in records if one["status"] == "merged" and status.has_ended(one)]
    return len(ended) == len(ISSUES) and announcements(teller.events) > 0


@contextlib.contextmanager
def started(world: World, name: str, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A script of bin/ with its output in <name>.log, away from the terminal's Ctrl-C; it has ended afterwards."""
    with open(os.path.join(world.folder, name + ".log"), "wb") as output:
        process = subprocess.Popen(
            [*script(name), *args],
            cwd=world.repo,
            env=worlds.environment(world),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def script(name: str) -> list[str]:
    return [sys.executable, os.path.join(worlds.ROOT, "bin", name)]


def log(world: World, name: str) -> str:
    with open(os.path.join(world.folder, name + ".log"), encoding="utf-8", errors="replace") as file:
        return file.read().strip()


# --- the end ---------------------------------------------------------------------------------------------------------


def report(world: World, teller: Teller, why: str) -> bool:
    """Show how it ended, and check it; whether all is as it should be."""
    seconds = time.monotonic() - teller.began
    heading("ao-status --all --pr")
    show(world, *script("ao-status"), "--all", "--pr")
    heading("git log --graph main")
    colour = f"--color={'always' if render.has_colour(sys.stdout) else 'never'}"
    show(world, "git", "--no-pager", "log", "--graph", "--format=%C(auto)%h %s", colour, "main")
    heading("What was checked")
    found = [Check(f"it took {seconds:.0f} s, of at most {MOST:g}", not why, why), *checks(world, teller.events)]
    for check in found:
        word = painted("ok    ", "green") if check.holds else painted("FAILED", "red")
        print(f"  {word}  {check.promise}" + (f": {check.details}" if check.details and not check.holds else ""))
    return all(check.holds for check in found)


def show(world: World, *argv: str) -> None:
    subprocess.run(
        argv, cwd=world.repo, env=worlds.environment(world), stdin=subprocess.DEVNULL, timeout=60, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
