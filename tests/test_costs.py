"""What agents spend: prices, totals that never fall, the ledger, ao-cost."""

from __future__ import annotations

import json
import os
import sys

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from records import START, at, session

from lib import cache, costs, observe, paths, sessions, store

DAY = at(0).iso[:10]
MONTH = DAY[:7]
SONNET = "claude-sonnet-5"  # 2 USD in, 10 out, 0.2 from the cache, 2.5 and 4 into it, per million


def tokens(*numbers):
    return dict(zip(costs.TOKENS, numbers, strict=False))


def spent(model=SONNET, day=DAY, **counts):
    return {day: {model: {**dict.fromkeys(costs.TOKENS, 0), **counts}}}


@pytest.mark.parametrize(
    ("counts", "usd"),
    [
        (tokens(1_000_000), 2.0),
        (tokens(0, 1_000_000), 10.0),
        (tokens(0, 0, 1_000_000), 0.2),
        (tokens(0, 0, 0, 1_000_000), 2.5),
        (tokens(0, 0, 0, 1_000_000, 1_000_000), 4.0),
        (tokens(0, 0, 0, 1_000_000, 400_000), 0.6 * 2.5 + 0.4 * 4.0),
        (tokens(1_000_000, 100_000, 2_000_000, 200_000, 100_000), 2 + 1 + 0.4 + 0.25 + 0.4),
        ({}, 0.0),
    ],
)
def test_each_kind_of_token_has_its_price(counts, usd):
    """F46: reads and writes of the cache apart, five minutes and an hour too."""
    assert costs.usd(SONNET, counts) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("model", "like"),
    [
        ("claude-opus-4-5", "claude-opus-4-5"),
        ("claude-opus-4-5-20991231", "claude-opus-4-5"),
        ("claude-opus-5-5-20990101", "claude-opus-5-5"),  # and not claude-opus-5
        ("claude-sonnet-5[1m]", "claude-sonnet-5"),
        ("anthropic/claude-sonnet-5", "claude-sonnet-5"),
        ("bedrock/eu/claude-sonnet-5@latest", "claude-sonnet-5"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"),  # as Bedrock names it
        ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-opus-5-v1", "claude-opus-5"),
        ("gpt-4.1-2025-04-14", "gpt-4.1-2025-04-14"),
        ("gpt-9.1", None),
        ("claude-opus-55", None),  # another model, not a variant of claude-opus-5
        ("mock-model", None),
        ("", None),
    ],
)
def test_a_model_has_the_price_of_the_longest_name_that_it_begins_with(model, like):
    assert costs.price(model) == (costs.prices()[like] if like else None)


def test_every_price_of_the_table_is_one():
    for model, rates in costs.prices().items():
        assert {"input", "output"} <= set(rates), model
        assert set(rates) <= {"input", "output", "cache_read", "cache_write", "cache_write_1h"}, model
        assert all(isinstance(rate, int | float) and rate >= 0 for rate in rates.values()), model


def test_what_a_price_does_not_say_is_the_nearest_that_it_says():
    rate = costs.prices()["codestral-2508"]
    assert set(rate) == {"input", "output", "cache_read"}
    assert costs.usd("codestral-2508", tokens(0, 0, 0, 1_000_000, 500_000)) == pytest.approx(rate["input"])


def test_of_an_unknown_model_the_tokens_count_and_the_money_is_said_to_be_unknown():
    cost = costs.taken(None, spent("mock-model", input_tokens=7) | spent(day="2026-01-01", output_tokens=100_000))
    assert (cost["input_tokens"], cost["output_tokens"], cost["cost_usd"]) == (7, 100_000, 1.0)
    assert cost["unpriced"] == ["mock-model"]
    only = costs.taken(None, spent("mock-model", input_tokens=7))
    assert only["cost_usd"] is None  # which is not nought


def test_nothing_spent_is_no_cost():
    assert costs.taken(None, {}) is None
    assert costs.taken(None, spent()) is None


DAYS = st.dictionaries(
    st.sampled_from(["2026-01-01", "2026-01-02", "2026-02-01"]),
    st.dictionaries(
        st.sampled_from([SONNET, "mock-model"]),
        st.fixed_dictionaries(dict.fromkeys(costs.TOKENS, st.integers(0, 10**7))),
    ),
)


@given(old=DAYS, new=DAYS)
def test_what_is_known_to_be_spent_never_falls_and_twice_counted_is_once_counted(old, new):
    """F46: also when a transcript is gone, cut short, or read from its beginning again."""
    first = costs.taken(None, old)
    both = costs.taken(first, new)
    assert costs.taken(both, new) == both == costs.taken(both, old)
    for one in (first, costs.taken(None, new)):
        assert one is None or all(both[name] >= one[name] for name in costs.SHOWN)


