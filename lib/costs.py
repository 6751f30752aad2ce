"""What agents spend: tokens by UTC day and model, their price, and the monthly ledger that outlives sessions.

All numbers are absolute totals that are assigned and never added to, and a total that is known never falls: counting
the same transcript again, after a crash or with a lost cache, changes nothing.

A session's `cost` is `{input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cost_usd,
unpriced[models], last_id, days{day{model{the same counts, cache_creation_1h_tokens}}}}`. input_tokens are those that
came from no cache; cache_creation_1h_tokens are part of cache_creation_tokens; cost_usd is null when no model of it has
a price.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lib import ROOT, cache, paths, store
from lib.errors import AoError

Counts = dict[str, int]  # by TOKENS
Days = dict[str, dict[str, Any]]  # day -> model -> Counts
Row = dict[str, Any]

SHAPE: store.Shape = {"sessions?": {"*": {"days": {"*": {"*": {"*": int}}}}}}  # of a ledger
PRICES = os.path.join(ROOT, "config", "prices.yaml")
SHOWN = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_tokens")  # of a total
TOKENS = (*SHOWN, "cache_creation_1h_tokens")
GROUPS = ("session", "project", "agent", "model", "day")
ENDS = ("-", "@", ":", "[")  # what may follow the name of a priced model: a date, a region, a variant


@functools.cache
def prices(path: str = PRICES) -> dict[str, dict[str, float]]:
    """Model -> USD per million tokens: input, output, cache_read, cache_write, cache_write_1h."""
    with open(path, encoding="utf-8") as file:
        found: dict[str, dict[str, float]] = store.loads(file.read(), path, whole=False)["models"]
    return found


def price(model: str) -> dict[str, float] | None:
    """The price of a model by its name or the longest known name that it begins with, None when there is none.

    In front may be who provides it and where: `bedrock/us.anthropic.`
    """
    known = prices()
    for name in (model, *(model[place + 1 :] for place, sign in enumerate(model) if sign in "/.")):
        if name in known:
            return known[name]
        begun = [one for one in known if name.startswith(tuple(one + end for end in ENDS))]
        if begun:
            return known[max(begun, key=len)]
    return None


def usd(model: str, counts: Mapping[str, int]) -> float | None:
    """What these tokens of a model cost, None when its price is not known."""
    rate = price(model)
    if rate is None:
        return None
    write = rate.get("cache_write", rate["input"])
    long = counts.get("cache_creation_1h_tokens", 0)
    millionths = (
        counts.get("input_tokens", 0) * rate["input"]
        + counts.get("output_tokens", 0) * rate["output"]
        + counts.get("cache_read_tokens", 0) * rate.get("cache_read", rate["input"])
        + (counts.get("cache_creation_tokens", 0) - long) * write
        + long * rate.get("cache_write_1h", write)
    )
    return millionths / 1e6


def add(days: Days, day: str, model: str, counts: Mapping[str, int]) -> None:
    """Count tokens of a message that was not counted yet."""
    total = days.setdefault(day, {}).setdefault(model, dict.fromkeys(TOKENS, 0))
    for name, count in counts.items():
        total[name] += max(0, int(count))


def taken(cost: Mapping[str, Any] | None, days: Mapping[str, Any], last_id: str = "") -> dict[str, Any] | None:
    """A session's `cost` with what its agent's records say now; what they no longer show is kept."""
    merged = _merged((cost or {}).get("days") or {}, days)
    if not merged:
        return None
    return {**summed(_each(merged)), "last_id": last_id or (cost or {}).get("last_id"), "days": merged}


def summed(found: Iterable[Row]) -> Row:
    """The total of rows: {SHOWN, cost_usd, unpriced[models]}; cost_usd is None when nothing of it has a price."""
    members = list(found)
    priced = [row["cost_usd"] for row in members if row["cost_usd"] is not None]
    return {
        **{name: sum(row.get(name, 0) for row in members) for name in SHOWN},
        "cost_usd": round(sum(priced), 6) if priced else None,
        "unpriced": sorted({row["model"] for row in members if row["cost_usd"] is None}),
    }


# --- the ledger -------------------------------------------------------------------------------------------------------


def save(home: str, sessions: Iterable[Mapping[str, Any]]) -> None:
    """Assign what sessions have spent to the ledger of each month; a file is written only when it differs."""
    months: dict[str, dict[str, Any]] = {}
    for session in sessions:
        for day, models in ((session.get("cost") or {}).get("days") or {}).items():
            names = {name: session.get(name) for name in ("project_id", "agent", "issue_id")}
            entry = months.setdefault(day[:7], {}).setdefault(session["id"], {"days": {}, **names})
            entry["days"][day] = models
    for month, entries in months.items():
        store.update(paths.ledger(home, month), functools.partial(_assign, entries=entries), SHAPE)


def mend(home: str, sessions: Iterable[Mapping[str, Any]], now: str) -> list[str]:
    """Set aside the ledgers that cannot be read, save what sessions have spent, and say what was wrong."""
    told = [store.set_aside(paths.ledger(home, month), now, shape=SHAPE) for month in months(home)]
    save(home, sessions)
    return [message for message in told if message]


def months(home: str) -> list[str]:
    """The months that have a ledger, oldest first: `2026-01`."""
    try:
        found = os.listdir(os.path.dirname(paths.ledger(home, "2026-01")))
    except FileNotFoundError:
        return []
    return sorted(name[:-5] for name in found if paths.is_month(name[:-5]) and name.endswith(".yaml"))


def rows(home: str, wanted: Iterable[str]) -> Iterator[Row]:
    """What was spent in these months: {session, project, agent, model, day, counts by TOKENS, cost_usd}."""
    for month in wanted:
        ledger = store.read(paths.ledger(home, month), SHAPE) or {}
        for id, entry in (ledger.get("sessions") or {}).items():
            names = {"session": id, "project": entry.get("project_id"), "agent": entry.get("agent")}
            yield from ({**names, **row} for row in _each(entry["days"]))


def grouped(found: Iterable[Row], by: str) -> list[Row]:
    """Rows summed by one of GROUPS, in its order: {by: name, SHOWN, cost_usd, unpriced[models]}."""
    if by not in GROUPS:
        raise AoError(f"cannot sum costs by '{by}' (known: {', '.join(GROUPS)})")
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(str(row[by]), []).append(row)
    return [{by: name, **summed(members)} for name, members in sorted(groups.items())]


def spent(home: str, month: str) -> dict[str, dict[str, float]]:
    """USD by project and day of a month; through the cache, for a ledger is read at each look."""
    signature, kept = cache.signature(paths.ledger(home, month)), cache.load(home, "spent")
    if month not in kept or kept[month][0] != signature:
        found: dict[str, dict[str, float]] = {}
        for row in rows(home, [month]):
            days = found.setdefault(str(row["project"]), {})
            days[row["day"]] = days.get(row["day"], 0.0) + (row["cost_usd"] or 0.0)
        kept = {month: (signature, found)}
        cache.save(home, "spent", kept)
    by_project: dict[str, dict[str, float]] = kept[month][1]
    return by_project


def _each(days: Mapping[str, Mapping[str, Counts]]) -> Iterator[Row]:
    for day, models in days.items():
        for model, counts in models.items():
            yield {"day": day, "model": model, **counts, "cost_usd": usd(model, counts)}


def _assign(ledger: dict[str, Any], entries: Mapping[str, Any]) -> None:
    known = ledger.setdefault("sessions", {})
    for id, entry in entries.items():
        known[id] = {**entry, "days": _merged((known.get(id) or {}).get("days") or {}, entry["days"])}


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Days:
    """The greater of each count: what is known to be spent stays spent, though its transcript is gone."""
    merged: Days = {}
    for day in sorted({*old, *new}):
        before, after = old.get(day) or {}, new.get(day) or {}
        for model in sorted({*before, *after}):
            pair = before.get(model) or {}, after.get(model) or {}
            counts = {name: max(one.get(name, 0) for one in pair) for name in TOKENS}
            if any(counts.values()):
                merged.setdefault(day, {})[model] = counts
    return merged
