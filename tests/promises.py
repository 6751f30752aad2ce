"""What must hold in the simulation. A promise is a function named for it that returns what breaks it, else nothing.

PROMISES says when each is checked: whenever a session's record is written, whenever something reaches an agent, a
person or the forge, whenever all processes have ended, and at the end.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lib import config, due, events, merge, overview, paths, projects, sessions, status, store
from lib.clock import duration
from lib.rules import KEYS

if TYPE_CHECKING:
    from outside import Terminal
    from simulation import Simulation

Record = dict[str, Any]

ROUNDS_TO_ACT = 4  # rounds without a fault after which nothing that is due may still be undone
ROUNDS_TO_END = 120  # the same for the agent of a session that has ended
REASONS = (  # how what an open condition may wait for begins
    *("a person", "a reviewer", "CI on", "the agent", "another try at", "its configuration", "the end of its hold"),
    *("an answer", "another look", "a remedy", "nothing that is due"),
    *("send-to-agent", "notify", "escalate", "restore", "auto-merge"),
)
MOVING = ("observed_at", "unknown_since", "blockers")  # of a pull request: what time alone changes
STEP = 5.0  # seconds by which clocks may differ


class Broken(BaseException):
    """A promise of ao is broken. No Exception: ao goes on after those."""


def _new(before: Record, after: Record) -> list[tuple[str, Record, Record]]:
    """The conditions of a record with what they were, {} for those that are of another episode."""
    found = []
    for key, condition in after["conditions"].items():
        old = before["conditions"].get(key) or {}
        found.append((key, old if old.get("since") == condition["since"] else {}, condition))
    return found


# --- whenever a record is written ------------------------------------------------------------------------------------


def rev_grows_by_one(sim: Simulation, before: Record, after: Record) -> object:
    return after["rev"] != before["rev"] + 1 and f"{before['rev']} -> {after['rev']}"


def an_event_is_in_the_log_before_its_record(sim: Simulation, before: Record, after: Record) -> object:
    names = ("session_id", "rev", "type", "message_id", "from", "to", "state", "next")
    logged = [{name: event.get(name) for name in names} for event in sim.new_events()]
    wanted = [{name: event.get(name) for name in names} for event in events.between(before, after)]
    return [event for event in wanted if event not in logged]


def what_readers_see_of_a_status_is_true(sim: Simulation, before: Record, after: Record) -> object:
    """The last change of status that the log shows is the record's status."""
    if before["status"] == after["status"]:
        return None
    shown = [one["to"] for one in sim.shown_events(after["id"]) if one["type"] == "status_changed"]
    return shown[-1:] != [after["status"]] and f"{after['status']} is shown as {shown[-1:]}"


def merged_stays_merged(sim: Simulation, before: Record, after: Record) -> object:
    return status.is_merged(before) and after["status"] not in ("merged", "cleanup") and after["status"]


def an_outcome_stays_until_a_restore(sim: Simulation, before: Record, after: Record) -> object:
    is_gone = before["outcome"] and not after["outcome"]
    return is_gone and not status.is_doing(before, "restore") and f"{before['outcome']} is {after['status']}"


def a_running_agent_is_not_taken_for_ended(sim: Simulation, before: Record, after: Record) -> object:
    has_ended = before["runtime_state"] == "alive" and status.has_ended(after)
    return has_ended and after["id"] in sim.world.terminals and after["id"]


def a_pull_request_that_is_there_is_not_taken_for_none(sim: Simulation, before: Record, after: Record) -> object:
    is_lost = status.has_open_pr(before) and after["pr"] is None
    return is_lost and not after["doing"] and not before["doing"] and before["pr"]["number"]


def an_intent_is_saved_before_its_result(sim: Simulation, before: Record, after: Record) -> object:
    """Of what happened, or may have: what failed may never have begun."""
    known = {(before["doing"] or {}).get("id")} | {
        (one["intent"] or {}).get("id") for one in before["conditions"].values()
    }
    results = [one for _, old, one in _new(before, after) if one["result"] and one["result"] != old.get("result")]
    happened = [one["intent"]["id"] for one in results if one["result"]["ok"] is not False]
    return [id for id in happened if id not in known]


def what_is_told_was_delivered(sim: Simulation, before: Record, after: Record) -> object:
    wrong = []
    for key, condition in after["conditions"].items():
        new = {*(after["told"].get(key) or ())} - {*(before["told"].get(key) or ())}
        intent, ok = condition["intent"] or {}, (condition["result"] or {}).get("ok")
        if new and (ok is False or not new <= {*intent["items"]} or (ok and not sim.happened(after, intent))):
            wrong.append(f"{key} {new} by {intent}")
    return wrong


