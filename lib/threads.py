"""Several things at once, none of them waited for longer than all may take.

The threads are daemons: one that hangs for ever neither holds up its caller nor keeps the process from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from lib.errors import Unknown

NOTICED = 0.5  # seconds: a Ctrl-C that comes in the instant before a wait begins is noticed only when the wait ends


def each(jobs: Mapping[Any, Callable[[], Any]], seconds: float, at_once: int | None = None) -> dict[Any, Any]:
    """What each job returned, or the exception that it raised; Unknown for one that took longer than `seconds`.

    With `at_once` no more than that many run side by side, and none is begun when the time is over.
    """
    late = Unknown(f"no answer within {seconds:g} s")
    answers: dict[Any, Any] = dict.fromkeys(jobs, late)

    end, waiting = time.monotonic() + seconds, iter(list(jobs.items()))  # which threads may share

    def work() -> None:
        for key, job in waiting:
            try:
                answers[key] = job()
            except Exception as error:
                answers[key] = error
            if time.monotonic() >= end:
                return

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(len(jobs), at_once or len(jobs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and (left := end - time.monotonic()) > 0:
            thread.join(min(left, NOTICED))
    return dict(answers)
