"""The simulation of tests/simulation.py, as far as it is always run: one seed, which shows that it fits the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys


def test_a_world_in_which_much_goes_wrong_keeps_every_promise():
    """In a process of its own: its module `world` is not the one of the demo."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "simulation.py")
    argv = [sys.executable, program, "1", "200"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"seed 1: \d+ sessions, [1-9]\d* merged, .*\n", done.stdout)
