"""Thousands of ticks in a virtual world where everything goes wrong: `.venv/bin/python tests/simulation.py 1 2000`.

The real code of lib/ runs, on real files in a temporary AO_HOME, over the simulated terminals, agents, forge and people
of tests/world.py and on the clock, processes and locks of tests/machine.py. tests/promises.py says what must hold. All
is decided by the seed: a failing one is printed, and replays exactly.
"""

from __future__ import annotations

import copy
import json
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

import promises
import scripts
import world as worlds
from machine import START, Killed, Machine, Process
from world import NONE, Rates, Terminal, World

from lib import (
    clock,
    config,
    deliver,
    events,
    faults,
    launch,
    lives,
    loop,
    merge,
    notify,
    observe,
    paths,
    plugins,
    prompts,
    rounds,
    sessions,
    spawn,
    status,
    store,
    threads,
)
from lib.errors import AoError, Unknown
from lib.projects import Settings

Record = dict[str, Any]
PROJECTS = ("shop", "talk")  # of agents that are any command, and of agents that keep a transcript
SCREEN = {"command": ["cat"], "ready": "^> $", "busy": r"^\* working", "question": r"\(y/n\) ?\Z"}
NAPS = (5, 5, 5, 5, 5, 15, 60, 60, 60, 80, 300)  # seconds between rounds


