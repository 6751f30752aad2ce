"""GitHub through the real `gh`: the one place that calls it, and the budget that every process shares.

Only `gh api` is used, whose form does not change with its version, and `gh` keeps the token: ao never sees one. A
definite no is Refused; whatever else is not an answer is Unknown. `hosts/<host>.yaml` says how much may still be asked
and until when nobody asks at all, and every process reads it first.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from typing import Any, NamedTuple
from urllib.parse import quote

from lib import cache, config, git, paths, proc, render, store
from lib.clock import iso
from lib.config import Project
from lib.errors import AoError, Unknown, Unreadable

ENTERPRISE_TOKENS = ("GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN")
TOKENS = frozenset(("GH_TOKEN", "GITHUB_TOKEN", *ENTERPRISE_TOKENS))
NOT_INHERITED = ("GH_DEBUG", "DEBUG", "GH_REPO", "GH_FORCE_TTY", "CLICOLOR_FORCE")  # they change what is printed
LONGEST_COOL_DOWN = 3900.0  # seconds; GitHub's windows last an hour, so more means that a clock was set back
COOL_DOWN = 60.0  # seconds, where GitHub asks for patience and does not say for how long
ANSWERS_KEPT = 200  # conditional requests
SHARE = 2  # looks may use one part in so many of the hourly budget
LIMIT = 5000  # points an hour, until a host has said otherwise
ROUNDS_COUNT = 600.0  # seconds for which another project's last round counts as its rate
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAMED = re.compile(rf"(?:(?P<host>{_PART})/)?(?P<path>{_PART}/{_PART})")
_URL = re.compile(r"(?:(?:git\+)?ssh|ssh\+git|git|https?)://(?:[^/@]*@)?(?P<host>[^/:@]+)(?::\d*)?/+(?P<path>.+)", re.I)
_SCP = re.compile(r"(?:[^/@:]+@)?(?P<host>[^/:@]+):(?!//)/*(?P<path>.+)")


class Refused(AoError):
    """GitHub's definite no: there is no such thing, or it may not be."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class NoAnswer(Unknown):
    """GitHub has failed or taken too long, perhaps because it was asked for much."""


class Repo(NamedTuple):
    """A repository at a host that speaks GitHub's API."""

    host: str
    owner: str
    name: str

    def path(self, *parts: object) -> str:
        """`repos/OWNER/NAME/...`; slashes inside a part stay, everything else is quoted."""
        return "/".join(["repos", quote(self.owner, ""), quote(self.name, ""), *(quote(str(part)) for part in parts)])

    def __str__(self) -> str:
        return f"{self.host}/{self.owner}/{self.name}"


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str
    body: Any  # the text as JSON; None where it is none, or was cut short
    has_failed: bool  # as far as gh is concerned, also for parts of an answer


def repository(project: Project, named: str | None = None) -> Repo:
    """The repository that a project's pull requests are in: `named`, the setting `repo`, else where origin is.

    Unknown when that cannot be told: what is to be done there is still to be done once somebody has said where.
    """
    text = named or config.setting(project, "repo")
    try:
        found = parse(text or git.run(project.path, "remote", "get-url", "origin").out)
    except AoError as error:
        raise Unknown(str(error)) from error
    if found is None:
        what = f"'{text}' names no repository" if text else f"the remote 'origin' of '{project.path}' does not say"
        raise Unknown(f"cannot tell where project '{project.id}' is at GitHub: {what}; set repo: host/owner/name")
    return found


def parse(text: str) -> Repo | None:
    """The repository of a remote's URL, as git spells them, or of `[host/]owner/name`; None for anything else."""
    text = text.strip()
    match = _URL.fullmatch(text) or _NAMED.fullmatch(text) or _SCP.fullmatch(text)
    if not match or (match.re is _SCP and "://" in text):
        return None
    host = re.sub(r"^(ssh|www)\.github\.com$", "github.com", (match["host"] or "github.com").lower())
    path = re.fullmatch(rf"({_PART})/({_PART}?)(?:\.git)?/*", match["path"])
    return Repo(host, path[1], path[2]) if path and path[2] and paths.is_name(host) else None


def spelled_like(url: str, repo: Repo) -> str:
    """The URL of a repository at the host of the remote `url`, which says how: by ssh or https.

    Without what stands before the host in https, which may be a token: git is told it on a command line.
    """
    match = _URL.fullmatch(url) or _SCP.fullmatch(url)
    if not match or parse(url) is None:
        raise AoError("the remote 'origin' does not say where at GitHub it is")
    where = re.sub(r"^(https?://)[^/@]*@", r"\1", url[: match.start("path")], flags=re.I)
    return f"{where}{repo.owner}/{repo.name}.git"


