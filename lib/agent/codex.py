"""Codex, OpenAI's program `codex`; what is said here of its files and screens was seen of version 0.169.0.

A conversation is a rollout, `sessions/<year>/<month>/<day>/rollout-<time>-<thread id>.jsonl` in its own folder
(CODEX_HOME, else ~/.codex), whose first line says in which folder it works. A session's worktree is its alone, so every
rollout of that folder that is younger than the session belongs to it; those of sub-agents only cost. A resumed thread
goes on in its file. For a new conversation the program asks the model for a title: what that costs is in no rollout.

Its `notify` hook is not used: it fires for the title too, in the middle of the work, replaces the person's own, and
tells nothing that the rollout does not tell at the same moment. Approvals and its own queue are only on the screen.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import re
import time
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lib import config, proc
from lib.agent import Check, Launch, Session, Story, _program, _screen, _tale
from lib.config import Project
from lib.errors import Unknown

INTERRUPT = "Escape"
HOME = ("CODEX_HOME", "~/.codex")
PERMISSIONS = {
    "permissionless": ["--dangerously-bypass-approvals-and-sandbox"],
    "default": [],  # what the person's own configuration says
    "auto-edit": ["--ask-for-approval", "on-request", "--sandbox", "workspace-write"],
    "suggest": ["--ask-for-approval", "on-request", "--sandbox", "read-only"],
}
SETTINGS = {  # of each start: no dialog that takes what is typed, and the line by which the input box is known
    "allow_login_shell": "false",  # whose profile would set another PATH, without the commands of ao
    "check_for_update_on_startup": "false",
    "notice.hide_rate_limit_model_nudge": "true",
    "tui.status_line": '["model-with-reasoning", "current-dir"]',
}
START = {  # dialogs at the start, which keep the task from the agent -> how to be spared them
    r"Trust this folder\?": "agent_config.trust: true accepts this for the repository",
    r"Sign in with ChatGPT": "log in with: codex login",
}
MENU = re.compile(r"^[›>] \d+\. ")
ASKS = re.compile(r"^  (Would|Do) you\b")
ENTRY = re.compile(r"^[•◦■›]")  # where a part of the conversation begins
BOX_END = re.compile(r"^  \S.* · [/~…]")  # `tui.status_line`
PLACEHOLDERS = ("Ask Codex to do anything", "Ask a follow-up question")
BUSY = re.compile(r"^[•◦] (.+) \((?:\d+[hms] ?)+ • esc to interrupt\)")
RETRYING = "Reconnecting"
QUEUE = re.compile(r"^• (?:Messages to be submitted|Queued) ")
QUEUED_SHOWS = 40  # characters without blanks by which a message is known in the queue, which shows three lines of it
RESETS = re.compile(
    r"[Tt]ry again at (?:(?P<month>[A-Z][a-z]{2}) (?P<day>\d+)[a-z]{2}, (?P<year>\d{4}) )?"
    r"(?P<hour>\d+):(?P<minute>\d\d) (?P<half>[AP]M)"
)
LOGINS = ("OPENAI_API_KEY", "CODEX_API_KEY")
LONGEST_FIRST_LINE = 4 << 20
DAY = datetime.timedelta(days=1)


class Rollout(NamedTuple):
    thread: str
    folder: str  # in which it works
    is_main: bool  # and no sub-agent


def prepare(project: Project, session: Session) -> None:
    """Nothing: it writes nothing into the worktree, and is told of the trust at its start."""


def launch(project: Project, session: Session, prompt: str | None) -> Launch:
    return _launch([*_flags(project, session), *(["--", prompt] if prompt else [])])


def resume(project: Project, session: Session) -> Launch | None:
    """In the conversation that was written to last; None when there is none in this worktree any more."""
    mains = {path: thread for path, (thread, is_main) in _rollouts(session, {}).items() if is_main}
    begun = [path for path in mains if any(_tale.words(path, _said))]
    return _launch([*_flags(project, session), "resume", mains[max(begun, key=os.path.getmtime)]]) if begun else None


def recall(project: Project, session: Session, state: dict[str, Any]) -> Story:
    for path, (thread, is_main) in _rollouts(session, state).items():
        _tale.learn(state, path, functools.partial(_take, state, session["created_at"], thread, is_main))
    return _tale.story(state)


def _look(screen: str) -> _screen.Look:
    lines = screen.rstrip().split("\n")
    box = _box(lines)
    if box is None:
        return _screen.without_box(_dialog(lines))
    busy = _busy(lines[:box])
    return _screen.with_box(lines[box][1:].strip() not in PLACEHOLDERS, bool(busy), busy.startswith(RETRYING))


read, obstacle, has_draft = _screen.functions(_look)  # whatever is typed while it works is queued by itself
fit = _tale.fit


def received(project: Project, session: Session, ids: Sequence[str], history: str | None) -> dict[str, bool | None]:
    """What it was sent by its rollouts, and what its screen shows in the queue of this life of it.

    The queue is in no file, and of a long message only the beginning is shown. As long as it works, a message that is
    nowhere may just be on its way out of there.
    """
    has = _tale.arrived((path for path, (_, is_main) in _rollouts(session, {}).items() if is_main), ids, _said)
    if session.get("runtime_state") == "alive" and history is not None:
        queue = _queue(history)
        begins = {one["id"]: _tight(fit(one["text"]))[:QUEUED_SHOWS] for one in session.get("inbox") or ()}
        has |= {id for id in ids if begins.get(id) and begins[id] in _tight(queue)} | _tale.among([queue], ids)
    return _tale.answers(session, ids, has, history, read(project, history or "").activity == "ready")


def program(project: Project) -> str | None:
    return "codex"


def check(project: Project) -> list[Check]:
    found = [_program.version("codex")]
    settings = _program.settings(os.path.join(_program.folder(*HOME), "config.toml"), tomllib.load)
    has_key = any(map(os.environ.get, LOGINS)) or "model_provider" in settings
    if not has_key and proc.run("tool", ["codex", "login", "status"]).code:
        found.append(_program.logged_out("codex login"))
    accepted = (settings.get("projects") or {}).get(project.path) or {}
    return found + _program.trust(project, "codex", accepted.get("trust_level") == "trusted")


# --- starting ---------------------------------------------------------------------------------------------------------


def _launch(words: list[str]) -> Launch:
    """Without its daemon, which would outlive the session."""
    return Launch(["codex", "--no-daemon", *words], {}, "--" in words, _program.folder(*HOME))


def _flags(project: Project, session: Session) -> list[str]:
    prompt = config.setting(project, "agent_config.system_prompt")
    settings = dict(SETTINGS)
    if prompt:
        settings["developer_instructions"] = _quoted(prompt)
    if config.setting(project, "agent_config.trust"):
        settings["projects"] = f'{{{_quoted(project.path)}={{trust_level="trusted"}}}}'
    return [
        *_program.options(project, session, PERMISSIONS),
        *(word for name, value in settings.items() for word in ("--config", f"{name}={value}")),
    ]


def _quoted(text: str) -> str:
    """A string of TOML, in which it reads the settings of a start."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


