"""A model for real agents, on loopback: it does what the rules of a test say, and remembers what was asked and charged.

Nothing of a conversation is kept between two requests. The last message of a person in a request is looked up in
`rules`, newest first, by regular expression; its steps are taken one after the other, and the number of tool results
behind that message says which one is next. So any number of agents can be served at once, and one that was killed and
resumed is answered as if nothing had happened.

An agent's protocol is a class that says how its requests are read and answered; see `PROTOCOLS`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

NOT_A_PERSON = re.compile(  # what agents add to messages by themselves
    r"<(system-reminder|environment_context|user_instructions|INSTRUCTIONS|turn_aborted)>.*?</\1>"
    r"|# AGENTS\.md instructions[^\n]*",
    re.S,
)


class Run(NamedTuple):
    """Call the agent's shell tool."""

    command: str


class Use(NamedTuple):
    """Call another tool of the agent."""

    tool: str
    arguments: dict[str, Any]


class Say(NamedTuple):
    """Say something, which ends the turn."""

    text: str


class Refuse(NamedTuple):
    """Answer with an HTTP error."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    kind: str = "api_error"
    message: str = "refused by a test"
    details: Mapping[str, Any] = MappingProxyType({})  # further fields of the error


class Wait(NamedTuple):
    """Think until a test says that it is enough, and go on with the next step."""

    enough: threading.Event


Step = Run | Use | Say | Refuse | Wait
DONE = Say("Done.")


class Asked(NamedTuple):
    """What a request wants to know."""

    model: str
    text: str  # the last message of a person
    results: int  # tool results behind it
    tools: dict[str, Any]  # name -> the schema of its arguments; {} for questions that are no part of the work
    wait: Use | None = None  # how to wait for a tool that was left running


class Charge(NamedTuple):
    """The tokens of one answer; every count of every answer is another one, so that no mistake can hide."""

    input: int
    output: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int


class Wire(Protocol):
    PATH: str  # how the path of its requests ends
    CHARGES_WRITES: bool  # whether it counts what is written to the cache apart

    def read(self, body: dict[str, Any]) -> Asked: ...

    # Each event of the stream, by name.
    def answer(self, id: str, asked: Asked, step: Step, charge: Charge) -> Iterator[tuple[str, dict[str, Any]]]: ...


class Messages:
    """Anthropic's Messages."""

    PATH, CHARGES_WRITES = "/v1/messages", True

    def read(self, body: dict[str, Any]) -> Asked:
        text, results = "", 0
        for message in body.get("messages") or []:
            blocks = message["content"] if message["role"] == "user" else ()
            for block in [{"type": "text", "text": blocks}] if isinstance(blocks, str) else blocks:
                said = NOT_A_PERSON.sub("", block.get("text") or "").strip()
                if block["type"] == "tool_result":
                    results += 1
                elif block["type"] == "text" and said:
                    text, results = said, 0
        tools = {tool["name"]: tool.get("input_schema") or {} for tool in body.get("tools") or []}
        return Asked(body["model"], text, results, tools)

    def answer(self, id: str, asked: Asked, step: Step, charge: Charge) -> Iterator[tuple[str, dict[str, Any]]]:
        block, delta, stop = self._block(id, asked, step)
        writes = {
            "ephemeral_5m_input_tokens": charge.cache_write_5m,
            "ephemeral_1h_input_tokens": charge.cache_write_1h,
        }
        usage = {
            "input_tokens": charge.input,
            "output_tokens": 1,
            "cache_read_input_tokens": charge.cache_read,
            "cache_creation_input_tokens": sum(writes.values()),
            "cache_creation": writes,
        }
        message = {"id": id, "type": "message", "role": "assistant", "model": asked.model, "content": []}
        message |= {"usage": usage, "stop_reason": None, "stop_sequence": None}
        yield "message_start", {"message": message}
        yield "content_block_start", {"index": 0, "content_block": block}
        yield "content_block_delta", {"index": 0, "delta": delta}
        yield "content_block_stop", {"index": 0}
        ends = {"stop_reason": stop, "stop_sequence": None}
        yield "message_delta", {"delta": ends, "usage": {**usage, "output_tokens": charge.output}}
        yield "message_stop", {}

    def _block(self, id: str, asked: Asked, step: Step) -> tuple[dict[str, Any], dict[str, Any], str]:
        if isinstance(step, Run):
            shell = next(name for name in asked.tools if name in ("Bash", "bash"))
            step = Use(shell, {"command": step.command, "description": "a step"})
        if isinstance(step, Use):
            block = {"type": "tool_use", "id": f"toolu_{id}", "name": step.tool, "input": {}}
            return block, {"type": "input_json_delta", "partial_json": json.dumps(step.arguments)}, "tool_use"
        assert isinstance(step, Say)
        return {"type": "text", "text": ""}, {"type": "text_delta", "text": step.text}, "end_turn"


