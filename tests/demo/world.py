"""The demo's world, also for the tests of its stories: a repository, its issues, its CI, its reviewer.

    <folder>/shop        the repository, made from tests/demo/shop
    <folder>/ci          what only CI has: the script of its check, with the word of the season in it
    <folder>/home        AO_HOME
    <folder>/agents      what each agent received, word for word
    <folder>/ao.yaml

Two words are made up each time. One stands in the environment of the check, the other in the reviewer's head, and both
must be in the tree at the end: an agent can have them from nowhere but its messages.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

REVIEWER = "riley"
ISSUES = {
    "1": ("Show prices in euros", "A receipt shows prices in euros, with two digits for the cents: 12.05 EUR"),
    "2": (
        "Take the voucher of the season",
        "`Cart.redeem(CODE)` takes ten percent off the total; a wrong code is a ValueError. The code changes with the\n"
        "season. tests/test_season.py has the right one, but only in CI.",
    ),
    "3": ("Charge for shipping", "Shipping costs 4.90 EUR and is free from 50 euros. Put it in shop/shipping.py."),
    "4": ("Show how many pieces", "A line of the receipt begins with how many pieces it stands for: 2 x cup"),
}
COLOURS = ("amber", "azure", "coral", "ivory", "jade", "olive", "ruby", "sepia", "teal", "umber")
ANIMALS = ("badger", "falcon", "heron", "lynx", "marten", "otter", "plover", "raven", "stoat", "wren")


class World(NamedTuple):
    folder: str
    season: str  # the word of the CI log
    tariff: str  # the word of the review

    @property
    def repo(self) -> str:
        return os.path.join(self.folder, "shop")

    @property
    def home(self) -> str:
        return os.path.join(self.folder, "home")

    @property
    def agents(self) -> str:
        return os.path.join(self.folder, "agents")

    @property
    def config(self) -> str:
        return os.path.join(self.folder, "ao.yaml")


def word() -> str:
    """A word that nobody can guess and everybody can read."""
    return f"{secrets.choice(COLOURS)}-{secrets.choice(ANIMALS)}-{secrets.randbelow(90000) + 10000}"


def environment(world: World) -> dict[str, str]:
    """What every program of the demo finds: the person's environment without their own ao, git and tmux settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AO_", "GIT_", "TMUX"))}
    path = os.pathsep.join([os.path.join(ROOT, "bin"), os.path.dirname(sys.executable), kept.get("PATH", os.defpath)])
    git = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return {**kept, **git, "PATH": path, "AO_HOME": world.home, "AO_CONFIG": world.config}


def run(world: World, *argv: str, folder: str = "") -> str:
    """What a program printed; CalledProcessError when it failed."""
    done = subprocess.run(
        argv,
        cwd=folder or world.repo,
        env=environment(world),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=True,
    )
    return done.stdout


def build(folder: str, settle: str = "2s") -> World:
    """Make the world in an empty folder."""
    world = World(folder, word(), word())
    shutil.copytree(os.path.join(HERE, "shop"), world.repo, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (world.home, world.agents, os.path.join(folder, "ci")):
        os.makedirs(path, mode=0o700)
    _write(os.path.join(folder, "ci", "test.sh"), f"SEASON={world.season} exec python3 -m unittest\n")
    _write(world.config, CONFIG.format(**_texts(world, settle)))
    run(world, "git", "init", "-q", "-b", "main")
    run(world, "git", "config", "user.name", "Shop")
    run(world, "git", "config", "user.email", "shop@example.org")
    for number, (title, body) in ISSUES.items():
        name = f"{int(number):04}-{title.lower().replace(' ', '-')}.md"
        _write(os.path.join(world.repo, "docs", "issues", name), f"# {title}\n\n{body}\n")
    run(world, "git", "add", "--all")
    run(world, "git", "commit", "-q", "-m", "A tiny shop")
    return world


CONFIG = """\
# Everything is as ao has it, but for what is said here.
projects:
  shop:
    path: {repo}
    default_branch: main
    agent_config:
      command: [{python}, {play}, {agents}]
      ready: '^> $'
      busy: '^\\* working'
    rules: Amounts are whole cents.
    ci: [{{name: test, run: {check}, timeout: 1m}}]
    merge: {{settle: {settle}}}
    reactions:
      approved-and-green: {{action: auto-merge}}
"""


def _texts(world: World, settle: str) -> dict[str, str]:
    texts = {
        "repo": world.repo,
        "settle": settle,
        "python": sys.executable,
        "play": os.path.join(HERE, "play.py"),
        "agents": world.agents,
        "check": "sh " + shlex.quote(os.path.join(world.folder, "ci", "test.sh")),
    }
    return {name: json.dumps(text) for name, text in texts.items()}


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


# --- the reviewer ----------------------------------------------------------------------------------------------------


class Review(NamedTuple):
    session: str
    number: int
    head: str
    says: str  # "" approves, else what is to be changed
    line: int = 0


FILE = "shop/shipping.py"


def reviews(world: World, records: Sequence[Mapping[str, Any]]) -> list[Review]:
    """What the reviewer says now of what is open, green and clean."""
    found = []
    for one in records:
        pr = one.get("pr") or {}
        facts = (pr.get("state"), pr.get("ci_status"), pr.get("mergeable"), pr.get("review_decision"))
        if facts in (("open", "passing", True, "pending"), ("open", "passing", True, "changes_requested")):
            opinion = _opinion(world, one["issue_id"], pr)
            found += [Review(one["id"], pr["number"], pr["head_sha"], *opinion)] if opinion else []
    return found


def _opinion(world: World, issue: str, pr: Mapping[str, Any]) -> tuple[str, int] | None:
    """What is to be changed and in which line, ("", 0) for an approval, None for not yet."""
    if issue == "4":  # only on top of issue 1, which needs the same lines
        return ("", 0) if "euros(" in _show(world, pr, "shop/receipt.py") else None
    text = _show(world, pr, FILE) if issue == "3" else world.tariff
    if world.tariff in text:
        return "", 0
    if pr["review_decision"] == "changes_requested":
        return None
    line = text.split("\n").index("FLAT = 490") + 1
    return f"This is the carrier's tariff '{world.tariff}': name it here as TARIFF.", line


def _show(world: World, pr: Mapping[str, Any], path: str) -> str:
    return run(world, "git", "show", f"{pr['head_sha']}:{path}")


def arguments(review: Review) -> list[str]:
    """A review as ao-review takes it."""
    verdict = ["--approve"]
    if review.says:
        verdict = ["--request-changes", "-m", review.says, "--file", FILE, "--line", str(review.line)]
    return [review.session, *verdict, "--as", REVIEWER]


# --- what the agents received ----------------------------------------------------------------------------------------


def received(world: World, session: str) -> list[str]:
    """The messages that an agent got, word for word."""
    path = os.path.join(world.agents, session + ".log")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    return [entry["text"] for entry in entries if entry["kind"] == "message"]
