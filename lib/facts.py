"""What was seen becomes facts in a session's record; pure.

Folding the same look twice changes nothing more. What is unknown changes nothing but the time since when it is not
known, and a terminal counts as gone only after two definite looks in a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lib import conditions, costs, deliver, sessions, status
from lib.agent import Reading, Story
from lib.clock import Clock, iso, parse
from lib.rules import Rules
from lib.scm import UNASKED

Session = dict[str, Any]

GONE_LOOKS = 2  # definite looks in a row that a terminal must be missing from
LATE = 600.0  # seconds after which a person is told of a message that was not delivered
STATES = ("active", "ready", "idle", "waiting_input", "blocked")
AT_REST = ("ready", "idle")
URGENT = ("waiting_input", "blocked")  # a screen that shows this is right, whatever else was told
RESTED_FOR = 60.0  # seconds that a screen must be at rest before a hook or a transcript that says `active` is too old
GO_ON = {  # what an agent is told when the hold of that reason is over, or its conversation was cut off in a turn
    "restore": "You were interrupted. Go on with your work where you stopped.",
    "usage-limit": "The usage limit should be over. Go on with your work where you stopped.",
    "budget": "You may go on: the budget was raised. Continue where you stopped.",
}


class Seen(NamedTuple):
    """What one look found out about one session."""

    basis: tuple[Any, ...]  # the facts about its life when it was looked at; when they changed since, the look is old
    runtime: str  # alive, gone, unknown
    is_alone: bool = False  # no terminal exists at all: the server is gone, and all sessions with it
    ended: Mapping[str, Any] | None = None  # how the launcher says that the agent ended
    reports: tuple[tuple[float, str, str, str], ...] = ()  # (seconds, kind, value, text)
    reports_end: int = 0
    reading: Reading | None = None  # None: the screen was not read, because nothing was printed
    story: Story | None = None  # None: its own records could not be read
    head: tuple[str, str] | None = None
    pull: Any = False  # a pull request, None for a definite none, False for unknown, or UNASKED
    has: Mapping[str, bool | None] = {}  # message ids that the agent was seen to have
    error: str | None = None


def fold(record: Session, seen: Seen, rule: Rules | None, clock: Clock) -> None:
    """Bring a record up to date with what was seen. Pure; the same look folded twice changes nothing more.

    When a person or an effect has changed the session's life since the look, the look is old and nothing is taken over.
    """
    if seen.basis != basis(record):
        return
    _fold_runtime(record, seen, clock)
    _fold_reports(record, seen, clock)
    _fold_story(record, seen.story, clock)
    _fold_activity(record, seen, clock)
    _fold_hold(record, seen.story, rule, clock)
    _fold_head(record, seen)
    fold_pull(record, seen.pull, clock)
    if seen.pull is not UNASKED:
        _fold_done(record)
    _fold_messages(record, seen, clock)
    _set(record, "config_error", seen.error)
    conditions.set_since(record, "over_since", status.is_merged(record) or record.get("outcome") == "done", clock)
    if rule is not None:
        conditions.evaluate(record, rule, clock)


def basis(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a person or an effect changes about a session's life, and a look must not undo."""
    doing_since = (record.get("doing") or {}).get("at")
    return record.get("runtime_state"), record.get("outcome"), doing_since, record.get("claimed_pr_number")


def _fold_runtime(record: Session, seen: Seen, clock: Clock) -> None:
    if record.get("doing"):
        return
    conditions.set_since(record, "runtime_unknown_since", seen.runtime == "unknown", clock)
    if seen.runtime == "alive":
        _set(record, "missed_looks", None)
        _set(record, "is_lost", None)
        record["runtime_state"] = "alive"
    elif seen.runtime == "gone" and not status.has_ended(record):
        missed = int(record.get("missed_looks") or 0) + 1
        if seen.ended:
            record["exit_code"] = seen.ended["code"]
            at = parse(seen.ended.get("at"))
            _end(record, "exited", clock.iso if at is None else clock.noted(at), clock)
        elif missed >= GONE_LOOKS:
            _end(record, "gone", clock.iso, clock)
            _set(record, "is_lost", seen.is_alone or None)
        else:
            record["missed_looks"] = missed