def ledger(home, month=MONTH):
    return store.read(paths.ledger(home, month))


def test_the_ledger_has_absolute_totals_by_day_and_outlives_sessions(home):
    one = session(cost={"days": spent(input_tokens=5) | spent(day="2026-01-31", input_tokens=1)})
    costs.save(home, [one])
    costs.save(home, [one])
    one["cost"] = {"days": spent(input_tokens=9)}
    costs.save(home, [one])
    costs.save(home, [session(id="app-2", cost={"days": spent(input_tokens=2)})])
    assert costs.months(home) == sorted(["2026-01", MONTH])
    assert {row["session"]: row["input_tokens"] for row in costs.rows(home, [MONTH])} == {"app-1": 9, "app-2": 2}
    assert [row["input_tokens"] for row in costs.rows(home, ["2026-01"])] == [1]
    assert list(costs.rows(home, ["2030-01"])) == []


def test_a_ledger_that_says_what_it_said_is_not_written(home):
    one = session(cost={"days": spent(input_tokens=5)})
    costs.save(home, [one])
    before = os.stat(paths.ledger(home, MONTH))
    costs.save(home, [one])
    after = os.stat(paths.ledger(home, MONTH))
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_eight_processes_lose_nothing_of_the_ledger(home):
    """F45"""
    import subprocess

    code = (
        "import sys\nfrom lib import costs\nhome, name = sys.argv[1:]\n"
        "for n in range(1, 26):\n"
        f"  days = {{{DAY!r}: {{'m': {{'input_tokens': n}}}}}}\n"
        "  costs.save(home, [{'id': name, 'project_id': 'p', 'agent': 'a', 'cost': {'days': days}}])\n"
    )
    command = [sys.executable, "-c", code, home]
    running = [subprocess.Popen([*command, f"p-{number}"], cwd=ROOT) for number in range(8)]
    assert [one.wait(timeout=100) for one in running] == [0] * 8
    assert {row["session"]: row["input_tokens"] for row in costs.rows(home, [MONTH])} == {
        f"p-{number}": 25 for number in range(8)
    }


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("session", ["app-1", "app-2"]),
        ("project", ["app"]),
        ("agent", ["claude-code", "command"]),
        ("model", ["claude-sonnet-5", "mock-model"]),
        ("day", ["2027-01-14", "2027-01-15"]),
    ],
)
def test_costs_are_summed_by_anything_and_the_total_is_the_same(home, by, names):
    costs.save(
        home,
        [
            session(agent="command", cost={"days": spent("mock-model", day="2027-01-14", input_tokens=3)}),
            session(id="app-2", agent="claude-code", cost={"days": spent(day="2027-01-15", input_tokens=1_000_000)}),
        ],
    )
    rows = list(costs.rows(home, ["2027-01"]))
    groups = costs.grouped(rows, by)
    assert [group[by] for group in groups] == names
    assert sum(group["input_tokens"] for group in groups) == 1_000_003 == costs.summed(rows)["input_tokens"]
    assert costs.summed(rows)["cost_usd"] == 2.0


def test_what_a_project_spent_is_read_again_when_its_ledger_changes(home):
    costs.save(home, [session(cost={"days": spent(input_tokens=1_000_000)})])
    assert costs.spent(home, MONTH) == {"app": {DAY: 2.0}}
    costs.save(home, [session(id="app-2", cost={"days": spent(input_tokens=500_000)})])
    assert costs.spent(home, MONTH) == {"app": {DAY: 3.0}}
    cache.forget(home, "spent")
    assert costs.spent(home, MONTH) == {"app": {DAY: 3.0}}


# --- ao-cost ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bills(home):
    """Two sessions of a ledger; only one of them still has a record."""
    record = {**sessions.blank("app-1", "app", at(0)), "config_path": ""}
    record["cost"] = costs.taken(None, spent(input_tokens=1_000_000))
    assert sessions.create(home, record, at(0))
    costs.save(home, [record, session(id="app-2", cost={"days": spent("mock-model", output_tokens=3)})])
    return home


def call(*args):
    import scripts

    done = scripts.call("ao-cost", *args)
    assert done.code == 0, done
    return done.out


def test_ao_cost_shows_a_month_with_its_total_and_what_has_no_price(bills):
    out = call("--month", MONTH)
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][0] == "app-1" and lines[1][-1] == "2.00"
    assert lines[2][0] == "app-2" and lines[2][-1] == "-"
    assert lines[3][0] == "total" and lines[3][-1] == "2.00"
    assert out.splitlines()[-1].endswith("mock-model")