class Responses:
    """OpenAI's Responses."""

    PATH, CHARGES_WRITES = "/responses", False

    def read(self, body: dict[str, Any]) -> Asked:
        text, results, wait = "", 0, None
        for item in body["input"]:
            parts = item.get("content") or ()
            said = NOT_A_PERSON.sub("", "\n".join(part.get("text") or "" for part in parts)).strip()
            if item["type"].endswith("_output"):
                running = re.search(r"running with session ID (\d+)", str(item["output"]))
                wait = Use("write_stdin", {"session_id": int(running[1]), "chars": ""}) if running else None
                results += wait is None
            elif item.get("role") == "user" and said:
                text, results, wait = said, 0, None
        tools = {tool.get("name") or tool["type"]: tool.get("parameters") or {} for tool in body.get("tools") or []}
        if "Do not provide the `sandbox_permissions`" in json.dumps(body["input"]):
            tools["exec_command"]["properties"].pop("sandbox_permissions")
        return Asked(body["model"], text, results, tools, wait)

    def answer(self, id: str, asked: Asked, step: Step, charge: Charge) -> Iterator[tuple[str, dict[str, Any]]]:
        item = self._item(id, asked, step)
        usage = {
            "input_tokens": charge.input + charge.cache_read,
            "input_tokens_details": {"cached_tokens": charge.cache_read},
            "output_tokens": charge.output,
            "output_tokens_details": {"reasoning_tokens": charge.output // 2},
            "total_tokens": charge.input + charge.cache_read + charge.output,
        }
        response = {"id": id, "object": "response", "model": asked.model, "output": [], "usage": None}
        yield "response.created", {"response": {**response, "status": "in_progress"}}
        yield "response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress"}}
        yield "response.output_item.done", {"output_index": 0, "item": item}
        done = {**response, "status": "completed", "output": [item], "usage": usage}
        yield "response.completed", {"response": done}

    def _item(self, id: str, asked: Asked, step: Step) -> dict[str, Any]:
        if isinstance(step, Run):
            asks = "sandbox_permissions" in asked.tools["exec_command"]["properties"]
            leave = {"sandbox_permissions": "require_escalated", "justification": "May I?"} if asks else {}
            step = Use("exec_command", {"cmd": step.command, **leave})
        if isinstance(step, Use):
            namespace, _, name = step.tool.rpartition(".")
            call = {"type": "function_call", "id": f"fc_{id}", "call_id": f"call_{id}", "name": name}
            call |= {"namespace": namespace} if namespace else {}
            return {**call, "arguments": json.dumps(step.arguments), "status": "completed"}
        assert isinstance(step, Say)
        text = [{"type": "output_text", "text": step.text, "annotations": []}]
        return {"type": "message", "id": id, "role": "assistant", "status": "completed", "content": text}


