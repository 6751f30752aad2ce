"""What a look at many pull requests costs at GitHub, and how it is slowed down where it would cost too much."""

from __future__ import annotations

import json
import os

import forging
import hubbing
import pytest

from lib import config, gh, loop, paths, rounds, sessions, store
from lib.errors import Unknown
from lib.scm import github as scm


def fleet(hub, home, folder, repositories, pulls):
    """So many repositories with so many sessions each, all of which have an open pull request."""
    projects = {}
    for number in range(repositories):
        remote, path = hub.repo(f"acme/shop{number}"), str(folder / f"shop{number}")
        made = remote.fleet(pulls)
        forging.git(str(folder), "clone", "--quiet", remote.remote, path)
        projects[f"shop{number}"] = {"path": path, "scm": "github", "agent_config": {"command": ["cat"]}}
        for pull in made:
            remote.check(pull, "test")
            record(home, str(folder), f"shop{number}", pull)
        made[0].thread("Why?")
    with open(folder / "ao.yaml", "w") as file:
        json.dump({"projects": projects}, file)


def record(home, folder, project, pull):
    id = f"{project}-{pull.number}"
    made = sessions.blank(id, project, loop.clock(home))
    made.update(rev=1, status="pr_open", branch=pull.head, base_branch="main", base_sha=pull.base_sha)
    made.update(agent="command", runtime="tmux", runtime_state="alive", workspace="worktree", head_sha=pull.head_sha)
    made.update(claimed_pr_number=pull.number, config_path=os.path.join(folder, "ao.yaml"))
    store.replace(paths.session(home, project, id), store.dumps(made).encode(), durable=False)


def test_a_look_at_300_pull_requests_is_15_requests(hub, home, tmp_path):
    """F51"""
    fleet(hub, home, tmp_path, 3, 100)
    assert rounds.look(home) == []
    assert {one["pr"]["ci_status"] for one in sessions.everything(home).records} == {"passing"}
    assert len(hub.asked()) <= 15
    assert hub.points() <= 30


def test_what_a_round_has_cost_decides_when_the_next_one_is(hub, home, tmp_path):
    """F51"""
    fleet(hub, home, tmp_path, 1, 60)
    project = config.load(str(tmp_path / "ao.yaml")).projects["shop0"]
    records = sessions.everything(home).records
    scm.look(home, project, records, hubbing.clock())
    count, pause = len(hub.asked()), hub.points() * 3600 / 2500
    assert gh.pause(home, "github.localhost") == pytest.approx(pause, rel=0.1)
    hub.repo("acme/shop0").check(hub.repo("acme/shop0").pulls()[0], "test", "queued")
    unsure = [{**one, "pr_unknown_since": "2020-01-01T00:00:00.000Z"} for one in records]
    assert scm.look(home, project, unsure, hubbing.clock(pause - 0.5)) == {}
    assert len(hub.asked()) == count
    assert len(scm.look(home, project, unsure, hubbing.clock(pause + 0.5))) == 60


def test_a_batch_that_fails_is_unknown_for_its_own_alone(hub, home, tmp_path):
    """F11"""
    fleet(hub, home, tmp_path, 1, 60)
    hub.fail("bad_gateway", on="p30:")
    rounds.look(home)
    unknown = [one for one in sessions.everything(home).records if one.get("pr_unknown_since")]
    assert len(unknown) == 25 and all(one["pr"] is None for one in unknown)


def test_comments_that_are_not_shown_leave_those_of_others(hub, home, tmp_path):
    """F11"""
    fleet(hub, home, tmp_path, 1, 2)
    for pull in hub.repo("acme/shop0").pulls():
        for _ in range(99 - len(pull.threads)):  # with itself, as many as one request is about
            pull.thread("Why?")
    hub.fail("bad_gateway", on="nodes\\(ids")
    rounds.look(home)
    pulls = [one["pr"] for one in sessions.everything(home).records]
    assert sum(pull is None for pull in pulls) == 1


def test_requests_that_fail_are_paid_for_too(hub, home, tmp_path):
    """F51: while GitHub is ill it is not asked more often than while it is well."""
    fleet(hub, home, tmp_path, 1, 60)
    project = config.load(str(tmp_path / "ao.yaml")).projects["shop0"]
    hub.fail("bad_gateway", times=None)
    with pytest.raises(Unknown):
        scm.look(home, project, sessions.everything(home).records, hubbing.clock())
    assert gh.pause(home, "github.localhost") == pytest.approx(len(hub.asked()) * 3600 / 2500)


def test_a_budget_that_others_have_used_up_is_spared(home, monkeypatch):
    """F51"""
    now = 1_800_000_000.0
    monkeypatch.setattr(gh.time, "time", lambda: now)
    gh.note_round(home, "h", "a", 10)
    gh.note_round(home, "h", "b", 10)
    assert gh.pause(home, "h") == pytest.approx(20 * 3600 / 2500)
    store.update(
        paths.host(home, "h"),
        lambda known: known.update(graphql={"limit": 5000, "remaining": 100, "reset_at": now + 1800}),
    )
    assert gh.pause(home, "h") == pytest.approx(20 * 1800 / 50)
