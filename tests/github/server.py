"""HTTP: the API on a unix socket for gh, and on loopback as a proxy for git (and for gh without a socket)."""

from __future__ import annotations

import contextlib
import json
import re
import socketserver
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from . import bare, faults, queries, rest
from .faults import Answer, Fault
from .hub import ENTERPRISE, HOST, Hub, Request

GIT = re.compile(r"^/([^/]+/[^/]+?)(?:\.git)?(/info/refs|/git-(?:upload|receive)-pack)$")
PUSHED = re.compile(rb"[0-9a-f]{40} [0-9a-f]{40} refs/heads/([^\0\n]+)")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    hub: Hub

    def answer(self) -> None:
        began, hub = time.monotonic(), self.hub
        request = self._request()
        hub.stopped.wait(hub.latency)
        with hub.lock:
            hub.requests.append(request)
            hub.request_count += 1
            fault = hub.strike(request)
        try:
            answer = respond(hub, request, fault, self._raw)
        except Exception:
            hub.problems.append(traceback.format_exc())
            answer = faults.refusal(500, "the fake is broken")
        request.status, request.seconds = answer.status, time.monotonic() - began
        if fault and fault.kind == "hang":
            hub.stopped.wait(fault.options.get("seconds", 3600))
            self.close_connection = True
        else:
            self._send(answer, fault)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = answer

    def _request(self) -> Request:
        self._raw = self._body()
        split = urlsplit(self.path if self.path.startswith("http") else f"//{self.headers.get('Host', '')}{self.path}")
        host = (split.hostname or "").removeprefix("api.")
        path = split.path + (f"?{split.query}" if split.query else "")
        is_json = "json" in (self.headers.get("Content-Type") or "")
        body: Any = None
        with contextlib.suppress(ValueError):
            body = json.loads(self._raw) if is_json and self._raw else None
        query = body if isinstance(body, dict) and split.path.endswith("/graphql") else {}
        return Request(
            self.command,
            host,
            path,
            str(query.get("query", "")),
            query.get("variables") or {},
            body,
            {name.lower(): value for name, value in self.headers.items()},
            self.hub.now(),
        )

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        body = answer.body if isinstance(answer.body, bytes) else faults.encode(answer)
        self.send_response(answer.status)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Content-Length": str(len(body)),
            **answer.headers,
        }
        if fault and fault.kind == "truncated":  # a whole answer of half the text
            body = body[: len(body) // 2]
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if fault and fault.kind == "cut":  # the connection ends within the text
            body, self.close_connection = body[: len(body) // 2], True
        if answer.status not in (204, 304):
            self.wfile.write(body)

    def address_string(self) -> str:
        return "client"  # a unix socket has none

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):  # who asked has gone
            super().handle()


def respond(hub: Hub, request: Request, fault: Fault | None, raw: bytes) -> Answer:
    """The answer to a request, with its effect; a fault comes first unless it strikes on the way back."""
    lost = fault and fault.kind not in ("truncated", "cut", "partial")
    if fault and lost and not fault.done:
        return fault.answer(request.is_graphql, hub.now())
    if request.host not in (HOST, ENTERPRISE, f"logs.{HOST}"):
        hub.problems.append(f"a request to {request.method} {request.host}{request.path}")
        return faults.refusal(403, "nothing leaves this machine")
    path, _, query = request.path.partition("?")
    if match := GIT.match(path):
        answer = _git(hub, request, match, query, raw)
    else:
        with hub.lock:
            answer = _api(hub, request, fault)
    return fault.answer(request.is_graphql, hub.now()) if fault and lost else answer


def _api(hub: Hub, request: Request, fault: Fault | None) -> Answer:
    if request.host.startswith("logs."):
        return rest.download(hub, request)
    request.user = hub.tokens.get(request.headers.get("authorization", "").partition(" ")[2], "")
    if not request.user:
        return faults.refusal(401, "Bad credentials")
    if request.is_graphql:
        answer = queries.answer(hub, request, fault if fault and fault.alias else None)
    else:
        answer = rest.answer(hub, request)
    if request.method == "GET" or request.is_graphql:
        hub.looked()
    headers = {"x-github-request-id": f"A:{hub.request_count}"}
    headers |= {"x-oauth-scopes": hub.scopes} if hub.scopes is not None else {}
    if hub.is_limited(request.host):
        budget = hub.budget(request.is_graphql)
        limits: dict[str, object] = {
            "limit": budget.limit,
            "remaining": budget.limit - budget.used,
            "used": budget.used,
        }
        limits |= {"reset": int(budget.reset) + 1, "resource": "graphql" if request.is_graphql else "core"}
        headers |= {f"x-ratelimit-{name}": str(value) for name, value in limits.items()}
    answer.headers = {**headers, **answer.headers}
    return answer


def _git(hub: Hub, request: Request, match: re.Match[str], query: str, raw: bytes) -> Answer:
    name, path = match.groups()
    repo = hub.find(request.host, name, live=True)
    if repo is None:
        return Answer(404, "Repository not found.", {"Content-Type": "text/plain"})
    is_push = "receive-pack" in path + query
    if is_push and not repo.lets_push(hub.me, {name.decode() for name in PUSHED.findall(raw.partition(b"PACK")[0])}):
        return Answer(403, "Permission denied.", {"Content-Type": "text/plain"})
    root, inside = repo.path[: -len(f"/{repo.full_name}.git")], f"/{repo.full_name}.git{path}"
    headers = {name.title(): value for name, value in request.headers.items()}
    out = bare.serve(root, inside, request.method, query, headers, raw, hub.me)
    head, _, body = out.partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    if is_push and request.method == "POST":
        repo.refresh()
    return Answer(int(fields.pop("Status", "200").split()[0]), body, fields)


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


@contextlib.contextmanager
def serving(me: str = "me") -> Iterator[Hub]:
    """A GitHub that answers, until the end of the block."""
    queries.schema()  # takes a second, which is nobody's answer time
    hub = Hub(me)
    handler = type("HubHandler", (Handler,), {"hub": hub})
    ThreadingHTTPServer.request_queue_size = 64
    servers = [UnixServer(hub.socket, handler), ThreadingHTTPServer(("127.0.0.1", 0), handler)]
    hub.port = servers[1].server_address[1]
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        for server in servers:
            server.shutdown()
            server.server_close()
        hub.remove()
