"""CI of the local forge: which checks a pull request needs, what they said, and running them.

A result counts only for the commits it was made with, head *and* base: two pull requests that are each green alone may
be broken together, so a base that moved asks for a new run. What is tested is the merge of head into base. Entries of
a pull request's `runs`: `name head_sha base_sha status(running|passed|failed) conclusion log lines at deaths`, the last
of which counts the runs before it whose process died.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any

from lib import clock, config, git, paths, proc, render, store
from lib.config import Project
from lib.errors import AoError, reason
from lib.scm import _pulls, _scratch

ERROR, RETRY = "ERROR", "RETRY"  # conclusions of a check that could not be run, and of one that is tried again now
RETRY_AFTER = 300.0  # seconds
MOST_DEATHS = 20  # of processes one after the other: a check that takes all memory would die for ever
RUNS_KEPT = 60
LINES_KEPT, BYTES_KEPT = 80, 6000  # of the end of a log, in the pull request's file and so in an agent's message

Run = dict[str, Any]


def lock(home: str, project: Project, record: _pulls.Record) -> str:
    """The effect lock that a run holds; a check marked running while it is free died with its process."""
    return paths.lock(home, "effect", project.id, f"ci-{record['number']}")


def listed(home: str, project: Project, record: _pulls.Record) -> list[dict[str, str]]:
    """The configured checks with what is known of each for the current head and base."""
    current = newest(record, *commits(record))
    running = any(run["status"] == "running" for run in current.values())
    alive = running and store.is_held(lock(home, project, record))
    return [_shown(entry["name"], current.get(entry["name"]), alive) for entry in config.setting(project, "ci")]


def newest(record: _pulls.Record, head: str, base: str) -> dict[str, Run]:
    """The newest run of each check made with exactly these commits."""
    return {run["name"]: run for run in record["runs"] if (run["head_sha"], run["base_sha"]) == (head, base)}


def commits(record: _pulls.Record) -> tuple[str, str]:
    """The head and base that checks must have been made with, as the last look found them."""
    return record["head_sha"], record["against"].get("base_sha", "")


def run(home: str, project: Project, number: int, again: bool = False) -> list[Run]:
    """Run the checks that have no result for the current head and base (`again`: all of them); every check's result.

    Raises Busy when another process runs them.
    """
    with store.lock(lock(home, project, _pulls.read(home, project.id, number)), patience=1.0, lasts=True):
        record = _pulls.read(home, project.id, number)
        head, base, merged = _test_merge(project, record)
        known = newest(record, head, base)
        wanted = [entry for entry in config.setting(project, "ci") if again or not _is_done(known.get(entry["name"]))]
        runs = [
            _begun(home, project, number, (head, base), place, entry, known.get(entry["name"]))
            for place, entry in enumerate(wanted)
        ]
        if wanted:
            _run_all(home, project, number, merged, list(zip(wanted, runs, strict=True)))
        results = newest(_pulls.read(home, project.id, number), head, base)
    return [results[entry["name"]] for entry in config.setting(project, "ci")]


def _begun(
    home: str,
    project: Project,
    number: int,
    commits: tuple[str, str],
    place: int,
    entry: dict[str, Any],
    before: Run | None,
) -> Run:
    """A run of a check as it begins; of one that is still marked running the process died."""
    head, base = commits
    deaths = before.get("deaths", 0) + 1 if before and before["status"] == "running" else 0
    slug = re.sub(r"[^A-Za-z0-9]+", "-", entry["name"])[:20]
    log = paths.log(home, "ci", project.id, f"{number}-{head[:10]}-{base[:10]}-{place}-{slug}.txt")
    known = {"name": entry["name"], "head_sha": head, "base_sha": base, "log": log}
    return {**known, "status": "running", "conclusion": "", "lines": "", "at": _now(), "deaths": deaths}


def _run_all(home: str, project: Project, number: int, merged: str, wanted: list[tuple[dict[str, Any], Run]]) -> None:
    """Run checks one after the other; what keeps them from being run is their result, until they are tried again.

    The last result is saved when the checkout is gone: who is killed before that is followed by one that removes it.
    """
    left, last = dict(enumerate(wanted)), [run for _, run in wanted[-1:]]
    try:
        with _scratch.worktree(home, project, f"ci-{number}", merged) as folder:
            for place, (entry, run) in enumerate(wanted):
                _save(home, project, number, {**run, "at": _now()})
                if run["deaths"] >= MOST_DEATHS:
                    raise AoError(f"'{run['name']}' was cut off {run['deaths']} times, its process was killed")
                result = {**run, **_run(entry, folder, run["log"]), "at": _now()}
                if run not in last:
                    _save(home, project, number, result)
                    del left[place]
        _save(home, project, number, result)
    except Exception as error:
        lines = f"this check could not be run, which is no fault of the change: {reason(error)}"
        for _, run in left.values():
            failed = {"status": "failed", "conclusion": ERROR, "lines": lines, "at": _now()}
            _save(home, project, number, {**run, **failed})
        raise


def _test_merge(project: Project, record: _pulls.Record) -> tuple[str, str, str]:
    """Head, base, and the commit that merging one into the other gives."""
    what = f"pull request '{record['number']}'"
    if record["state"] != "open":
        raise AoError(f"cannot check {what}: it is {record['state']}")
    head, base = record["head_sha"], git.commit(project.path, git.HEADS + record["base_branch"])
    if base is None:
        raise AoError(f"cannot check {what}: there is no branch '{record['base_branch']}'")
    tree = git.merge_tree(project.path, base, head)
    if tree is None:
        raise AoError(f"cannot check {what}: it conflicts with '{record['base_branch']}'")
    return head, base, git.commit_tree(project.path, tree, [base, head], f"Test merge of #{record['number']}\n", {})


def _run(entry: dict[str, Any], folder: str, log: str) -> Run:
    """Run one check with its output in `log`: its status, conclusion, and the end of its log."""
    with open(log, "wb") as file:
        argv = ["sh", "-c", entry["run"]]  # the project's own configuration, never a text from outside
        seconds = clock.duration(entry["timeout"])
        try:
            code = proc.run("check", argv, cwd=folder, env=_environment(), output=file.fileno(), seconds=seconds).code
            conclusion = "FAILURE" if code else "SUCCESS"
        except proc.TimedOut:
            conclusion = "TIMED_OUT"
            os.write(file.fileno(), f"\nstopped: it did not end within {entry['timeout']}\n".encode())
    status = "passed" if conclusion == "SUCCESS" else "failed"
    return {"status": status, "conclusion": conclusion, "lines": _end(log)}


def _environment() -> dict[str, str]:
    """What a check sees: nothing of the session that started it, and no variable that would lead git elsewhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AO_")}
    return {**{key: value for key, value in kept.items() if key not in git.LOCAL_VARIABLES}, "CI": "true"}


