"""Thousands of ticks in a virtual world where everything goes wrong: `make test-sim SEED=1 STEPS=2000`.

The real code of lib/ runs, on real files in a temporary AO_HOME, over the simulated terminals, agents and forge of
tests/outside.py, among the people of tests/people.py, and on the clock, processes and locks of tests/machine.py.
tests/promises.py says what must hold. All is decided by the seed: a failing one is printed, and replays exactly.
"""

from __future__ import annotations

import copy
import hashlib
import json
import marshal
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import outside
from machine import Machine
from outside import NONE, Rates, World
from people import PROJECTS, People
from promises import PROMISES, Broken

from lib import (
    clock,
    config,
    deliver,
    effects,
    events,
    faults,
    kept,
    launch,
    loop,
    notify,
    paths,
    plugins,
    proc,
    prompts,
    rounds,
    spawn,
    status,
    store,
    threads,
)
from lib.errors import AoError, Unknown

Record = dict[str, Any]
SCREEN = {"command": ["cat"], "ready": "^> $", "busy": r"^\* working", "question": r"\(y/n\) ?\Z"}
NAPS = (5, 5, 5, 5, 5, 15, 60, 60, 60, 80, 300)  # seconds between rounds
CALM_NAPS = NAPS[:9]
EVENTS_KEPT, TEXTS_KEPT = 4000, 2000
ELSEWHERE = {"hold.interrupt", "issue.assign", "pull.publish"}  # in test_crash.py and test_parking.py
POINTS = sorted(f"{effect}:{when}" for effect in effects.EFFECTS.keys() - ELSEWHERE for when in ("before", "after"))
LONGEST_CALM = 600  # rounds in which everything must have come to its end


