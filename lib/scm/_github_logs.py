"""Why checks of GitHub failed: of a job the step and the end of that step's log, of others what they say themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lib import gh, render
from lib.clock import parse
from lib.scm import Failure, _github_facts

MOST_LOGS = 6  # that are fetched; the message has room for no more
LINES_KEPT, BYTES_KEPT = 80, 6000  # of the end of a log
ENDED_BADLY = ("failure", "timed_out", "cancelled")
_JOB = re.compile(r"/actions/runs/\d+/job/(\d+)")
_LINE = re.compile(r"^\ufeff?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z ?(.*)$")
_MARK = re.compile(r"^##\[(group|endgroup|command|debug|section)\]")


def failures(home: str, repo: gh.Repo, nodes: Sequence[Mapping[str, Any]]) -> list[Failure]:
    """What is behind each red check."""
    found: list[Failure] = []
    newest = _github_facts.newest(nodes)
    for check in (one for one in _github_facts.checks(nodes) if one["status"] == "failed"):
        job, step, log = _JOB.search(check["url"]), "", _own_words(newest[check["name"]])
        if job and len(found) < MOST_LOGS:
            step, log = _job(home, repo, job[1], log)
        found.append(Failure(check["name"], check["url"], step, log))
    return found


def _job(home: str, repo: gh.Repo, id: str, otherwise: str) -> tuple[str, str]:
    """The failing step of a job and the end of its log; `otherwise` where GitHub definitely has none."""
    step: dict[str, Any] = {}
    try:
        steps = gh.ask(home, repo.host, repo.path("actions/jobs", id)).get("steps") or []
        step = next((one for one in steps if one["conclusion"] in ENDED_BADLY), step)
        log = excerpt(gh.ask(home, repo.host, repo.path("actions/jobs", id, "logs"), raw=True), step)
    except gh.Refused as error:
        log = otherwise or f"its log cannot be read: {error}"
    return str(step.get("name") or ""), log


def excerpt(log: str, step: Mapping[str, Any]) -> str:
    """The last lines of a step's part of a job's log, without their times: up to the error that ended it."""
    begin, end = parse(step.get("started_at")), parse(step.get("completed_at"))
    lines = [_LINE.match(line) or line for line in render.harmless(log).split("\n")]
    timed = [(parse(one[1] + "Z") or 0.0, one[2]) for one in lines if not isinstance(one, str)]
    inside = [text for at, text in timed if begin is not None and end is not None and begin <= at <= end]
    texts = inside or [one if isinstance(one, str) else one[2] for one in lines]
    errors = [place for place, text in enumerate(texts) if text.startswith("##[error]")]
    kept = [_MARK.sub("", text) for text in texts[: errors[-1] + 1 if errors else None]]
    return "\n".join(kept[-LINES_KEPT:]).strip("\n").encode()[-BYTES_KEPT:].decode("utf-8", "ignore")


def _own_words(node: Mapping[str, Any]) -> str:
    words = [node.get(field) for field in ("title", "summary", "text", "description")]
    return "\n".join(str(word) for word in words if word)[:BYTES_KEPT]
