"""Several things at once, none of them waited for longer than all may take.

The threads are daemons: one that hangs for ever neither holds up its caller nor keeps the process from ending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from lib.errors import Unknown


def each(jobs: Mapping[Any, Callable[[], Any]], seconds: float) -> dict[Any, Any]:
    """What each job returned, or the exception that it raised; Unknown for one that took longer than `seconds`."""
    late = Unknown(f"no answer within {seconds:g} s")
    answers: dict[Any, Any] = dict.fromkeys(jobs, late)

    def work(key: Any, job: Callable[[], Any]) -> None:
        try:
            answers[key] = job()
        except Exception as error:
            answers[key] = error

    threads = [threading.Thread(target=work, args=item, daemon=True) for item in jobs.items()]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)
