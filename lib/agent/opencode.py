"""OpenCode, the program `opencode`; what is said here of its state and screens was seen of version 1.18.33.

All conversations are in one SQLite file, `opencode.db` in its own folder (XDG_DATA_HOME, else ~/.local/share): in
`session` each with the folder in which it works, sub-agents with a `parent_id`; in `message` who spoke when, and the
tokens of each answer; in `part` the texts and the tools. A session's worktree is its alone, so every conversation of
that folder that is younger than the session belongs to it. The file is only read: by its journal (WAL) a reader stands
in nobody's way. A message that is typed while it works is in there at once; what it asks a permission for, and that it
tries the model again, is only on the screen. The tokens of an answer are written when its tools have ended, and never
when it is killed before.

What ao settles is OPENCODE_CONFIG_CONTENT, in the place of a person's own. The title of a conversation is switched off:
the program asks the model for one, and what that costs is written nowhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

from lib import cache, clock, config, git, proc
from lib.agent import Check, Launch, Reading, Session, Story, _program, _screen, _tale
from lib.config import Project
from lib.errors import AoError, Unknown

INTERRUPT = "Escape Escape"
# Of what fits the last counts, and a name that a person has configured too keeps its place there: before a "*" that
# comes later. Written with a star behind, each is another name and stands in this order behind all of a person's.
HARMLESS = dict.fromkeys(("read*", "glob*", "grep*", "list*", "todowrite*", "question*", "skill*", "task*"), "allow")
PERMISSIONS: dict[str, tuple[list[str], dict[str, str]]] = {  # words of the start, settings
    "permissionless": (["--auto"], {}),
    "default": ([], {}),  # what the person's own configuration says
    "auto-edit": ([], {"**": "ask", **HARMLESS, "edit*": "allow"}),
    "suggest": ([], {"**": "ask", **HARMLESS}),
}
WORKERS = ("build", "general")  # the agents for work, whose own permissions in a person's configuration count for more
SETTINGS = {"autoupdate": False, "agent": {"title": {"disable": True}}}
INSTRUCTIONS = "ao-system-prompt.md"  # in what git keeps of the worktree, with which it goes

CONVERSATIONS = """
    SELECT id, parent_id IS NULL, time_created FROM session WHERE directory IN (?, ?) AND time_created >= ?"""
MESSAGES = "SELECT id, time_created, data FROM message WHERE session_id = ? AND time_created >= ? ORDER BY 2, 1"
SAID = """  -- CROSS: in this order, else it looks through the messages of everybody
    SELECT session.id, part.data FROM session
    CROSS JOIN message ON message.session_id = session.id CROSS JOIN part ON part.message_id = message.id
    WHERE session.directory IN (?, ?) AND session.time_created >= ? AND session.parent_id IS NULL
    AND json_extract(message.data, '$.role') = 'user' ORDER BY message.time_created, part.id"""
QUESTIONS = """
    SELECT data FROM part WHERE message_id = ? AND json_extract(data, '$.tool') = 'question'
    AND json_extract(data, '$.state.status') = 'running'"""
PATIENCE = 1.0  # seconds that a reader waits for the file

BOX_END = re.compile(r"^\s*╹▀{20}")
BAR = re.compile(r"^\s*┃ ?")
NO_BAR = re.compile(r"^(?!\s*┃)")
BESIDE = re.compile(r"\s{20}")  # the side bar begins behind it
PLACEHOLDER = re.compile(r'Ask anything(?:…|\.\.\.) ".*"$')
SHELL = re.compile(r"^Shell\b")  # in the line below the text: it is run
KEYS = re.compile(r"\benter (?:confirm|submit|toggle)\b|\besc (?:dismiss|cancel)\b")  # what a dialog offers
WINDOW = re.compile(r"\s{3}\S.*\s{5}esc(?:\s{3}|$)")  # the title of one that lies over the rest
BUSY = re.compile(r"\besc (?:again to )?interrupt\b")
RETRYING = re.compile(r"\[retrying (?:in (?P<wait>[^]]*?) )?attempt #(?P<number>\d+)\]")
WAIT = re.compile(r"(\d+) ?(s|m|h|day|week)")
SECONDS = {"s": 1, "m": 60, "h": 3600, "day": 86400, "week": 604800}
LONG = 120  # seconds: of its own accord it waits half a minute at most, and longer because a limit is reached


def prepare(project: Project, session: Session) -> None:
    """Write down the system prompt, which it takes from a file only; nothing in the worktree is touched."""
    prompt = config.setting(project, "agent_config.system_prompt")
    if prompt:
        with open(_instructions(session), "w", encoding="utf-8") as file:
            file.write(prompt)


def launch(project: Project, session: Session, prompt: str | None) -> Launch:
    return _launch(project, session, [f"--prompt={prompt}"] if prompt else [])


def resume(project: Project, session: Session) -> Launch | None:
    """In the conversation that was spoken in last; None when there is none in this worktree any more."""
    said = _said(session)
    return _launch(project, session, ["--session", said[-1][0]]) if said else None


def recall(project: Project, session: Session, state: dict[str, Any]) -> Story:
    """Of each conversation the messages since its last answer are read, in `state["read"]`: only that may change."""
    signature, is_settled = _signature(_file(session))
    if state.get("signature") != signature:
        with contextlib.suppress(Unknown):  # what is known stays known
            for id, is_main, begun in _ask(session, CONVERSATIONS, *_whose(session)):
                _read(session, state, id, bool(is_main), begun)
            state["signature"] = signature if is_settled else None
    return _tale.story(state)


def _look(screen: str) -> _screen.Look:
    lines = screen.rstrip().split("\n")
    box = _box(lines)
    if box is None:
        return _screen.without_box(_dialog(lines))
    below, text = "\n".join(lines[box.stop :]), "\n".join(map(_text, lines[box.start : box.stop - 2])).strip()
    shown = _screen.with_box(bool(text) and not PLACEHOLDER.match(text), bool(BUSY.search(below)))
    retry = RETRYING.search(below)
    if retry:
        shown = shown._replace(reading=_retry(retry["number"], retry["wait"] or ""))
    if any(map(WINDOW.search, lines)):
        return shown._replace(refuses="a window is open in it")
    is_shell = SHELL.match(_text(lines[box.stop - 2]))
    return shown._replace(refuses="it would run what is typed") if is_shell else shown


read, obstacle, has_draft = _screen.functions(_look)  # whatever is typed while it works is queued by itself
fit = _tale.fit  # it folds long pastes; where a person has switched that off, it would run them


def received(project: Project, session: Session, ids: Sequence[str], history: str | None) -> dict[str, bool | None]:
    """What its conversations hold of a person, which they do as soon as it has taken it."""
    try:
        has = _tale.among([text for _, text in _said(session)], ids)
    except Unknown:
        return dict.fromkeys(ids)
    return _tale.answers(session, ids, has, history, read(project, history or "").activity == "ready")


def program(project: Project) -> str | None:
    return "opencode"


def check(project: Project) -> list[Check]:
    version = _program.version("opencode")
    if version.state == "bad":
        return [version]
    found = [version._replace(text=f"opencode {version.text}")]
    offline = {**os.environ, "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    listed = proc.run("tool", ["opencode", "providers", "list"], env=offline)
    logins = re.findall(r"(\d+) (?:credential|environment variable)", listed.out)
    if not (listed.code or any(map(int, logins)) or _names_provider()):
        found.append(_program.logged_out("opencode auth login"))
    return found


# --- starting ---------------------------------------------------------------------------------------------------------


def _launch(project: Project, session: Session, words: list[str]) -> Launch:
    flags, permission = PERMISSIONS[config.setting(project, "agent_config.permissions")]
    settings: dict[str, Any] = dict(SETTINGS)
    if permission:
        own = {name: {"permission": permission} for name in WORKERS}
        settings |= {"permission": permission, "agent": {**SETTINGS["agent"], **own}}  # type: ignore[dict-item]
    if config.setting(project, "agent_config.system_prompt"):
        settings["instructions"] = [_instructions(session)]
    argv = ["opencode", *flags, *_program.model(project, session), *words]
    has_prompt = any(word.startswith("--prompt=") for word in words)
    return Launch(argv, {"OPENCODE_CONFIG_CONTENT": json.dumps(settings)}, has_prompt, os.path.dirname(_file({})))


def _instructions(session: Session) -> str:
    folder = git.git_dir(session["workspace_path"])
    if folder is None:
        raise AoError(f"cannot keep a system prompt: '{session['workspace_path']}' is no checkout of git")
    return os.path.join(os.path.realpath(folder), INSTRUCTIONS)


def _names_provider() -> bool:
    """Whether the person's configuration says where a model is."""
    home = os.path.join(_program.folder("XDG_CONFIG_HOME", "~/.config"), "opencode")
    names = ("config.json", "opencode.json", "opencode.jsonc")
    return any(_program.holds(os.path.join(home, name), lambda text: '"provider"' in text) for name in names)