# --- rollouts ---------------------------------------------------------------------------------------------------------


def _rollouts(session: Session, state: dict[str, Any]) -> dict[str, tuple[str, bool]]:
    """The rollouts of the session's worktree: path -> (thread id, whether it is no sub-agent).

    A day's folder is listed again when it has changed; its time of change is kept in `state` with what was found.
    """
    listed, found = state.setdefault("listed", {}), state.setdefault("rollouts", {})
    home = _program.records(session) or _program.folder(*HOME)
    here = os.path.realpath(session["workspace_path"])
    for folder in _days(home, session["created_at"]):
        with contextlib.suppress(OSError):
            changed = os.stat(folder).st_mtime
            if listed.get(folder) == changed:
                continue
            is_whole = time.time() - changed > _tale.SETTLED
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                try:
                    one = _first_line(path)
                except Unknown:
                    is_whole = False
                    continue
                if one.folder == here:
                    found[path] = one.thread, one.is_main
            if is_whole:
                listed[folder] = changed
    return dict(found)


def _days(home: str, born: str) -> Iterator[str]:
    """The folders of the days since then, which are named by the clock on the wall; it may have been set back."""
    first = datetime.date.fromisoformat(born[:10])
    day, last = first - DAY, max(first, datetime.date.today()) + DAY
    while day <= last:
        yield os.path.join(home, "sessions", f"{day:%Y}", f"{day:%m}", f"{day:%d}")
        day += DAY


