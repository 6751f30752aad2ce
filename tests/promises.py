"""What must hold at every moment of the simulation, each promise as a small function named for it.

WRITES are checked whenever a session's record is written, ROUNDS whenever all processes have ended. Each gets the
simulation and says with `promise(holds, what)` what is broken.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lib import conditions, due, events, overview, paths, projects, sessions, status, store
from lib.clock import duration

if TYPE_CHECKING:
    from simulation import Simulation

Record = dict[str, Any]

ROUNDS_TO_ACT = 4  # rounds without a fault after which nothing that is due may still be undone
PEOPLE = (
    "a person",
    "a reviewer",
    "another look",
    "CI on",
    "the agent",
    "another try",
    "its configuration",
    "the end of its hold",
)
MOVING = ("observed_at", "unknown_since", "blockers")  # of a pull request: what time alone changes


class Broken(BaseException):
    """A promise of ao is broken. No Exception: ao goes on after those."""


# --- whenever a record is written ------------------------------------------------------------------------------------


def rev_grows_by_one(sim: Simulation, before: Record, after: Record) -> None:
    sim.promise(after["rev"] == before["rev"] + 1, f"rev grows by one: {before['rev']} -> {after['rev']}")


def an_event_is_in_the_log_before_its_record(sim: Simulation, before: Record, after: Record) -> None:
    names = ("session_id", "rev", "type", "message_id", "from", "to", "state", "next")
    logged = [{name: event.get(name) for name in names} for event in sim.new_events()]
    for event in events.between(before, after):
        wanted = {name: event.get(name) for name in names}
        sim.promise(wanted in logged, f"no event of a rev is missing: {wanted}")


def what_readers_see_of_a_status_is_true(sim: Simulation, before: Record, after: Record) -> None:
    """The last change of status that the log shows is the record's status."""
    if before["status"] != after["status"]:
        shown = [one for one in sim.shown_events(after["id"]) if one["type"] == "status_changed"]
        sim.promise(
            shown and shown[-1]["to"] == after["status"], f"the log shows the status {after['status']}: {shown[-1:]}"
        )


def merged_stays_merged(sim: Simulation, before: Record, after: Record) -> None:
    if status.is_merged(before):
        sim.promise(after["status"] in ("merged", "cleanup"), f"merged stays merged: {after['status']}")


def an_outcome_stays_until_a_restore(sim: Simulation, before: Record, after: Record) -> None:
    if before.get("outcome") and not after.get("outcome"):
        sim.promise(
            (before["doing"] or {}).get("effect") == "restore", f"{before['outcome']} stays {before['outcome']}"
        )


def unknown_is_not_no(sim: Simulation, before: Record, after: Record) -> None:
    """A terminal is gone, and a pull request none, only when the world says so."""
    lives = after["id"] in sim.world.terminals
    ended = status.has_ended(after) and not status.has_ended(before) and before["runtime_state"] == "alive"
    sim.promise(not (ended and lives), "a running agent is not taken for ended")
    lost = (before.get("pr") or {}).get("state") == "open" and after.get("pr") is None
    sim.promise(not lost or (after["doing"] or before["doing"]), "a pull request that is there is not taken for none")


def an_intent_comes_before_its_result(sim: Simulation, before: Record, after: Record) -> None:
    for key, condition in after["conditions"].items():
        old = before["conditions"].get(key) or {}
        if condition.get("result") and condition["result"] != old.get("result"):
            intent, known = condition["intent"], (old.get("intent") or {}).get("id")
            started = known == intent["id"] or (before.get("doing") or {}).get("id") == intent["id"]
            sim.promise(started, f"an intent is saved before its result: {key} {intent['id']}")


def what_is_told_was_delivered(sim: Simulation, before: Record, after: Record) -> None:
    for key, condition in after["conditions"].items():
        new = set((after["told"] or {}).get(key) or ()) - set((before["told"] or {}).get(key) or ())
        result = condition.get("result") or {}
        if new and result.get("ok"):
            intent = condition["intent"]
            sim.promise(
                sim.happened(after, intent), f"what is told was delivered: {key} {intent['action']} {intent['id']}"
            )
            sim.promise(new <= set(intent["items"]), f"only what was sent is told: {key} {new} {intent['items']}")
        elif new:
            sim.promise(result.get("ok") is None, f"what failed is not told: {key} {new}")


def an_escalation_is_latched(sim: Simulation, before: Record, after: Record) -> None:
    for key, condition in after["conditions"].items():
        old = before["conditions"].get(key) or {}
        if old.get("escalated_at") and old["since"] == condition["since"]:
            kept = condition["escalated_at"] == old["escalated_at"]
            sim.promise(kept, f"an escalation is latched for its episode: {key}")


