"""What an hour with 300 open pull requests in three repositories asks of GitHub: rows for the bench, as JSON.

    hour.py FOLDER

Ten minutes of each hour are played, with looks every five seconds of a clock that is moved by hand, against the GitHub
of the tests, which counts what GitHub would charge.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import conftest  # it lets nothing of the person's own be seen
import github
import hubbing
import test_github_fleet as fleets

from lib import config, sessions
from lib.scm import github as scm

MINUTES, STEP, LATENCY = 10, 5, 0.15


def main(folder: str) -> list[list[str]]:
    home = os.path.join(folder, "home")
    os.makedirs(home)
    with github.serving() as hub:
        os.environ.update(hub.environment(), AO_HOME=home)
        fleets.fleet(hub, home, pathlib.Path(folder), 3, 100)
        projects = config.load(os.path.join(folder, "ao.yaml")).projects
        hub.latency = LATENCY
        begun = time.monotonic()
        subprocess.run([sys.executable, os.path.join(conftest.ROOT, "bin", "ao-tick")], check=True)
        took, first = time.monotonic() - begun, len(hub.asked())
        hub.latency = 0.0
        fleet = {id: [one for one in sessions.everything(home).records if one["project_id"] == id] for id in projects}
        quiet = hour(hub, home, projects, fleet, 6000)  # nothing has moved for long
        for repo in hub.repos():
            for pull in repo.pulls():
                repo.check(pull, "test", "queued")
        busy = hour(hub, home, projects, fleet, 12000)
    return [
        ["ao-tick, 300 open pull requests at GitHub", f"{first} requests, {took:.1f} s", "15 requests, 5 s", ""],
        ["the same for an hour in which nothing moves", quiet, "2500 points", ""],
        ["the same for an hour in which all checks run", busy, "2500 points", ""],
    ]


def hour(
    hub: github.Hub,
    home: str,
    projects: dict[str, config.Project],
    fleet: dict[str, list[sessions.Session]],
    begin: int,
) -> str:
    """What an hour asks for, by ten minutes of it."""
    looks(home, projects, fleet, begin - STEP)
    count, points = len(hub.asked()), hub.points()
    for second in range(begin, begin + MINUTES * 60, STEP):
        looks(home, projects, fleet, second)
    hourly = 60 // MINUTES
    return f"{(len(hub.asked()) - count) * hourly} requests, {(hub.points() - points) * hourly} points"


def looks(home: str, projects: dict[str, config.Project], fleet: dict[str, list[sessions.Session]], at: float) -> None:
    for id, project in projects.items():
        answer: Any = scm.look(home, project, fleet[id], hubbing.clock(at))
        fleet[id] = [{**one, "pr": answer.get(one["id"]) or one["pr"]} for one in fleet[id]]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
