"""Everybody in the simulation but ao: agents at work, the forge's checks, reviewers, and people at the machine.

They do what they should most of the time, and now and then what they should not, at any moment: also between two steps
of a process of ao's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import outside
import scripts
from machine import START
from outside import Terminal

from lib import deliver, effects, lives, loop, merge, paths, plugins, sessions, spawn, status
from lib.errors import AoError, Busy
from lib.projects import Settings

if TYPE_CHECKING:
    from simulation import Simulation

Record = dict[str, Any]
PROJECTS = ("shop", "talk")  # of agents that are any command, and of agents that keep a transcript
AT_WORK = 6  # sessions that people want to have at work
MOST = 10  # sessions beyond which nobody spawns more
BROKEN_FILES = ("projects: [", '{"projects": {"shop": {}}}')  # what somebody may leave of ao.yaml
SEND = scripts.load("ao-send")


class People:
    def __init__(self, simulation: Simulation) -> None:
        self.sim, self.world, self.machine = simulation, simulation.world, simulation.machine
        self.chance, self.odds, self.home = simulation.chance, simulation.world.odds, simulation.home
        self.rates, self.is_calm = simulation.rates, False

    def calm_down(self) -> None:
        """From now on all do their part."""
        self.is_calm, self.rates = True, outside.NONE._replace(people=1.0)

    # --- agents and checks -------------------------------------------------------------------------------------------

    def work(self) -> None:
        """What agents and checks do between two rounds, and who gives them something to do."""
        for one in list(self.world.terminals.values()):
            if one.next_at <= self.machine.now:
                self._move(one)
        for pull in self.world.pulls.values():
            for name, state in pull["checks"].items():
                if not pull["by_ao"] and state in ("pending", "running") and self.odds(0.4):
                    self.world.check(pull, name, "running" if state == "pending" else self._verdict())
        if not self.is_calm and len(self.sim.live()) < AT_WORK and self.odds(0.3):
            self._spawn()

    def _verdict(self) -> str:
        return "passed" if self.is_calm or self.odds(0.8) else "failed"

    def _move(self, one: Terminal) -> None:
        if one.state == "starting":
            if one.prompt:
                one.take(one.prompt)
            else:
                one.rest()
        elif one.state == "active":
            self._finish_turn(one)
        elif one.state == "ready" and self.odds(self.rates.agent / 4):
            one.work()
        else:
            one.next_at = self.machine.now + 300

    def _finish_turn(self, one: Terminal) -> None:
        place = self.world.work.get(paths.worktree(self.home, one.project, one.handle))
        if place is None or not self.odds(self.rates.agent):
            if place:
                self._do_good_work(one, place)
            one.rest()
            return
        place["unsaved"] = True
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

    def _rename(self, place: Record) -> None:
        new = f"renamed-{self.world.next('branch')}"
        self.world.branches[new] = self.world.branches.pop(place["branch"], place["head"])
        for pull in self.world.pulls.values():
            if pull["branch"] == place["branch"] and pull["state"] != "merged":
                with self.world.change(pull["number"]):
                    pull["branch"] = new
        place["branch"] = new

    def _do_good_work(self, one: Terminal, place: Record) -> None:
        place["unsaved"] = False
        pulls = [pull for pull in self.world.pulls.values() if pull["branch"] == place["branch"]]
        if not pulls:
            self.world.branches[place["branch"]] = place["head"] = self.world.sha()
            number = self.world.open_pull(place["branch"], place["head"], one.project)
            self.machine.note(f"{one.handle}: agent opens {number}")
            return
        pull = pulls[-1]
        if pull["state"] != "open":
            return
        is_open = [thread for thread in pull["threads"].values() if thread["open"]]
        if "failed" in pull["checks"].values() or is_open or not pull["clean"]:
            with self.world.change(pull["number"]):
                for thread in is_open:
                    thread["open"] = self.odds(self.rates.agent)
                pull["draft"] = False
            self.world.push(pull["number"])
            self.machine.note(f"{one.handle}: agent pushes to {pull['number']}")

    # --- what happens at any moment ----------------------------------------------------------------------------------

    def meanwhile(self) -> None:
        """At the forge, in the terminals, on the command line."""
        if not self.machine.processes and self.odds(0.3 if self.is_calm else 0.15):
            self._help()
        while not self.is_calm and self.odds(self.rates.people / 2):
            self.chance.choice([self._at_the_machine] * 2 + [self._at_the_forge, self._command] * 3 + [self._at_hand])()

    def _at_the_forge(self) -> None:
        pulls = [pull for pull in self.world.pulls.values() if pull["state"] != "merged"][-AT_WORK * 2 :]
        if pulls:
            pull, what = self.chance.choice(pulls), self.chance.choice(FORGE)
            self.machine.note(f"at the forge: {what} {pull['number']}")
            with self.world.change(pull["number"]):
                FORGE_ACTIONS[what](self, pull)

    def _at_hand(self) -> None:
        """A person in front of an agent's terminal."""
        if not self.world.terminals:
            return
        one = self.chance.choice(list(self.world.terminals.values()))
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
            one.enter()
        elif what == "kill" and self.odds(0.3):
            one.end(self.chance.choice((None, 137)))

    def _at_the_machine(self) -> None:
        what = self.chance.choice(("spawn", "spawn", "clock", "suspend", "tmux", "reboot", "config", "pause", "resume"))
        rarely = {"tmux": 0.1, "reboot": 0.1, "clock": 0.2, "suspend": 0.2}
        if not self.odds(rarely.get(what, 0.5)):
            return
        self.machine.note(f"at the machine: {what}")
        if what == "spawn" and len(self.sim.live()) < MOST:
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
            self.sim.configure(self.chance.choice(BROKEN_FILES))
        elif what in ("pause", "resume"):
            self._pause(what == "pause")

    def _pause(self, is_paused: bool) -> None:
        self.script("stop", lambda: loop.pause(self.home, self.sim.clock(), is_paused))

    # --- commands ----------------------------------------------------------------------------------------------------

    def _command(self) -> None:
        what = self.chance.choice((*("send", "restore", "prune") * 2, "answer", "kill", "lost", "merge", "claim"))
        known = list(self.sim.records.values()) if self.odds(0.1) else self.sim.fleet()  # archived ones now and then
        if known and not (what in ("kill", "claim") and self.odds(0.7)):
            getattr(self, "_" + what)(self.chance.choice(known)["id"])

    def script(self, name: str, work: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                work()
            except (AoError, outside.Broken) as error:
                self.machine.note(f"refused: {error}")

        self.machine.start(name, run)

    def _spawn(self) -> None:
        """Mostly of a new issue; now and then of one that somebody may be working on."""
        name = self.chance.choice(PROJECTS)
        issues = [*self.world.issues][-AT_WORK:]
        id = self.chance.choice(issues) if issues and self.odds(0.2) else str(self.world.next("issue"))
        self.world.issues.setdefault(id, "open")

        def work() -> None:
            project = self.sim.project(name)
            issue = plugins.load("tracker", "local").get(self.home, project, id)
            spawn.run(self.home, spawn.Request(project, issue=issue), self.sim.clock(), self.machine.note)

        self.script("spawn", work)

    def _send(self, id: str, text: str = "go on", answer: bool = False) -> None:
        def work() -> None:
            message = deliver.message(text, "person", self.sim.clock(), answer)
            session = sessions.find(self.home, id)
            sessions.update(self.home, session, lambda record: SEND._queue(record, message), self.sim.clock())

        self.script("send", work)

    def _answer(self, id: str) -> None:
        self._send(id, "y", True)

    def _kill(self, id: str) -> None:
        self.script("kill", lambda: lives.kill(self.home, sessions.find(self.home, id), self.sim.clock()))

    def _restore(self, id: str) -> None:
        self.script("restore", lambda: lives.restore(self.home, *self._found(id), self.sim.clock()))

    def _lost(self, id: str) -> None:
        def work() -> None:
            for one in lives.lost(self.home):
                lives.restore(self.home, *self._found(one["id"]), self.sim.clock())

        self.script("lost", work)

    def _merge(self, id: str) -> None:
        def work() -> None:
            project, session = self._found(id)
            with lives.hold(self.home, session, self.sim.clock()) as fresh:
                if not status.is_merged(fresh):
                    merge.attempt(self.home, project, fresh, "merge", "", self.sim.clock())

        self.script("merge", work)

    def _prune(self, id: str) -> None:
        archives = self.odds(0.5)
        self.script("prune", lambda: lives.prune(self.home, *self._found(id), self.sim.clock(), archives))

    def _claim(self, id: str) -> None:
        """Mostly of what nobody works on any more."""
        pulls = [pull["number"] for pull in self.world.pulls.values() if pull["state"] == "open"]
        taken = {one["claimed_pr_number"] for one in self.sim.live()}
        if pulls:
            number = self.chance.choice([number for number in pulls if number not in taken] or pulls)
            self.script("claim", lambda: lives.claim(self.home, *self._found(id), number, self.sim.clock()))

    def _found(self, id: str) -> tuple[Any, Record]:
        session = sessions.find(self.home, id)
        return Settings().project(session), session

    def detach(self, argv: list[str], log: str, environment: Any) -> None:
        """In place of proc.detach: a script that ao starts on its own."""
        script, id = os.path.basename(argv[1]), argv[2]
        if script == "ao-ci":
            self.script("ci", lambda: self._run_checks(id))
        else:
            self._restore(id)

    def _run_checks(self, id: str) -> None:
        session = sessions.find(self.home, id)
        pull = self.world.pulls[session["claimed_pr_number"]]
        head, about = pull["head"], {"project_id": session["project_id"], "id": f"ci-{pull['number']}"}
        try:
            with effects.hold(self.home, about), effects.effect("ci.run"):
                for name in [name for name, state in pull["checks"].items() if state == "pending"]:
                    self.machine.sleep(self.chance.uniform(1, 40))
                    self.machine.point("ci")
                    if pull["head"] == head:
                        self.world.check(pull, name, self._verdict())
        except Busy:
            return

    # --- people who do their part ------------------------------------------------------------------------------------

    def _help(self) -> None:
        """They look at what needs them."""
        self.sim.configure()
        self._pause(False)
        for pull in self.world.pulls.values():
            if pull["state"] == "open":
                self._review(pull)
        for one in list(self.world.terminals.values()):
            self._attend(one)
        for record in self.sim.fleet():
            self._help_with(record)

    def _review(self, pull: Record) -> None:
        """What a push has answered is settled; when nothing is open any more it is approved."""
        with self.world.change(pull["number"]):
            pull["draft"] = False
            for thread in pull["threads"].values():
                thread["open"] = thread["open"] and thread["at"] > pull["pushed_at"]
            if not any(thread["open"] for thread in pull["threads"].values()):
                pull["said"] = {"ann": "approved"}

    def _attend(self, one: Terminal) -> None:
        """In its terminal, once for every word that they hear of a session."""
        heard = sum(told["session_id"] == one.handle for told in self.world.people_heard)
        if heard > one.attended:
            one.attended, one.in_mode = heard, False
            if one.draft:
                one.enter()

    def _help_with(self, record: Record) -> None:
        id, pull = record["id"], record["pr"] or {}
        if record["status"] in status.TERMINAL and record["status"] != "terminated":
            if not self.is_calm and self.odds(0.2):
                self._prune(id)
        elif record["activity"] == "waiting_input" and record["runtime_state"] == "alive":
            if not any(one["answer"] and one["state"] not in sessions.FINAL for one in record["inbox"]):
                self._answer(id)
        elif status.has_ended(record):
            (self._kill if pull.get("state") == "closed" else self._restore)(id)
        elif pull.get("state") == "closed":
            self._kill(id)
        elif record["status"] == "merge_failed" or (record["status"] == "mergeable" and not self.sim.merges_itself):
            self._merge(id)
        elif _wants_a_word(record) and not sessions.open_message(record):
            self._send(id)


def _wants_a_word(record: Record) -> bool:
    """Whether ao has turned to a person about it."""
    told = [one for one in record["conditions"].values() if str(one["waiting_for"]).startswith("a person")]
    return bool(told) and record["activity"] in ("idle", "ready")


def _comment(people: People, pull: Record, is_bot: bool) -> None:
    name = f"t{people.world.next('thread')}"
    author, now = "bot[bot]" if is_bot else "bob", people.machine.now
    pull["threads"][name] = {"open": True, "is_bot": is_bot, "by": author, "at": now}


def _request_changes(people: People, pull: Record) -> None:
    pull["said"]["bob"] = "changes_requested"
    _comment(people, pull, False)


def _resolve(people: People, pull: Record) -> None:
    for thread in pull["threads"].values():
        thread["open"] = False
    pull["said"].pop("bob", None)


def _check_again(people: People, pull: Record) -> None:
    for name in pull["checks"]:
        if people.odds(0.5):
            pull["checks"][name] = "pending"


def _merge_by_hand(people: People, pull: Record) -> None:
    if people.odds(0.2) and pull["state"] == "open":
        pull.update(state="merged", merged_head=pull["head"], merged_by="person")


def _close(people: People, pull: Record) -> None:
    if people.odds(0.3):
        pull["state"] = "closed"


def _push(people: People, pull: Record) -> None:
    if pull["branch"] in people.world.branches:
        people.world.push(pull["number"])


def _rename_branch(people: People, pull: Record) -> None:
    for place in people.world.work.values():
        if place["branch"] == pull["branch"]:
            people._rename(place)


FORGE_ACTIONS: dict[str, Callable[[People, Record], Any]] = {
    "approve": lambda people, pull: pull["said"].update(ann="approved"),
    "request changes": _request_changes,
    "comment": lambda people, pull: _comment(people, pull, False),
    "bot": lambda people, pull: _comment(people, pull, True),
    "resolve": _resolve,
    "dismiss": lambda people, pull: pull["said"].clear(),
    "push": _push,
    "rename": _rename_branch,
    "conflict": lambda people, pull: pull.update(clean=False),
    "merge": _merge_by_hand,
    "close": _close,
    "reopen": lambda people, pull: pull.update(state="open"),
    "draft": lambda people, pull: pull.update(draft=not pull["draft"]),
    "check again": _check_again,
}
FORGE = [*FORGE_ACTIONS, "approve", "approve", "approve", "resolve"]