class Whole:
    """OpenAI's Chat Completions, each answered as a whole and without tools: a command is proposed in the text."""

    PATH, CHARGES_WRITES = "/whole/chat/completions", False

    def read(self, body: dict[str, Any]) -> Asked:
        system = body["messages"][0]["content"]
        is_aside = re.search("Git commit messages|summarize this partial conversation", system)
        text = [message["content"] for message in body["messages"] if message["role"] == "user"][-1]
        return Asked(body["model"], text, 0, {} if is_aside else {"text": {}})

    def answer(self, id: str, asked: Asked, step: Step, charge: Charge) -> Iterator[tuple[str, dict[str, Any]]]:
        assert isinstance(step, Run | Say)
        text = step.text if isinstance(step, Say) else f"Please run:\n\n```bash\n{step.command}\n```\n"
        usage = {
            "prompt_tokens": charge.input + charge.cache_read,
            "prompt_tokens_details": {"cached_tokens": charge.cache_read},
            "completion_tokens": charge.output,
            "total_tokens": charge.input + charge.cache_read + charge.output,
        }
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        yield "", {"id": id, "object": "chat.completion", "model": asked.model, "choices": [choice], "usage": usage}


PROTOCOLS: tuple[Wire, ...] = (Messages(), Responses(), Whole())


class Model:
    """The server; `url` is where it listens."""

    def __init__(self) -> None:
        self.rules: list[tuple[str, list[Step]]] = []
        self.asked: list[Asked] = []  # of everything that is part of the work
        self.bodies: list[str] = []  # of the same
        self.charged: list[tuple[str, Charge]] = []  # (model, tokens) of each answer to it
        self.aside: list[str] = []  # questions that are no part of the work, and no rule answers
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def on(self, pattern: str, *steps: Step) -> None:
        """What to do when a person's message holds the pattern; the newest rule that fits counts."""
        with self._lock:
            self.rules.insert(0, (pattern, list(steps)))

    def next_step(self, asked: Asked) -> Step:
        """The step that is due; a Wait is waited for on the way to it."""
        if asked.wait:
            return asked.wait
        left = asked.results
        for step in next((steps for pattern, steps in self.rules if re.search(pattern, asked.text)), []):
            if isinstance(step, Wait):
                if not left:
                    step.enough.wait()
            elif left and isinstance(step, Run | Use):
                left -= 1
            else:
                return step
        return DONE

    def charge(self, wire: Wire, asked: Asked, body: str) -> tuple[str, Charge]:
        with self._lock:
            number = len(self.charged) + 1
            charge = Charge(*(base + number for base in (3_000, 500, 20_000, 1_000, 100)))
            if not wire.CHARGES_WRITES:
                charge = charge._replace(cache_write_5m=0, cache_write_1h=0)
            if "bash" in asked.tools:  # OpenCode asks for none that is kept for an hour
                charge = charge._replace(cache_write_1h=0)
            self.charged.append((asked.model, charge))
            self.asked.append(asked)
            self.bodies.append(body)
        return f"msg_{number:06}_{int(time.time() * 1000)}", charge


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def log_message(self, *args: object) -> None:
        """Not on the terminal of the tests."""

    def do_HEAD(self) -> None:
        self._reply(200, {})

    def do_GET(self) -> None:
        self._reply(404, {"error": {"type": "not_found_error", "message": self.path}})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = self.path.partition("?")[0]
        wire = next((wire for wire in PROTOCOLS if path.endswith(wire.PATH)), None)
        if wire is None:
            self._reply(404, {"error": {"type": "not_found_error", "message": self.path}})
            return
        asked = wire.read(json.loads(raw))
        if not asked.tools:
            self.model.aside.append(asked.text)
            self._stream(wire.answer("msg_aside", asked, DONE, Charge(1, 1, 0, 0, 0)))
            return
        step = self.model.next_step(asked)
        if isinstance(step, Refuse):
            error = {"type": step.kind, "message": step.message, **step.details}
            self._reply(step.status, {"type": "error", "error": error}, step.headers)
            return
        id, charge = self.model.charge(wire, asked, raw)
        self._stream(wire.answer(id, asked, step, charge))

    def _reply(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it was killed while it listened
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    def _stream(self, events: Iterator[tuple[str, dict[str, Any]]]) -> None:
        """Answer with events; one without a name is the whole answer."""
        first = next(events)
        if not first[0]:
            self._reply(200, first[1])
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for name, content in itertools.chain([first], events):
                self.wfile.write(f"event: {name}\ndata: {json.dumps({'type': name, **content})}\n\n".encode())
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was killed while it listened