class Simulation:
    def __init__(self, seed: int, home: str) -> None:
        self.seed, self.home, self.chance = seed, home, random.Random(seed)
        self.machine = Machine(self.chance)
        self.rates = self._draw_rates()
        self.world = World(self.machine, home, self.rates, self.promise)
        self.world.on_received, self.world.on_heard = self._received, self._heard
        self.world.on_merge, self.world.is_answering = self._merged, self._is_answering
        self.machine.between = self._meanwhile
        self.records: dict[str, Record] = {}  # as they are on disk, archived ones too
        self.events: list[Record] = []
        self.read: dict[str, int] = {}  # event file -> how much of it was read
        self.checked = 0  # events whose order was checked
        self.statuses: dict[str, Any] = {}
        self.covers: dict[str, tuple[str, tuple[str, ...], str]] = {}  # message -> condition, its items, its episode
        self.delivered: dict[tuple[str, str, str], str] = {}
        self.episodes: dict[tuple[str, str, str], list[str]] = {}
        self.news: dict[tuple[Any, ...], str] = {}
        self.letters: set[str] = set()  # every notification that was intended
        self.silence: dict[Any, int] = {}
        self.outliving: dict[str, int] = {}
        self.unsettled: dict[str, int] = {}
        self.was_calm = self.is_calm = False
        self.broken: promises.Broken | None = None
        self.settings = self._configuration()
        self._configure()

    # --- settings ------------------------------------------------------------------------------------------------

    def _draw_rates(self) -> Rates:
        """Each seed has its own kind of trouble: all of it at once would hide what one of them does alone."""
        draw = self.chance.choice
        self.machine.kills = draw((0, 0, 0.0005, 0.003, 0.01))
        self.machine.switches = draw((0, 0.02, 0.2))
        return Rates(
            unknown=draw((0, 0.01, 0.05, 0.2)),
            error=draw((0, 0, 0.01, 0.05)),
            slow=draw((0, 0.02, 0.1)),
            lie=draw((0, 0.05, 0.3)),
            people=draw((0.1, 0.4, 1.0)),
            agent=draw((0.02, 0.2, 0.5)),
        )

    def _configuration(self) -> Record:
        draw = self.chance.choice
        reactions: Record = {
            "approved-and-green": {"action": draw(("auto-merge", "auto-merge", "auto-merge", "notify"))},
            "ci-failed": {"retries": draw((1, 3, None)), "escalate_after": draw((None, 2, "30m"))},
            "agent-exited": {"action": draw(("notify", "restore"))},
            "agent-idle": {"retries": draw((1, 2))},
            "changes-requested": {"escalate_after": draw(("30m", "5m"))},
        }
        each = {"max_sessions": 40, "merge": {"settle": draw(("30s", "0s", "5m"))}, "reactions": reactions}
        shop = {"path": os.path.join(self.home, "repo"), "agent": "command", "agent_config": SCREEN, **each}
        talk = {**shop, "agent": "talker", "prefix": "talk"}
        top: Record = {"projects": {"shop": shop, "talk": talk}}
        top["lifecycle"] = {"on_merge": draw(("stop", "prune"))}
        if draw((False, True)):
            top["notification_routing"] = {"urgent": ["stdout", "pager"], "warning": ["pager"]}
        os.makedirs(shop["path"])
        return top

    def _configure(self, text: str | None = None) -> None:
        with open(os.path.join(self.home, "ao.yaml"), "w") as file:
            file.write(text or json.dumps(self.settings))

    def project(self, id: str) -> config.Project:
        return config.load(os.path.join(self.home, "ao.yaml")).projects[id]

    def reaction(self, session: str, key: str) -> Record:
        project = self.settings["projects"][self.records[session]["project_id"]]
        defaults = config.load(None).values["reactions"][key]
        return {**defaults, **project["reactions"].get(key, {})}

    # --- what the promises are checked against -----------------------------------------------------------------------

    def promise(self, holds: object, what: str) -> None:
        if not holds and not (self.machine.current and self.machine.current.is_dead):
            self.broken = self.broken or promises.Broken(what)
            raise self.broken

    def check(self, promise: Callable[..., None], *about: Any) -> None:
        """Check one promise; a mistake in the checking itself is not for ao to go on after either."""
        try:
            promise(self, *about)
        except Exception as error:
            self.broken = promises.Broken(f"{promise.__name__}: {error!r}").with_traceback(error.__traceback__)
            raise self.broken from error

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

    def _is_answering(self, handle: str) -> bool:
        inbox = self.records.get(handle, {}).get("inbox") or ()
        return any(one["answer"] and one["state"] in ("sending", "delivered") for one in inbox)

    def _received(self, id: str, message: str) -> None:
        for check in promises.RECEIVED:
            self.check(check, id, message)

    def _heard(self, told: Record) -> None:
        for check in promises.HEARD:
            self.check(check, told)

    def _merged(self, pull: Record, session: Record, plan: dict[str, str]) -> None:
        for check in promises.MERGED:
            self.check(check, pull, session, plan)

    # --- ao's own files ----------------------------------------------------------------------------------------------

    def write(self, real: Callable[..., None], path: str, value: Record, mode: int = 0o600) -> None:
        self.machine.point("write")
        is_record = os.path.dirname(os.path.dirname(path)) == paths.sessions(self.home)
        if is_record and not (self.machine.current and self.machine.current.is_dead):
            self._check_write(value)
        real(path, value, mode)
        if is_record:
            self.records[value["id"]] = copy.deepcopy(value)
        self.machine.point("written")

    def reserve(self, real: Callable[..., bool], path: str, value: Record) -> bool:
        self.machine.point("reserve")
        is_new = real(path, value)
        if is_new and os.path.dirname(os.path.dirname(path)) == paths.sessions(self.home):
            self.check(promises.an_issue_is_given_to_one_agent, value)
            self.records[value["id"]] = copy.deepcopy(value)
        self.machine.point("reserved")
        return is_new

    def _check_write(self, after: Record) -> None:
        before = self.records[after["id"]]
        for key, condition in after["conditions"].items():
            intent = condition.get("intent") or {}
            if intent.get("action") == "send-to-agent":
                self.covers[intent["id"]] = (key, tuple(intent["items"]), condition["since"])
            if intent.get("told"):
                self.letters.add(intent["told"]["id"])
        for check in promises.WRITES:
            self.check(check, before, after)

    def append(self, real: Callable[..., None], home: str, at: clock.Clock, new: list[Record]) -> None:
        self.machine.point("append")
        if new and self.machine.current and self.chance.random() < self.machine.kills:
            real(home, at, new)
            self._tear(events.files(home)[-1])
        real(home, at, new)
        self.machine.point("appended")

    def _tear(self, path: str) -> None:
        """Die in the middle of a line, as when the power goes."""
        self.new_events()
        size, kept = os.path.getsize(path), self.chance.randrange(1, 60)
        with open(path, "rb+") as file:
            line = file.read().rstrip(b"\n").rfind(b"\n") + 1
            file.truncate(max(line, size - kept))
        self.events = list(events.read(self.home))
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
        for _ in range(self.chance.randint(2, 6)):
            self._spawn()
        self.machine.finish()
        for _ in range(steps):
            self.round()
        self.calm_down()
        for _ in range(600):
            self.round()
            if all(not status.is_live(one) for one in self.fleet()) and not self.world.terminals:
                break
        for _ in range(20):
            self.round()
        for check in promises.ENDS:
            self.check(check)
        self.idle_is_left_alone()

    def round(self) -> None:
        self.machine.now += self.chance.choice(NAPS[:9] if self.is_calm else NAPS)
        self.move_agents()
        self.move_checks()
        self._meanwhile()
        processes = [self.machine.start("look", lambda: rounds.look(self.home))]
        if not self.is_calm and self.chance.random() < 0.1:
            processes.append(self.machine.start("look2", lambda: rounds.look(self.home)))
        self.machine.finish()
        processes.append(self.machine.start("act", lambda: rounds.act(self.home)))
        if not self.is_calm and self.chance.random() < 0.1:
            processes.append(self.machine.start("act2", lambda: rounds.act(self.home)))
        self.machine.finish()
        self._judge(processes)

    def _judge(self, processes: list[Process]) -> None:
        if self.broken:
            raise self.broken
        for process in processes:
            if process.error and not isinstance(process.error, Killed):
                raise process.error
        is_paused = loop.read(self.home).get("paused_at")
        self.was_calm = not is_paused and not any(process.had_fault for process in processes)
        for check in promises.ROUNDS:
            self.check(check)
        self.checked = len(self.events)
        if len(self.events) > 4000:
            del self.events[:2000]
            self.checked -= 2000

    def calm_down(self) -> None:
        """From now on everything answers, agents and people do their part."""
        self.is_calm = True
        self.world.rates, self.machine.kills = NONE._replace(people=1.0), 0.0
        self.machine.set_wrong = 0.0
        self.machine.note("--- calm ---")
        self._configure()
        loop.pause(self.home, self.clock(), False)
        for terminal in self.world.terminals.values():
            terminal.in_mode = False

    def idle_is_left_alone(self) -> None:
        """Nothing that ao keeps is written while nothing happens."""
        before = self._files()
        for _ in range(10):
            self.machine.now += 60
            self.machine.start("look", lambda: rounds.look(self.home))
            self.machine.finish()
            self.machine.start("act", lambda: rounds.act(self.home))
            self.machine.finish()
        changed = {path for path, found in self._files().items() if before.get(path) != found}
        self.promise(not changed, f"an idle fleet is not rewritten: {changed}")

    def _files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for name in ("sessions", "projects", "events", "reports"):
            for folder, _, files in os.walk(os.path.join(self.home, name)):
                for file in files:
                    about = os.stat(os.path.join(folder, file))
                    found[os.path.join(folder, file)] = (about.st_ino, about.st_mtime_ns)
        return {path: about for path, about in found.items() if not path.endswith(".lock")}

    # --- agents and checks -------------------------------------------------------------------------------------------

    def move_agents(self) -> None:
        for one in list(self.world.terminals.values()):
            if one.next_at <= self.machine.now:
                self._move(one)

    def _move(self, one: Terminal) -> None:
        if one.state == "starting":
            if one.prompt:
                one.take(one.prompt)
            else:
                one.rest()
        elif one.state == "active":
            self._finish_turn(one)
        elif one.state == "ready" and self.world.odds(self.world.rates.agent / 4):
            one.work()
        else:
            one.next_at = self.machine.now + 300

    def _finish_turn(self, one: Terminal) -> None:
        place = self.world.work.get(paths.worktree(self.home, one.project, one.handle))
        if place is None or not self.world.odds(self.world.rates.agent):
            if place:
                self._do_good_work(one, place)
            one.rest()
            return
        what = self.chance.choice(("ask", "ask", "exit", "crash", "gone", "rest", "rest", "done", "rename"))
        self.machine.note(f"{one.handle}: agent: {what}")
        if what == "ask":
            one.ask()
        elif what in ("exit", "crash", "gone"):
            one.end({"exit": 0, "crash": 1, "gone": None}[what])
        elif what == "done":
            one.report("done", "", "found out")
            one.rest()
        elif what == "rename":
            self._rename(place)
            one.work()
        else:
            one.rest()

    def _rename(self, place: dict[str, str]) -> None:
        new = f"renamed-{self.world.next('branch')}"
        self.world.branches[new] = self.world.branches.pop(place["branch"], place["head"])
        for pull in self.world.pulls.values():
            if pull["branch"] == place["branch"] and pull["state"] == "open":
                with self.world.change(pull["number"]):
                    pull["branch"] = new
        place["branch"] = new

    def _do_good_work(self, one: Terminal, place: dict[str, str]) -> None:
        pulls = [pull for pull in self.world.pulls.values() if pull["branch"] == place["branch"]]
        if not pulls:
            self.world.branches[place["branch"]] = place["head"] = self.world.sha()
            number = self.world.open_pull(place["branch"], place["head"], one.handle)
            self.machine.note(f"{one.handle}: agent opens {number}")
            return
        pull = pulls[-1]
        if pull["state"] != "open":
            return
        is_open = [thread for thread in pull["threads"].values() if thread["open"]]
        if "failed" in pull["checks"].values() or is_open or not pull["clean"]:
            with self.world.change(pull["number"]):
                for thread in is_open:
                    thread["open"] = self.world.odds(self.world.rates.agent)
                pull["draft"] = False
            self.world.push(pull["number"])
            self.machine.note(f"{one.handle}: agent pushes to {pull['number']}")

    def move_checks(self) -> None:
        for pull in self.world.pulls.values():
            for name, state in pull["checks"].items():
                if state in ("pending", "running") and self.world.odds(0.4):
                    passes = self.is_calm or self.world.odds(0.7)
                    with self.world.change(pull["number"]):
                        pull["checks"][name] = "running" if state == "pending" else "passed" if passes else "failed"

    # --- people ------------------------------------------------------------------------------------------------------

    def _meanwhile(self) -> None:
        """What people do at any moment: at the forge, in the terminals, on the command line."""
        if self.is_calm:
            if not self.machine.processes:
                self._help()
            return
        while self.world.odds(self.rates.people / 2):
            pulls = [pull for pull in self.world.pulls.values() if pull["state"] != "merged"]
            choices: list[Callable[[], None]] = [self._at_the_machine] * 2
            if pulls:
                choices += [lambda pulls=pulls: self._at_the_forge(self.chance.choice(pulls))] * 4
            if self.records:
                choices += [lambda: self._command(self.chance.choice(list(self.records.values())))] * 3
            if self.world.terminals:
                choices.append(lambda: self._at_the_terminal(self.chance.choice(list(self.world.terminals.values()))))
            self.chance.choice(choices)()

    def _at_the_forge(self, pull: Record) -> None:
        what = self.chance.choice(FORGE)
        self.machine.note(f"at the forge: {what} {pull['number']}")
        with self.world.change(pull["number"]):
            FORGE_ACTIONS[what](self, pull)

    def _at_the_terminal(self, one: Terminal) -> None:
        what = self.chance.choice(("scroll", "leave", "type", "answer", "kill"))
        self.machine.note(f"{one.handle}: a person: {what}")
        if what in ("scroll", "leave"):
            one.in_mode = what == "scroll"
        elif self.machine.processes:
            return  # a hand on the keys at the very moment of a paste is no promise of ours
        elif what == "type":
            one.typed_at = self.machine.wall()
        elif what == "answer" and one.state == "waiting_input":
            one.draft = "y"
            one.enter("person")
        elif what == "kill" and self.world.odds(0.3):
            one.end(self.chance.choice((None, 137)))

    def _at_the_machine(self) -> None:
        what = self.chance.choice(
            ("spawn", "spawn", "spawn", "clock", "suspend", "tmux", "reboot", "config", "pause", "resume")
        )
        rarely = {"tmux": 0.1, "reboot": 0.1, "clock": 0.2, "suspend": 0.2}
        if not self.world.odds(rarely.get(what, 0.5)):
            return
        self.machine.note(f"at the machine: {what}")
        if what == "spawn" and len(self.live()) < 8:
            self._spawn()
        elif what == "clock":
            self.machine.set_wrong = self.chance.choice((-3600.0, 3600.0, 0.0, -100.0))
        elif what == "suspend" and not self.machine.processes:
            self.machine.now += 200_000
            self.machine.slept += 200_000
        elif what in ("tmux", "reboot") and not self.machine.processes:
            for one in list(self.world.terminals.values()):
                one.end(None)
            if what == "reboot":
                self.machine.boot += 1
                self.machine.slept = self.machine.now - START
        elif what == "config":
            self._configure(self.chance.choice((None, None, "projects: [", '{"projects": {"shop": {}}}')))
        elif what in ("pause", "resume"):
            self.script("stop", lambda: loop.pause(self.home, self.clock(), what == "pause"))

    def _command(self, session: Record) -> None:
        what = self.chance.choice(
            ("send", "send", "send", "answer", "kill", "restore", "restore", "lost", "merge", "prune", "claim")
        )
        if what in ("kill", "claim") and not self.world.odds(0.2):
            return
        getattr(self, "_" + what)(session["id"])

    def script(self, name: str, work: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                work()
            except (AoError, worlds.Broken) as error:
                self.machine.note(f"refused: {error}")

        self.machine.start(name, run)

    def _spawn(self) -> None:
        name, id = self.chance.choice(PROJECTS), str(self.chance.randint(1, 12))
        self.world.issues.setdefault(id, "open")

        def work() -> None:
            project = self.project(name)
            issue = plugins.load("tracker", "local").get(self.home, project, id)
            spawn.run(self.home, spawn.Request(project, issue=issue), self.clock(), self.machine.note)

        self.script("spawn", work)

    def _send(self, id: str, text: str = "go on", answer: bool = False) -> None:
        def work() -> None:
            message = deliver.message(text, "person", self.clock(), answer)
            SEND._queue  # noqa: B018
            sessions.update(
                self.home, sessions.find(self.home, id), lambda record: SEND._queue(record, message), self.clock()
            )

        self.script("send", work)

    def _answer(self, id: str) -> None:
        self._send(id, "y", True)

    def _kill(self, id: str) -> None:
        def work() -> None:
            record = lives.kill(self.home, sessions.find(self.home, id), self.clock())
            self.promise(record["status"] in status.TERMINAL, f"what is killed has ended: {id} is {record['status']}")
            self.promise(
                id not in self.world.terminals or self.records[id]["rev"] != record["rev"], f"its agent too: {id}"
            )

        self.script("kill", work)

    def _restore(self, id: str) -> None:
        def work() -> None:
            session = sessions.find(self.home, id)
            lives.restore(self.home, Settings().project(session), session, self.clock())

        self.script("restore", work)

    def _lost(self, id: str) -> None:
        for one in lives.lost(self.home):
            self._restore(one["id"])

    def _merge(self, id: str) -> None:
        def work() -> None:
            session = sessions.find(self.home, id)
            project = Settings().project(session)
            with lives.hold(self.home, session, self.clock()) as fresh:
                if not status.is_merged(fresh):
                    merge.attempt(self.home, project, fresh, "merge", "", self.clock())

        self.script("merge", work)

    def _prune(self, id: str) -> None:
        def work() -> None:
            session = sessions.find(self.home, id)
            lives.prune(self.home, Settings().project(session), session, self.clock(), self.world.odds(0.3))

        self.script("prune", work)

    def _claim(self, id: str) -> None:
        pulls = [pull for pull in self.world.pulls.values() if pull["state"] == "open"]
        if pulls:
            number = self.chance.choice(pulls)["number"]

            def work() -> None:
                session = sessions.find(self.home, id)
                lives.claim(self.home, Settings().project(session), session, number, self.clock())

            self.script("claim", work)

    def _help(self) -> None:
        """People who do their part: they look at what needs them."""
        if not self.world.odds(0.3):
            return
        for pull in self.world.pulls.values():
            if pull["state"] == "open":
                with self.world.change(pull["number"]):
                    pull["draft"] = False
                    if not any(thread["open"] for thread in pull["threads"].values()):
                        pull["said"] = {"ann": "approved"}
        for one in list(self.world.terminals.values()):
            if one.state == "ready" and one.draft:
                one.enter("person")
        for record in self.fleet():
            self._help_with(record)

    def _help_with(self, record: Record) -> None:
        id, pull = record["id"], record["pr"] or {}
        if record["status"] in status.TERMINAL and record["status"] != "terminated":
            return
        if record["activity"] == "waiting_input" and record["runtime_state"] == "alive":
            if not any(one["answer"] and one["state"] not in sessions.FINAL for one in record["inbox"]):
                self._answer(id)
        elif status.has_ended(record):
            (self._kill if pull.get("state") == "closed" else self._restore)(id)
        elif pull.get("state") == "closed":
            self._kill(id)
        elif (
            record["status"] == "mergeable"
            and self.settings["projects"]["shop"]["reactions"]["approved-and-green"]["action"] == "notify"
        ) or record["status"] == "merge_failed":
            self._merge(id)
        elif _wants_a_word(record) and not sessions.open_message(record):
            self._send(id)


def _wants_a_word(record: Record) -> bool:
    """Whether ao has turned to a person about it."""
    told = [one for one in record["conditions"].values() if str(one["waiting_for"]).startswith("a person")]
    return bool(told) and record["activity"] in ("idle", "ready")


def _thread(simulation: Simulation, pull: Record, is_bot: bool) -> None:
    name = f"t{simulation.world.next('thread')}"
    pull["threads"][name] = {"open": True, "is_bot": is_bot, "by": "bot[bot]" if is_bot else "bob"}


def _request_changes(simulation: Simulation, pull: Record) -> None:
    pull["said"]["bob"] = "changes_requested"
    _thread(simulation, pull, False)


def _resolve(simulation: Simulation, pull: Record) -> None:
    for thread in pull["threads"].values():
        thread["open"] = False
    pull["said"].pop("bob", None)


def _rerun(simulation: Simulation, pull: Record) -> None:
    for name in pull["checks"]:
        if simulation.world.odds(0.5):
            pull["checks"][name] = "pending"


def _merge_by_hand(simulation: Simulation, pull: Record) -> None:
    if simulation.world.odds(0.2) and pull["state"] == "open":
        pull.update(state="merged", merged_head=pull["head"], merged_by="person")


def _close(simulation: Simulation, pull: Record) -> None:
    if simulation.world.odds(0.3):
        pull["state"] = "closed"


def _push(simulation: Simulation, pull: Record) -> None:
    if pull["branch"] in simulation.world.branches:
        simulation.world.push(pull["number"])


FORGE_ACTIONS: dict[str, Callable[[Simulation, Record], Any]] = {
    "approve": lambda simulation, pull: pull["said"].update(ann="approved"),
    "request changes": _request_changes,
    "comment": lambda simulation, pull: _thread(simulation, pull, False),
    "bot": lambda simulation, pull: _thread(simulation, pull, True),
    "resolve": _resolve,
    "dismiss": lambda simulation, pull: pull["said"].clear(),
    "push": _push,
    "conflict": lambda simulation, pull: pull.update(clean=False),
    "merge": _merge_by_hand,
    "close": _close,
    "reopen": lambda simulation, pull: pull.update(state="open"),
    "draft": lambda simulation, pull: pull.update(draft=not pull["draft"]),
    "rerun": _rerun,
}
FORGE = [*FORGE_ACTIONS, "approve", "approve", "approve", "resolve"]
SEND = scripts.load("ao-send")


def _instead(simulation: Simulation) -> Iterator[Any]:
    """What of ao is replaced: time, processes, locks, randomness, git, and the plugins."""
    machine, world, patch = simulation.machine, simulation.world, mock.patch.object
    yield patch(clock, "this_moment", machine.moment)
    for module in (deliver, observe, notify, rounds):
        yield patch(module, "time", machine)
    yield patch(store, "lock", machine.lock)
    yield patch(store, "is_held", machine.is_held)
    yield patch(faults, "point", machine.point)
    for name, own in (("write", simulation.write), ("reserve", simulation.reserve)):
        yield patch(store, name, _around(own, getattr(store, name)))
    yield patch(events, "append", _around(simulation.append, events.append))
    yield patch(threads, "each", simulation.each)
    yield patch(os, "fsync", lambda handle: None)
    yield patch(deliver, "secrets", SimpleNamespace(choice=machine.chance.choice))
    yield patch(prompts, "secrets", SimpleNamespace(token_hex=lambda size: "0" * size))
    yield patch(spawn, "git", worlds.Git(world))
    yield patch(config, "load", _remembered(config.load))
    found = worlds.plugins(world)
    yield patch(plugins, "load", lambda slot, name: found[slot, name])
    yield patch(plugins, "names", lambda slot: sorted(name for one, name in found if one == slot))
    yield patch(launch.shutil, "which", lambda program, path=None: program)
    yield mock.patch.dict(os.environ, {"AO_HOME": simulation.home})


def _around(own: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **more: own(real, *args, **more)


def _remembered(real: Callable[[str | None], config.Config]) -> Callable[[str | None], config.Config]:
    """config.load, which parses a text only once."""
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
    """A whole simulation. Raises promises.Broken, or what ao should not have raised, with the seed in a note."""
    with simulated(seed) as simulation:
        try:
            simulation.run(steps)
        except BaseException as error:
            error.add_note("\n".join(simulation.machine.trace[-60:]))
            error.add_note(f"replay it: .venv/bin/python tests/simulation.py {seed} {steps}")
            raise
    return simulation


def main(argv: list[str]) -> int:
    """SEED STEPS [HOW_MANY]: simulate this seed, or so many from it on."""
    seed, steps, many = (*map(int, argv), 1)[:3]
    broken = 0
    for one in range(seed, seed + many):
        try:
            found = run(one, steps)
            merged = sum(record["status"] == "merged" for record in found.records.values())
            places = len(found.machine.killed_at)
            print(f"seed {one}: {len(found.records)} sessions, {merged} merged, {places} places of death")
        except (Exception, promises.Broken) as error:
            broken += 1
            print(
                f"seed {one}: {type(error).__name__}: {error}"
                if many > 1
                else "".join(traceback.format_exception(error))
            )
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
