"""Points at which a test lets this process die, as by kill -9; without AO_FAULT nothing happens at any of them.

`<effect>:before` and `<effect>:after` stand around an effect of lib/effects.py. `<effect>:inside` is the first step
that others can see in between: a program that was started or has ended, a file that lies beside the one that it will
replace; `<effect>:inside3` is the third. `step:17` is the 17th step of the process, in whatever effect or none.
AO_FAULT names one point, or a folder with a file for each: who dies at a point takes its file away, so that it is one
death only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

VARIABLE = "AO_FAULT"
_here = threading.local()  # effect: what this thread is at; steps: how many it has taken in it
_taken = [0]  # steps of the whole process


@contextlib.contextmanager
def around(effect: str) -> Iterator[None]:
    """Mark the code that carries out an effect."""
    point(f"{effect}:before")
    _here.effect, _here.steps = effect, 0
    try:
        yield
    finally:
        _here.effect = None
    point(f"{effect}:after")


def step() -> None:
    """Mark a place at which others can see that something is half done."""
    if VARIABLE not in os.environ:
        return
    _taken[0] += 1
    point(f"step:{_taken[0]}")
    if getattr(_here, "effect", None):
        _here.steps += 1
        point(f"{_here.effect}:inside{_here.steps if _here.steps > 1 else ''}")


def point(name: str) -> None:
    wanted = os.environ.get(VARIABLE, "")
    if wanted == name or (os.path.isabs(wanted) and _take(os.path.join(wanted, name))):
        os.kill(os.getpid(), signal.SIGKILL)


def _take(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
