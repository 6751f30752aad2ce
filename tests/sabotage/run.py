"""Bring faults of the field back, one at a time in a copy of the tree, and demand that a test goes red.

    run.py              every F*.patch of this folder
    run.py F7 F32       only these

A patch is the smallest change to bin/ or lib/ that brings a fault back. Only the tests that tests/README.md names for
it are run, until the first one fails; that one has to pass without the patch. Exit code 1 when a patch does not apply
or nobody notices it.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

import field

ROOT = os.path.dirname(field.TESTS)
AT_ONCE = 2
LIMIT = 300  # seconds for the tests of one fault
LEFT_OUT = (".git", ".venv", ".cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "__pycache__")
FAILED = re.compile(r"^(?:FAILED|ERROR) tests/([\w.]+::\w+)", re.MULTILINE)


class Verdict(NamedTuple):
    noticed: bool
    said: str


def main(argv: list[str]) -> int:
    numbers = argv or field.patches()
    unknown = [number for number in numbers if number not in field.patches()]
    if unknown:
        print(f"there is no sabotage for {', '.join(unknown)}; known: {', '.join(field.patches())}", file=sys.stderr)
        return 2
    unnoticed = 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for number, (verdict, seconds) in zip(numbers, pool.map(timed, numbers), strict=True):
            print(f"{'red' if verdict.noticed else 'NO':3} {number:4} {verdict.said} ({seconds:.0f} s)", flush=True)
            unnoticed += not verdict.noticed
    print(f"{len(numbers) - unnoticed} of {len(numbers)} faults were noticed")
    return 1 if unnoticed else 0


def timed(number: str) -> tuple[Verdict, float]:
    started = time.monotonic()
    return sabotage(number), time.monotonic() - started


def sabotage(number: str) -> Verdict:
    """Whether the tests notice a fault, and which did."""
    with tempfile.TemporaryDirectory(prefix="ao-", dir="/tmp") as folder:
        copy(os.path.join(folder, "sound"))
        copy(os.path.join(folder, "broken"))
        done = run(field.apply(number), os.path.join(folder, "broken"))
        if done.returncode:
            return Verdict(False, f"the patch does not apply any more: {' '.join(done.stderr.split())}")
        code, output = test(os.path.join(folder, "broken"), *field.faults()[number].tests)
        red = FAILED.search(output)
        if code == 0:
            return Verdict(False, "all of its tests pass with the fault")
        if code != 1 or not red:
            return Verdict(False, f"its tests cannot be run (exit code {code}): {output[-500:]}")
        code, output = test(os.path.join(folder, "sound"), red[1])
        return Verdict(code == 0, red[1] if code == 0 else f"{red[1]} fails without the fault too: {output[-500:]}")


def copy(target: str) -> None:
    shutil.copytree(ROOT, target, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in (".venv", ".cache"):
        os.symlink(os.path.realpath(os.path.join(ROOT, name)), os.path.join(target, name))


def test(tree: str, *tests: str) -> tuple[int, str]:
    """The exit code and output of pytest: 0 when all pass, 1 when one failed, more when they could not be run."""
    paths = [f"tests/{name}" for name in tests]
    options = ("-q", "-x", "-rfE", "--tb=line", "-p", "no:cacheprovider", "-p", "no:randomly")
    done = run([sys.executable, "-m", "pytest", *options, *paths], tree)
    return done.returncode, done.stdout + done.stderr


def run(argv: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AO_", "GIT_", "PYTEST_"))}
    environment["GIT_CEILING_DIRECTORIES"] = os.path.dirname(folder)  # a copy inside of a repository is none of its own
    try:
        return subprocess.run(
            argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"not done within {LIMIT} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
