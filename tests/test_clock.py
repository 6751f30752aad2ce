"""Time: no timer fires for hours in which nobody looked, the clock jumped or the machine slept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import clock
from lib.clock import Look
from lib.errors import AoError

T = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0


class Machine:
    """A machine whose loop looks now and then."""

    def __init__(self):
        self.loop, self.wall, self.monotonic, self.boot = {}, T, 1000.0, "one"

    def look(self):
        return clock.look(self.loop, Look(self.wall, self.monotonic, self.boot))

    def runs(self, seconds, every=5.0):
        """It looks for so many seconds."""
        while seconds > 0:
            self.wall, self.monotonic, seconds = self.wall + every, self.monotonic + every, seconds - every
            found = self.look()
        return found

    def silent(self, seconds):
        self.wall, self.monotonic = self.wall + seconds, self.monotonic + seconds


@pytest.fixture
def machine():
    machine = Machine()
    machine.look()
    return machine


def test_time_passes_while_somebody_looks(machine):
    since = machine.look().iso
    assert machine.runs(600).elapsed(since) == 600
    assert machine.loop["gaps"] == []


@pytest.mark.parametrize("jump", [HOUR, 3 * DAY])
def test_a_clock_set_forward_fires_no_timer(machine, jump):
    since = machine.look().iso
    machine.runs(100)
    machine.wall += jump
    assert machine.runs(100).elapsed(since) == pytest.approx(200)


def test_a_clock_set_back_stops_no_timer_and_time_never_runs_backward(machine):
    since = machine.look().iso
    before = machine.runs(100).now
    machine.wall -= HOUR
    found = machine.runs(100)
    assert (found.elapsed(since), found.now) == (pytest.approx(200), before + 100)
    assert found.noted(machine.wall - 1) == clock.iso(found.now - 1), "also of what others note by the wall clock"
    found = machine.runs(2 * HOUR)
    assert found.elapsed(since) == pytest.approx(200 + 2 * HOUR), "and when the wall has caught up"
    assert found.noted(machine.wall + 1) == found.iso, "nothing is noted before it happens"


def test_a_sleeping_machine_looks_at_nothing(machine):
    since = machine.runs(100).iso
    machine.wall += 8 * HOUR  # the monotonic clock sleeps too
    assert machine.runs(60).elapsed(since) == pytest.approx(60)


def test_a_weekend_without_the_loop_is_the_longest_pause_between_two_looks_of_cron(machine):
    since = machine.look().iso
    machine.silent(2.5 * DAY)
    assert machine.look().elapsed(since) == clock.LONGEST_LOOK_GAP


def test_cron_once_a_minute_misses_nothing(machine):
    since = machine.look().iso
    assert machine.runs(HOUR, every=60.0).elapsed(since) == HOUR


@pytest.mark.parametrize("uptime", [3.0, 50_000.0])
@pytest.mark.parametrize("boot", ["two", "one"])  # where boots have no names the monotonic clock tells, if it can
def test_a_reboot_is_time_in_which_nobody_looked(machine, uptime, boot):
    since = machine.runs(100).iso
    machine.wall, machine.monotonic, machine.boot = machine.wall + DAY, uptime, boot
    machine.look()
    limit = 0 if boot == "two" or uptime < 1000 else clock.LONGEST_LOOK_GAP
    assert machine.runs(60).elapsed(since) == pytest.approx(60 + limit)


def test_two_reboots_are_two_gaps(machine):
    since = machine.look().iso
    for boot in ("two", "three"):
        machine.wall, machine.monotonic, machine.boot = machine.wall + HOUR, 1.0, boot
        machine.look()
        found = machine.runs(60)
    assert found.elapsed(since) == pytest.approx(120)
    assert len(machine.loop["gaps"]) == 2


def test_a_reboot_with_an_earlier_clock_goes_on_from_the_last_look(machine):
    last = machine.runs(100).now
    machine.wall, machine.monotonic, machine.boot = machine.wall - DAY, 1.0, "two"
    assert machine.look().now == last
    assert machine.runs(60).now == last + 60


def test_a_reader_measures_the_same_time_and_notes_nothing(machine):
    since = machine.look().iso
    machine.silent(HOUR)
    before = dict(machine.loop)
    found = clock.read(machine.loop, Look(machine.wall, machine.monotonic, machine.boot))
    assert (found.elapsed(since), machine.loop) == (clock.LONGEST_LOOK_GAP, before)


def test_small_corrections_make_no_gap(machine):
    for _ in range(100):
        machine.wall += 0.5
        machine.runs(5)
    assert machine.loop["gaps"] == []


def test_the_newest_gaps_are_kept(machine):
    for _ in range(clock.GAPS_KEPT + 20):
        machine.silent(HOUR)
        machine.look()
    since = machine.look().iso
    assert len(machine.loop["gaps"]) == clock.GAPS_KEPT
    machine.silent(HOUR)
    assert machine.look().elapsed(since) == clock.LONGEST_LOOK_GAP


@pytest.mark.parametrize(
    "loop",
    [
        {},
        {"look": None, "gaps": None},
        {"look": "yesterday", "gaps": "none"},
        {"look": {"wall": "x", "monotonic": 1, "boot_id": "one"}, "gaps": [1]},
        {"look": {"wall": 1}, "gaps": [["a", "b"]]},
        {"look": [], "gaps": {"a": 1}},
    ],
)
def test_a_damaged_loop_file_is_none(loop):
    found = clock.look(loop, Look(T, 1.0, "one"))
    assert found == clock.Clock(T)
    assert loop["look"] == {"wall": T, "monotonic": 1.0, "boot_id": "one"}


def test_this_moment_is_now():
    first, second = clock.this_moment(), clock.this_moment()
    assert first.boot_id == second.boot_id
    assert first.monotonic <= second.monotonic


# --- texts ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 7_258_118_399_999))  # to the end of 2199
def test_a_time_survives_being_written(milliseconds):
    text = clock.iso(milliseconds / 1000)
    assert clock.iso(clock.parse(text)) == text
    assert clock.parse(text) == pytest.approx(milliseconds / 1000, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00.000Z", 0.0),
        ("2000-02-29T12:00:00Z", 951825600.0),
        ("2026-01-31T09:05:00.250Z", 1769850300.25),
    ],
)
def test_times_are_utc(text, seconds):
    assert clock.parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [None, 3, "", "Z", "soon", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T24:00:00Z", "2026-01-31 09:05:00Z"]
    + ["2026-01-31T09:05:00+01:00", "2026-01-31T09:05:00.1.2Z", "-026-01-31T09:05:00Z", "0000-00-00T00:00:00Z"],
)
def test_what_is_no_time_is_none(text):
    assert clock.parse(text) is None
    assert clock.Clock(T).elapsed(text) == 0


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("0.5m", 30)])
def test_durations(text, seconds):
    assert clock.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 minutes", "-5m", "nanm", "infd", 5, None])
def test_what_is_no_duration_is_an_error(text):
    with pytest.raises(AoError, match="not a duration"):
        clock.duration(text)
