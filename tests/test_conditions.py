"""Open conditions: when they open, when they close, what is due, whose turn it is. What is unknown changes nothing."""

from __future__ import annotations

import copy

import pytest
from records import GREEN, RED, RUNNING, START, ago, at, deliver, evaluate, intend, pull, ready_pull, session

from lib import conditions
from lib.clock import Clock, iso
from lib.rules import AXES, KEYS, RULES, Rules

TWO_RED = [*RED, {"name": "lint", "status": "failed"}]
BOTH = [*RED, {"name": "lint", "status": "running"}]
IDLE = {"activity": "idle", "activity_since": ago(300)}
LONG_IDLE = {"activity": "idle", "activity_since": ago(3600), "turn_since": ago(3600)}
MERGED, CLOSED = pull(state="merged"), pull(state="closed")


def lost(**fields):
    return [{"id": "m-1", "from": "person", "state": "unconfirmed", **fields}]


OPENS = {  # facts -> the one condition that they open
    "a red check": ({"pr": pull(RED)}, "ci-failed"),
    "red, others running, just now": ({"pr": pull(BOTH, red_since=ago(119))}, None),
    "red, others running, for two minutes": ({"pr": pull(BOTH, red_since=ago(120))}, "ci-failed"),
    "checks running": ({"pr": pull(RUNNING)}, None),
    "red, closed": ({"pr": pull(RED, state="closed")}, "pr-closed"),
    "comments": ({"pr": pull(threads=["t1"])}, "changes-requested"),
    "comments by programs": ({"pr": pull(bot_threads=["t1"])}, "bugbot-comments"),
    "a conflict": ({"pr": pull(mergeable=False)}, "merge-conflicts"),
    "mergeable is not known": ({"pr": pull(mergeable=None)}, None),
    "ready": ({"pr": ready_pull()}, "approved-and-green"),
    "ready but for the settling": ({"pr": ready_pull(head_seen_at=ago(29))}, None),
    "closed": ({"pr": CLOSED}, "pr-closed"),
    "merged": ({"pr": MERGED}, None),
    "idle for five minutes": (IDLE, "agent-idle"),
    "idle for less": ({**IDLE, "activity_since": ago(299)}, None),
    "idle with a pull request": ({**IDLE, "pr": pull()}, None),
    "idle with a closed pull request": ({**LONG_IDLE, "pr": CLOSED}, "pr-closed"),
    "an idle orchestrator": ({**LONG_IDLE, "role": "orchestrator"}, None),
    "idle, parked": ({**IDLE, "hold": {"reason": "person"}}, None),
    "blocked in its turn": ({**LONG_IDLE, "activity": "blocked"}, "agent-stuck"),
    "blocked, its turn is new": ({**LONG_IDLE, "activity": "blocked", "turn_since": ago(599)}, None),
    "its turn is old, it moved": ({**LONG_IDLE, "activity": "blocked", "activity_since": ago(599)}, None),
    "silent but active for an hour": ({"activity": "active", "turn_since": ago(3600)}, None),
    "waiting for review": ({**LONG_IDLE, "activity": "blocked", "pr": pull(GREEN)}, None),
    "a question": ({"activity": "waiting_input", "question": "y/n?"}, "agent-needs-input"),
    "exited": ({"runtime_state": "exited", "activity": "exited"}, "agent-exited"),
    "gone": ({"runtime_state": "gone", "activity": "exited"}, "agent-exited"),
    "ended by a person": ({"runtime_state": "exited", "outcome": "killed"}, None),
    "being restored": ({"runtime_state": "exited", "doing": {"effect": "restore", "at": ago(1)}}, None),
    "merged, then gone": ({"runtime_state": "gone", "pr": MERGED}, None),
    "a message that is lost": ({"inbox": lost()}, "message-waiting"),
    "a lost one that a condition answers for": ({"inbox": lost(**{"from": "ci-failed"})}, None),
    "a message that is late": ({"inbox": lost(state="queued", is_late=True)}, "message-waiting"),
    "most of its budget is used": ({"cost": {"cost_usd": 8.0}}, "budget-warning"),
    "its budget is used up": ({"cost": {"cost_usd": 10.0}}, "budget-exceeded"),
    "a model without a price": ({"cost": {"cost_usd": None, "unpriced": ["new-model"]}}, "cost-unknown"),
    "its budget was raised": ({"cost": {"cost_usd": 10.0}, "budget_raised": 5.0}, None),
    "a message on its way": ({"inbox": lost(state="sending")}, None),
}


