"""What adapters of agents share that write down their own work: what was learned line by line becomes a Story.

A transcript is read as it grows, of which only the lines that were appended. Where each was read up to is kept in the
cache together with what was learned. A lost cache is read anew from the beginning of the transcripts and ends in the
same state.

`state` is that of `recall`, plain values: {files, ids} of transcripts, {days, last_id} of what was spent, and in
`tells` what the agent does: {activity, at, since, text, until}.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lib import clock, costs, store
from lib.agent import Session, Story

State = dict[str, Any]
Entry = dict[str, Any]  # a line of a transcript

MONTHS = ["", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]  # whatever the locale
MOST = 64 << 20  # bytes of one file that are read at once; the rest is read by the next looks
IDS_KEPT = 100  # of messages that were counted already
LOOK_BACK = 8 << 20  # bytes of a transcript in which a message is looked for
LONGEST = 1500  # characters of a question, and of what blocks an agent
LONGEST_NAME = 100  # of a model
MOST_TOKENS = 10**12  # more than any message has
NOT_ONE = (AttributeError, KeyError, OverflowError, TypeError, ValueError)  # of a line that is not as it should be
SETTLED = 2.0  # seconds without a change after which a time of change tells of the next one
SAID_MINUTES = 60.0  # seconds that a limit may last beyond the minute that is named
TRY_AGAIN = 900.0  # seconds after which a limit whose end is not said is tried again


def parsed(line: bytes) -> Entry:
    """A line of JSON, {} when it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def appended(state: State, path: str) -> Iterator[bytes]:
    """The whole lines that a file has got since it was read last; one that was replaced or cut short from its start.

    `state["files"]` keeps `{path: [inode, offset]}`; the offset moves on when all lines have been taken.
    `state["path"]` is the file that was read last.
    """
    places: dict[str, list[int]] = state.setdefault("files", {})
    try:
        found = os.stat(path)
        inode, offset = places.get(path) or (found.st_ino, 0)
        if inode != found.st_ino or found.st_size < offset:
            offset = 0
            state.setdefault("again", {})[path] = (state.get("newest") or {}).get(path, "")
        if found.st_size == offset:
            return
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(MOST)
    except OSError:
        return  # not there yet, or no more
    state["path"] = path
    end = data.rfind(b"\n") + 1 or (len(data) if len(data) == MOST else 0)  # no line is that long: it is passed over
    yield from data[:end].split(b"\n")[:-1]
    places[path] = [found.st_ino, offset + end]