def attempts_never_shrink(sim: Simulation, before: Record, after: Record) -> None:
    for key, condition in after["conditions"].items():
        old = before["conditions"].get(key) or {}
        if old and old["since"] == condition["since"]:
            sim.promise(
                old["attempts"] <= condition["attempts"] <= old["attempts"] + 1, f"attempts never shrink: {key}"
            )


def told_never_forgets_what_is_the_matter(sim: Simulation, before: Record, after: Record) -> None:
    for key, items in (before["told"] or {}).items():
        lost = set(items) - set((after["told"] or {}).get(key) or ())
        sim.promise(
            not lost & set(conditions.KEYS[key].items(after) if key in after["conditions"] else ()),
            f"told: {key} {lost}",
        )


def messages_are_never_lost(sim: Simulation, before: Record, after: Record) -> None:
    kept = {one["id"] for one in after["inbox"]}
    lost = [one for one in before["inbox"] if one["id"] not in kept and one["state"] not in sessions.FINAL]
    from_people = [one["id"] for one in lost if one["from"] != "ao"]
    sim.promise(not from_people, f"a message that is under way stays in its inbox: {from_people}")


def a_final_message_stays_as_it_is(sim: Simulation, before: Record, after: Record) -> None:
    old = {one["id"]: one["state"] for one in before["inbox"]}
    for one in after["inbox"]:
        was = old.get(one["id"])
        fine = was not in sessions.FINAL or was == one["state"] or (was, one["state"]) == ("unconfirmed", "confirmed")
        sim.promise(fine, f"a final message stays as it is: {one['id']} {was} -> {one['state']}")


def a_confirmed_message_was_received(sim: Simulation, before: Record, after: Record) -> None:
    for one in after["inbox"]:
        if one["state"] == "confirmed" and not one["answer"]:
            got = one["id"] in sim.world.logs.get(after["id"], ())
            sim.promise(got, f"a confirmed message is in the agent's log: {one['id']}")


def a_failed_message_was_not_received(sim: Simulation, before: Record, after: Record) -> None:
    old = {one["id"]: one["state"] for one in before["inbox"]}
    for one in after["inbox"]:
        is_new = one["state"] == "failed" and old.get(one["id"]) not in ("failed", None)
        if is_new and one["id"] in sim.world.logs.get(after["id"], ()):
            ended = one["waiting_for"] == "the session has ended"
            sim.promise(ended, f"a message that the agent has is not called failed: {one['id']}: {one['waiting_for']}")


def status_never_flaps_while_facts_hold(sim: Simulation, before: Record, after: Record) -> None:
    facts, seen = sim.statuses.setdefault(after["id"], (None, []))
    now = _facts(after)
    if facts != now:
        sim.statuses[after["id"]] = (now, [after["status"]])
    elif seen[-1] != after["status"]:
        sim.promise(
            after["status"] not in seen, f"with facts held the status never changes twice: {seen} {after['status']}"
        )
        seen.append(after["status"])


def _facts(record: Record) -> str:
    """The facts of a record without what follows from them and what the clock moves."""
    pr = {key: value for key, value in (record.get("pr") or {}).items() if key not in MOVING}
    activity = {"idle": "ready"}.get(str(record["activity"]), record["activity"])
    names = ("runtime_state", "hold", "outcome", "doing", "merge_failure", "activity_since", "missed_looks")
    turn = [record.get("pr_unknown_since"), [[one["id"], one["state"]] for one in record["inbox"]]]
    told = [[key, one.get("delivered_head"), one.get("since")] for key, one in record["conditions"].items()]
    return json.dumps([pr, activity, turn, told, [record.get(name) for name in names]], sort_keys=True)


def an_issue_is_given_to_one_agent(sim: Simulation, new: Record) -> None:
    about = ("project_id", "issue_id")
    busy = [one["id"] for one in sim.live() if all(one[name] == new[name] for name in about) and one["id"] != new["id"]]
    sim.promise(not busy, f"an issue is given to one agent: {new['issue_id']} to {new['id']}, and {busy} has it")


WRITES = (
    rev_grows_by_one,
    an_event_is_in_the_log_before_its_record,
    what_readers_see_of_a_status_is_true,
    merged_stays_merged,
    an_outcome_stays_until_a_restore,
    unknown_is_not_no,
    an_intent_comes_before_its_result,
    what_is_told_was_delivered,
    an_escalation_is_latched,
    attempts_never_shrink,
    told_never_forgets_what_is_the_matter,
    messages_are_never_lost,
    a_final_message_stays_as_it_is,
    a_confirmed_message_was_received,
    a_failed_message_was_not_received,
    status_never_flaps_while_facts_hold,
)