def what_is_told_stays_told_while_it_is_the_matter(sim: Simulation, before: Record, after: Record) -> object:
    wrong = []
    for key in set(before["told"]) & set(after["conditions"]):
        lost = {*before["told"][key]} - {*(after["told"].get(key) or ())}
        wrong += sorted(lost & {*KEYS[key].items(after)})
    return wrong


def an_escalation_is_latched_for_its_episode(sim: Simulation, before: Record, after: Record) -> object:
    latched = [(key, old["escalated_at"], new) for key, old, new in _new(before, after) if old.get("escalated_at")]
    return [key for key, at, new in latched if new["escalated_at"] != at]


def attempts_of_an_episode_never_shrink(sim: Simulation, before: Record, after: Record) -> object:
    known = [(key, old["attempts"], new["attempts"]) for key, old, new in _new(before, after) if old]
    return [f"{key}: {old} -> {new}" for key, old, new in known if not old <= new <= old + 1]


def what_it_waits_for_is_named(sim: Simulation, before: Record, after: Record) -> object:
    why = [str(one["waiting_for"]) for one in after["conditions"].values() if one["waiting_for"]]
    return [one for one in why if not one.startswith(REASONS)]


def a_persons_message_stays_until_it_is_settled(sim: Simulation, before: Record, after: Record) -> object:
    kept = {one["id"] for one in after["inbox"]} | {
        one["id"] for one in before["inbox"] if one["state"] in sessions.FINAL or one["from"] == "ao"
    }
    return [one["id"] for one in before["inbox"] if one["id"] not in kept]


def what_is_over_is_not_begun_to_be_said(sim: Simulation, before: Record, after: Record) -> object:
    known = {one["id"]: one for one in before["inbox"]}
    begun = [one for one in after["inbox"] if one["attempts"] and not known.get(one["id"], one)["attempts"]]
    about = {one["id"]: sim.covers.get(one["id"], ("", (), "")) for one in begun}
    return [id for id, (key, items, _) in about.items() if key and not {*KEYS[key].items(after)} & {*items}]


def a_settled_message_stays_as_it_is(sim: Simulation, before: Record, after: Record) -> object:
    """Unless it becomes known whether the agent has it: seen late, or by the conversation that a restore goes on in."""
    old = {one["id"]: one["state"] for one in before["inbox"] if one["state"] in sessions.FINAL}
    moves = [(one["id"], old[one["id"]], one["state"]) for one in after["inbox"] if one["id"] in old]
    known = {("unconfirmed", "confirmed")}
    if before.get("restored_at") != after.get("restored_at"):
        known |= {("unconfirmed", "queued")}
    return [move for move in moves if move[1] != move[2] and move[1:] not in known]


def a_confirmed_message_is_with_the_agent(sim: Simulation, before: Record, after: Record) -> object:
    confirmed = [one["id"] for one in after["inbox"] if one["state"] == "confirmed" and not one["answer"]]
    return [id for id in confirmed if id not in sim.world.logs.get(after["id"], ())]


def a_failed_message_is_not_with_the_agent(sim: Simulation, before: Record, after: Record) -> object:
    """Unless its session ended before anybody could see that the agent has it."""
    known = [one["id"] for one in before["inbox"] if one["state"] == "failed"]
    failed = [one for one in after["inbox"] if one["state"] == "failed" and one["id"] not in known]
    known = sim.world.logs.get(after["id"], [])
    return [one["id"] for one in failed if one["id"] in known and one["waiting_for"] != "the session has ended"]


def with_facts_held_the_status_never_changes_twice(sim: Simulation, before: Record, after: Record) -> object:
    facts, seen = sim.statuses.get(after["id"], (None, []))
    now = _facts(after)
    if facts != now:
        seen = []
    elif seen[-1] == after["status"]:
        return None
    sim.statuses[after["id"]] = now, [*seen, after["status"]]
    return after["status"] in seen and [*seen, after["status"]]


