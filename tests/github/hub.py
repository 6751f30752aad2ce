"""The site: its repositories, what is wrong with it at the moment, its budget, and a log of all requests."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from . import faults, world
from .faults import Answer, Fault

HOST, ENTERPRISE = "github.localhost", "ghe.localhost"
HOUR = 3600.0
PACKS = re.compile(r"/(info/refs|git-(upload|receive)-pack)(\?|$)")


@dataclasses.dataclass
class Request:
    """One line of the log."""

    method: str
    host: str
    path: str
    query: str  # the text of a GraphQL query
    variables: dict[str, Any]
    body: Any
    headers: dict[str, str]
    at: float
    user: str = ""
    status: int = 0
    cost: int = 0
    seconds: float = 0.0

    @property
    def is_graphql(self) -> bool:
        return self.path.partition("?")[0] in ("/graphql", "/api/graphql")

    @property
    def is_git(self) -> bool:
        return bool(PACKS.search(self.path))


@dataclasses.dataclass
class Budget:
    """What may be asked for in an hour; GraphQL has one, and REST."""

    reset: float
    limit: int = 5000
    used: int = 0


@dataclasses.dataclass
class Past:
    """How everything was before a change, for answers that lag."""

    repos: dict[str, world.Repo]
    until: float
    looks: int


class Hub:
    """GitHub, with everything that tests want to do to it.

    unknown_looks, unknown_seconds: how long mergeability is UNKNOWN after each push, to the head or the base
    latency: seconds that every request takes
    limits_enterprise: whether the Enterprise host has a budget, as it has when its owner wants one
    scopes: of the token; None for a fine-grained one
    decides_unasked: reviewDecision is given also where no protection asks for reviews
    problems: what was asked that GitHub would refuse as nonsense, or that this fake does not know
    """

    def __init__(self, me: str = "me") -> None:
        self.me, self.tokens = me, {"gho_secret": me}
        self.folder = tempfile.mkdtemp(prefix="gh-", dir="/tmp")  # short, for the socket
        self.lock, self.stopped = threading.RLock(), threading.Event()
        self.unknown_looks, self.unknown_seconds, self.latency = 0, 0.0, 0.0
        self.scopes: str | None = "repo, read:org, workflow"
        self.decides_unasked, self.limits_enterprise = False, False
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.faults: list[Fault] = []
        self.budgets = {name: Budget(self.now() + HOUR) for name in ("core", "graphql")}
        self.request_count, self._id, self._depth = 0, 1000, 0
        self._repos: dict[str, world.Repo] = {}
        self._lag: tuple[float, int] = (0.0, 0)
        self._past: list[Past] = []

    def __deepcopy__(self, memo: object) -> Hub:
        return self  # a copy of a repository is still of this site

    def now(self) -> float:
        return time.time()

    def next_id(self) -> int:
        self._id += 1
        return self._id

    # What is there

    def repo(
        self, name: str = "acme/widgets", host: str = HOST, branch: str = "main", fork_of: world.Repo | None = None
    ) -> world.Repo:
        """A repository of this name; it is made, with one commit, where it is not there."""
        with self.changing():
            key = f"{host}/{name}".lower()
            if key not in self._repos:
                self._repos[key] = world.Repo(self, host, name, branch, fork_of)
            return self._repos[key]

    def repos(self) -> list[world.Repo]:
        return list(self._repos.values())

    def find(self, host: str, name: str, live: bool = False) -> world.Repo | None:
        """As who asks sees it: `live` for effects, otherwise as late as answers are."""
        past = None if live else self._shown()
        return (past.repos if past else self._repos).get(f"{host}/{name}".lower())

    # Answers that lag

    def lag(self, seconds: float = 0.0, looks: int = 0) -> None:
        """From now on, a change is seen `seconds` later, or after `looks` requests that did not show it; 0: at once."""
        self._lag = (seconds, looks)
        if not seconds and not looks:
            self._past.clear()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        with self.lock:
            self._depth += 1
            if self._depth == 1 and any(self._lag):
                seconds, looks = self._lag
                self._past.append(Past(copy.deepcopy(self._repos), self.now() + seconds, looks))
            try:
                yield
            finally:
                self._depth -= 1

    def looked(self) -> None:
        """A request has read something."""
        if self._past:
            self._past[0].looks -= 1

    def _shown(self) -> Past | None:
        while self._past and self._past[0].looks <= 0 and self._past[0].until <= self.now():
            self._past.pop(0)
        return self._past[0] if self._past else None

    # What goes wrong

    def fail(
        self,
        kind: str,
        on: str | None = None,
        times: int | None = 1,
        done: bool = False,
        alias: str | None = None,
        **options: Any,
    ) -> Fault:
        """The next `times` requests (None: all, until `stop()`) that match `on` go wrong, in a way of faults.py."""
        fault = faults.make(kind, on, times, done, alias, options)
        self.faults.append(fault)
        return fault

    def strike(self, request: Request) -> Fault | None:
        text = f"{request.method} {request.host}{request.path}\n{request.query}"
        return next((fault for fault in self.faults if fault.takes(text, not request.is_git)), None)

    # The budget

    def budget(self, graphql: bool = True) -> Budget:
        """The one of this hour."""
        budget = self.budgets["graphql" if graphql else "core"]
        if budget.reset <= self.now():
            budget.used, budget.reset = 0, self.now() + HOUR
        return budget

    def leave(self, remaining: int, reset_in: float = HOUR, graphql: bool = True) -> None:
        """Only so much is left, until the reset."""
        budget = self.budgets["graphql" if graphql else "core"]
        budget.used, budget.reset = budget.limit - remaining, self.now() + reset_in

    def is_limited(self, host: str) -> bool:
        return host == HOST or self.limits_enterprise

    def spend(self, request: Request, cost: int) -> Answer | None:
        """Pay for a request, or the refusal."""
        budget = self.budget(request.is_graphql)
        if self.is_limited(request.host):
            if cost > 0 and budget.used + cost > budget.limit:
                return faults.limited(request.is_graphql, int(budget.reset) + 1)
            budget.used += cost
        request.cost += cost
        return None

    # The log

    def asked(self, method: str = "", path: str = "") -> list[Request]:
        """The requests to the API so far, of a method, with a path or a query that holds this."""
        found = [request for request in self.requests if not request.is_git]
        return [r for r in found if method in ("", r.method) and (path in r.path or path in r.query)]

    def points(self, graphql: bool = True) -> int:
        return sum(request.cost for request in self.requests if request.is_graphql == graphql)

    # The client's side

    def environment(self, home: str = "") -> dict[str, str]:
        """Variables for real gh and git, with which nothing can leave the machine; their files go to `home`."""
        home = home or os.path.join(self.folder, "client")
        os.makedirs(home, mode=0o700, exist_ok=True)
        _write(home, "config.yml", f"http_unix_socket: {self.socket}\nprompt: disabled\n")
        token = next(iter(self.tokens))
        entry = "%s:\n    user: %s\n    oauth_token: %s\n    git_protocol: https\n"
        _write(home, "hosts.yml", "".join(entry % (host, self.me, token) for host in (HOST, ENTERPRISE)))
        _write(home, "gitconfig", "".join(self._git_config(host) for host in (HOST, ENTERPRISE)) + GIT_CONFIG)
        nowhere = "http://127.0.0.1:9"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), nowhere)
        return {
            **proxies,
            "NO_PROXY": "127.0.0.1,::1",  # not localhost, which would be *.github.localhost too
            "GH_CONFIG_DIR": home,
            "GH_PROMPT_DISABLED": "1",
            "GH_NO_UPDATE_NOTIFIER": "1",
            "GIT_CONFIG_GLOBAL": os.path.join(home, "gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": "false",
        }

    def _git_config(self, host: str) -> str:
        """Every spelling of a remote of this host ends here."""
        spellings = (f"https://{host}/", f"https://{self.me}@{host}/", f"git@{host}:", f"ssh://git@{host}/")
        instead = "".join(f"\tinsteadOf = {spelling}\n" for spelling in (*spellings, f"ssh://git@{host}:22/"))
        proxy = f'[http "http://{host}/"]\n\tproxy = http://127.0.0.1:{self.port}\n'
        return f'{proxy}[url "http://{host}/"]\n{instead}'

    @property
    def socket(self) -> str:
        return os.path.join(self.folder, "api")

    port = 0  # of the proxy for git, once it serves

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


GIT_CONFIG = "[user]\n\tname = Tess\n\temail = tess@example.org\n[init]\n\tdefaultBranch = main\n"


def _write(folder: str, name: str, text: str) -> None:
    with open(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
