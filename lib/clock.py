"""Time as ao sees it: it never runs backward, and hours in which nobody looked do not count.

Timers ask `Clock.elapsed(since)` and never subtract wall times: a laptop asleep over the weekend, a clock set
an hour forward, or a loop that was stopped would otherwise fire every timer at once. `loop.yaml` keeps what this
needs: the last look's wall time, monotonic time and boot, and the *gaps* in which nobody looked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from lib.errors import AoError

LONGEST_LOOK_GAP = 90.0  # seconds; cron looks once a minute, so a longer silence means that nobody looked
LATEST = 1e11  # seconds since the epoch that a clock can show
STEP = 1.0  # seconds that the wall clock may be adjusted by without a word
GAPS_KEPT = 50
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Clock(NamedTuple):
    """A moment and how to measure back from it: seconds since the epoch, and (from, to) spans that do not count."""

    now: float
    gaps: tuple[tuple[float, float], ...] = ()
    ahead: float = 0.0  # seconds that it is ahead of a wall clock that was set back

    @property
    def iso(self) -> str:
        return iso(self.now)

    def noted(self, seconds: float) -> str:
        """The ISO time at which another program noted something, by its wall clock."""
        return iso(min(self.now, seconds + self.ahead))

    def elapsed(self, since: str | None) -> float:
        """Seconds in which somebody looked, from the ISO time `since` until now; 0 when there is no such time."""
        start = parse(since)
        if start is None or start >= self.now:
            return 0.0
        unseen = sum(max(0.0, min(end, self.now) - max(begin, start)) for begin, end in self.gaps)
        return max(0.0, self.now - start - unseen)


def iso(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds: `2026-01-31T09:05:00.250Z`."""
    whole, milli = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milli:03d}Z"


def parse(text: str | None) -> float | None:
    """Seconds since the epoch of an ISO 8601 UTC time, None for anything that is not one."""
    if not isinstance(text, str) or text[-1:] != "Z":
        return None
    try:
        year, month, day, hour, minute, second = (int(text[at:to]) for at, to in _FIELDS)
        whole = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
        return whole + float("0" + text[19:-1]) if iso(whole)[:19] == text[:19] else None
    except (ValueError, OverflowError, OSError):
        return None


_FIELDS = ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01; `calendar` and `time.strptime` import more than this whole package."""
    year -= month < 3  # years begin in March, so that the leap day is the last
    days_before = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + days_before - 719468


def duration(text: object) -> float:
    """Seconds in `30s`, `5m`, `2h` or `1d`; AoError for anything else."""
    if isinstance(text, str) and text[-1:] in SECONDS:
        try:
            seconds = float(text[:-1]) * SECONDS[text[-1]]
        except ValueError:
            seconds = -1.0
        if 0 <= seconds < 1e10:
            return seconds
    raise AoError(f"not a duration: {text!r} (write 30s, 5m, 2h or 1d)")


class Look(NamedTuple):
    """A moment at which somebody looks."""

    wall: float
    monotonic: float
    boot_id: str  # monotonic times compare only within one


def this_moment() -> Look:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
    except OSError:  # macOS: there a monotonic clock that has gone backward tells
        boot = ""
    return Look(time.time(), time.monotonic(), boot)


def read(loop: Mapping[str, Any], at: Look | None = None) -> Clock:
    """The clock for a moment, given what loop.yaml holds: `{look: {wall, monotonic, boot_id}, gaps: [[from, to]]}`.

    After the wall clock was set back, time goes on from the last look by the monotonic clock until the wall catches up.
    What is damaged counts as not there.
    """
    at, last, gaps = at or this_moment(), _last_look(loop), _gaps(loop)
    if last is None:
        return Clock(at.wall, gaps)
    passed = at.monotonic - last.monotonic if at.boot_id == last.boot_id else -1.0
    now = max(at.wall, last.wall + max(0.0, passed))
    seen_until = last.wall + min(max(0.0, passed), LONGEST_LOOK_GAP)
    was_unseen = now - seen_until > (STEP if passed >= 0 else 0)  # a silence, a sleep, a step forward, or a reboot
    return Clock(now, (*gaps, (seen_until, now)) if was_unseen else gaps, now - at.wall)


def look(loop: dict[str, Any], at: Look | None = None) -> Clock:
    """Take a look: like `read`, and note in `loop` that somebody looked now."""
    at = at or this_moment()
    clock = read(loop, at)
    loop["gaps"] = [list(gap) for gap in clock.gaps[-GAPS_KEPT:]]
    loop["look"] = at._replace(wall=clock.now)._asdict()
    return clock


def _last_look(loop: Mapping[str, Any]) -> Look | None:
    try:
        found = loop["look"]
        look = Look(float(found["wall"]), float(found["monotonic"]), str(found["boot_id"]))
    except (TypeError, ValueError, KeyError, OverflowError):
        return None
    return look if 0.0 <= look.wall < LATEST and abs(look.monotonic) < LATEST else None


def _gaps(loop: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    try:
        return tuple((float(begin), float(end)) for begin, end in loop.get("gaps") or ())
    except (TypeError, ValueError, OverflowError):
        return ()