@pytest.mark.parametrize("case", OPENS)
def test_a_condition_opens(case):
    """F12, F16, F19"""
    fields, key = OPENS[case]
    assert list(evaluate(session(**copy.deepcopy(fields)))) == ([key] if key else [])


def test_conditions_of_one_pull_request_are_independent():
    """F26: a red check hides no comments."""
    found = evaluate(session(pr=pull(RED, threads=["t1"], bot_threads=["b1"], mergeable=False)))
    assert set(found) == {"ci-failed", "changes-requested", "bugbot-comments", "merge-conflicts"}


OPEN_FACTS = {  # a key -> facts that open it
    key: fields for fields, key in OPENS.values() if key and not (key == "agent-stuck" and "pr" in fields)
}
CLOSES = [  # an open condition, what changes, whether it closes
    ("ci-failed", {"pr": pull(RUNNING, head_sha="b" * 40)}, False),
    ("ci-failed", {"pr": pull()}, False),
    ("ci-failed", {"pr": pull(GREEN)}, True),
    ("ci-failed", {"pr": MERGED}, True),
    ("ci-failed", {"pr": None}, True),
    ("changes-requested", {"pr": pull(head_sha="b" * 40, threads=["t1"])}, False),
    ("changes-requested", {"pr": pull()}, True),
    ("bugbot-comments", {"pr": pull()}, True),
    ("bugbot-comments", {"pr": pull(state="closed", bot_threads=["t1"])}, True),
    ("merge-conflicts", {"pr": pull(mergeable=None)}, False),
    ("merge-conflicts", {"pr": pull(mergeable=True)}, True),
    ("approved-and-green", {"pr": ready_pull(mergeable=None)}, True),
    ("approved-and-green", {"pr": MERGED}, True),
    ("pr-closed", {"pr": pull()}, True),
    ("pr-closed", {"outcome": "killed"}, True),
    ("agent-idle", {"activity": "active", "activity_since": ago(0)}, False),
    ("agent-idle", {"activity": "active", "activity_since": ago(600)}, False),
    ("agent-idle", {"hold": {"reason": "person"}}, False),
    ("agent-idle", {"head_sha": "c" * 40}, True),
    ("agent-idle", {"pr": pull()}, True),
    ("agent-idle", {"outcome": "done"}, True),
    ("agent-exited", {"runtime_state": "alive"}, True),
    ("agent-exited", {"outcome": "killed"}, True),
    ("message-waiting", {"inbox": []}, True),
    ("cost-unknown", {"cost": {"cost_usd": 1.0, "unpriced": []}}, True),
    ("message-waiting", {"inbox": lost(state="confirmed")}, True),
]


@pytest.mark.parametrize(("key", "change", "closes"), CLOSES)
def test_a_condition_closes(key, change, closes):
    record = session(**copy.deepcopy(OPEN_FACTS[key]))
    assert key in evaluate(record)
    record.update(copy.deepcopy(change))
    assert (key not in evaluate(record)) is closes


@pytest.mark.parametrize(
    ("key", "calm"), [("agent-needs-input", {"activity": "active"}), ("agent-stuck", {"activity": "active"})]
)
def test_the_trouble_of_an_agent_is_over_after_a_minute_without_it(key, calm):
    """F17: no flicker closes and reopens, and tells a person each time."""
    record = session(**copy.deepcopy(OPEN_FACTS[key]))
    trouble = record["activity"]
    since = evaluate(record)[key]["since"]
    for seconds, activity in [(10, "active"), (50, trouble), (100, "active"), (159, "active")]:
        record.update(activity=activity, activity_since=at(seconds).iso if activity == trouble else ago(-100))
        assert evaluate(record, seconds)[key]["since"] == since
    record.update(calm)
    assert key not in evaluate(record, 160)


def test_an_unanswered_question_ends_with_its_agent():
    record = session(activity="waiting_input")
    evaluate(record)
    record.update(runtime_state="exited", activity="exited")
    assert list(evaluate(record, 1)) == ["agent-exited"]


# --- unknown --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, *{k: v for k, v in OPEN_FACTS.items() if k != "message-waiting"}])
def test_while_the_forge_cannot_be_asked_nothing_opens_closes_or_moves(before):
    """F11, and nothing is told of a session whose pull request was never seen."""
    record = session(**copy.deepcopy(OPEN_FACTS.get(before, {})))
    evaluate(record)
    record["pr_unknown_since"] = ago(0)
    known = copy.deepcopy(record)
    for seconds in (1, 1000, 100_000):
        evaluate(record, seconds)
    assert record["conditions"] == known["conditions"]
    assert (record["pr"], record.get("turn_since")) == (known["pr"], known.get("turn_since"))