def ask(home: str, host: str, path: str, method: str = "GET", fields: Any = None, raw: bool = False) -> Any:
    """The answer of GitHub's REST API: parsed JSON, or with `raw` its text. Raises Refused or Unknown.

    A GET is conditional: what has not changed since is not sent again and costs nothing.
    """
    key, is_kept = f"{host} {path}", method == "GET" and not raw
    known = cache.load(home, "github-answers") if is_kept else {}
    etag, old = known.get(key, ("", None))
    answer = _call(home, host, path, method, fields, etag)
    if answer.status == 304:
        return old
    _check(home, host, f"{method} {path}", answer)
    body = answer.text if raw else answer.body
    if not raw and body is None and answer.text.strip():
        raise Unknown(f"the answer of {host} to {method} {path} was cut short")
    if is_kept and answer.headers.get("etag"):
        others = [one for one in cache.load(home, "github-answers").items() if one[0] != key]
        cache.save(home, "github-answers", dict([*others, (key, (answer.headers["etag"], body))][-ANSWERS_KEPT:]))
    return body


def graphql(home: str, host: str, query: str, variables: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Data and errors of a GraphQL request: a part of it may have failed. Raises Refused or Unknown."""
    answer = _call(home, host, "graphql", "POST", {"query": query, "variables": variables})
    _check(home, host, "a query", answer)
    body = answer.body
    if not isinstance(body, dict):
        raise Unknown(f"the answer of {host} to a query was cut short")
    errors = body.get("errors") or ([body] if body.get("message") else [])
    for error in errors:  # a limit may come with status 200, and its type is not always the one that is documented
        message = _words(error.get("message"))
        if str(error.get("type")).startswith("RATE_LIMIT") or "rate limit" in message.lower():
            raise _cool_down(home, host, answer, message)
    if not isinstance(body.get("data"), dict):
        raise NoAnswer(f"{host} answered a query with: {_words(errors[0].get('message') if errors else 'nothing')}")
    return body["data"], errors


def mutate(home: str, host: str, name: str, key: str, id: str) -> None:
    """Carry out a mutation of GraphQL whose input is the id of what it changes. Raises Refused or Unknown."""
    text = f"mutation($id: ID!) {{ {name}(input: {{{key}: $id}}) {{ clientMutationId }} }}"
    _, errors = graphql(home, host, text, {"id": id})
    if errors:
        raise Refused(f"{host} refuses {name}: {_words(errors[0].get('message'))}", 422)


def budget(home: str, host: str) -> dict[str, Any]:
    """What is known of a host: `core`, `graphql` {limit remaining reset_at}, `cool_until`, `why`, `rounds`."""
    path = paths.host(home, host)
    try:
        return store.read(path) or {}
    except Unreadable:
        store.set_aside(path, iso(time.time()))
        return {}


def note_round(home: str, host: str, project: str, points: int) -> None:
    """Note what a round of looks at a project's pull requests has cost."""
    cost = {"points": points, "at": int(time.time())}
    _note(home, host, lambda known: known.setdefault("rounds", {}).update({project: cost}))


def pause(home: str, host: str) -> float:
    """Seconds between two rounds of looks, so that all projects of a host use half of its hourly budget at most."""
    known, now = budget(home, host), time.time()
    rounds = (known.get("rounds") or {}).values()
    points = sum(one["points"] for one in rounds if abs(now - one["at"]) < ROUNDS_COUNT)
    has = known.get("graphql") or {}
    hourly = points * 3600 * SHARE / max(1, has.get("limit") or LIMIT)
    left = min(3600.0, max(0.0, (has.get("reset_at") or 0.0) - now))
    return float(max(hourly, points * left * SHARE / max(1, has.get("remaining", LIMIT)) if left else 0.0))


def login(home: str, host: str) -> str:
    """Who `gh` is at a host."""
    return str(ask(home, host, "user")["login"])


def standing(home: str, host: str) -> tuple[list[str] | None, dict[str, Any]]:
    """The scopes of the token that `gh` has for a host, None where it has no such thing, and GitHub's own count."""
    answer = _call(home, host, "rate_limit", "GET", None)
    if answer.status != 404:  # an Enterprise host may have no limits
        _check(home, host, "rate_limit", answer)
    scopes = answer.headers.get("x-oauth-scopes")
    names = None if scopes is None else [word.strip() for word in scopes.split(",") if word.strip()]
    return names, (answer.body or {}).get("resources") or {}


def _call(home: str, host: str, path: str, method: str, fields: Any, etag: str = "") -> _Answer:
    """One request. What was not written by ao goes into the body, never onto the command line as an option."""
    _wait(home, host)
    argv = ["gh", "api", "-i", "--method", method, path]
    argv += ["--preview", "merge-info"] if path == "graphql" else []  # without it Enterprise has no mergeStateStatus
    argv += ["--header", f"If-None-Match: {etag}"] if etag else []
    argv += ["--input", "-"] if fields is not None else []
    text = None if fields is None else json.dumps(fields)
    changes = method != "GET" and not str((fields or {}).get("query")).startswith("query")
    try:
        done = proc.run("gh", argv, env=_environment(host), input=text, changes=changes)
    except Unknown as error:
        raise NoAnswer(_noted(home, host, f"{host} did not answer within {proc.LIMITS['gh']} s")) from error
    head, _, body = done.out.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    status = re.match(r"HTTP/\S+ (\d{3})", first)
    if not status:
        is_out = done.code == 4 or "gh auth login" in done.err
        raise Unknown(_noted(home, host, _logged_out(host) if is_out else f"cannot ask {host}: {_words(done.err)}"))
    headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    parsed = None
    with contextlib.suppress(ValueError):
        parsed = json.loads(body)
    answer = _Answer(int(status[1]), headers, body, parsed, bool(done.code))
    _note(home, host, lambda known: _count(known, answer))
    return answer


def _check(home: str, host: str, what: str, answer: _Answer) -> None:
    """Nothing for a whole answer; else Refused or Unknown."""
    status, body = answer.status, answer.body
    message = _words(str(body.get("message") or "") if isinstance(body, dict) else answer.text)
    is_limit = "retry-after" in answer.headers or answer.headers.get("x-ratelimit-remaining") == "0"
    if status == 429 or (status == 403 and (is_limit or "rate limit" in message.lower())):
        raise _cool_down(home, host, answer, message)
    if status == 401:
        raise Unknown(_noted(home, host, _logged_out(host)))
    if status >= 500 or status < 200:
        raise NoAnswer(_noted(home, host, f"{host} answered {what} with {status}: {message}"))
    if status >= 300:
        details = body.get("errors") if isinstance(body, dict) else None
        more = [one.get("message") if isinstance(one, dict) else one for one in details or ()]
        text = "; ".join(str(one) for one in (message, *more) if one)
        raise Refused(f"{host} refuses {what}: {_words(text)} ({status})", status)
    if answer.has_failed and body is None:
        raise Unknown(_noted(home, host, f"the answer of {host} to {what} was cut short"))


def _logged_out(host: str) -> str:
    return f"gh is not logged in at {host}; run: gh auth login --hostname {host}"


def _noted(home: str, host: str, why: str) -> str:
    _note(home, host, lambda known: known.update(why=why))
    return why


def _cool_down(home: str, host: str, answer: _Answer, message: str) -> Unknown:
    """Nobody asks a host before the time that it says; Unknown with that time."""
    until = time.time() + _patience(answer)
    why = f"{host} asks to wait until {iso(until)}: {message}"
    _note(home, host, lambda known: known.update(cool_until=max(until, known.get("cool_until") or 0.0), why=why))
    return Unknown(why)


def _patience(answer: _Answer) -> float:
    """Seconds to wait, by GitHub's clock: this machine's may be wrong."""
    after, reset = answer.headers.get("retry-after", ""), answer.headers.get("x-ratelimit-reset", "")
    if after.isdecimal():
        return min(float(after), LONGEST_COOL_DOWN)
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdecimal():
        return min(max(1.0, float(reset) + 1 - _server_time(answer)), LONGEST_COOL_DOWN)
    return COOL_DOWN


def _server_time(answer: _Answer) -> float:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return time.time()


def _wait(home: str, host: str) -> None:
    known, now = budget(home, host), time.time()
    if now < (known.get("cool_until") or 0.0) <= now + LONGEST_COOL_DOWN:
        raise Unknown(str(known.get("why")))


def _count(known: dict[str, Any], answer: _Answer) -> None:
    """Take over what an answer says about the budget."""
    names, found = ("limit", "remaining", "reset"), answer.headers
    numbers = [found.get(f"x-ratelimit-{name}", "") for name in names]
    if all(number.isdecimal() for number in numbers):
        limit, remaining, reset = map(int, numbers)
        reset_at = int(time.time() + reset - _server_time(answer))
        has = {"limit": limit, "remaining": remaining, "reset_at": reset_at}
        known[found.get("x-ratelimit-resource") or "core"] = has
    if answer.status < 400 and (known.get("cool_until") or 0.0) < time.time():
        known.update(cool_until=None, why=None)


def _note(home: str, host: str, change: Any) -> None:
    with contextlib.suppress(AoError):  # it is only an estimate, and no reason to know less
        budget(home, host)  # sets a damaged one aside
        store.update(paths.host(home, host), change)


def _environment(host: str) -> dict[str, str]:
    """What gh finds. A token for one's own Enterprise host is not sent to whatever host a remote happens to name."""
    dropped = {*NOT_INHERITED, *(ENTERPRISE_TOKENS if os.environ.get("GH_HOST", "").lower() != host else ())}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "GH_HOST": host, "GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1"}


def _words(text: Any) -> str:
    return " ".join(render.harmless(str(text)).split())[:300] or "without a word"
