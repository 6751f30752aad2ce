"""What adapters of agents share that write down their own work: what was learned line by line becomes a Story.

`state` is that of `recall`: {files, ids} of transcripts, {days, last_id} of what was spent, and in `tells` what the
agent does: {activity, at, since, text, until}.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

from lib import clock, costs, transcripts
from lib.agent import Story

State = dict[str, Any]

MONTHS = (
    "",
    *["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
)  # whatever the locale
SAID_MINUTES = 60.0  # seconds that a limit may last beyond the minute that is named


def parsed(line: bytes) -> dict[str, Any]:
    """A line of JSON, {} when it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def count(state: State, at: str, model: str, id: str, counts: Mapping[str, int]) -> None:
    """Count what a message of that time cost, beyond what it was counted for before; `counts` are costs.TOKENS."""
    new = transcripts.news(state, id, counts)
    if any(new.values()):
        costs.add(state.setdefault("days", {}), at[:10], model, new)
        state["last_id"] = id


def tell(state: State, at: str, activity: str, text: str = "", until: float = 0.0, is_turn: bool = False) -> bool:
    """Keep what the agent does since that time; False when something newer is known. A new turn begins anew."""
    before = state.get("tells") or {"at": ""}
    if at < before["at"]:
        return False
    since = before["since"] if activity == before.get("activity") and not is_turn else at
    state["tells"] = {"activity": activity, "at": at, "since": since, "text": text, "until": until}
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
    """When a usage limit ends of which was told at that time; 0 when that is not said, or is no time at all.

    The groups of `found` are hour, minute, half (am, pm), and where it is another day month, day and year. Without a
    zone it is that of this machine.
    """
    if not found:
        return 0.0
    now = datetime.datetime.fromtimestamp(clock.parse(at) or 0.0, zone)
    hour = int(found["hour"]) % 12 + (12 if found["half"].lower() == "pm" else 0)
    when = now.replace(hour=hour, minute=int(found["minute"] or 0), second=0, microsecond=0)
    if found["month"]:
        try:
            month = MONTHS.index(found["month"])
            when = when.replace(year=int(found["year"] or now.year), month=month, day=int(found["day"]))
        except ValueError:
            return 0.0  # no such day
    elif when.timestamp() + SAID_MINUTES < now.timestamp():
        when += datetime.timedelta(days=1)
    return when.timestamp() + SAID_MINUTES


def not_a_command(text: str) -> str:
    """A message that begins with `!` would be run as a command line, one with `/` as a command of the program.

    Blanks in front are no help: they are stripped from what was queued while it worked.
    """
    return f"A message:\n{text}" if text.lstrip().startswith(("!", "/")) else text