# --- whenever something reaches an agent, a person or the base branch ---


def a_message_is_received_once(sim: Simulation, id: str, message: str) -> None:
    sim.promise(message not in sim.world.logs.get(id, ()), f"a message is received once: {message}")


def a_message_is_saved_before_it_is_typed(sim: Simulation, id: str, message: str) -> None:
    state = next((one["state"] for one in sim.records[id]["inbox"] if one["id"] == message), None)
    begun = state in ("sending", "delivered", "unconfirmed", "failed")
    sim.promise(begun, f"a message is saved as under way before it is typed: {message} is {state}")


def a_fingerprint_is_delivered_once(sim: Simulation, id: str, message: str) -> None:
    key, items, _ = sim.covers.get(message, ("", (), ""))
    for item in items:
        first = sim.delivered.setdefault((id, key, item), message)
        sim.promise(first == message, f"what is the matter is delivered once: {key} {item} by {first} and {message}")


def deliveries_respect_retries(sim: Simulation, id: str, message: str) -> None:
    key, _, since = sim.covers.get(message, ("", (), ""))
    if key:
        had = sim.episodes.setdefault((id, key, since), [])
        had.append(message)
        most = sim.reaction(id, key).get("retries")
        sim.promise(most is None or len(had) <= most, f"at most {most} deliveries in an episode: {key} {had}")


RECEIVED = (
    a_message_is_received_once,
    a_message_is_saved_before_it_is_typed,
    a_fingerprint_is_delivered_once,
    deliveries_respect_retries,
)


def a_notification_is_sent_once(sim: Simulation, told: Record) -> None:
    again = [one for one in sim.world.people_heard if (one["id"], one["by"]) == (told["id"], told["by"])]
    sim.promise(not again, f"a notification is sent once: {told['id']}")


def a_notification_is_saved_before_it_is_sent(sim: Simulation, told: Record) -> None:
    sim.promise(told["id"] in sim.intended_news(), f"a notification is saved before it is sent: {told['id']}")


def no_news_repeats_within_an_episode(sim: Simulation, told: Record) -> None:
    for id, record in sim.records.items():
        for key, condition in record["conditions"].items():
            intent = condition.get("intent") or {}
            if (intent.get("told") or {}).get("id") == told["id"]:
                what = "once" if intent["action"] == "escalate" else tuple(intent["items"])
                news = (id, key, condition["since"], intent["action"], what, told["by"])
                first = sim.news.setdefault(news, told["id"])
                sim.promise(first == told["id"], f"no news repeats within an episode: {news}")


HEARD = (a_notification_is_sent_once, a_notification_is_saved_before_it_is_sent, no_news_repeats_within_an_episode)


def only_what_was_ready_is_merged(sim: Simulation, pull: Record, session: Record, plan: dict[str, str]) -> None:
    """The head that is merged was shown to this very process as ready."""
    shown = [
        facts for who, facts in sim.world.served if who is sim.machine.current and facts["number"] == pull["number"]
    ]
    ready = [facts for facts in shown if facts["head_sha"] == pull["head"] and _is_ready(facts)]
    sim.promise(
        ready and plan["head_sha"] == pull["head"], f"only what was ready at its head is merged: {pull['number']}"
    )


def a_merge_is_saved_before_it_happens(sim: Simulation, pull: Record, session: Record, plan: dict[str, str]) -> None:
    doing = sim.records[session["id"]].get("doing") or {}
    saved = doing.get("effect") == "merge" and doing["plan"] == plan
    sim.promise(saved, f"a merge is saved before it happens: {pull['number']}")


def _is_ready(facts: Record) -> bool:
    green = facts["ci_checks"] and all(check["status"] == "passed" for check in facts["ci_checks"])
    clear = facts["state"] == "open" and not facts["is_draft"] and facts["mergeable"] is True
    return bool(green and clear and facts["review_decision"] == "approved" and facts["approved_by"])


MERGED = (only_what_was_ready_is_merged, a_merge_is_saved_before_it_happens)


# --- whenever all processes have ended -------------------------------------------------------------------------------


def no_lock_is_held(sim: Simulation) -> None:
    sim.promise(not sim.machine.held, f"no lock is held by the dead: {sim.machine.held}")


def records_load(sim: Simulation) -> None:
    fleet = sessions.everything(sim.home)
    sim.promise(not fleet.damaged, f"records load: {fleet.damaged}")
    for record in fleet.records:
        sim.promise(record == sim.records[record["id"]], f"what is read is what was written: {record['id']}")
    found = {os.path.basename(path)[:-5] for path in overview.files(sim.home)}
    sim.promise(found == {record["id"] for record in fleet.records}, "every record is in the fleet")