def _facts(record: Record) -> str:
    """The facts of a record without what follows from them and what the clock moves."""
    pr = {key: value for key, value in (record["pr"] or {}).items() if key not in MOVING}
    activity = {"idle": "ready"}.get(str(record["activity"]), record["activity"])
    names = ("runtime_state", "hold", "outcome", "doing", "merge_failure", "activity_since", "missed_looks")
    turn = [record.get("pr_unknown_since"), [[one["id"], one["state"]] for one in record["inbox"]]]
    told = [[key, one.get("delivered_head"), one.get("since")] for key, one in record["conditions"].items()]
    return json.dumps([pr, activity, turn, told, [record.get(name) for name in names]], sort_keys=True)


# --- whenever something happens in the world -------------------------------------------------------------------------


def an_issue_is_given_to_one_agent(sim: Simulation, new: Record) -> object:
    about = ("project_id", "issue_id")
    others = [one for one in sim.live() if one["id"] != new["id"]]
    return [one["id"] for one in others if all(one[name] == new[name] for name in about)]


def an_agent_is_started_by_intent(sim: Simulation, id: str) -> object:
    doing = sim.records[id]["doing"] or {}
    return doing.get("effect") not in ("spawn", "restore") and f"{id}: {doing}"


def an_agent_is_ended_by_intent(sim: Simulation, id: str) -> object:
    doing = sim.records[id]["doing"] or {}
    return doing.get("effect") not in ("spawn", "kill", "cleanup", "prune") and f"{id}: {doing}"


def work_is_saved_before_its_worktree_goes(sim: Simulation, path: str) -> object:
    return (sim.world.work.get(path) or {}).get("unsaved") and path


def nothing_is_typed_into_a_dialog(sim: Simulation, terminal: Terminal) -> object:
    inbox = sim.records[terminal.handle]["inbox"]
    answers = any(one["answer"] and one["state"] in ("sending", "delivered") for one in inbox)
    return terminal.state == "waiting_input" and not answers and terminal.handle


def a_message_is_received_once(sim: Simulation, id: str, message: str) -> object:
    return message in sim.world.logs.get(id, ()) and message


def a_message_is_saved_before_it_is_typed(sim: Simulation, id: str, message: str) -> object:
    found = next((one for one in sim.records[id]["inbox"] if one["id"] == message), {"attempts": 0, "state": "nowhere"})
    return not found["attempts"] and found


def what_is_the_matter_is_delivered_once(sim: Simulation, id: str, message: str) -> object:
    key, items, _ = sim.covers.get(message, ("", (), ""))
    first = {item: sim.delivered.setdefault((id, key, item), message) for item in items}
    return [f"{key} {item} by {one} and {message}" for item, one in first.items() if one != message]


def deliveries_respect_retries(sim: Simulation, id: str, message: str) -> object:
    """One that was given up and arrives by a person's hand is none of ao's."""
    key, _, since = sim.covers.get(message, ("", (), ""))
    is_late = any(one["id"] == message and one["state"] == "unconfirmed" for one in sim.records[id]["inbox"])
    if not key or is_late:
        return None
    had = sim.episodes.setdefault((id, key, since), [])
    had.append(message)
    most = sim.reaction(id, key)["retries"]
    return most is not None and len(had) > most and f"{key}: {had}, and {most} are allowed"


def a_notification_is_sent_once(sim: Simulation, told: Record) -> object:
    return any((one["id"], one["by"]) == (told["id"], told["by"]) for one in sim.world.people_heard) and told["id"]


def a_notification_is_saved_before_it_is_sent(sim: Simulation, told: Record) -> object:
    return told["id"] not in sim.intended_news() and told["id"]


def no_news_repeats_within_an_episode(sim: Simulation, told: Record) -> object:
    again = []
    for record in sim.fleet():
        for key, condition in record["conditions"].items():
            intent = condition["intent"] or {}
            if (intent.get("told") or {}).get("id") == told["id"]:
                what = "once" if intent["action"] == "escalate" else tuple(intent["items"])
                news = (record["id"], key, condition["since"], intent["action"], what, told["by"])
                again += [news] if sim.news.setdefault(news, told["id"]) != told["id"] else []
    return again


def only_what_was_ready_is_merged(sim: Simulation, pull: Record, session: Record, plan: dict[str, str]) -> object:
    """The head that is merged was shown to this very process as ready, and has been there for long enough."""
    project, me = sim.settings["projects"][session["project_id"]], sim.machine.current
    shown = [facts for who, facts in sim.world.served if who is me and facts["number"] == pull["number"]]
    was_ready = any(facts["head_sha"] == pull["head"] and _is_ready(facts) for facts in shown)
    age = sim.machine.now - pull["pushed_at"] + STEP
    settled = age >= duration(project["merge"]["settle"]) and set(pull["expected"]) <= set(pull["checks"])
    return not (was_ready and settled and plan["head_sha"] == pull["head"]) and f"{pull['number']} at {pull['head']}"


