"""What a quiet hour with 300 open pull requests in three repositories asks of GitHub: rows for the bench, as JSON.

    hour.py FOLDER

Ten minutes of it are played, with looks every five seconds of a clock that is moved by hand, against the GitHub of the
tests, which counts what GitHub would charge.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time

import conftest  # noqa: F401  it lets nothing of the person's own be seen
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
        fleet = {id: [one for one in sessions.everything(home).records if one["project_id"] == id] for id in projects}
        hub.latency = LATENCY
        begun = time.monotonic()
        looks(home, projects, fleet, 0.0)
        first, took = len(hub.asked()), time.monotonic() - begun
        looks(home, projects, fleet, 6000.0)  # nothing has moved for long
        count, points = len(hub.asked()), hub.points()
        for second in range(6060, 6060 + MINUTES * 60, STEP):
            looks(home, projects, fleet, second)
        requests, points = len(hub.asked()) - count, hub.points() - points
    hourly = 60 // MINUTES
    return [
        ["ao-tick, 300 open pull requests at GitHub", f"{first} requests, {took:.1f} s", "15 requests, 5 s", ""],
        ["the same in a quiet hour", f"{requests * hourly} requests, {points * hourly} points", "2500 points", ""],
    ]


def looks(home: str, projects: dict[str, config.Project], fleet: dict[str, list[sessions.Session]], at: float) -> None:
    for id, project in projects.items():
        answer = scm.look(home, project, fleet[id], hubbing.clock(at))
        fleet[id] = [{**one, "pr": answer.get(one["id"]) or one["pr"]} for one in fleet[id]]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