def test_nothing_becomes_ready_while_the_forge_cannot_be_asked():
    record = session(pr=ready_pull(head_seen_at=ago(29)))
    evaluate(record)
    record["pr_unknown_since"] = ago(0)
    assert evaluate(record, 1000) == {}
    assert record["pr"]["blockers"] == ["its newest commit is there for less than 30s (merge.settle)"]


@pytest.mark.parametrize("fields", [IDLE, LONG_IDLE, {"pr": ready_pull(), "activity": "blocked"}])
def test_what_was_never_seen_opens_nothing(fields):
    record = session(**fields, pr_unknown_since=ago(10))
    assert evaluate(record) == {}


def test_a_terminal_that_cannot_be_asked_opens_and_closes_nothing():
    """F10"""
    record = session(**LONG_IDLE, runtime_unknown_since=ago(10))
    assert evaluate(record) == {}
    record = session(activity="waiting_input")
    evaluate(record)
    record.update(activity="active", runtime_unknown_since=ago(0))
    assert "agent-needs-input" in evaluate(record, 1000)


def test_what_is_over_needs_no_forge():
    record = session(pr=pull(RED))
    evaluate(record)
    record.update(outcome="killed", pr_unknown_since=ago(0))
    assert evaluate(record) == {}


# --- what is due ----------------------------------------------------------------------------------------------------


def due(record, key, action=""):
    return conditions.due_items(record, key, action)


def test_a_red_head_is_told_once_and_a_new_one_again():
    """F20"""
    record = session(pr=pull(RED))
    evaluate(record)
    assert len(due(record, "ci-failed")) == 1
    deliver(record, "ci-failed")
    evaluate(record, 10)
    assert due(record, "ci-failed") == []
    record["pr"] = pull(RED, head_sha="b" * 40)
    evaluate(record, 20)
    assert len(due(record, "ci-failed")) == 1
    record["pr"] = pull(TWO_RED)
    evaluate(record, 30)
    assert len(due(record, "ci-failed")) == 1, "another set of red checks"


def test_what_was_told_stays_told_when_it_comes_back():
    """F21: `told` outlives the episode."""
    record = session(pr=pull(RED, threads=["t1"]))
    evaluate(record)
    for key in ("ci-failed", "changes-requested"):
        deliver(record, key)
    record["pr"] = pull(GREEN)
    assert evaluate(record) == {}
    record["pr"] = pull(RED, threads=["t1", "t2"])
    evaluate(record)
    assert (due(record, "ci-failed"), due(record, "changes-requested")) == ([], ["t2"])


def test_the_same_question_is_asked_again_in_another_episode_and_not_in_this_one():
    record = session(activity="waiting_input", question="go on?")
    evaluate(record)
    deliver(record, "agent-needs-input", "notify")
    assert due(record, "agent-needs-input", "notify") == []
    record["question"] = "really?"
    assert len(due(record, "agent-needs-input", "notify")) == 1
    record.update(activity="active", question=None)
    evaluate(record, 10)
    evaluate(record, 100)
    record.update(activity="waiting_input", question="go on?")
    evaluate(record, 200)
    assert len(due(record, "agent-needs-input", "notify")) == 1


def test_what_is_still_the_matter_is_never_forgotten_however_much_is_told():
    """F25: three hundred ids are kept beside those that are current."""
    record = session(pr=pull(threads=[f"t{n}" for n in range(1000)]))
    evaluate(record)
    deliver(record, "changes-requested")
    assert due(record, "changes-requested") == []
    record["pr"]["threads"] = ["new"]
    evaluate(record)
    deliver(record, "changes-requested")
    assert len(record["told"]["changes-requested"]) == 301


def test_a_lost_message_is_told_of_once_and_then_no_matter_any_more():
    record = session(inbox=lost())
    evaluate(record)
    deliver(record, "message-waiting", "notify")
    assert evaluate(record, 10) == {}
    assert evaluate(record, 20) == {}
    record["inbox"] += lost(id="m-2")
    assert list(evaluate(record, 30)) == ["message-waiting"]
    assert due(record, "message-waiting") == ["m-2 lost"]


# --- intent and result ----------------------------------------------------------------------------------------------


