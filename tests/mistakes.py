"""A mistake for each promise of the simulation: a change of lib/ that would break it, and that it must notice.

A mistake is a function, something that it says, and what it says instead; or two of these, where one alone would be
made good by the other. When a function is written anew its mistake
is written anew too: what is not there cannot be replaced, and the test says so.
"""

from __future__ import annotations
import __future__

import contextlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from lib import (
    chores,
    concerns,
    conditions,
    deliver,
    due,
    events,
    facts,
    fleet,
    lives,
    merge,
    notify,
    observe,
    overview,
    react,
    ready,
    resume,
    rules,
    sessions,
    spawn,
    status,
)

STOP = 'plugins.load("runtime", record["runtime"]).stop(home, record["runtime_handle"])'
REMOVE = 'plugins.load("workspace", record["workspace"]).remove(home, project, record["workspace_path"])'
LATCH = 'condition["escalated_at"] = clock.iso if ok else None'

MISTAKES: dict[str, tuple[Any, ...]] = {
    "rev_grows_by_one": (sessions.update, 'before["rev"] + 1', 'before["rev"] + 2'),
    "an_event_is_in_the_log_before_its_record": (sessions.update, "events.between(before, after)", "[]"),
    "what_readers_see_of_a_status_is_true": (
        events.between,
        '"from": old, "to": new',
        '"from": new, "to": old',
    ),
    "merged_stays_merged": (facts.fold_pull, "status.is_merged(record) or ", ""),
    "an_outcome_stays_until_a_restore": (
        lives._stopped,
        'record["doing"] = None',
        'record["doing"] = record["outcome"] = None',
    ),
    "a_running_agent_is_not_taken_for_ended": (facts._fold_runtime, "missed >= GONE_LOOKS", "missed >= 1"),
    "a_pull_request_that_is_there_is_not_taken_for_none": (
        observe._look_at_forges,
        "False if isinstance(pull, BaseException) else pull",
        "None if isinstance(pull, BaseException) else pull or None",
    ),
    "an_intent_is_saved_before_its_result": (
        react.intend,
        "result=None, waiting_for=None)",
        'result={**what, "ok": True, "error": None}, waiting_for=None)',
    ),
    "what_is_told_was_delivered": (conditions.record_result, "if ok is not False:", "if True:"),
    "what_is_told_stays_told_while_it_is_the_matter": (
        conditions.forget_told,
        ' and rule.key not in session["conditions"]',
        "",
    ),
    "an_escalation_is_latched_for_its_episode": (
        conditions.record_result,
        'condition["attempts"] += not is_late',
        'condition.update(attempts=condition["attempts"] + (not is_late), escalated_at=None)',
    ),
    "attempts_of_an_episode_never_shrink": (
        react.intend,
        "result=None, waiting_for=None)",
        "result=None, waiting_for=None, attempts=0)",
    ),
    "what_it_waits_for_is_named": (react._wait, '["waiting_for"] = why', '["waiting_for"] = "this and that"'),
    "a_persons_message_stays_until_it_is_settled": (resume.start_again, ' and one["from"] == "ao"', ""),
    "what_is_over_is_not_begun_to_be_said": (conditions._is_past, "return not items or", "return False and"),
    "a_settled_message_stays_as_it_is": (
        resume.start_again,
        'messages + [one for one in fresh["inbox"] if',
        'messages + [{**one, "state": "queued"} if one["state"] != "confirmed" else one for one in fresh["inbox"] if',
    ),
    "a_confirmed_message_is_with_the_agent": (
        deliver._send,
        'state="confirmed" if found.get("answer") else "delivered"',
        'state="confirmed"',
    ),
    "a_failed_message_is_not_with_the_agent": (
        deliver._follow_up,
        "    if has_it:\n        return",
        '    if has_it:\n        return _set(line, found, state="failed")',
    ),
    "with_facts_held_the_status_never_changes_twice": (
        status.derive,
        "return",
        'return "working" if has_open_pr(session) and int(clock.now / 60) % 2 else',
    ),
    "an_issue_is_given_to_one_agent": (spawn._check_free, "== request.issue.id", "is request"),
    "an_agent_is_started_by_intent": (resume.start_again, "update(NEW_LIFE,", "update(NEW_LIFE, doing=None,"),
    "an_agent_is_ended_by_intent": (
        lives._doing,
        "yield sessions.update(home, before, intend, clock)",
        'yield {**before, "doing": {"effect": effect, "at": clock.iso, "had_pr": None, **more}}',
    ),
    "work_is_saved_before_its_worktree_goes": (
        lives._remove_workspace,
        "_save_work(home, project, record, path)",
        "None",
    ),
    "nothing_is_typed_into_a_dialog": (
        deliver._obstacle,
        "return str(line.agent.obstacle(",
        'return "" if line.agent.read(line.project, screen).question else str(line.agent.obstacle(',
    ),
    "a_message_is_received_once": (deliver._has_it, 'asked[found["id"]]', "False"),
    "a_message_is_saved_before_it_is_typed": (deliver._send, 'found["attempts"] + 1', 'found["attempts"]'),
    "what_is_the_matter_is_delivered_once": (
        conditions.record_result,
        '_note_told(session, key, TO_PERSON * (intent["action"] == "notify"), intent.get("items") or ())',
        "pass",
    ),
    "deliveries_respect_retries": (due._is_exhausted, ">= retries", "> retries"),
    "a_notification_is_sent_once": (notify._work, "not notifier.has(home, id)", "True"),
    "a_notification_is_saved_before_it_is_sent": (
        fleet.tell,
        "concerns.intend(home, place.project, key, told, clock)",
        "letters.append(Letter(place.file, told, lambda error: None))",
    ),
    "no_news_repeats_within_an_episode": (
        *(conditions.record_result, LATCH, 'condition["escalated_at"] = None'),
        *(notify.notification, "key, *news)", "key, clock.iso)"),
    ),
    "merges_respect_retries": (due._tries, "return failures if", "return 0 if"),
    "only_what_was_ready_is_merged": (ready.blockers, "return found", "return []"),
    "a_merge_is_saved_before_it_happens": (merge._begin, 'record["doing"] = doing', "pass"),
    "an_issue_is_closed_by_its_merge": (chores._tend_issue, "if status.is_merged(session) and", "if"),
    "what_is_read_is_what_was_written": (overview.entries, 'known[path]["signature"] == signature', "True"),
    "event_ids_grow": (events.append, "last_id(home) + 1", "1"),
    "a_terminal_belongs_to_a_record": (spawn.roll_back, STOP, "pass"),
    "what_is_open_is_acted_upon_or_waits_for_a_named_reason": (
        react._is_news,
        "return isinstance(step, due.Step) or",
        "return False and",
    ),
    "a_person_hears_of_what_may_not_have_arrived": (
        *(rules._troubled_messages, 'is_lost = ("unconfirmed", "failed")', 'is_lost = ("failed",)'),
        *(due._escalation, 'condition.get("is_unsure")', "False"),
    ),
    "the_agents_of_ended_sessions_end": (chores._must_end, "is_over = ", "is_over = False and "),
    "what_a_dead_process_began_is_settled": (
        lives.settle,
        '_settle(home, project, sessions.find(home, session["id"]), clock)',
        "pass",
    ),
    "every_session_comes_to_its_end": (facts._fold_runtime, 'elif seen.runtime == "gone" and', "elif False and"),
    "nothing_is_left_behind": (spawn.roll_back, REMOVE, "pass"),
    "people_hear_that_all_is_complete": (concerns._goes_on, "bool(", "bool(True or "),
    "idle_is_left_alone": (concerns._fold, "newest if all_ended", "clock.iso if all_ended"),
}


@contextlib.contextmanager
def made(promise: str) -> Iterator[None]:
    """Run with the mistake that breaks a promise."""
    with contextlib.ExitStack() as made:
        words = iter(MISTAKES[promise])
        for function, says, instead in zip(words, words, words, strict=True):
            module, name = sys.modules[function.__module__], function.__name__
            made.enter_context(mock.patch.object(module, name, _changed(function, says, instead)))
        yield


def _changed(function: Callable[..., Any], says: str, instead: str) -> Any:
    """The function as it would be with another text."""
    source, module = textwrap.dedent(inspect.getsource(function)), sys.modules[function.__module__]
    assert says in source, f"{module.__name__}.{function.__name__} does not say '{says}' any more"
    code = compile(source.replace(says, instead), module.__file__ or "", "exec", __future__.annotations.compiler_flag)
    scope: dict[str, Any] = {}
    exec(code, vars(module), scope)
    return scope[function.__name__]