def _end(record: Session, state: str, at: str, clock: Clock) -> None:
    _set(record, "missed_looks", None)
    record.update(
        runtime_state=state, ended_at=at, activity="exited", activity_since=clock.iso, activity_source="runtime"
    )


def _fold_reports(record: Session, seen: Seen, clock: Clock) -> None:
    if seen.reports_end == int(record.get("reports_read") or 0):
        return
    for seconds, kind, value, text in seen.reports:
        if kind == "received":
            _confirm(record, value)
        elif kind == "report" and value in STATES:
            record["report"] = {"state": value, "at": clock.noted(seconds), "text": text}
        elif kind == "done":
            record["report"] = {"state": "ready", "at": clock.noted(seconds), "text": text, "is_done": True}
    record["reports_read"] = seen.reports_end


def _fold_done(record: Session) -> None:
    """The agent's word that its task is complete counts once it is known that there is no pull request."""
    is_done = (record.get("report") or {}).get("is_done")
    if is_done and not record.get("outcome") and not record.get("pr") and not record.get("pr_unknown_since"):
        record["outcome"] = "done"


def _fold_story(record: Session, story: Story | None, clock: Clock) -> None:
    """Take over what the agent's own records say; of its costs what is known stays known."""
    if story is None:
        return
    cost = costs.taken(record.get("cost"), story.days, story.last_id)
    if cost != record.get("cost"):
        record["cost"] = cost
    tells = {"state": story.activity, "at": iso(story.since), "text": story.text} if story.activity else None
    _set(record, "story", tells)
    if story.session_id and (record.get("agent_config") or {}).get("session_id") != story.session_id:
        record["agent_config"] = {**(record.get("agent_config") or {}), "session_id": story.session_id}


def _fold_activity(record: Session, seen: Seen, clock: Clock) -> None:
    """What the agent does: by its hooks or its transcript, whichever is newer, else by its screen.

    A dialog or trouble on the screen counts before both, for they may not tell of it, and so does a screen that surely
    has been at rest for a while: after an interruption neither of them tells that the turn is over.
    """
    if record["runtime_state"] != "alive":
        return
    if seen.reading is not None:
        _look_at_screen(record, seen.reading, clock)
    screen, told, source = record.get("screen") or {}, *_newest(record)
    if told and told["state"] == "waiting_input":
        shows_none = seen.reading is not None and seen.reading.is_sure and seen.reading.activity != "waiting_input"
        if shows_none or _was_answered(record, told) or (told.get("rested") and screen.get("activity") == "active"):
            told = record["report"] = None
        elif screen.get("activity") in AT_REST and source == "report":
            told["rested"] = True  # it may ask in the middle of its turn; when it works after a rest, it was answered
    if screen.get("activity") in URGENT or not told or _has_come_to_rest(screen, told, clock):
        activity, since, source, text = screen.get("activity"), clock.iso, "screen", screen.get("question")
    else:
        activity, since, text = told["state"], told["at"], told.get("text")
    _set(record, "question", text if activity == "waiting_input" else None)
    _set(record, "trouble", text if activity == "blocked" else None)
    if activity == "idle":
        activity = "ready"  # how long it has been at rest is the clock's to say
    now = record.get("activity")
    if activity is None or activity == now or (activity in AT_REST and now in AT_REST):
        return
    record.update(activity=activity, activity_since=since, activity_source=source)


def _look_at_screen(record: Session, reading: Reading, clock: Clock) -> None:
    before = record.get("screen")
    text = reading.question or reading.trouble or None
    now = {"activity": reading.activity, "question": text, "is_sure": reading.is_sure}
    if before is None or now != {name: before.get(name) for name in now}:
        until = {"until": iso(clock.now + reading.wait)} if reading.wait else {}  # of a limit that no record tells of
        record["screen"] = {**now, "since": clock.iso, **until}


def _newest(record: Session) -> tuple[dict[str, Any] | None, str]:
    """What hooks or the transcript said last, and which of them it was."""
    report, story = record.get("report"), record.get("story")
    if story and story["at"] > max((report or {}).get("at", ""), record.get("restored_at") or ""):
        return story, "story"
    return report, "report"