def event_ids_grow(sim: Simulation) -> None:
    ids = [event["id"] for event in sim.new_events()]
    sim.promise(all(one < other for one, other in pairwise(ids)), f"event ids grow: {ids[-20:]}")


def a_terminal_belongs_to_a_record(sim: Simulation) -> None:
    known = {record["id"] for record in sim.fleet()}
    stray = set(sim.world.terminals) - known
    sim.promise(not stray, f"a terminal belongs to a record: {stray}")


def what_is_due_is_done(sim: Simulation) -> None:
    """An open condition was acted upon, waits for a named reason, or is with a person, after a few calm rounds."""
    settings, clock = projects.Settings(), sim.clock()
    silent = set()
    for record in sim.fleet():
        try:
            reactions = settings.project(record).values["reactions"]
        except Exception:  # a configuration that somebody has broken
            continue
        for key, condition in record["conditions"].items():
            step = due.next_step(record, key, reactions.get(key) or {}, clock)
            if isinstance(step, due.Step) and not record["doing"]:
                silent.add((record["id"], key, f"{step.action} is due"))
            elif condition["intent"] and not condition["result"] and _is_dropped(sim, record, condition["intent"]):
                silent.add((record["id"], key, f"{condition['intent']['action']} is under way and nobody is at it"))
            elif not condition["waiting_for"] and not condition["intent"]:
                silent.add((record["id"], key, "nothing was said"))
    sim.silence = {one: sim.silence.get(one, 0) + 1 for one in silent} if sim.was_calm else {}
    late = [one for one, rounds in sim.silence.items() if rounds > ROUNDS_TO_ACT]
    sim.promise(not late, f"an open condition is acted upon, waits for a named reason, or is with a person: {late}")


def _is_dropped(sim: Simulation, record: Record, intent: Record) -> bool:
    if intent["action"] != "send-to-agent":
        return sim.clock().elapsed(intent["at"]) > 900
    message = next((one for one in record["inbox"] if one["id"] == intent["id"]), None)
    is_next = message is not None and sessions.open_message(record) is message
    return message is None or (is_next and message["state"] == "queued" and not message.get("waiting_for"))


def ended_sessions_have_no_agent(sim: Simulation) -> None:
    late = [
        record["id"]
        for record in sim.fleet()
        if record["status"] in ("merged", "done", "killed", "errored") and record["id"] in sim.world.terminals
    ]
    patience = duration("10m") / 5
    sim.outliving = {id: sim.outliving.get(id, 0) + 1 for id in late} if sim.was_calm else {}
    sim.promise(
        all(rounds < patience for rounds in sim.outliving.values()), f"the agents of ended sessions end: {late}"
    )


def effects_are_settled(sim: Simulation) -> None:
    """An intent about a session's life does not outlive its process for long."""
    open_ones = [record["id"] for record in sim.fleet() if record["doing"]]
    sim.unsettled = {id: sim.unsettled.get(id, 0) + 1 for id in open_ones} if sim.was_calm else {}
    late = {id: sim.records[id]["doing"] for id, rounds in sim.unsettled.items() if rounds > ROUNDS_TO_ACT}
    sim.promise(not late, f"what a dead process began is settled: {late}")


ROUNDS = (
    no_lock_is_held,
    records_load,
    event_ids_grow,
    a_terminal_belongs_to_a_record,
    what_is_due_is_done,
    ended_sessions_have_no_agent,
    effects_are_settled,
)


# --- at the end ------------------------------------------------------------------------------------------------------


def everything_came_to_an_end(sim: Simulation) -> None:
    """With people and agents who do their part every session is merged or ended."""
    left = {one["id"]: one["status"] for one in sim.fleet() if one["status"] not in status.TERMINAL}
    sim.promise(not left, f"every session comes to its end: {left}")
    lost = [
        (one["id"], said["id"], said["state"])
        for one in sim.fleet()
        for said in one["inbox"]
        if said["state"] not in sessions.FINAL
    ]
    sim.promise(not lost, f"every message comes to its end: {lost}")


def every_terminal_is_gone(sim: Simulation) -> None:
    sim.promise(not sim.world.terminals, f"no agent outlives its session: {sorted(sim.world.terminals)}")


def people_heard_of_the_end(sim: Simulation) -> None:
    for project in {record["project_id"] for record in sim.fleet()}:
        known = (store.read(paths.project(sim.home, project)) or {}).get("conditions") or {}
        result = (known.get("all-complete") or {}).get("result") or {}
        sim.promise(result.get("ok"), f"people hear that all is complete: {project} {known}")


ENDS = (everything_came_to_an_end, every_terminal_is_gone, people_heard_of_the_end)