# --- state ------------------------------------------------------------------------------------------------------------


def _file(session: Session) -> str:
    home = os.path.join(_program.folder("XDG_DATA_HOME", "~/.local/share"), "opencode")
    return os.path.join(_program.records(session) or home, "opencode.db")


def _whose(session: Session) -> tuple[str, str, int]:
    """By what its conversations are known: the folder as it was named or as it is, and a time in milliseconds."""
    path = session["workspace_path"]
    return path, os.path.realpath(path), int((clock.parse(session["created_at"]) or 0.0) * 1000)


def _ask(session: Session, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of an answer; none where there is no file. Unknown when it cannot be read now."""
    import sqlite3  # for who has no such agent

    path = _file(session)
    if not os.path.exists(path):
        return []
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{urllib.parse.quote(path)}?mode=ro", timeout=PATIENCE, uri=True)
        ) as db:
            return db.execute(query, values).fetchall()
    except sqlite3.Error as error:
        raise Unknown(f"cannot read '{path}': {error}") from error


def _signature(path: str) -> tuple[list[Any], bool]:
    """What changes with the file and its journal, and whether that was long enough ago to tell of the next change."""
    found = [cache.signature(name) for name in (path, f"{path}-wal")]
    return found, all(time.time() - one[0] / 1e9 > _tale.SETTLED for one in found if one)


def _said(session: Session) -> list[tuple[str, str]]:
    """(conversation, text) of all that a person has said, in order."""
    found = [(id, _tale.parsed(data.encode())) for id, data in _ask(session, SAID, *_whose(session))]
    return [(id, str(part.get("text") or "")) for id, part in found if part.get("type") == "text"]


def _read(session: Session, state: dict[str, Any], conversation: str, is_main: bool, begun: int) -> None:
    """Learn from the messages of a conversation; sub-agents only cost, and what is older was copied by a fork."""
    places = state.setdefault("read", {})
    rows = _ask(session, MESSAGES, conversation, places.get(conversation, begun))
    for id, at, data in rows:
        message = _tale.parsed(data.encode())
        with contextlib.suppress(*_tale.NOT_ONE):
            if message.get("role") == "assistant":
                places[conversation] = at
                _count(state, clock.iso(at / 1000), id, message)
            if is_main:
                asks = _ask(session, QUESTIONS, id) if id == rows[-1][0] else []
                activity, since, text = _activity(message, at, asks)
                is_turn = message.get("role") == "user"
                if _tale.tell(state, clock.iso(since / 1000), activity, text, is_turn=is_turn):
                    state["session_id"] = conversation


def _count(state: dict[str, Any], at: str, id: str, message: dict[str, Any]) -> None:
    tokens = message.get("tokens") or {}
    cache, out = tokens.get("cache") or {}, (tokens.get("output") or 0) + (tokens.get("reasoning") or 0)
    counts = (tokens.get("input"), out, cache.get("read"), cache.get("write"))
    _tale.count(state, at, message.get("modelID") or "", id, *counts)


def _activity(message: dict[str, Any], created: int, asks: list[tuple[Any, ...]]) -> tuple[str, int, str]:
    """What a message says about the turn, since when in milliseconds, and why."""
    done, error = (message.get("time") or {}).get("completed"), message.get("error") or {}
    if message.get("role") == "user":
        return "active", created, ""
    if not done:
        return ("waiting_input", created, _question(asks[0][0])) if asks else ("active", created, "")
    if error and error.get("name") != "MessageAbortedError":
        return "blocked", done, str((error.get("data") or {}).get("message") or error.get("name"))
    return ("ready" if error or message.get("finish") != "tool-calls" else "active"), done, ""


def _question(part: str) -> str:
    asked = ((_tale.parsed(part.encode()).get("state") or {}).get("input") or {}).get("questions") or []
    return "\n".join(str(one.get("question") or "") for one in asked)[: _tale.LONGEST]


# --- screens ----------------------------------------------------------------------------------------------------------


def _retry(number: str, said: str) -> Reading:
    """It tries again by itself; a long wait is ended, so that what it is told afterwards is not left in its queue."""
    wait = sum(int(count) * SECONDS[unit] for count, unit in WAIT.findall(said))
    wait += SECONDS["m"] if "h" in said else 0  # the seconds that it leaves out
    if wait < LONG:
        return Reading("blocked", trouble="the model does not answer; it is tried again", is_sure=True)
    trouble = f"its usage limit is reached (attempt {number})"
    return Reading("blocked", trouble=trouble, is_sure=True, key=INTERRUPT, wait=wait)


def _box(lines: list[str]) -> range | None:
    """The lines of the input box: the text, a line about the model, the lower edge."""
    end = _screen.rfind(lines, BOX_END)
    return range(_screen.rfind(lines, NO_BAR, end) + 1, end + 1) if end >= 0 else None


def _dialog(lines: list[str]) -> str:
    """The text of the dialog that is open, "" when there is none."""
    end = _screen.rfind(lines, BAR) + 1
    begin = _screen.rfind(lines, NO_BAR, end) + 1
    if not any(map(KEYS.search, lines[begin:end])):
        return ""
    return "\n".join(text for text in map(_text, lines[begin:end]) if text and not KEYS.search(text))[: _tale.LONGEST]


def _text(line: str) -> str:
    """What a line of the box or a dialog says, without what is beside it."""
    return BESIDE.split(BAR.sub("", line))[0].strip()