def test_ao_cost_is_always_json(bills):
    found = json.loads(call("--month", MONTH, "--by", "model", "--json"))
    assert [row["model"] for row in found["rows"]] == [SONNET, "mock-model"]
    assert found["total"]["cost_usd"] == 2.0
    empty = json.loads(call("--month", "2020-01", "--json"))
    assert (empty["rows"], empty["total"]["cost_usd"]) == ([], None)


def test_ao_cost_knows_a_session_that_only_the_ledger_remembers(bills):
    assert json.loads(call("app-2", "--json"))["total"]["output_tokens"] == 3


WRONG = [
    ("nobody-1",),
    ("--month", "2026-13"),
    ("--month", "../x"),
    ("app-1", "--raise", "0"),
    ("app-1", "--raise", "nan"),
    ("app-1", "--raise", "inf"),
]


@pytest.mark.parametrize("args", WRONG)
def test_ao_cost_refuses_what_makes_no_sense(bills, args):
    import scripts

    done = scripts.call("ao-cost", *args)
    assert done.code in (1, 2) and done.err.startswith("ao-cost: ") and "Traceback" not in done.err


def test_the_clock_of_these_tests_is_where_it_is_thought_to_be():
    assert START == 1_800_000_000.0 and DAY == "2027-01-15"


# --- a look -----------------------------------------------------------------------------------------------------------


def spending(home, usd, **budget):
    """A session of a project with a budget, whose agent has spent that much; looked at once."""
    import forging
    import talking

    forging.git(talking.configure(home, budget=budget).path, "init", "-q")
    days = spent(day=talking.clock().iso[:10], input_tokens=int(usd * 500_000))
    talking.record(home, cost=costs.taken(None, days))
    return talking


def test_a_damaged_ledger_is_set_aside_said_and_written_anew_from_what_sessions_know(home):
    """F45: a month of costs is not gone, and nothing stands still because of it."""
    talking = spending(home, 3, month_usd=100)
    assert talking.look(home) == []
    month = talking.clock().iso[:7]
    path = paths.ledger(home, month)
    with open(path, "w") as file:
        file.write("sessions: {shop-1: [")
    problems = talking.look(home, 1)
    assert any("ledger" in problem["message"] for problem in problems), problems
    assert talking.look(home, 2) == []
    assert [row["cost_usd"] for row in costs.rows(home, [month])] == [3.0]
    assert any(".damaged-" in name for name in os.listdir(os.path.dirname(path)))


@pytest.fixture
def counted(home, tmp_path):
    """A session of Claude Code and an archived one, both with a transcript, and what they have cost."""
    import shutil

    import forging
    import talking

    path = talking.configure(home, agent={}).path
    forging.git(path, "init", "-q")
    for number in (1, 2):
        folder = tmp_path / "claude" / "projects" / f"-src-{number}"
        folder.mkdir(parents=True)
        shutil.copy(os.path.join(ROOT, "tests/samples/claude-code/by-hand.jsonl"), folder)
        about = {"workspace_path": f"/src/{number}", "agent_config": {"records": str(tmp_path / "claude")}}
        talking.record(home, f"shop-{number}", agent="claude-code", **about)
    assert talking.look(home) == []
    sessions.archive(home, sessions.find(home, "shop-2"))
    bill = list(costs.rows(home, costs.months(home)))
    assert {row["session"] for row in bill} == {"shop-1", "shop-2"} and all(row["cost_usd"] for row in bill)
    return home, bill


def test_what_an_agent_spent_until_it_was_killed_is_counted(counted, tmp_path):
    """F46: nobody looks at a session that is over, and of one that works the costs are written now and then."""
    import shutil

    import talking

    home, before = counted
    folder = tmp_path / "claude" / "projects" / "-src-1"
    shutil.copy(os.path.join(ROOT, "tests/samples/claude-code/limit-resume-queue.jsonl"), folder)
    over = {"runtime_state": "exited", "ended_at": talking.clock().iso, "activity": "exited", "outcome": "killed"}
    talking.change(home, **over)
    assert talking.look(home, 1) == []
    after = list(costs.rows(home, costs.months(home)))
    assert costs.summed(after)["input_tokens"] > costs.summed(before)["input_tokens"]
    assert "shop-1" not in cache.load(home, "tales")  # and it is not read again


