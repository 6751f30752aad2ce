"""A machine for the simulation: virtual time, processes that are interleaved and killed anywhere, and kernel locks.

Everything is decided by one random generator, so a seed replays exactly. A process is a thread, of which one runs at
a time: at each *point* (a lock, a write, a call of a plugin, a sleep) it may be killed, or another may go on.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from lib import clock, store
from lib.errors import Busy

START = 1_800_000_000.0


class Killed(BaseException):
    """kill -9: nothing that this process still does has any effect."""


class Process:
    """Something of ao's that runs: a tick, a react, a person's command."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        self.name, self.work = name, work
        self.go = threading.Semaphore(0)
        self.is_dead = self.is_over = False
        self.had_fault = False  # it was lied to, refused or disturbed by a fault that was put in
        self.error: BaseException | None = None
        self.result: Any = None
        self.can_go: Callable[[], bool] = lambda: True
        self.wakes_at = float("inf")
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.back = threading.Semaphore(0)

    def _run(self) -> None:
        self.go.acquire()
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error
        self.is_over = True
        self.back.release()


class Machine:
    """The processes, the time and the locks of one computer."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.now = START  # true time
        self.set_wrong = 0.0  # seconds by which the wall clock is wrong
        self.slept = 0.0  # seconds of suspend, which the monotonic clock leaves out
        self.boot = 1
        self.processes: list[Process] = []
        self.current: Process | None = None
        self.held: dict[str, Process | None] = {}
        self.kills = self.switches = 0.0  # chance of each at a point
        self.trace: list[str] = []
        self.deaths, self.killed_at = 0, set[str]()
        self.deadly: set[str] = set()  # points at which the first process that gets there dies
        self.crashed: list[Process] = []  # those that ended with what nobody expects
        self.between: Callable[[], None] = lambda: None  # what the world does while a process waits

    # --- time ----------------------------------------------------------------------------------------------------

    def wall(self) -> float:
        return self.now + self.set_wrong

    def monotonic(self) -> float:
        return self.now - self.slept - START

    def moment(self) -> clock.Look:
        return clock.Look(self.wall(), self.monotonic(), f"boot-{self.boot}")

    def sleep(self, seconds: float) -> None:
        self._wait(lambda: False, seconds)

    time = wall  # with these three it stands in for the module `time`

    # --- processes -----------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now - START:10.3f} {self.current.name if self.current else '-':8} {text}")

    def start(self, name: str, work: Callable[[], Any]) -> Process:
        process = Process(name, work)
        self.processes.append(process)
        process.thread.start()
        return process

    def finish(self) -> None:
        """Run all processes to their ends."""
        while self.processes:
            ready = [one for one in self.processes if one.can_go() or one.wakes_at <= self.now]
            if not ready:
                self.now = max(self.now, min(one.wakes_at for one in self.processes))
                continue
            self._run(self.chance.choice(ready))
            if self.chance.random() < 0.05:
                self.between()

    def _run(self, process: Process) -> None:
        self.current = process
        process.go.release()
        process.back.acquire()
        self.current = None
        if process.is_over:
            process.thread.join()
            self.processes.remove(process)
            if process.error and not isinstance(process.error, Killed):
                self.crashed.append(process)

    def _wait(self, can_go: Callable[[], bool], seconds: float) -> bool:
        """Let others run until `can_go` or so many seconds have passed; whether it can."""
        process = self.current
        if process is None:
            return can_go()
        process.can_go, process.wakes_at = can_go, self.now + seconds
        process.back.release()
        process.go.acquire()
        process.can_go, process.wakes_at = (lambda: True), float("inf")
        if process.is_dead:
            raise Killed
        return can_go()

    def point(self, name: str) -> None:
        """A place at which a process may be killed, or overtaken by another."""
        process = self.current
        if process is None:
            return
        if process.is_dead:
            raise Killed
        if name in self.deadly:
            self.deadly.remove(name)
            self.die(name)
        if self.chance.random() < self.kills:
            self.die(name)
        if self.chance.random() < self.switches:
            self._wait(lambda: True, 0.0)

    def die(self, name: str) -> None:
        assert self.current
        self.note(f"killed at {name}")
        self.deaths += 1
        self.killed_at.add(name)
        self.current.is_dead = self.current.had_fault = True
        raise Killed(name)

    # --- locks ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, path: str, patience: float = store.PATIENCE, lasts: bool = False) -> Iterator[None]:
        """In place of store.lock: the kernel's, so that a dead process holds none."""
        self.point("lock")
        if path in self.held and not (patience and self._wait(lambda: path not in self.held, patience)):
            if patience and self.held.get(path) is self.current:
                raise AssertionError(f"a process waits for the lock of '{path}', which it holds itself")
            raise Busy(f"cannot lock '{path}': another process holds it")
        self.held[path] = self.current
        try:
            yield
        finally:
            del self.held[path]
        self.point("unlock")

    def is_held(self, path: str) -> bool:
        return path in self.held