def _is_ready(facts: Record) -> bool:
    green = facts["ci_checks"] and all(check["status"] == "passed" for check in facts["ci_checks"])
    clear = facts["state"] == "open" and not facts["is_draft"] and facts["mergeable"] is True
    return bool(green and clear and facts["review_decision"] == "approved" and facts["approved_by"])


def a_merge_is_saved_before_it_happens(sim: Simulation, pull: Record, session: Record, plan: dict[str, str]) -> object:
    doing = sim.records[session["id"]]["doing"] or {}
    return (doing.get("effect") != "merge" or doing["plan"] != plan) and f"{pull['number']}: {doing}"


def merges_respect_retries(sim: Simulation, session: Record) -> object:
    """Of ao itself: a person may try as often as they like."""
    failures = (session["conditions"].get(merge.KEY) or {}).get("failures", 0)
    is_person = not sim.machine.current or not sim.machine.current.name.startswith("act")
    return not is_person and failures >= sim.reaction(session["id"], merge.KEY)["retries"] and failures


def an_issue_is_closed_by_its_merge(sim: Simulation, project: str, issue: str) -> object:
    done = [one["id"] for one in sim.records.values() if (one["project_id"], one["issue_id"]) == (project, issue)]
    return not any(status.is_merged(sim.records[id]) for id in done) and issue


# --- whenever all processes have ended -------------------------------------------------------------------------------


def what_is_read_is_what_was_written(sim: Simulation) -> object:
    fleet = sessions.everything(sim.home)
    read = [record["id"] for record in fleet.records if record != sim.records[record["id"]]]
    found = {os.path.basename(path)[:-5] for path in overview.files(sim.home)}
    return fleet.damaged or read or found ^ {record["id"] for record in fleet.records}


def event_ids_grow(sim: Simulation) -> object:
    ids = [event["id"] for event in sim.new_events()]
    return [pair for pair in pairwise(ids) if pair[0] >= pair[1]]


def a_terminal_belongs_to_a_record(sim: Simulation) -> object:
    return set(sim.world.terminals) - {record["id"] for record in sim.fleet()}


def what_is_open_is_acted_upon_or_waits_for_a_named_reason(sim: Simulation) -> object:
    """After a few rounds in which nothing went wrong."""
    settings, clock = projects.Settings(), sim.clock()
    silent = []
    for record in sim.fleet():
        try:
            reactions = config.reactions(settings.project(record))
        except Exception:  # a configuration that somebody has broken
            continue
        for key, condition in record["conditions"].items():
            step = due.next_step(record, key, reactions.get(key) or {}, clock)
            intent = condition["intent"]
            if isinstance(step, due.Step) and not record["doing"]:
                silent.append(f"{record['id']}: {key}: {step.action} is due")
            elif intent and not condition["result"] and _is_dropped(sim, record, intent):
                silent.append(f"{record['id']}: {key}: {intent['action']} is under way and nobody is at it")
            elif not condition["waiting_for"] and not intent:
                silent.append(f"{record['id']}: {key}: nothing was said")
    return sim.lasting("silent", silent, ROUNDS_TO_ACT)


def _is_dropped(sim: Simulation, record: Record, intent: Record) -> bool:
    if intent["action"] != "send-to-agent":
        return sim.clock().elapsed(intent["at"]) > 900
    message = next((one for one in record["inbox"] if one["id"] == intent["id"]), None)
    is_next = message is not None and sessions.open_message(record) is message
    return message is None or (is_next and message["state"] == "queued" and not message.get("waiting_for"))


def a_person_hears_of_what_may_not_have_arrived(sim: Simulation) -> object:
    """While it is the matter."""
    silent = []
    for record in sim.live():
        for id in [one["id"] for one in record["inbox"] if one["state"] == "unconfirmed"]:
            key, items, _ = sim.covers.get(id, ("message-waiting", (), ""))
            is_over = items and not (key in record["conditions"] and {*items} & {*KEYS[key].items(record)})
            heard = [one for one in sim.world.people_heard if one["session_id"] == record["id"]]
            about = [one for one in heard if one["reaction_key"] in (key, "message-waiting")]
            if not is_over and not any(one["at"] >= sim.unsure[id] for one in about):
                silent.append(f"{record['id']}: {key}: {id}")
    return sim.lasting("untold", silent, ROUNDS_TO_ACT)