def _has_come_to_rest(screen: Mapping[str, Any], told: Mapping[str, Any], clock: Clock) -> bool:
    at_rest = screen.get("is_sure") and screen["activity"] in AT_REST and told["state"] == "active"
    return bool(at_rest) and clock.elapsed(max(screen["since"], told["at"])) >= RESTED_FOR


def _fold_hold(record: Session, story: Story | None, rule: Rules | None, clock: Clock) -> None:
    """Park an agent that has reached a limit; when that is over, tell it to go on."""
    hold, wanted = record.get("hold") or {}, dict[str, Any]()
    if rule is None or hold.get("reason") == "person" or not status.is_live(record):
        return
    limit = rule.budget.exceeded(record)
    until = story.until if story else parse(hold.get("until")) or 0.0
    until = max(until, parse((record.get("screen") or {}).get("until")) or 0.0)
    if limit:
        wanted = {"reason": "budget", "until": None, "limit": limit}
    elif until > clock.now:
        wanted = {"reason": "usage-limit", "until": iso(until)}
    if hold and not wanted and record["runtime_state"] == "alive":
        record["inbox"].append(deliver.message(GO_ON[hold["reason"]], "ao", clock))
    if any(hold.get(name) != value for name, value in wanted.items()) or not wanted:
        _set(record, "hold", wanted or None)


def _was_answered(record: Session, report: Mapping[str, Any]) -> bool:
    answers = [message for message in record["inbox"] if message.get("answer")]
    return any((message.get("delivered_at") or "") > report["at"] for message in answers)


def _fold_head(record: Session, seen: Seen) -> None:
    if seen.head is None:
        return
    branch, sha = seen.head
    if branch and branch != record.get("base_branch"):
        record["branch"] = branch
    if sha:
        record["head_sha"] = sha


def fold_pull(record: Session, pull: Any, clock: Clock) -> None:
    """Take over a pull request as a forge showed it: a mapping, None for a definite none, False for unknown."""
    old = record.get("pr") or {}
    if pull is UNASKED or status.is_merged(record) or (pull is False and not status.is_live(record)):
        return  # of an ended session it is no news that it was not asked about
    conditions.set_since(record, "pr_unknown_since", pull is False, clock)
    if pull is False:
        if old:
            old["unknown_since"] = record["pr_unknown_since"]
        return
    if pull is None:
        record["pr"] = None
        return
    if old.get("number") != pull["number"]:
        old = {}
    new = {**pull, **_kept_facts(old, pull, clock)}
    differs = any(old.get(key) != value for key, value in new.items())
    ours = {"observed_at": clock.iso if differs else old.get("observed_at"), "unknown_since": None}
    record["pr"] = {**new, **ours, "blockers": old.get("blockers")}
    record.update(claimed_pr_number=pull["number"], claimed_pr_url=pull["url"])


def _kept_facts(old: Mapping[str, Any], pull: Mapping[str, Any], clock: Clock) -> dict[str, Any]:
    """What a look at this moment cannot show: since when the head is there, which checks earlier heads had."""
    same_head = old.get("head_sha") == pull["head_sha"]
    is_red = any(check["status"] == "failed" for check in pull["ci_checks"])
    red_since = (old.get("red_since") if same_head else None) or clock.iso
    names = {check["name"] for check in pull["ci_checks"]} | set(old.get("expected_checks") or ())
    return {
        "head_seen_at": pull.get("head_seen_at") or (old.get("head_seen_at") if same_head else None) or clock.iso,
        "red_since": red_since if is_red else None,
        "expected_checks": pull.get("expected_checks", sorted(names)),
    }


def _fold_messages(record: Session, seen: Seen, clock: Clock) -> None:
    for id, has_it in seen.has.items():
        if has_it:
            _confirm(record, id)
    for message in record["inbox"]:
        if message["state"] not in sessions.FINAL and clock.elapsed(message["at"]) >= LATE:
            message["is_late"] = True


def _confirm(record: Session, id: str) -> None:
    for message in record["inbox"]:
        if message["id"] == id and message["state"] not in ("confirmed", "failed"):
            message.update(state="confirmed", waiting_for=None)


def _set(record: Session, field: str, value: Any) -> None:
    if record.get(field) != value:
        record[field] = value