class Simulation:
    def __init__(self, seed: int, home: str) -> None:
        self.home, self.chance = home, random.Random(seed)
        self.machine = Machine(self.chance)
        self.rates = self._draw_rates()
        self.world = World(self.machine, home, self.rates, self.happens)
        self.people = People(self)
        self.world.is_missed = lambda handle: bool(self.records[handle].get("missed_looks"))
        self.machine.between = self.people.meanwhile
        self.records: dict[str, Record] = {}  # as they are on disk, archived ones too
        self.events: list[Record] = []
        self.read: dict[str, int] = {}  # event file -> how much of it was read
        self.checked = 0  # events whose order was checked
        self.statuses: dict[str, tuple[Any, list[str]]] = {}  # session -> facts, its statuses while they hold
        self.covers: dict[str, tuple[str, tuple[str, ...], str]] = {}  # message -> condition, its items, its episode
        self.delivered: dict[tuple[str, str, str], str] = {}
        self.episodes: dict[tuple[str, str, str], list[str]] = {}
        self.news: dict[tuple[Any, ...], str] = {}
        self.unsure: dict[str, str] = {}  # message of which it is not known whether it arrived -> since when
        self.letters: set[str] = set()  # every notification that was intended
        self.rounds: dict[str, dict[str, int]] = {}  # what is not as it should be, and for how many calm rounds
        self.was_calm = False  # nothing went wrong in the last round
        self.is_configured = True  # nobody has broken ao.yaml
        self.broken: Broken | None = None
        self.settings = self._draw_configuration()
        self.configure()

    # --- settings ------------------------------------------------------------------------------------------------

    def _draw_rates(self) -> Rates:
        """Each seed has its own kind of trouble: all of it at once would hide what one of them does alone."""
        draw = self.chance.choice
        self.machine.kills = draw((0.0001, 0.0005, 0.002, 0.005))
        self.machine.deadly = set(POINTS)  # also where processes seldom get to
        self.machine.switches = draw((0, 0.02, 0.2))
        return Rates(
            unknown=draw((0, 0.01, 0.04, 0.1)),
            error=draw((0, 0, 0.01, 0.05)),
            slow=draw((0, 0.02, 0.1)),
            lie=draw((0, 0.05, 0.3)),
            people=draw((0.1, 0.4, 0.8)),
            agent=draw((0.02, 0.2, 0.4)),
        )

    def _draw_configuration(self) -> Record:
        draw = self.chance.choice
        reactions: Record = {
            "approved-and-green": {"action": draw((*["auto-merge"] * 3, "notify")), "retries": draw((1, 3))},
            "ci-failed": {"retries": draw((1, 3, None)), "escalate_after": draw((None, 2, "30m"))},
            "agent-exited": {"action": draw(("notify", "restore"))},
            "agent-idle": {"retries": draw((1, 2))},
            "changes-requested": {"escalate_after": draw(("30m", "5m"))},
        }
        each = {"max_sessions": 40, "merge": {"settle": draw(("30s", "0s", "5m"))}, "reactions": reactions}
        each["post_create"] = draw(([], ["make setup"]))
        shop = {"path": os.path.join(self.home, "repo"), "agent": "command", "agent_config": SCREEN, **each}
        top: Record = {"projects": {"shop": shop, "talk": {**shop, "agent": "talker", "prefix": "talk"}}}
        top["lifecycle"] = {"on_merge": draw(("stop", "prune"))}
        if draw((False, True)):
            top["notification_routing"] = {"urgent": ["stdout", "pager"], "warning": ["pager"]}
        os.makedirs(shop["path"])
        return top

    def configure(self, broken: str = "") -> None:
        """Write ao.yaml as it should be, or as somebody has broken it."""
        self.is_configured = not broken
        with open(os.path.join(self.home, "ao.yaml"), "w") as file:
            file.write(broken or json.dumps(self.settings))

    def project(self, id: str) -> config.Project:
        found = config.load(os.path.join(self.home, "ao.yaml")).projects
        if id not in found:
            raise AoError(f"there is no project '{id}'")
        return found[id]

    @property
    def merges_itself(self) -> bool:
        return bool(self.settings["projects"]["shop"]["reactions"]["approved-and-green"]["action"] == "auto-merge")

    def reaction(self, session: str, key: str) -> Record:
        project = self.settings["projects"][self.records[session]["project_id"]]
        defaults = config.load(None).values["reactions"][key]
        return {**defaults, **project["reactions"].get(key, {})}

    # --- what the promises are checked against -----------------------------------------------------------------------

    def happens(self, what: str, *about: Any) -> None:
        """Check the promises about something that happens. Whatever a dead process still does has no effect."""
        if self.machine.current and self.machine.current.is_dead:
            return
        for promise in PROMISES[what]:
            try:
                found = promise(self, *about)
            except Exception as error:  # a mistake in the checking itself is not for ao to go on after either
                found = "".join(traceback.format_exception(error))
            if found:
                self.broken = self.broken or Broken(f"{promise.__name__}: {found}")
                raise self.broken

    def lasting(self, what: str, found: list[str], most: int) -> list[str]:
        """What of `found` was so for more than so many rounds in which nothing went wrong."""
        known = self.rounds.get(what) or {}
        self.rounds[what] = {one: known.get(one, 0) + 1 for one in found} if self.was_calm else {}
        return [one for one, count in self.rounds[what].items() if count > most]

    def clock(self) -> clock.Clock:
        return loop.clock(self.home)

    def fleet(self) -> list[Record]:
        return [
            one for id, one in self.records.items() if os.path.exists(paths.session(self.home, one["project_id"], id))
        ]

    def live(self) -> list[Record]:
        return [one for one in self.fleet() if status.is_live(one)]

    def new_events(self) -> list[Record]:
        """What was appended since the last round, this and earlier calls together."""
        for path in events.files(self.home):
            with open(path, "rb") as file:
                file.seek(self.read.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self.read[path] = self.read.get(path, 0) + len(whole)
            self.events += filter(None, map(events.parse, whole.decode("utf-8", "replace").splitlines(keepends=True)))
        return self.events[self.checked :]

    def shown_events(self, id: str) -> list[Record]:
        """What readers of the log see of a session, of the newest revisions."""
        self.new_events()
        return list(events.without_repeats(event for event in self.events[-400:] if event.get("session_id") == id))

    def intended_news(self) -> set[str]:
        for project in PROJECTS:
            facts = store.read(paths.project(self.home, project)) or {}
            for condition in (facts.get("conditions") or {}).values():
                if condition.get("intent"):
                    self.letters.add(condition["intent"]["id"])
        return self.letters

    def happened(self, record: Record, intent: Record) -> bool:
        """Whether the effect of an intent is a fact in the world."""
        if intent["action"] == "send-to-agent":
            return intent["id"] in self.world.logs.get(record["id"], ())
        if intent["action"] in ("notify", "escalate"):
            return any(one["id"] == intent["id"] for one in self.world.people_heard)
        if intent["action"] == "auto-merge":
            number = record["claimed_pr_number"]
            return self.world.pulls[number]["merged_head"] in intent["items"]
        return True  # a restored agent may have ended again

    # --- ao's own files ----------------------------------------------------------------------------------------------

    def write(self, real: Callable[..., None], path: str, value: Record, mode: int = 0o600) -> None:
        self.machine.point("write")
        is_record = os.path.dirname(os.path.dirname(path)) == paths.sessions(self.home)
        if is_record:
            self._note_intents(value)
            for message in value["inbox"]:
                if message["state"] == "unconfirmed":
                    self.unsure.setdefault(message["id"], value["updated_at"])
            self.happens("written", self.records[value["id"]], value)
        real(path, value, mode)
        if is_record:
            self.records[value["id"]] = copy.deepcopy(value)
        self.machine.point("written")

    def _note_intents(self, record: Record) -> None:
        for key, condition in record["conditions"].items():
            intent = condition["intent"] or {}
            if intent.get("action") == "send-to-agent":
                self.covers[intent["id"]] = (key, tuple(intent["items"]), condition["since"])
            if intent.get("told"):
                self.letters.add(intent["told"]["id"])

    def reserve(self, real: Callable[..., bool], path: str, value: Record) -> bool:
        self.machine.point("reserve")
        is_new = real(path, value)
        if is_new and os.path.dirname(os.path.dirname(path)) == paths.sessions(self.home):
            self.happens("reserved", value)
            self.records[value["id"]] = copy.deepcopy(value)
        self.machine.point("reserved")
        return is_new

    def append(self, real: Callable[..., None], home: str, at: clock.Clock, new: list[Record]) -> None:
        self.machine.point("append")
        real(home, at, new)
        if new and self.machine.current and self.chance.random() < self.machine.kills:
            self._tear(events.files(home)[-1], new[-1])
        self.machine.point("appended")

    def _tear(self, path: str, event: Record) -> None:
        """Die in the middle of a line, as when the power goes; unless another process has written one since."""
        self.new_events()
        if not event.items() <= self.events[-1].items():
            return
        size, kept = os.path.getsize(path), self.chance.randrange(1, 60)
        with open(path, "rb+") as file:
            line = file.read().rstrip(b"\n").rfind(b"\n") + 1
            file.truncate(max(line, size - kept))
        self.events.pop()
        self.read[path] = line
        self.machine.die("a torn event")

    def each(self, jobs: dict[Any, Callable[[], Any]], seconds: float, at_once: int = 1) -> dict[Any, Any]:
        """In place of threads.each: one after the other; what takes too long is not waited for."""
        answers = {}
        for key, job in jobs.items():
            begun = self.machine.now
            try:
                answers[key] = job()
            except Exception as error:
                answers[key] = error
            if self.machine.now - begun > seconds:
                answers[key] = Unknown(f"no answer within {seconds:g} s")
        return answers

    # --- the course of time ------------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.round()
        self.calm_down()
        for _ in range(LONGEST_CALM):
            self.round()
            if not self.live() and not self.world.terminals:
                break
        for _ in range(20):
            self.round()
        self.happens("end")
        self.idle_is_left_alone()

    def round(self) -> None:
        self.machine.now += self.chance.choice(CALM_NAPS if self.people.is_calm else NAPS)
        self.people.work()
        self.people.meanwhile()
        processes = [self.machine.start("look", lambda: rounds.look(self.home))]
        if not self.people.is_calm and self.chance.random() < 0.1:
            processes.append(self.machine.start("look2", lambda: rounds.look(self.home)))
        if self.people.is_calm or self.chance.random() < 0.8:  # a person's loop, or cron's, need not wait
            self.machine.finish()
        processes.append(self.machine.start("act", lambda: rounds.act(self.home)))
        if not self.people.is_calm and self.chance.random() < 0.1:
            processes.append(self.machine.start("act2", lambda: rounds.act(self.home)))
        self.machine.finish()
        if self.broken:
            raise self.broken
        for process in self.machine.crashed:
            raise process.error or AssertionError(process.name)
        is_paused = loop.read(self.home).get("paused_at")
        self.was_calm = self.is_configured and not is_paused and not any(process.had_fault for process in processes)
        self.happens("round")
        self._forget_old_events()

    def _forget_old_events(self) -> None:
        self.checked = len(self.events)
        if len(self.events) > EVENTS_KEPT:
            del self.events[: EVENTS_KEPT // 2]
            self.checked -= EVENTS_KEPT // 2

    def calm_down(self) -> None:
        """From now on everything answers, agents and people do their part."""
        self.world.rates, self.machine.kills, self.machine.set_wrong = NONE, 0.0, 0.0
        self.machine.deadly = set()
        self.people.calm_down()
        self.machine.note("--- calm ---")
        self.configure()
        loop.pause(self.home, self.clock(), False)

    def idle_is_left_alone(self) -> None:
        """Nothing that ao keeps is written while nothing happens."""
        before = self._files()
        for _ in range(10):
            self.machine.now += 60
            for work in (rounds.look, rounds.act):
                self.machine.start("idle", lambda work=work: work(self.home))
                self.machine.finish()
        changed = {path for path, found in self._files().items() if before.get(path) != found}
        if changed:
            raise Broken(f"idle_is_left_alone: {changed}")

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for name in ("sessions", "projects", "events", "reports"):
            for folder, _, files in os.walk(os.path.join(self.home, name)):
                for file in files:
                    about = os.stat(os.path.join(folder, file))
                    found[os.path.join(folder, file)] = (about.st_ino, about.st_mtime_ns)
        return {path: about for path, about in found.items() if not path.endswith(".lock")}

    def outcome(self) -> str:
        """In a line what happened, with a digest of every single step."""
        lives = [record for record in self.records.values() if record["status"] not in ("spawning", "errored")]
        merged = sum(map(status.is_merged, lives))
        trace = "\n".join(self.machine.trace).replace(self.home, "AO_HOME")
        digest = hashlib.sha256(trace.encode()).hexdigest()[:16]
        return f"{len(lives)} sessions, {merged} merged, {self.machine.deaths} deaths, trace {digest}"


def _instead(simulation: Simulation) -> Iterator[Any]:
    """What of ao is replaced: time, processes, locks, randomness, git, and the plugins."""
    machine, world, patch = simulation.machine, simulation.world, mock.patch.object
    yield patch(clock, "this_moment", machine.moment)
    for module in (deliver, kept, notify, rounds):
        yield patch(module, "time", machine)
    yield patch(store, "lock", machine.lock)
    yield patch(store, "is_held", machine.is_held)
    yield patch(faults, "point", machine.point)
    for module, name in ((store, "write"), (store, "reserve"), (events, "append")):
        yield patch(module, name, _around(getattr(simulation, name), getattr(module, name)))
    yield patch(threads, "each", simulation.each)
    yield patch(os, "fsync", lambda handle: None)
    yield patch(os, "cpu_count", lambda: 2)
    yield patch(deliver, "secrets", SimpleNamespace(choice=machine.chance.choice))
    yield patch(prompts, "secrets", SimpleNamespace(token_hex=lambda size: "0" * size))
    yield patch(spawn, "git", outside.Git(world))
    yield patch(spawn, "proc", outside.Programs(world))
    yield patch(proc, "detach", simulation.people.detach)
    yield patch(config, "load", _load_once(config.load))
    yield patch(store, "loads", _parse_once(store.loads))
    found = outside.plugins(world)
    yield patch(plugins, "load", lambda slot, name: found[slot, name])
    yield patch(plugins, "names", lambda slot: sorted(name for one, name in found if one == slot))
    yield patch(launch.shutil, "which", lambda program, path=None: program)
    yield mock.patch.dict(os.environ, {"AO_HOME": simulation.home})


def _around(own: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **more: own(real, *args, **more)


def _load_once(real: Callable[[str | None], config.Config]) -> Callable[[str | None], config.Config]:
    """config.load, which reads the same text only once: most of its time would go there."""
    known: dict[Any, Any] = {}

    def load(path: str | None) -> config.Config:
        text = ""
        if path:
            with open(path) as file:
                text = file.read()
        if (path, text) not in known:
            try:
                known[path, text] = real(path)
            except AoError as error:
                known[path, text] = error
        if isinstance(known[path, text], AoError):
            raise known[path, text]
        return known[path, text]  # type: ignore[no-any-return]

    return load


def _parse_once(real: Callable[..., Record]) -> Callable[..., Record]:
    """store.loads, which parses the same text only once."""
    known: dict[str, bytes] = {}

    def loads(text: str, *about: Any, **more: Any) -> Record:
        if text not in known:
            if len(known) > TEXTS_KEPT:
                known.clear()
            known[text] = marshal.dumps(real(text, *about, **more))
        return marshal.loads(known[text])  # type: ignore[no-any-return]

    return loads


@contextmanager
def simulated(seed: int) -> Iterator[Simulation]:
    """A simulation in a temporary AO_HOME, with everything replaced that must be."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    home = tempfile.mkdtemp(prefix="ao-sim-", dir=base)
    try:
        simulation = Simulation(seed, home)
        with ExitStack() as stack:
            for patch in _instead(simulation):
                stack.enter_context(patch)
            yield simulation
    finally:
        shutil.rmtree(home, ignore_errors=True)


def run(seed: int, steps: int) -> Simulation:
    """A whole simulation. Raises promises.Broken, or what ao should not have raised, with its last steps in a note."""
    with simulated(seed) as simulation:
        try:
            simulation.run(steps)
        except BaseException as error:
            error.add_note("\n".join(simulation.machine.trace[-60:]))
            error.add_note(f"again: make test-sim SEED={seed} STEPS={steps}")
            raise
    return simulation


def main(argv: list[str]) -> int:
    """SEED STEPS [SEEDS]: simulate this seed, or so many from it on. Prints what happened, and what is broken."""
    seed, steps, many = (*map(int, argv), 1)[:3]
    broken = 0
    for one in range(seed, seed + many):
        try:
            print(f"seed {one}: {run(one, steps).outcome()}", flush=True)
        except (Exception, Broken) as error:
            broken += 1
            shown = traceback.format_exception(error, limit=0 if isinstance(error, Broken) else None)
            print(f"seed {one}:", *map(str.rstrip, shown), sep="\n", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
