"""What can go wrong between GitHub and who asks: switched on for all requests, some, or the next few."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

DOCS = "https://docs.github.com/rest"
PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>Server Error</h1></body></html>"
PARTIAL = "Something went wrong while executing your query. Please include `%s` when reporting this issue."
SILENT = ("hang", "truncated", "cut")  # the connection breaks, or the answer does
KINDS = ("unauthorized", "rate_limit", "secondary", "server_error", "bad_gateway", "status", "partial", *SILENT)


@dataclasses.dataclass
class Answer:
    """What goes back over HTTP."""

    status: int
    body: Any = None  # JSON, text, or None for no body
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Fault:
    """One fault; `left` is None while it holds until it is ended with `stop()`."""

    kind: str
    on: re.Pattern[str] | None  # looked for in `METHOD host/path` and the lines of a query; None: every API request
    left: int | None
    done: bool  # the request takes effect, and only its answer is lost
    alias: re.Pattern[str] | None  # what fails in a partial answer
    options: dict[str, Any]
    hits: int = 0

    def stop(self) -> None:
        self.left = 0

    def takes(self, request: str, is_api: bool) -> bool:
        """Whether it strikes this request, which is counted then."""
        wanted = self.on or self.alias  # a partial answer is one to a query that has this alias
        if self.left == 0 or not (is_api if wanted is None else wanted.search(request)):
            return False
        self.hits += 1
        self.left = None if self.left is None else self.left - 1
        return True

    def answer(self, is_graphql: bool, now: float) -> Answer:
        """The answer in place of the right one, for all kinds that have a whole one."""
        wait = self.options.get("seconds", 60)
        if self.kind == "unauthorized":
            return refusal(401, "Bad credentials")
        if self.kind == "rate_limit":
            return limited(is_graphql, int(now + wait), self.options.get("type", "RATE_LIMITED"))
        if self.kind == "secondary":
            text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
            return dataclasses.replace(
                refusal(self.options.get("status", 429), text), headers={"retry-after": str(wait)}
            )
        if self.kind == "bad_gateway":
            return Answer(502, PAGE, {"Content-Type": "text/html"})
        return refusal(self.options.get("status", 500), self.options.get("message", "Server Error"))


def make(kind: str, on: str | None, times: int | None, done: bool, alias: str | None, options: dict[str, Any]) -> Fault:
    assert kind in KINDS, f"no such fault: {kind}"
    assert (kind == "partial") == (alias is not None), "a partial answer, and no other, needs the alias that fails"
    return Fault(kind, re.compile(on, re.M) if on else None, times, done, re.compile(alias) if alias else None, options)


def refusal(status: int, message: str, *errors: object) -> Answer:
    body = {"message": message, **({"errors": list(errors)} if errors else {}), "documentation_url": DOCS}
    return Answer(status, body)


def limited(is_graphql: bool, reset: int, type: str = "RATE_LIMITED") -> Answer:
    """The hourly budget is gone: GraphQL says so with status 200, and by one of two types."""
    text = "API rate limit exceeded for user ID 1."
    answer = Answer(200, {"errors": [{"type": type, "message": text}]}) if is_graphql else refusal(403, text)
    answer.headers |= {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)}
    return answer


def encode(answer: Answer) -> bytes:
    if answer.body is None or isinstance(answer.body, str):
        return (answer.body or "").encode()
    return json.dumps(answer.body).encode()
