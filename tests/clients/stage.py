"""A person's machine with one real agent on it, a model on loopback, and a project on the embedded forge."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import forging
import install
import scripts
from model import Model

from lib import fleet, observe, react, sessions
from lib.clock import Clock
from lib.runtime import tmux

LIMIT = 180.0  # seconds that anything may take on a loaded machine
NO_NETWORK = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,::1",
}
CHECK = "grep -q fixed work.txt"


class World:
    def __init__(self, client: ModuleType, folder: str, **settings: Any) -> None:
        self.client, self.folder, self.model = client, folder, Model()
        self.home, self.repo = os.path.join(folder, "ao"), os.path.join(folder, "shop")
        person, remote = os.path.join(folder, "person"), os.path.join(folder, "remote.git")
        for path in (self.home, self.repo, person):
            os.makedirs(path, mode=0o700)
        path = install.folder(client.PACKAGE) + os.pathsep + os.environ["PATH"]
        self.environment = {**NO_NETWORK, **client.set_up(person, self.model.url), "HOME": person, "PATH": path}
        self.environment |= {"AO_HOME": self.home, "AO_CONFIG": os.path.join(folder, "ao.yaml")}
        forging.git(folder, "init", "--quiet", "--bare", remote)
        forging.git(self.repo, "init", "--quiet", "--initial-branch", "main")
        forging.git(self.repo, "config", "user.name", "Grace")
        forging.git(self.repo, "config", "user.email", "grace@example.org")
        forging.git(self.repo, "remote", "add", "origin", remote)
        forging.commit(self.repo, "a.txt", "one\n", "first")
        forging.git(self.repo, "push", "--quiet", "origin", "main")
        self.configure(**settings)

    def configure(self, agent_config: dict[str, Any] | None = None, **settings: Any) -> None:
        ours = self.client.SETTINGS
        project = {
            "path": self.repo,
            **ours,
            "agent_config": {**ours["agent_config"], **(agent_config or {})},
            "ci": [{"name": "test", "run": CHECK}],
            "merge": {"settle": "0s"},
            "reactions": {"approved-and-green": {"action": "auto-merge"}},
            **settings,
        }
        with open(os.path.join(self.folder, "ao.yaml"), "w") as file:
            json.dump({"projects": {"shop": project}}, file)

    def ok(self, name: str, *args: str, **options: Any) -> str:
        done = scripts.call(name, *args, cwd=self.repo, **options)
        assert done.code == 0, done
        return done.out

    def spawn(self, *args: str) -> str:
        return str(json.loads(self.ok("ao-spawn", *args, "--json"))[0]["id"])

    def record(self, id: str) -> dict[str, Any]:
        return sessions.find(self.home, id)

    def turn(self, ahead: float = 0.0) -> None:
        """Look and act once, so many seconds later than it is."""
        clock = Clock(time.time() + ahead)
        assert observe.run(self.home, clock) == []
        react.run(self.home, clock)
        fleet.tell(self.home, clock)

    def until(self, id: str, holds: Callable[[dict[str, Any]], Any], what: str, ahead: float = 0.0) -> dict[str, Any]:
        """Look and act until something holds of a session."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self.turn(ahead)
            record = self.record(id)
            if holds(record):
                return record
            time.sleep(0.2)
        screen = tmux.screen(self.home, id) if id in tmux.look(self.home) else "no terminal"
        raise AssertionError(f"waited in vain: {what}\n{json.dumps(self.record(id), indent=1)}\n{screen}")

    def send(self, id: str, text: str, *options: str) -> str:
        """Queue a message; its id."""
        self.ok("ao-send", id, "--file", "-", *options, input=text)
        return str(self.record(id)["inbox"][-1]["id"])

    def heard(self, mark: str) -> int:
        """In how many different messages of a person the model has been shown this, in its last request."""
        return self.model.bodies[-1].count(mark)


def worlds(client: ModuleType, **settings: Any) -> Iterator[World]:
    folder = tempfile.mkdtemp(prefix="ao-", dir="/tmp")  # short, for the socket
    world = World(client, folder, **settings)
    with mock.patch.dict(os.environ, world.environment):
        yield world
    tmux.kill_server(world.home)
    world.model.close()
    shutil.rmtree(folder, ignore_errors=True)
