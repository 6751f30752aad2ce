"""The world of the simulation: terminals with agents in them, a forge, issues, people who are told; and their plugins.

The truth is kept here. The plugins show it as real ones do: late, not at all, with an answer lost behind an effect that
happened, a terminal missing from one look, a pull request as it was some seconds ago.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from machine import Machine

from lib import clock, launcher, paths, proc, store
from lib.agent import Launch, command
from lib.errors import AoError, Unknown
from lib.runtime import Gone, Pane
from lib.scm import Blocked, Comment, Failure, Moved
from lib.tracker import Issue
from lib.workspace import State

CHECKED_BY_AO = "talk"  # the project whose forge runs no checks
LAG = 20.0  # seconds for which the forge may show what was before


class Broken(Exception):
    """A bug in a plugin: what nobody expects."""


class Rates(NamedTuple):
    """How often things go wrong, by this seed."""

    unknown: float  # a probe does not answer, or the answer to an effect is lost
    error: float  # a definite refusal, or a bug
    slow: float
    lie: float  # an answer from a moment ago
    people: float  # how often somebody does something
    agent: float  # how often an agent does not do what it should


NONE = Rates(0, 0, 0, 0, 0, 0)


class Terminal:
    """A terminal and the agent in it: its screen, its input box, and what the agent has in mind."""

    def __init__(self, world: World, handle: str, launch: dict[str, Any], path: str) -> None:
        self.world, self.handle, self.path = world, handle, path
        self.project, self.hooks = launch["environment"]["AO_PROJECT_ID"], world.chance.random() < 0.5
        self.pid = world.next("pid")
        self.lines = [f"{launcher.BANNER}agent in {launch['folder']}"]
        self.draft, self.state, self.question = "", "starting", ""
        self.kept = ""  # what stands in the input box while a dialog hides it
        self.in_mode, self.typed_at, self.output_at = False, 0.0, 0.0
        self.next_at = world.machine.now + world.chance.uniform(1, 20)
        self.prompt = launch["argv"][1] if len(launch["argv"]) > 1 else ""
        self.attended = 0  # words about it that somebody has come for
        self.show()

    def show(self) -> None:
        self.output_at = float(int(self.world.machine.wall()))

    def screen(self) -> str:
        last = {
            "starting": ["loading"],
            "ready": ("> " + self.draft).split("\n"),
            "active": ["* working"],
            "waiting_input": [f"{self.question} {self.draft}"],
        }[self.state]
        return "\n".join(line.rstrip() for line in self.lines[-40:] + last)

    def history(self) -> str:
        return "\n".join(line.rstrip() for line in [*self.lines, *self.screen().split("\n")[len(self.lines[-40:]) :]])

    def paste(self, text: str) -> None:
        self.draft += text
        self.show()

    def enter(self) -> None:
        self.show()
        if self.state == "waiting_input":
            self.lines += (self.question + " " + self.draft).split("\n")
            self.draft, self.kept, self.question = self.kept, "", ""
            self.work()
        elif self.state == "ready" and self.draft:
            text, self.draft = self.draft, ""
            self.lines += ("> " + text).split("\n")
            self.take(text)

    def take(self, text: str) -> None:
        """The agent gets a message."""
        for id in command.MESSAGE.findall(text):
            self.world.received(self.handle, id)
            self.report("received", id)
        self.work()

    def work(self) -> None:
        self.state = "active"
        is_long = self.world.chance.random() < self.world.rates.agent / 4
        self.next_at = self.world.machine.now + self.world.chance.uniform(*((900, 3000) if is_long else (5, 200)))
        self.report("report", "active")

    def report(self, kind: str, value: str, text: str = "") -> None:
        if self.hooks:
            path = paths.report(self.world.home, self.project, self.handle)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "a") as file:
                file.write(f"{self.world.machine.wall():.3f}\t{kind}\t{value}\t{text}\n")

    def rest(self) -> None:
        self.state, self.next_at = "ready", self.world.machine.now + self.world.chance.uniform(60, 2000)
        self.show()
        self.report("report", "ready")

    def ask(self) -> None:
        self.draft, self.kept = "", self.draft
        self.state, self.question = "waiting_input", f"Delete file {self.world.next('question')}? (y/n)"
        self.next_at = float("inf")
        self.show()
        self.report("report", "waiting_input", self.question)

    def end(self, code: int | None) -> None:
        """The agent exits; None: its terminal is taken away."""
        self.world.terminals.pop(self.handle, None)
        if code is not None:
            at = {"code": code, "at": self.world.iso(), "pid": self.pid}
            with contextlib.suppress(FileNotFoundError), open(launcher.exit_file(self.path), "w") as file:
                json.dump(at, file)


class World:
    """Everything outside of ao."""

    def __init__(self, machine: Machine, home: str, rates: Rates, happens: Callable[..., None]) -> None:
        self.machine, self.home, self.rates = machine, home, rates
        self.is_missed: Callable[[str], bool] = lambda handle: True  # whether the last definite look missed a terminal
        self.happens = happens  # told what happens, with a word of promises.PROMISES first
        self.chance = machine.chance
        self.counters: dict[str, int] = {}
        self.terminals: dict[str, Terminal] = {}
        self.work: dict[str, dict[str, Any]] = {}  # worktree path -> {branch, head, unsaved: work not committed}
        self.branches: dict[str, str] = {"main": self.sha()}
        self.pulls: dict[int, dict[str, Any]] = {}
        self.before: dict[int, list[tuple[float, dict[str, Any]]]] = {}  # how each pull request was, newest last
        self.served: list[tuple[Any, dict[str, Any]]] = []  # what the forge showed to whom
        self.issues: dict[str, str] = {}
        self.logs: dict[str, list[str]] = {}  # session -> the ids of the messages that its agent has got
        self.people_heard: list[dict[str, Any]] = []

    def next(self, what: str) -> int:
        self.counters[what] = self.counters.get(what, 0) + 1
        return self.counters[what]

    def sha(self) -> str:
        return f"{self.next('commit'):07x}".ljust(40, "0")

    def iso(self) -> str:
        return clock.iso(self.machine.wall())

    def odds(self, chance: float) -> bool:
        return self.chance.random() < chance

    def received(self, handle: str, id: str) -> None:
        self.machine.note(f"{handle}: agent gets {id}")
        self.happens("received", handle, id)
        self.logs.setdefault(handle, []).append(id)

    # --- faults --------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        if self.machine.current:
            self.machine.current.had_fault = True

    def probe(self, name: str) -> None:
        """A question to the world: it may take long, fail, or hit a bug."""
        self.machine.point(name)
        if self.odds(self.rates.slow):
            self.machine.sleep(self.chance.uniform(0.1, 30))
        if self.odds(self.rates.unknown):
            self.fault()
            raise Unknown(f"{name}: no answer")
        if self.odds(self.rates.error):
            self.fault()
            raise self.chance.choice((AoError, Broken))(f"{name}: went wrong")

    @contextlib.contextmanager
    def effect(self, name: str) -> Iterator[None]:
        """A change of the world: refused, or it happens and the answer may be lost."""
        self.probe(name)
        yield
        self.machine.point(name)
        if self.odds(self.rates.unknown):
            self.fault()
            raise Unknown(f"{name}: the answer was lost")
        if self.odds(self.rates.error):
            self.fault()
            raise Broken(f"{name}: a bug behind it")

    # --- pull requests -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def change(self, number: int) -> Iterator[dict[str, Any]]:
        pull = self.pulls[number]
        self.before.setdefault(number, []).append((self.machine.now, copy.deepcopy(pull)))
        del self.before[number][:-8]
        yield pull

    def open_pull(self, branch: str, head: str, project: str) -> int:
        """Pull requests of one project are checked by their forge, those of the other by ao-ci."""
        number, by_ao = self.next("pull"), project == CHECKED_BY_AO
        self.pulls[number] = {
            "number": number, "branch": branch, "head": head, "state": "open", "draft": False, "by_ao": by_ao,
            "checks": {}, "said": {}, "threads": {}, "clean": True, "opened_at": self.machine.now, "merged_head": None,
        }  # fmt: skip
        self.pushed(self.pulls[number], head)
        return number

    def push(self, number: int, clean: bool = True) -> None:
        with self.change(number) as pull:
            self.branches[pull["branch"]] = head = self.sha()
            for place in self.work.values():
                if place["branch"] == pull["branch"]:
                    place["head"] = head
            pull["clean"] = pull["clean"] or clean
            self.pushed(pull, head)

    def pushed(self, pull: dict[str, Any], head: str) -> None:
        names = pull["checks"] or (["lint", "test"] if self.chance.random() < 0.8 else ["test"])
        now = self.machine.now
        pull.update(head=head, checks=dict.fromkeys(names, "pending"), pushed_at=now, expected=[*names])
        pull["known_at"] = now + self.chance.uniform(1, 40)

    def check(self, pull: dict[str, Any], name: str, state: str) -> None:
        with self.change(pull["number"]):
            pull["checks"][name] = state

    def facts(self, pull: Mapping[str, Any]) -> dict[str, Any]:
        """A pull request in the shape of Scm."""
        checks = [
            {"name": name, "status": state, "url": "", "conclusion": ""}
            for name, state in sorted(pull["checks"].items())
        ]
        states = [check["status"] for check in checks]
        red = [check["name"] for check in checks if check["status"] == "failed"]
        said = pull["said"].values()
        threads = {id: one for id, one in pull["threads"].items() if one["open"]}
        ci = (
            "failing" if red else "pending" if {"pending", "running"} & set(states) else "passing" if states else "none"
        )
        decision = (
            "changes_requested" if "changes_requested" in said else "approved" if "approved" in said else "pending"
        )
        return {
            "number": pull["number"], "url": f"https://forge/{pull['number']}", "title": "t", "owner": "o", "repo": "r",
            "branch": pull["branch"], "base_branch": "main", "base_sha": "0" * 40, "head_sha": pull["head"],
            "is_draft": pull["draft"], "state": pull["state"], "from_fork": False, "ci_checks": checks,
            "ci_status": ci,
            "failing_checks": len(red), "failing_check_names": red, "review_decision": decision,
            "approved_by": sorted(name for name, word in pull["said"].items() if word == "approved"),
            "mergeable": pull["clean"] if self.machine.now >= pull["known_at"] else None,
            "additions": 1, "deletions": 1,
            "threads": sorted(id for id, one in threads.items() if not one["is_bot"]),
            "bot_threads": sorted(id for id, one in threads.items() if one["is_bot"]),
        }  # fmt: skip

    def shown(self, pull: dict[str, Any]) -> dict[str, Any] | None:
        """A pull request as the forge shows it: as it is, or as it was a moment ago; None before it was opened."""
        if not self.odds(self.rates.lie):
            return pull
        self.fault()
        at = self.machine.now - self.chance.uniform(0, LAG)
        if at < pull["opened_at"]:
            return None
        return next((old for until, old in self.before.get(pull["number"], ()) if at < until), pull)

    def find(self, session: Mapping[str, Any]) -> dict[str, Any] | None:
        if session.get("claimed_pr_number"):
            return self.pulls.get(session["claimed_pr_number"])
        mine = [one for one in self.pulls.values() if session.get("branch") and one["branch"] == session["branch"]]
        return mine[-1] if mine else None


def plugins(world: World) -> dict[tuple[str, str], Any]:
    """The plugins that show this world, by slot and name."""
    talker = SimpleNamespace(**{name: getattr(command, name) for name in command.__dict__ if not name.startswith("__")})
    vars(talker).update(_talker(world))
    return {
        ("runtime", "tmux"): SimpleNamespace(**_runtime(world)),
        ("agent", "command"): command,
        ("agent", "talker"): talker,
        ("workspace", "worktree"): SimpleNamespace(**_workspace(world)),
        ("scm", "local"): SimpleNamespace(**_scm(world)),
        ("tracker", "local"): SimpleNamespace(**_tracker(world)),
        ("notifier", "stdout"): SimpleNamespace(**_notifier(world, "stdout")),
        ("notifier", "pager"): SimpleNamespace(**_notifier(world, "pager")),
    }


def _talker(world: World) -> dict[str, Any]:
    """An agent that starts with its task, resumes, and keeps a transcript."""

    def launch(project: Any, session: Any, prompt: str | None) -> Launch:
        return Launch(["cat", *([prompt] if prompt else [])], {}, prompt is not None)

    def resume(project: Any, session: Any) -> Launch | None:
        return Launch(["cat"], {}, False) if world.odds(0.7) else None

    def received(project: Any, session: Any, ids: Sequence[str], history: str | None) -> dict[str, bool | None]:
        if world.odds(world.rates.unknown):
            return dict.fromkeys(ids)
        return {id: id in world.logs.get(session["id"], ()) for id in ids}

    return {"launch": launch, "resume": resume, "received": received}


def _runtime(world: World) -> dict[str, Any]:
    def start(home: str, handle: str, argv: Sequence[str], folder: str, environment: Any) -> None:
        if handle in world.terminals:
            raise AoError(f"cannot start a terminal: duplicate session: {handle}")
        with world.effect("runtime.start"), open(argv[-1]) as file:
            world.happens("started", handle)
            world.terminals[handle] = Terminal(world, handle, json.load(file), argv[-1])

    def look(home: str) -> dict[str, Pane]:
        world.probe("runtime.look")
        found = {}
        for handle, one in world.terminals.items():
            if world.odds(world.rates.lie / 8) and not world.is_missed(handle):
                world.fault()
                continue
            found[handle] = Pane(one.pid, one.in_mode, "", one.typed_at, one.output_at)
        return found

    def terminal(name: str, handle: str) -> Terminal:
        if handle not in world.terminals:
            raise Gone(f"{name}: there is no such terminal")
        return world.terminals[handle]

    def screen(home: str, handle: str, history: bool = False) -> str:
        world.probe("runtime.screen")
        found = terminal("screen", handle)
        return found.history() if history else found.screen()

    def paste(home: str, handle: str, text: str) -> None:
        with world.effect("runtime.paste"):
            found = terminal("paste", handle)
            world.happens("typed", found)
            found.paste(text)

    def press(home: str, handle: str, key: str) -> None:
        with world.effect("runtime.press"):
            found = terminal("press", handle)
            world.happens("typed", found)
            if key == "Enter":
                if not world.odds(world.rates.lie):  # swallowed
                    found.enter()
            else:
                found.paste(key)

    def stop(home: str, handle: str) -> None:
        with world.effect("runtime.stop"):
            if handle in world.terminals:
                world.happens("stopped", handle)
                world.terminals[handle].end(None)

    return {"start": start, "look": look, "screen": screen, "paste": paste, "press": press, "stop": stop}


def _workspace(world: World) -> dict[str, Any]:
    def check_out(path: str, branch: str) -> None:
        if branch not in world.branches:
            raise AoError(f"there is no branch '{branch}'")
        if any(place["branch"] == branch and other != path for other, place in world.work.items()):
            raise AoError(f"the branch '{branch}' is checked out elsewhere")
        os.makedirs(path, exist_ok=True)
        if world.work.get(path, {}).get("branch") != branch:
            world.work[path] = {"branch": branch, "head": world.branches[branch], "unsaved": False}

    def create(home: str, project: Any, id: str, branch: str, base_sha: str) -> str:
        path = paths.worktree(home, project.id, id)
        with world.effect("workspace.create"):
            if branch in world.branches or os.path.exists(path):
                raise AoError(f"the branch '{branch}' or its folder exists already")
            world.branches[branch] = base_sha
            check_out(path, branch)
        return path

    def reopen(home: str, project: Any, id: str, branch: str) -> str:
        path = paths.worktree(home, project.id, id)
        with world.effect("workspace.reopen"):
            check_out(path, branch)
        return path

    def switch(home: str, project: Any, path: str, branch: str) -> None:
        with world.effect("workspace.switch"):
            if world.work.get(path, {"unsaved": True})["unsaved"]:
                raise AoError("it is gone, or has changes that are not committed")
            check_out(path, branch)

    def remove(home: str, project: Any, path: str) -> int:
        with world.effect("workspace.remove"):
            world.happens("removed", path)
            world.work.pop(path, None)
            shutil.rmtree(path, ignore_errors=True)
        return 1

    def backup(home: str, project: Any, id: str, path: str, now: str) -> str | None:
        with world.effect("workspace.backup"):
            place = world.work.get(path) or {"unsaved": False}
            was_unsaved, place["unsaved"] = place["unsaved"], False
        return f"refs/ao/backup/{id}" if was_unsaved else None

    def head(path: str) -> tuple[str, str] | None:
        if world.odds(world.rates.error):
            world.fault()
            raise Broken("workspace.head")
        place = world.work.get(path)
        return (place["branch"], place["head"]) if place else None

    found = {"create": create, "reopen": reopen, "switch": switch, "remove": remove, "backup": backup, "head": head}
    return {**found, "state": lambda home, project, path: State(path in world.work, False, 0)}


def _scm(world: World) -> dict[str, Any]:
    def look(home: str, project: Any, sessions: Sequence[Any], clock: Any, fresh: bool = False) -> dict[str, Any]:
        world.probe("scm.look")
        answer: dict[str, Any] = {}
        for session in sessions:
            if world.odds(world.rates.unknown):
                world.fault()
                continue
            pull = world.find(session)
            seen = world.shown(pull) if pull else None
            if pull and seen is None and session.get("claimed_pr_number"):
                continue  # one that is known is not denied
            answer[session["id"]] = world.facts(seen) if seen else None
            if seen:
                world.served.append((world.machine.current, copy.deepcopy(answer[session["id"]])))
        del world.served[:-400]
        return answer

    def wanted(session: Any) -> dict[str, Any]:
        found = world.find(session)
        if not found:
            raise AoError(f"session '{session['id']}' has no pull request")
        return found

    def failures(home: str, project: Any, session: Any) -> list[Failure]:
        world.probe("scm.failures")
        return [Failure(name, "", "", "boom") for name, state in wanted(session)["checks"].items() if state == "failed"]

    def comments(home: str, project: Any, session: Any) -> list[Comment]:
        world.probe("scm.comments")
        threads = wanted(session)["threads"].items()
        return [Comment(id, one["by"], one["is_bot"], "mend it", "") for id, one in threads if one["open"]]

    def plan_merge(home: str, project: Any, session: Any, method: str, actor: str = "") -> dict[str, str]:
        world.probe("scm.plan_merge")
        return {"number": str(session["pr"]["number"]), "head_sha": session["pr"]["head_sha"]}

    def merge(home: str, project: Any, session: Any, plan: Mapping[str, str]) -> None:
        with world.effect("scm.merge"):
            pull = world.pulls[int(plan["number"])]
            world.happens("merging", session)
            if pull["state"] == "merged" and pull["merged_head"] == plan["head_sha"]:
                return
            if pull["head"] != plan["head_sha"]:
                raise Moved("it has commits that are not looked at yet")
            if pull["state"] != "open" or not pull["clean"]:
                raise Blocked("it is not open and clean")
            world.happens("merged", pull, session, dict(plan))
            with world.change(pull["number"]):
                pull.update(state="merged", merged_head=pull["head"], merged_by="ao")

    def is_merged(home: str, project: Any, session: Any, plan: Mapping[str, str]) -> bool:
        world.probe("scm.is_merged")
        return world.pulls[int(plan["number"])]["merged_head"] == plan["head_sha"]

    def delete_branch(home: str, project: Any, branch: str, merged_sha: str, from_fork: bool = False) -> bool:
        with world.effect("scm.delete_branch"):
            if world.branches.get(branch) == merged_sha and all(
                place["branch"] != branch for place in world.work.values()
            ):
                del world.branches[branch]
        return branch not in world.branches

    def pull(home: str, project: Any, session: Any) -> dict[str, Any]:
        world.probe("scm.pull")
        return world.facts(wanted(session))

    def take_over(home: str, project: Any, session: Any, number: int) -> dict[str, Any]:
        with world.effect("scm.take_over"):
            return world.facts(world.pulls[number])

    def ci_wanted(pull: Any, project: Any) -> bool:
        truth = world.pulls[pull["number"]]
        is_due = truth["by_ao"] and truth["state"] == pull["state"] == "open"
        return is_due and any(check["status"] == "pending" for check in pull["ci_checks"])

    found = {"look": look, "failures": failures, "comments": comments, "plan_merge": plan_merge, "merge": merge}
    found |= {"is_merged": is_merged, "delete_branch": delete_branch, "pull": pull, "take_over": take_over}
    found |= {"opening": lambda project, session: "open it", "fetch": lambda home, project, pull: pull["branch"]}
    return {**found, "ci_wanted": ci_wanted}


def _tracker(world: World) -> dict[str, Any]:
    def get(home: str, project: Any, id: str) -> Issue:
        world.probe("tracker.get")
        if id not in world.issues:
            raise AoError(f"there is no issue '{id}'")
        return Issue(id, f"Issue {id}", "Do it.", "", world.issues[id], [])

    def close(home: str, project: Any, id: str) -> None:
        with world.effect("tracker.close"):
            world.happens("closed", project.id, id)
            world.issues[id] = "closed"

    return {"get": get, "close": close}


def _notifier(world: World, name: str) -> dict[str, Any]:
    def send(home: str, told: dict[str, Any], settings: Any) -> None:
        with world.effect("notifier.send"):
            heard = {**told, "by": name}
            text = told["message"].replace(home, "AO_HOME")[:90]
            world.machine.note(f"{name}: {told['session_id']} {told['reaction_key']} {told['id']} {text}")
            world.happens("heard", heard)
            world.people_heard.append(heard)

    def has(home: str, id: str) -> bool:
        world.probe("notifier.has")
        return any(one["id"] == id and one["by"] == name for one in world.people_heard)

    return {"send": send, "has": has, "problem": lambda settings: ""}


class Git:
    """In place of lib.git where a spawn asks for branches."""

    HEADS = "refs/heads/"

    def __init__(self, world: World) -> None:
        self.world = world

    def remotes(self, repository: str) -> list[str]:
        return []

    def default_branch(self, repository: str) -> str:
        return "main"

    def commit(self, repository: str, ref: str) -> str | None:
        return self.world.branches.get(ref.removeprefix(self.HEADS))

    def merge_base(self, repository: str, one: str, other: str) -> str:
        return one

    def checkouts(self, repository: str) -> dict[str, str]:
        return {place["branch"]: path for path, place in self.world.work.items()}

    def out(self, repository: str, *args: str) -> str:
        return "\n".join(self.HEADS + name for name in self.world.branches)

    def changing(self, home: str, repository: str) -> Any:
        return store.lock(paths.lock(home, "repo", "one"))

    def run(self, repository: str, *args: str, limit: str = "git") -> Any:
        if args[:2] == ("update-ref", "-d"):
            name = args[2].removeprefix(self.HEADS)
            if self.world.branches.get(name) == args[3]:
                del self.world.branches[name]
        return SimpleNamespace(code=0, out="", err="")


class Programs:
    """In place of lib.proc where a project's set-up commands run."""

    TimedOut, LIMITS = proc.TimedOut, proc.LIMITS

    def __init__(self, world: World) -> None:
        self.world = world

    def run(self, limit: str, argv: Sequence[str], **more: Any) -> proc.Result:
        with self.world.effect(limit):
            return proc.Result(0, "", "")