def test_a_condition_with_an_intent_is_not_closed_before_its_result():
    record = session(pr=pull(RED), inbox=[{"id": "m-1", "state": "sending", "from": "ci-failed"}])
    evaluate(record)
    intend(record, "ci-failed")
    record["pr"] = pull(GREEN)
    assert "ci-failed" in evaluate(record, 10)
    record["inbox"][0]["state"] = "confirmed"
    assert evaluate(record, 20) == {}
    assert len(record["told"]["ci-failed"]) == 1


@pytest.mark.parametrize(
    ("state", "attempts", "is_due"),
    [("sending", 0, True), ("confirmed", 1, False), ("failed", 0, True), ("unconfirmed", 1, False), (None, 0, True)],
)
def test_a_message_that_failed_is_no_attempt_and_an_unconfirmed_one_is_not_sent_again(state, attempts, is_due):
    """F9"""
    record = session(pr=pull(RED), inbox=[{"id": "m-1", "state": state, "from": "ci-failed"}] if state else [])
    evaluate(record)
    intend(record, "ci-failed")
    condition = evaluate(record, 10)["ci-failed"]
    assert (condition["attempts"], bool(due(record, "ci-failed"))) == (attempts, is_due)
    assert bool(condition["result"]) == (state != "sending")


def test_a_message_that_is_confirmed_late_was_delivered():
    record = session(pr=pull(RED), inbox=[{"id": "m-1", "state": "unconfirmed", "from": "ci-failed"}])
    evaluate(record)
    intend(record, "ci-failed")
    assert evaluate(record, 10)["ci-failed"]["is_unsure"] is True
    unsure = copy.deepcopy(record)
    evaluate(record, 20)
    assert record == unsure
    record["inbox"][0]["state"] = "confirmed"
    condition = evaluate(record, 30)["ci-failed"]
    assert (condition["attempts"], condition["result"]["ok"], condition["is_unsure"]) == (1, True, False)
    assert len(record["told"]["ci-failed"]) == 1


def test_of_each_message_that_may_not_have_arrived_a_person_hears_also_after_the_escalation():
    """F9: its own condition tells a person only once an episode."""
    record = session(pr=pull(RED), inbox=[{"id": "m-1", "state": "unconfirmed", "from": "ci-failed"}])
    evaluate(record)
    intend(record, "ci-failed")
    assert "message-waiting" not in evaluate(record, 10)
    record["conditions"]["ci-failed"]["escalated_at"] = at(20).iso
    assert "message-waiting" in evaluate(record, 20) and due(record, "message-waiting") == ["m-1 lost"]
    deliver(record, "message-waiting", "notify", 30)
    assert "message-waiting" not in evaluate(record, 40)


OVER = {  # what is the matter -> its condition, and how it came to be over
    "a red head was replaced": ({"pr": pull(RED)}, "ci-failed", {"pr": pull(RUNNING, head_sha="b" * 40)}),
    "the comment was settled": ({"pr": pull(threads=["t1"])}, "changes-requested", {"pr": pull(threads=["t2"])}),
    "the pull request was closed": ({"pr": pull(threads=["t1"])}, "changes-requested", {"pr": CLOSED}),
    "the idle agent has moved on": (IDLE, "agent-idle", {"head_sha": "b" * 40}),
}


@pytest.mark.parametrize("case", OVER)
@pytest.mark.parametrize(
    ("message", "then"), [({}, "failed"), ({"attempts": 1}, "queued"), ({"state": "sending"}, "sending")]
)
def test_a_message_that_still_waits_when_its_matter_is_over_is_taken_back_and_was_no_attempt(case, message, then):
    facts, key, later = copy.deepcopy(OVER[case])
    record = session(**facts, inbox=[{"id": "m-1", "from": key, "state": "queued", "attempts": 0, **message}])
    evaluate(record)
    intend(record, key)
    assert evaluate(record, 10)[key]["intent"] and record["inbox"][0]["state"] == message.get("state", "queued")
    record.update(later)
    condition = evaluate(record, 20).get(key) or {}
    assert record["inbox"][0]["state"] == then
    assert bool(condition.get("intent")) == (then != "failed")
    assert not condition.get("attempts") and not condition.get("failures") and key not in record["told"]


def test_a_result_is_for_the_fingerprint_of_its_intent():
    record = session(pr=pull(RED))
    evaluate(record)
    intend(record, "ci-failed")
    carried = record["conditions"]["ci-failed"]["intent"]["fingerprint"]
    record["pr"] = pull(RED, head_sha="b" * 40)
    evaluate(record)
    conditions.record_result(record, "ci-failed", at(10))
    condition = record["conditions"]["ci-failed"]
    assert condition["result"]["fingerprint"] == carried != condition["fingerprint"]
    assert len(due(record, "ci-failed")) == 1


