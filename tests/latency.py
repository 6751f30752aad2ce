"""How long it takes from a red check to the log of it in the agent's terminal, with the real loop and real terminals.

    .venv/bin/python tests/latency.py TIMES     prints the seconds of each

`make bench` shows it.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import forging
import living
import scripts
from conftest import until
from terminals import logged

from lib import store
from lib.runtime import tmux

CHECKS = [{"name": "test", "run": "echo the cause; test ! -e broken"}]


def main() -> int:
    folder = tempfile.mkdtemp(prefix="ao-", dir="/tmp")  # short, for the socket
    home, log = os.path.join(folder, "home"), os.path.join(folder, "agent.log")
    os.environ["AO_HOME"] = home
    try:
        world = living.make(home, folder, [*living.AGENT, "--log", log], ci=CHECKS)
        path = world.spawn("--task", "x", "--no-prompt")["workspace_path"]
        forging.commit(path, "broken", "0\n", **forging.PERSON)
        world.ok("ao-pr", "open", "--title", "Break it", cwd=path)
        with looping(world):
            found = []
            for number in range(1, int(sys.argv[1]) + 1):
                until(lambda number=number: failures(home) == number, "the red check", 300)
                began = time.monotonic()
                until(lambda number=number: len(logged(log)) == number, "the message", 300)
                found.append(round(time.monotonic() - began, 2))
                forging.commit(path, "broken", f"{number}\n", **forging.PERSON)
        print(*found)
    finally:
        tmux.kill_server(home)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


@contextlib.contextmanager
def looping(world: living.World) -> Iterator[None]:
    argv = [sys.executable, os.path.join(scripts.BIN, "ao-watch"), "--interval", "5", "--quiet"]
    loop = subprocess.Popen(argv, cwd=world.folder)
    try:
        yield
    finally:
        loop.terminate()
        loop.wait()


def failures(home: str) -> int:
    """How many checks have failed so far."""
    (path,) = glob.glob(os.path.join(home, "forge", "shop", "prs", "*.yaml"))
    return sum(run["status"] == "failed" for run in (store.read(path) or {})["runs"])


if __name__ == "__main__":
    sys.exit(main())
