"""Time as ao sees it: it never runs backward, and hours in which nobody looked do not count.

Timers ask `Clock.elapsed(since)` and never subtract wall times: a laptop asleep over the weekend, a clock set
an hour forward, or a loop that was stopped would otherwise fire every timer at once. `loop.yaml` keeps what this
needs: the last look's wall time, monotonic time and boot, and the *gaps* in which nobody looked.
"""

from __future__ import annotations

import calendar
import time
from typing import Any, NamedTuple

from lib.errors import AoError

LONGEST_LOOK_GAP = 90.0  # seconds; cron looks once a minute, so a longer silence means that nobody looked
GAPS_KEPT = 50
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Clock(NamedTuple):
    """A moment and how to measure back from it: seconds since the epoch, and (from, to) spans that do not count."""

    now: float
    gaps: tuple[tuple[float, float], ...] = ()

    @property
    def iso(self) -> str:
        return iso(self.now)

    def elapsed(self, since: str | None) -> float:
        """Seconds in which somebody looked, from the ISO time `since` until now; 0 when there is no such time."""
        start = parse(since)
        if start is None or start >= self.now:
            return 0.0
        unseen = sum(max(0.0, min(end, self.now) - max(begin, start)) for begin, end in self.gaps)
        return max(0.0, self.now - start - unseen)


def iso(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds: `2026-01-31T09:05:00.250Z`."""
    whole = int(seconds)
    milli = int((seconds - whole) * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milli:03d}Z"


def parse(text: str | None) -> float | None:
    """Seconds since the epoch of an ISO 8601 UTC time, None for anything that is not one."""
    if not isinstance(text, str) or len(text) < 20 or not text.endswith("Z"):
        return None
    try:
        whole = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
        return whole + float("0" + text[19:-1])
    except ValueError:
        return None


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


def age(seconds: float) -> str:
    """A short age for people: `12s`, `5m`, `3h`, `2d`."""
    for unit in ("d", "h", "m"):
        if seconds >= SECONDS[unit]:
            return f"{int(seconds // SECONDS[unit])}{unit}"
    return f"{int(max(0.0, seconds))}s"


def boot_id() -> str:
    """A name for the time since this machine started; monotonic clocks compare only within one."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:  # macOS: the time of the boot is as good a name
        return str(round(time.time() - time.monotonic(), -1))


def read(
    loop: dict[str, Any], wall: float | None = None, monotonic: float | None = None, boot: str | None = None
) -> Clock:
    """The clock for this moment, given what loop.yaml holds: `{look: {wall, monotonic, boot_id}, gaps: [[from, to]]}`.

    After the wall clock was set back, time goes on from the last look by the monotonic clock until the wall catches up.
    """
    wall = time.time() if wall is None else wall
    monotonic = time.monotonic() if monotonic is None else monotonic
    look = loop.get("look") or {}
    now = wall
    last = look.get("wall")
    if isinstance(last, int | float):
        same_boot = look.get("boot_id") == (boot or boot_id())
        passed = monotonic - look.get("monotonic", monotonic) if same_boot else 0.0
        now = max(wall, last + max(0.0, passed))
    gaps = tuple((float(a), float(b)) for a, b in loop.get("gaps") or ())
    unseen = _gap(look, now, monotonic, boot)
    return Clock(now, (*gaps, unseen) if unseen else gaps)


def look(
    loop: dict[str, Any], wall: float | None = None, monotonic: float | None = None, boot: str | None = None
) -> Clock:
    """Take a look: like `read`, and note in `loop` that somebody looked now."""
    monotonic = time.monotonic() if monotonic is None else monotonic
    clock = read(loop, wall, monotonic, boot)
    loop["gaps"] = [list(gap) for gap in clock.gaps[-GAPS_KEPT:]]
    loop["look"] = {"wall": clock.now, "monotonic": monotonic, "boot_id": boot or boot_id()}
    return clock


def _gap(look: dict[str, Any], now: float, monotonic: float, boot: str | None) -> tuple[float, float] | None:
    last = look.get("wall")
    if not isinstance(last, int | float):
        return None
    if look.get("boot_id") != (boot or boot_id()):
        return (last, now) if now > last else None
    passed = max(0.0, monotonic - look.get("monotonic", monotonic))
    if passed > LONGEST_LOOK_GAP:
        return (last + LONGEST_LOOK_GAP, now)
    jumped = now - last - passed
    return (last + passed, now) if jumped > 1.0 else None  # a step forward, or the machine slept