@functools.lru_cache(10_000)
def _first_line(path: str) -> Rollout:
    """What a rollout begins with, which never changes. Unknown when it is not written yet."""
    with open(path, "rb") as file:
        line = file.readline(LONGEST_FIRST_LINE)
    if not line.endswith(b"\n"):
        raise Unknown(f"'{path}' has no first line yet")
    said = _tale.parsed(line).get("payload")
    said = said if isinstance(said, dict) else {}
    return Rollout(str(said.get("id")), str(said.get("cwd")), said.get("thread_source") != "subagent")


def _take(state: dict[str, Any], born: str, thread: str, is_main: bool, entry: dict[str, Any]) -> None:
    """Learn from one line of a rollout; sub-agents only cost, and what a fork has copied was another thread's cost."""
    at, kind, said = _tale.noted(entry), entry.get("type"), entry.get("payload") or {}
    if at < born:
        return  # of an earlier session in the same folder, or of no interest
    if kind == "turn_context":
        state.setdefault("models", {})[thread] = said.get("model") or ""
    elif kind == "token_usage_record" and said.get("thread_id") == thread:
        _count(state, at, (state.get("models") or {}).get(thread, ""), said)
    elif kind == "event_msg" and is_main:
        _tell(state, at, said, thread)


def _count(state: dict[str, Any], at: str, model: str, record: dict[str, Any]) -> None:
    usage = record.get("usage") or {}
    cached, written = usage.get("cached_input_tokens") or 0, usage.get("cache_write_input_tokens") or 0
    new, out = max(0, (usage.get("input_tokens") or 0) - cached - written), usage.get("output_tokens")
    _tale.count(state, at, model, str(record.get("response_id")), new, out, cached, written)


def _tell(state: dict[str, Any], at: str, event: dict[str, Any], thread: str) -> None:
    """What an event says about the turn."""
    kind, error = event.get("type"), event.get("error") or {}
    if kind == "task_complete" and error:
        text = str(error.get("message") or error)
        is_limit = error.get("codex_error_info") == "usage_limit_exceeded"
        is_news = _tale.tell(state, at, "blocked", text, _reset(text, at) if is_limit else 0.0)
    elif kind in ("task_complete", "turn_aborted"):
        is_news = _tale.tell(state, at, "ready")
    elif kind == "task_started" or _said({"payload": event}):
        is_news = _tale.tell(state, at, "active", is_turn=True)
    else:
        return
    if is_news:
        state["session_id"] = thread


def _said(entry: dict[str, Any]) -> str:
    """The text of a person's message; "" for any other line."""
    item = (entry.get("payload") or {}).get("item") or {}
    if item.get("type") != "UserMessage":
        return ""
    return "\n".join(str(part.get("text") or "") for part in item.get("content") or () if isinstance(part, dict))


def _reset(text: str, at: str) -> float:
    """When the usage limit ends that this text tells of, by the clock of this machine."""
    return _tale.limit_end(RESETS.search(text), at, None)


# --- screens ----------------------------------------------------------------------------------------------------------


def _box(lines: list[str]) -> int | None:
    """The line in which the input box begins: the last `›`, with nothing behind the text but the status line."""
    begin = _screen.rfind(lines, ENTRY, _screen.rfind(lines, BOX_END))
    return begin if begin >= 0 and lines[begin].startswith("›") else None


def _busy(lines: list[str]) -> str:
    """What it says above its input box that it is at, "" at rest."""
    for line in reversed(lines):
        if BUSY.match(line):
            return line[2:]
        if ENTRY.match(line) and not QUEUE.match(line):
            return ""
    return ""


def _queue(screen: str) -> str:
    """What the screen shows of the messages that wait for the end of its turn."""
    lines = screen.rstrip().split("\n")
    box = _box(lines)
    begin = next((place for place in range(box or 0) if QUEUE.match(lines[place])), None)
    return "\n".join(lines[begin:box]) if begin is not None else ""


def _tight(text: str) -> str:
    """Text as it is known again on a screen, however that breaks its lines."""
    return re.sub(r"[\s↳]+", "", text)


def _dialog(lines: list[str]) -> str:
    """The text of the dialog that is open, and how to be spared it; "" when there is none."""
    menu = _screen.rfind(lines, MENU)
    if menu < 0:
        return ""
    asks = _screen.rfind(lines, ASKS, menu)
    begin = asks if asks >= 0 else _screen.rfind(lines, ENTRY, menu) + 1
    text = "\n".join(line.strip() for line in lines[begin:] if line.strip())
    return _screen.question(text, START)
