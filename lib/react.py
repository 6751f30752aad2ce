"""One round of acting: messages on their way, open conditions that are due, checks to start, ended work to tidy up.

For each session: effect lock, intent, act, result. What is decided is decided again on the newest record under its
lock, so that a person who kills, claims or answers at the same moment wins. One session that fails stops no other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib import (
    ROOT,
    conditions,
    config,
    deliver,
    due,
    effects,
    lives,
    merge,
    notify,
    paths,
    plugins,
    proc,
    projects,
    sessions,
    status,
    store,
)
from lib.clock import Clock
from lib.errors import AoError, Busy, Unknown
from lib.runtime import Pane
from lib.tell import compose, sentence

Session = dict[str, Any]
Done = list[dict[str, Any]]  # what was done: [{session_id, project_id, reaction_key, action, …}]

AT_ONCE = 8  # sessions acted upon at the same time
TURN_OVER_WITHIN = 300.0  # seconds after the end of its work in which an agent may finish its turn


def run(home: str, clock: Clock, only: str | None = None) -> Done:
    """Act once on everything that is due, and return what was done."""
    settings = projects.Settings()
    busy = [session for session in sessions.everything(home, only).records if has_work(session)]
    panes = _panes(home, busy)

    def serve(session: Session) -> Done:
        return Round(home, settings, session, panes.get(str(session["runtime"])), clock).serve()

    if len(busy) < 2:
        return [one for session in busy for one in serve(session)]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [one for found in pool.map(serve, busy) for one in found]


def preview(home: str, clock: Clock, only: str | None = None) -> Done:
    """What `run` would do now about open conditions, or why it would do nothing."""
    settings, found = projects.Settings(), []
    for session in sessions.everything(home, only).records:
        for key in session.get("conditions") or ():
            try:
                reaction = config.reactions(settings.project(session)).get(key) or {}
                step = due.next_step(session, key, reaction, clock)
            except AoError as error:
                step = due.Wait(str(error))
            names = {"session_id": session["id"], "project_id": session["project_id"], "reaction_key": key}
            action = step.action if isinstance(step, due.Step) else None
            found.append({**names, "action": action, "waiting_for": getattr(step, "why", "") if not action else None})
    return found


def has_work(session: Session) -> bool:
    if session.get("doing") or session.get("conditions") or sessions.open_message(session):
        return True
    return status.has_open_pr(session) or _must_end(session)


def _must_end(session: Session) -> bool:
    """Whether its work is over and its agent is not."""
    is_over = status.is_merged(session) or session.get("outcome") == "done"
    return is_over and session.get("runtime_state") == "alive"


def _panes(home: str, busy: Sequence[Session]) -> dict[str, Mapping[str, Pane] | None]:
    found: dict[str, Mapping[str, Pane] | None] = {}
    for name in {str(session["runtime"]) for session in busy}:
        try:
            found[name] = plugins.load("runtime", name).look(home)
        except AoError:
            found[name] = None
    return found


class Round:
    """One session's turn in a round: what all of its steps share."""

    def __init__(
        self, home: str, settings: projects.Settings, session: Session, panes: Mapping[str, Pane] | None, clock: Clock
    ) -> None:
        self.home, self.settings, self.session, self.panes, self.clock = home, settings, session, panes, clock
        self.done: Done = []

    def serve(self) -> Done:
        try:
            self.project = self.settings.project(self.session)
            self.file = self.settings.file(self.session["config_path"])
        except AoError:
            return []  # its configuration cannot be read: nothing is done rather than something else
        try:
            self._serve()
        except (Busy, sessions.Vanished):
            pass  # an effect on it is under way in another process
        except Unknown as error:
            self._wait_all(str(error))
        except Exception as error:
            self._report(error)
        return self.done

    def _serve(self) -> None:
        if self.session.get("doing"):
            lives.settle(self.home, self.project, self.session, self.clock)
            return
        if _must_end(self.session) and self._may_end():
            prune_too = status.is_merged(self.session) and config.setting(self.file, "lifecycle.on_merge") == "prune"
            self._note("cleanup", None)
            lives.clean_up(self.home, self.project, self.session, prune_too, self.clock)
            return
        with effects.hold(self.home, self.session):
            self.session = sessions.find(self.home, self.session["id"])
            if self.session.get("doing"):
                return
            restore = self._act()
        if restore:
            self._restore(restore)

    def _act(self) -> str:
        """Everything that happens under the effect lock; returns the key of a condition that wants a restore."""
        restore = ""
        if self.panes is not None:
            deliver.advance(self.home, self.project, self.session, self.panes, self.clock)
        self._start_checks()
        for key in list(self.session.get("conditions") or ()):
            self.session = sessions.find(self.home, self.session["id"])
            if key not in self.session["conditions"]:
                continue
            self._finish_interrupted(key)
            step = self._next(self.session, key)
            if isinstance(step, due.Wait):
                self._wait(key, step.why)
            elif step.action == "restore":
                restore = key
            elif not (key == "agent-exited" and self.session.get("is_lost")):
                self._take(key, step)
        return restore

    def _next(self, record: Session, key: str) -> due.Step | due.Wait:
        if key not in record["conditions"]:
            return due.Wait("closed")
        return due.next_step(record, key, self._reaction(key), self.clock)

    def _reaction(self, key: str) -> Mapping[str, Any]:
        return config.reactions(self.project).get(key) or {}

    def _take(self, key: str, step: due.Step) -> None:
        take: dict[str, Callable[[str, due.Step], None]] = {
            "send-to-agent": self._send,
            "notify": self._notify,
            "escalate": self._notify,
            "auto-merge": self._merge,
        }
        try:
            take[step.action](key, step)
        except Unknown as error:
            self._wait(key, f"an answer: {error}")

    def _send(self, key: str, step: due.Step) -> None:
        text = compose(self.home, self.project, self.session, key, step, self._reaction(key))
        message = deliver.message(text, key, self.clock)
        if self.intend(key, step, message["id"], message):
            self._note("send-to-agent", key)

    def _notify(self, key: str, step: due.Step) -> None:
        reaction = self._reaction(key)
        message = sentence(self.home, self.project, self.session, key, step, reaction)
        priority = str(reaction.get("priority") or "urgent") if step.action == "notify" else self._urgency(reaction)
        told = notify.notification(key, priority, message, self.clock, self.project.id, self.session)
        if self.intend(key, step, told["id"], told=told):
            self._note(step.action, key)
            self._hand_over(key, told)

    def _urgency(self, reaction: Mapping[str, Any]) -> str:
        return str(reaction.get("priority") or "urgent")

    def _hand_over(self, key: str, told: notify.Notification) -> None:
        self.result(key, told["id"], notify.attempt(self.home, self.file, told, self.clock))

    def _merge(self, key: str, step: due.Step) -> None:
        method = self._reaction(key).get("merge_method") or config.setting(self.project, "merge.method")
        self._note("auto-merge", key)
        try:
            merge.attempt(self.home, self.project, self.session, method, "", self.clock)
        except Unknown:
            raise
        except AoError as error:
            self.done[-1]["error"] = str(error)

    def _restore(self, key: str) -> None:
        step = self._next(sessions.find(self.home, self.session["id"]), key)
        if not isinstance(step, due.Step) or step.action != "restore":
            return
        id, error = "r" + deliver.new_id()[1:], ""
        if not self.intend(key, step, id):
            return
        self._note("restore", key)
        try:
            lives.restore(self.home, self.project, self.session, self.clock)
        except AoError as failure:
            error = str(failure)
        self.result(key, id, error)

    def intend(
        self, key: str, step: due.Step, id: str, message: Session | None = None, told: Session | None = None
    ) -> bool:
        """Save the intent if the newest record still wants this step; whether it does."""
        intended = []

        def change(fresh: Session) -> list[dict[str, Any]]:
            if self._next(fresh, key) != step:
                return []
            intended.append(id)
            condition = fresh["conditions"][key]
            fields = {"id": id, "fingerprint": step.fingerprint, "action": step.action, "at": self.clock.iso}
            head = (fresh.get("pr") or {}).get("head_sha")
            condition.update(
                intent={**fields, "items": list(step.items), "head_sha": head}, result=None, waiting_for=None
            )
            if told:
                condition["intent"]["told"] = told
            if message:
                fresh["inbox"].append(message)
            return _triggered(key, step, condition, told)

        self.session = sessions.update(self.home, self.session, change, self.clock)
        return bool(intended)

    def result(self, key: str, id: str, error: str) -> None:
        def change(fresh: Session) -> None:
            condition = fresh["conditions"].get(key)
            if condition and (condition.get("intent") or {}).get("id") == id and not condition.get("result"):
                conditions.record_result(fresh, key, self.clock, error)

        self.session = sessions.update(self.home, self.session, change, self.clock)

    def _finish_interrupted(self, key: str) -> None:
        """An intent without result whose lock was free: its process died, so the world is asked what happened."""
        condition = self.session["conditions"][key]
        intent = condition.get("intent")
        if not intent or condition.get("result"):
            return
        if intent.get("told"):
            told = intent["told"]
            if notify.was_sent(self.home, self.file, told["id"], told["priority"]):
                self.result(key, intent["id"], "")
            else:
                self._hand_over(key, told)
        elif intent["action"] == "restore":
            runs = self.session.get("runtime_state") == "alive"
            self.result(key, intent["id"], "" if runs else "it was interrupted")
        elif intent["action"] == "auto-merge":  # its `doing` was settled; this part of the record was not
            self.result(key, intent["id"], "it was interrupted")

    def _wait(self, key: str, why: str) -> None:
        """Say why nothing is done, in the record and once in the log."""

        def change(fresh: Session) -> list[dict[str, Any]]:
            condition = fresh["conditions"].get(key)
            if condition is None or condition.get("waiting_for") == why:
                return []
            condition["waiting_for"] = why
            return [{"type": "reaction_skipped", "reaction_key": key, "why": why}]

        if (self.session["conditions"].get(key) or {}).get("waiting_for") != why:
            self.session = sessions.update(self.home, self.session, change, self.clock)

    def _wait_all(self, why: str) -> None:
        for key in self.session.get("conditions") or ():
            self._wait(key, f"an answer: {why}")

    def _may_end(self) -> bool:
        """An agent may finish its turn after its work was merged, but not for ever."""
        at_rest = self.session.get("activity") in ("ready", "idle", "exited")
        return at_rest or self.clock.elapsed(self.session.get("over_since")) >= TURN_OVER_WITHIN

    def _start_checks(self) -> None:
        """Start `ao-ci`, in a process and under a lock of its own, where the forge runs no checks."""
        pull = self.session.get("pr")
        scm = plugins.load("scm", config.setting(self.project, "scm"))
        if not pull or not scm.ci_wanted(pull, self.project) or self.session.get("pr_unknown_since"):
            return
        ci = {**self.session, "id": f"ci-{self.session['id']}"}
        if effects.is_under_way(self.home, ci) or _checks_running(self.home) >= (os.cpu_count() or 2):
            return
        environment = {**os.environ, "AO_HOME": self.home, "AO_CONFIG": self.project.source}
        with effects.effect("ci.start"):
            proc.detach([sys.executable, os.path.join(ROOT, "bin", "ao-ci"), self.session["id"]], environment)
        self._note("ci", None)

    def _note(self, action: str, key: str | None) -> None:
        names = {"session_id": self.session["id"], "project_id": self.session["project_id"]}
        self.done.append({**names, "reaction_key": key, "action": action})

    def _report(self, error: Exception) -> None:
        """A failure of one session becomes an event, once, and the round goes on with the next session."""
        message = str(error) if isinstance(error, AoError) else f"{type(error).__name__}: {error}"
        self.done.append({"session_id": self.session["id"], "project_id": self.session["project_id"], "error": message})

        def change(fresh: Session) -> list[dict[str, Any]]:
            if fresh.get("react_error") == message:
                return []
            fresh["react_error"] = message
            return [{"type": "tick_error", "message": message}]

        sessions.update(self.home, self.session, change, self.clock)


def _triggered(
    key: str, step: due.Step, condition: Mapping[str, Any], told: notify.Notification | None
) -> list[dict[str, Any]]:
    if step.action == "escalate":
        first = {"type": "reaction_escalated", "reaction_key": key, "attempts": condition["attempts"], "why": step.why}
    else:
        first = {"type": "reaction_triggered", "reaction_key": key, "action": step.action}
    return [first, notify.event(told, step.action)] if told else [first]


def _checks_running(home: str) -> int:
    """How many `ao-ci` hold their lock."""
    root, count = os.path.dirname(paths.lock(home, "effect", "x")), 0
    for folder, _, names in os.walk(root):
        for name in names:
            if name.startswith("ci-") and name.endswith(".lock"):
                count += store.is_held(os.path.join(folder, name.removesuffix(".lock")))
    return count