def the_agents_of_ended_sessions_end(sim: Simulation) -> object:
    over = [one["id"] for one in sim.fleet() if one["status"] in ("merged", "done", "killed", "errored")]
    return sim.lasting("outliving", [id for id in over if id in sim.world.terminals], ROUNDS_TO_END)


def what_a_dead_process_began_is_settled(sim: Simulation) -> object:
    return sim.lasting("unsettled", [one["id"] for one in sim.fleet() if one["doing"]], ROUNDS_TO_ACT)


# --- at the end ------------------------------------------------------------------------------------------------------


def every_session_comes_to_its_end(sim: Simulation) -> object:
    return {one["id"]: one["status"] for one in sim.fleet() if one["status"] not in status.TERMINAL}


def every_message_comes_to_its_end(sim: Simulation) -> object:
    messages = [(one["id"], said) for one in sim.fleet() for said in one["inbox"]]
    return [(id, said["id"], said["state"]) for id, said in messages if said["state"] not in sessions.FINAL]


def no_agent_outlives_its_session(sim: Simulation) -> object:
    return sorted(sim.world.terminals)


def nothing_is_left_behind(sim: Simulation) -> object:
    """No worktree without a record, no file that was being written."""
    places = {one["workspace_path"] for one in sim.fleet()}
    files = [os.path.join(folder, name) for folder, _, names in os.walk(sim.home) for name in names]
    return sorted({*sim.world.work} - places) or [path for path in files if "/.tmp-" in path]


def people_hear_that_all_is_complete(sim: Simulation) -> object:
    silent = []
    for project in {record["project_id"] for record in sim.fleet()}:
        known = (store.read(paths.project(sim.home, project)) or {}).get("conditions") or {}
        if not ((known.get("all-complete") or {}).get("result") or {}).get("ok"):
            silent.append(f"{project}: {known}")
    return silent


PROMISES = {
    "written": (
        rev_grows_by_one,
        an_event_is_in_the_log_before_its_record,
        what_readers_see_of_a_status_is_true,
        merged_stays_merged,
        an_outcome_stays_until_a_restore,
        a_running_agent_is_not_taken_for_ended,
        a_pull_request_that_is_there_is_not_taken_for_none,
        an_intent_is_saved_before_its_result,
        what_is_told_was_delivered,
        what_is_told_stays_told_while_it_is_the_matter,
        an_escalation_is_latched_for_its_episode,
        attempts_of_an_episode_never_shrink,
        what_it_waits_for_is_named,
        a_persons_message_stays_until_it_is_settled,
        what_is_over_is_not_begun_to_be_said,
        a_settled_message_stays_as_it_is,
        a_confirmed_message_is_with_the_agent,
        a_failed_message_is_not_with_the_agent,
        with_facts_held_the_status_never_changes_twice,
    ),
    "reserved": (an_issue_is_given_to_one_agent,),
    "started": (an_agent_is_started_by_intent,),
    "stopped": (an_agent_is_ended_by_intent,),
    "removed": (work_is_saved_before_its_worktree_goes,),
    "typed": (nothing_is_typed_into_a_dialog,),
    "received": (
        a_message_is_received_once,
        a_message_is_saved_before_it_is_typed,
        what_is_the_matter_is_delivered_once,
        deliveries_respect_retries,
    ),
    "heard": (
        a_notification_is_sent_once,
        a_notification_is_saved_before_it_is_sent,
        no_news_repeats_within_an_episode,
    ),
    "merging": (merges_respect_retries,),
    "merged": (only_what_was_ready_is_merged, a_merge_is_saved_before_it_happens),
    "closed": (an_issue_is_closed_by_its_merge,),
    "round": (
        what_is_read_is_what_was_written,
        event_ids_grow,
        a_terminal_belongs_to_a_record,
        what_is_open_is_acted_upon_or_waits_for_a_named_reason,
        a_person_hears_of_what_may_not_have_arrived,
        the_agents_of_ended_sessions_end,
        what_a_dead_process_began_is_settled,
    ),
    "end": (
        every_session_comes_to_its_end,
        every_message_comes_to_its_end,
        no_agent_outlives_its_session,
        nothing_is_left_behind,
        people_hear_that_all_is_complete,
    ),
}