def tail(path: str, most: int = LOOK_BACK) -> list[bytes]:
    """The last whole lines of a file, of at most so many bytes."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            data = file.read(most)
    except OSError:
        return []
    lines = data.split(b"\n")
    return lines[1 if size > most else 0 : -1]


def learn(state: State, path: str, take: Callable[[Entry], None]) -> None:
    """Take in what a transcript has got. A line that the program cannot have written keeps nobody from the others."""
    for line in appended(state, path):
        with contextlib.suppress(*NOT_ONE):
            take(parsed(line))


def words(path: str, said: Callable[[Entry], str], mark: bytes = b"") -> Iterator[str]:
    """What a person said by the last lines of a transcript, of those that hold `mark`."""
    for line in tail(path):
        if mark in line:
            with contextlib.suppress(*NOT_ONE):
                yield said(parsed(line))


def arrived(paths: Iterable[str], ids: Sequence[str], said: Callable[[Entry], str]) -> set[str]:
    """Which of these messages a person said by transcripts."""
    return among([text for path in paths for text in words(path, said, b"(ao message ")], ids)


def among(texts: Sequence[str], ids: Sequence[str]) -> set[str]:
    """Which of these messages are in what a person said."""
    return {id for id in ids if any(f"(ao message {id})" in text for text in texts)}


def answers(
    session: Session, ids: Sequence[str], has: Collection[str], history: str | None, rests: bool = True
) -> dict[str, bool | None]:
    """What is known of messages, see Agent.received, of which it `has` these.

    Another one may still be on its way as long as it runs, unless it `rests` and its screen shows nothing of that.
    """
    runs = session.get("runtime_state") == "alive"
    coming = {id for id in ids if runs and (history is None or not rests or id in history)}
    return {id: True if id in has else None if id in coming else False for id in ids}


def name(path: str) -> str:
    """The conversation whose transcript that is."""
    return os.path.basename(path).removesuffix(".jsonl")


def noted(entry: Entry) -> str:
    """When a line was written; "" when it does not say."""
    at = entry.get("timestamp")
    return str(at) if clock.parse(at) is not None else ""


def count(state: State, at: str, model: str, id: str, *tokens: int | None) -> None:
    """Count what a message of that time cost, beyond what it was counted for before.

    `tokens` are in the order of costs.TOKENS; there are none of what is left out at the end.
    """
    counts = {name: count or 0 for name, count in itertools.zip_longest(costs.TOKENS, tokens)}
    if not all(isinstance(one, int) and 0 <= one < MOST_TOKENS for one in counts.values()):
        raise ValueError(f"no counts of tokens: {counts}")
    if is_counted(state, at):
        return
    new = news(state, id, counts)
    if any(new.values()):
        costs.add(state.setdefault("days", {}), at[:10], store.clean(str(model))[:LONGEST_NAME], new)
        state["last_id"] = id


def is_counted(state: State, at: str) -> bool:
    """Whether a message of that time was counted before its file had to be read from its start again."""
    path, newest = state.get("path", ""), state.setdefault("newest", {})
    newest[path] = max(at, newest.get(path, ""))
    until: str = (state.get("again") or {}).get(path, "")
    return at <= until


def news(state: State, id: str, counts: Mapping[str, int]) -> dict[str, int]:
    """What a message counts beyond what it was counted for before.

    Agents write one message in several lines, each with the usage of the whole, or with what is known of it so far.
    """
    known: dict[str, list[int]] = state.setdefault("ids", {})
    before = known.get(id) or [0] * len(counts)
    known[id] = [max(pair) for pair in zip(before, counts.values(), strict=True)]
    if len(known) > 2 * IDS_KEPT:
        state["ids"] = dict(list(known.items())[-IDS_KEPT:])
    return {name: max(0, count - old) for (name, count), old in zip(counts.items(), before, strict=True)}


def tell(state: State, at: str, activity: str, text: str = "", until: float = 0.0, is_turn: bool = False) -> bool:
    """Keep what the agent does since that time; False when something newer is known. A new turn begins anew."""
    before = state.get("tells") or {"at": ""}
    if at < before["at"]:
        return False
    since = before["since"] if activity == before.get("activity") and not is_turn else at
    state["tells"] = {"activity": activity, "at": at, "since": since, "text": text[:LONGEST], "until": until}
    return True


def story(state: State) -> Story:
    tells = state.get("tells") or {}
    return Story(
        tells.get("activity"),
        clock.parse(tells.get("since")) or 0.0,
        tells.get("text", ""),
        tells.get("until", 0.0),
        state.get("days") or {},
        state.get("last_id", ""),
        state.get("session_id", ""),
    )


def limit_end(found: re.Match[str] | None, at: str, zone: datetime.tzinfo | None) -> float:
    """When a usage limit ends of which was told at that time; where that is not said it is tried again after a while.

    The groups of `found` are hour, minute, half (am, pm), and where it is another day month, day and year. Without a
    zone it is that of this machine.
    """
    told = clock.parse(at) or 0.0
    if not found:
        return told + TRY_AGAIN
    now = datetime.datetime.fromtimestamp(told, zone)
    hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "pm" else 0)
    when = now.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
    if found["month"]:
        try:
            month = MONTHS.index(found["month"])
            when = when.replace(year=int(found["year"] or now.year), month=month, day=int(found["day"]))
        except ValueError:
            return told + TRY_AGAIN  # no such day
    elif when.timestamp() + SAID_MINUTES < now.timestamp():
        when += datetime.timedelta(days=1)
    return when.timestamp() + SAID_MINUTES


def fit(text: str) -> str:
    """A message that begins with `!` would be run as a command line, one with `/` as a command of the program.

    Blanks in front are no help: they are stripped from what was queued while it worked.
    """
    return f"A message:\n{text}" if text.lstrip().startswith(("!", "/")) else text