# --- whose turn it is -----------------------------------------------------------------------------------------------

TURNS = {
    "no pull request": ({}, True),
    "a draft": ({"pr": pull(is_draft=True)}, True),
    "waiting for review": ({"pr": pull(GREEN)}, False),
    "waiting for CI": ({"pr": pull(RUNNING)}, False),
    "a closed pull request": ({"pr": CLOSED}, False),
    "a question": ({"activity": "waiting_input"}, False),
    "parked": ({"hold": {"reason": "usage-limit"}}, False),
    "not running": ({"runtime_state": "exited"}, False),
    "starting": ({"runtime_state": "starting"}, False),
    "over": ({"outcome": "done"}, False),
}


@pytest.mark.parametrize("case", TURNS)
def test_whose_turn_it_is(case):
    fields, expected = TURNS[case]
    record = session(**fields)
    assert conditions.is_agents_turn(record) is expected
    evaluate(record)
    assert bool(record.get("turn_since")) is expected


@pytest.mark.parametrize("facts", [{"mergeable": False}, {"threads": ["t1"]}, {"bot_threads": ["t1"]}, {}])
def test_after_a_delivery_it_is_the_agents_turn_until_it_pushes(facts):
    checks = GREEN if facts else RED
    record = session(pr=pull(checks, **facts))
    (key,) = evaluate(record)
    assert conditions.is_agents_turn(record) is False, "it was not told yet"
    deliver(record, key)
    evaluate(record, 10)
    assert conditions.is_agents_turn(record) is True
    record["pr"] = pull(checks, **facts, head_sha="b" * 40)
    evaluate(record, 20)
    assert conditions.is_agents_turn(record) is False, "its new head was not told of"


def test_what_a_person_was_told_is_not_the_agents_turn():
    record = session(pr=pull(RED))
    evaluate(record)
    deliver(record, "ci-failed", "notify")
    evaluate(record, 10)
    assert not record.get("turn_since")


def test_the_agents_own_time_leaves_out_ci_questions_and_holds():
    record = session(pr=pull(RED))
    evaluate(record)
    deliver(record, "ci-failed")
    spent = {0: 0.0, 100: 0.0, 150: 100.0, 250: 100.0, 300: 150.0}  # at the end of each stretch of its own
    for seconds, fields in [
        (0, {}),
        (100, {"activity": "waiting_input"}),
        (150, {"activity": "active"}),
        (200, {"pr": pull(RUNNING)}),
        (250, {"pr": pull(RED)}),
        (300, {"hold": {"reason": "person"}}),
    ]:
        record.update(fields)
        evaluate(record, seconds)
    assert record["conditions"]["ci-failed"]["turn_spent"] == 200.0, spent


def test_hours_in_which_nobody_looked_are_nobodys_turn():
    record = session(**{**LONG_IDLE, "activity": "blocked", "activity_since": ago(10), "turn_since": ago(10)})
    clock = Clock(START + 7200, ((START, START + 7200),))
    conditions.evaluate(record, Rules({}, {"settle": "30s"}), clock)
    assert record["conditions"] == {}


# --- nothing is written for nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", OPENS)
def test_the_same_facts_at_the_same_time_change_nothing_more(case):
    record = session(**copy.deepcopy(OPENS[case][0]))
    evaluate(record)
    before = copy.deepcopy(record)
    evaluate(record)
    assert record == before


@pytest.mark.parametrize("case", sorted(OPENS))
def test_time_alone_settles_and_then_nothing_is_written(case):
    record = session(**copy.deepcopy(OPENS[case][0]))
    for seconds in (0, 700, 1400):
        evaluate(record, seconds)
    before = copy.deepcopy(record)
    for seconds in (1405, 1410, 5000):
        evaluate(record, seconds)
    assert record == before


def test_ready_becomes_idle_by_the_clock_and_counts_from_when_it_was_ready():
    record = session(activity="ready", activity_since=iso(START), pr=pull(GREEN))
    assert [(evaluate(record, seconds), record["activity"])[1] for seconds in (59, 60)] == ["ready", "idle"]
    assert record["activity_since"] == iso(START)


def test_every_condition_is_documented_and_has_a_case():
    for rule in RULES:
        assert rule.opens_when and rule.closes_when and rule.due_for and rule.about in AXES
    assert {key for _, key in OPENS.values() if key} == set(KEYS)
