"""The four stories of the demo at GitHub: real agents in terminals push with git, open with gh, and are merged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import github
import pytest
import scripts
from conftest import ROOT

sys.path.insert(0, os.path.join(ROOT, "tests", "demo"))

import world as worlds

from lib import events, sessions
from lib.runtime import tmux


class Played(NamedTuple):
    world: worlds.World
    hub: github.Hub
    remote: github.Repo

    @property
    def records(self) -> dict[str, dict[str, Any]]:
        return {one["issue_id"]: one for one in sessions.everything(self.world.home).records}

    def received(self, issue: str) -> list[str]:
        return worlds.received(self.world, self.records[issue]["id"])


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    """All four issues at once; in the middle GitHub's limit is reached for a while."""
    folder = tempfile.mkdtemp(prefix="ao-", dir="/tmp")  # short, for the socket
    with pytest.MonkeyPatch.context() as patch, github.serving() as hub:
        made = Played(worlds.build(folder, settle="1s"), hub, hub.repo("acme/shop"))
        for name, value in {**worlds.environment(made.world), **hub.environment()}.items():
            patch.setenv(name, value)
        publish(made)
        assert scripts.call("ao-spawn", *worlds.ISSUES, cwd=made.world.repo).code == 0
        go_on(made, lambda: len(hub.repo("acme/shop").pulls()) == len(worlds.ISSUES))  # agents ask but once
        hub.fail("rate_limit", times=None, seconds=3).left = 2
        before = {id: (one["pr"] or {}).get("state") for id, one in made.records.items()}
        scripts.call("ao-tick")
        assert {id: (one["pr"] or {}).get("state") for id, one in made.records.items()} == before
        go_on(made, lambda: all(one.get("issue_closed") for one in made.records.values()), 150.0)
        yield made
        assert not hub.problems
        tmux.kill_server(made.world.home)
    shutil.rmtree(folder, ignore_errors=True)


def publish(made: Played) -> None:
    """Bring the demo's repository and issues to GitHub, and say so in ao.yaml."""
    world, remote = made.world, made.remote
    worlds.run(world, "git", "remote", "add", "origin", remote.remote)
    subprocess.run(["git", "push", "-q", "--force", "origin", "main"], cwd=world.repo, check=True, timeout=60)
    for number, (title, body) in worlds.ISSUES.items():
        remote.issue(title, body, number=int(number), labels=["enhancement"])
    remote.roles[worlds.REVIEWER] = "write"
    with open(world.config) as file:
        text = file.read()
    text = text.replace(
        "    default_branch: main\n", "    default_branch: main\n    scm: github\n    tracker: github\n"
    )
    lines = [line for line in text.split("\n") if not line.strip().startswith("ci:")]
    with open(world.config, "w") as file:
        file.write("poll_interval: 1s\n" + "\n".join(lines))


def go_on(made: Played, done: Callable[[], object], seconds: float = 60.0) -> None:
    """Look and act, check what was pushed, review what is green, until `done` or until the time is over."""
    said: set[Any] = set()
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        for script in ("ao-tick", "ao-react"):
            answer = scripts.call(script)
            assert answer.code == 0, answer
        check(made)
        for review in worlds.reviews(made.world, list(made.records.values())):
            if review not in said:
                said.add(review)
                speak(made, review)
        time.sleep(0.1)


def check(made: Played) -> None:
    """CI: tests what merging each new head would give."""
    for pull in made.remote.pulls():
        if pull.is_open and pull.is_clean and not made.remote.contexts(pull.head_sha):
            with tempfile.TemporaryDirectory() as folder:
                git = ["git", "-c", "user.name=CI", "-c", "user.email=ci@example.org"]
                bare = f"file://{made.remote.path}"
                subprocess.run([*git, "clone", "-q", bare, folder], check=True, timeout=60)
                merge = [*git, "merge", "-q", "-m", "test", f"origin/{pull.head}"]
                subprocess.run(merge, cwd=folder, check=True, timeout=60, capture_output=True)
                script = os.path.join(made.world.folder, "ci", "test.sh")
                done = subprocess.run(
                    ["sh", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False
                )
            made.remote.check(pull, "test", "failure" if done.returncode else "success", log=done.stdout + done.stderr)


def speak(made: Played, review: worlds.Review) -> None:
    pull = made.remote.issues[review.number]
    assert isinstance(pull, github.Pull)
    if not review.says:
        for thread in pull.threads:
            thread.resolve(worlds.REVIEWER)
        pull.review("approved", author=worlds.REVIEWER)
        return
    asked = pull.review("changes_requested", "", worlds.REVIEWER)
    pull.thread(review.says, worlds.FILE, review.line, worlds.REVIEWER, review=asked)


def test_all_four_are_merged_at_github(played: Played) -> None:
    """F33"""
    assert {issue: one["status"] for issue, one in played.records.items()} == dict.fromkeys(worlds.ISSUES, "merged")
    assert all(pull.merged for pull in played.remote.pulls())
    assert played.remote.pulls()[0].merged_by == played.hub.me


def test_good_work_needs_nothing_but_its_task(played: Played) -> None:
    assert len(played.received("1")) == 1
    task = played.received("1")[0]
    record = played.records["1"]
    assert f"open a pull request: git push -u origin {record['branch']} && gh pr create --head" in task
    assert "Labels: enhancement" in task


def test_the_log_the_review_and_the_conflict_reach_their_agents(played: Played) -> None:
    """F25, F20: each once."""
    task, *more = played.received("2")
    assert [played.world.season in text for text in (task, *more)] == [False, *[True] * len(more)] and more
    assert "at step 'Run tests'" in more[0]
    task, *more = played.received("3")
    assert [played.world.tariff in text for text in (task, *more)] == [False, True]
    assert f"{worlds.REVIEWER} on {worlds.FILE}:" in more[0]
    assert any("git rebase origin/main" in text for text in played.received("4"))


def test_nothing_was_sent_twice_and_the_limit_went_by(played: Played) -> None:
    """F11, F51"""
    for record in played.records.values():
        assert {message["state"] for message in record["inbox"]} == {"confirmed"}
    texts = [text for issue in worlds.ISSUES for text in played.received(issue)]
    assert len(texts) == len(set(texts))
    told = [event for event in events.read(played.world.home) if event["type"] == "status_changed"]
    lost = [event for event in told if event["from"] in ("pr_open", "review_pending") and event["to"] == "working"]
    assert lost == []


def test_issues_are_closed(played: Played) -> None:
    assert {number: played.remote.issues[int(number)].state for number in worlds.ISSUES} == dict.fromkeys(
        worlds.ISSUES, "closed"
    )


def test_the_budget_is_used_with_care(played: Played) -> None:
    """F51: a few requests a minute for each of four busy pull requests."""
    begin, end = played.hub.asked()[0].at, played.hub.asked()[-1].at
    assert played.hub.points() * 3600 / max(60.0, end - begin) < 2500
    assert json.dumps(played.records).find("gho_secret") < 0