def test_a_look_at_one_project_leaves_what_is_known_of_the_others(counted, tmp_path):
    """F46: what one spent before it was killed is counted, also when the look before was at another project."""
    import shutil

    import talking

    home, before = counted
    kept = cache.load(home, "tales")
    folder = tmp_path / "claude" / "projects" / "-src-1"
    shutil.copy(os.path.join(ROOT, "tests/samples/claude-code/limit-resume-queue.jsonl"), folder)
    talking.change(home, runtime_state="exited", ended_at=talking.clock().iso, activity="exited", outcome="killed")
    assert observe.run(home, talking.clock(1), "elsewhere") == []
    assert cache.load(home, "tales") == kept and "shop-1" in kept
    assert talking.look(home, 2) == []
    after = list(costs.rows(home, costs.months(home)))
    assert costs.summed(after)["input_tokens"] > costs.summed(before)["input_tokens"]


def test_what_was_lost_is_counted_anew_from_the_transcripts(counted):
    """F46: the ledger, what a record knew and where its transcript was read up to; also of an archived session."""
    import shutil

    import talking

    home, bill = counted
    shutil.rmtree(os.path.dirname(paths.ledger(home, MONTH)))
    talking.change(home, cost=None)
    tales = {id: {**tale, "days": {}} for id, tale in cache.load(home, "tales").items()}
    cache.save(home, "tales", tales)
    talking.look(home, 1)
    assert list(costs.rows(home, costs.months(home))) == []
    for _ in range(2):
        call("--rebuild")
        assert list(costs.rows(home, costs.months(home))) == bill
    assert talking.look(home, 2) == []
    assert list(costs.rows(home, costs.months(home))) == bill
    record = sessions.find(home, "shop-1")["cost"]
    assert record["cost_usd"] == pytest.approx(sum(row["cost_usd"] for row in bill if row["session"] == "shop-1"))


def test_counting_anew_takes_nothing_back_that_a_look_has_written_meanwhile(counted, monkeypatch):
    """F45"""
    import scripts
    import talking

    home, _ = counted
    script = scripts.load("ao-cost")
    count, more = script.counted, costs.taken(None, spent(output_tokens=10**9))

    def counted_slowly(project, session):
        found = count(project, session)
        if session["id"] == "shop-1":
            talking.change(home, cost=more)
        return found

    monkeypatch.setattr(script, "counted", counted_slowly)
    script.rebuild(home)
    assert sessions.find(home, "shop-1")["cost"]["output_tokens"] > 10**9


def test_counting_anew_forgets_nothing_whose_transcript_or_project_is_gone(counted, tmp_path):
    """F46"""
    import shutil

    import scripts

    home, bill = counted
    shutil.rmtree(tmp_path / "claude")
    with open(paths.ledger(home, costs.months(home)[0]), "a") as file:
        file.write("torn: [")
    os.unlink(os.path.join(home, "ao.yaml"))
    done = scripts.call("ao-cost", "--rebuild")
    assert done.code == 0 and "ledger" in done.err and "shop-1" in done.err, done
    assert list(costs.rows(home, costs.months(home))) == bill


def test_what_is_raised_is_a_limit_that_there_is(home, tmp_path):
    import living

    world = living.make(home, tmp_path)
    id = world.spawn()["id"]
    refused = world.call("ao-cost", id, "--raise", "5")
    assert refused.code == 1 and "has no budget" in refused.err and not world.record(id).get("budget_raised")
    living.configure(world, budget={"month_usd": 10.0})
    assert "project shop may spend 5 USD more (month_usd)" in world.ok("ao-cost", id, "--raise", "5").out


def test_a_projects_limit_keeps_new_sessions_away_and_a_person_raises_it(home, tmp_path):
    import living

    world = living.make(home, tmp_path, budget={"day_usd": 2.0, "session_usd": 3.5})  # the latter is only near
    id = world.spawn()["id"]
    from lib import loop

    day = loop.clock(home).iso[:10]
    world.change(id, cost=costs.taken(None, spent(day=day, input_tokens=1_500_000)))
    world.look(2)
    assert world.record(id)["hold"]["limit"] == "day_usd"
    for args, who in ((), {}), (("--force",), {"AO_SESSION_ID": id}):
        refused = world.call("ao-spawn", "--task", "more", *args, **who)
        assert refused.code == 1 and "day_usd of its budget is used up" in refused.err
    assert [world.call("ao-cost", id, "--raise", usd).code for usd in ("nan", "inf")] == [2, 2]  # no limit ever again
    refused = world.call("ao-cost", id, "--raise", "5", AO_SESSION_ID=id)
    assert refused.code == 1 and "only a person" in refused.err
    world.look()
    assert world.record(id)["hold"]
    assert "still used up" in world.ok("ao-cost", id, "--raise", "0.1").out
    world.ok("ao-cost", id, "--raise", "5")
    world.look()
    assert world.record(id)["hold"] is None
    world.spawn()