def _end(log: str) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - 8 * BYTES_KEPT))
        text = render.harmless(file.read().decode("utf-8", "replace"))
    lines = text.rstrip().split("\n")[-LINES_KEPT:]
    return "\n".join(lines).encode()[-BYTES_KEPT:].decode("utf-8", "ignore")


def _save(home: str, project: Project, number: int, run: Run) -> None:
    key = ("name", "head_sha", "base_sha")

    def replace(record: _pulls.Record) -> None:
        others = [old for old in record["runs"] if any(old[word] != run[word] for word in key)]
        record["runs"] = [*others, run][-RUNS_KEPT:]

    _pulls.change(home, project.id, number, replace)


def _shown(name: str, run: Run | None, alive: bool) -> dict[str, str]:
    if run is None or (run["status"] == "running" and not alive):
        return {"name": name, "status": "pending", "url": "", "conclusion": ""}
    is_due = run["conclusion"] == ERROR and time.time() - (clock.parse(run["at"]) or 0.0) >= RETRY_AFTER
    conclusion = RETRY if is_due else run["conclusion"]
    return {"name": name, "status": run["status"], "url": f"file://{run['log']}", "conclusion": conclusion}


def _is_done(run: Run | None) -> bool:
    return run is not None and run["status"] != "running" and run["conclusion"] != ERROR


def _now() -> str:
    return clock.iso(time.time())
