"""Claude Code, the program `claude`; what is said here of its files, screens and hooks was seen of version 2.1.197.

A conversation is a transcript, `projects/<working folder with - for whatever is no letter or digit>/<id>.jsonl` in its
own folder (CLAUDE_CONFIG_DIR, else ~/.claude), and `<id>/subagents/*.jsonl` beside it. A session's worktree is its
alone, so every transcript of that folder that is younger than the session belongs to it, also after a resume, a /clear
or a fork by a person. The title of the terminal is switched off: the program asks the model for one, and what that
costs is in no transcript.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import glob
import json
import os
import re
import shlex
import time
import uuid
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lib import ROOT, config, git, store
from lib.agent import Check, Launch, Reading, Session, Story, _program, _screen, _tale
from lib.config import Project
from lib.errors import AoError

INTERRUPT = "Escape"
HOME = ("CLAUDE_CONFIG_DIR", "~/.claude")
PERMISSIONS = {
    "permissionless": ["--dangerously-skip-permissions"],
    "default": ["--permission-mode", "default"],
    "auto-edit": ["--permission-mode", "acceptEdits"],
    "suggest": ["--permission-mode", "plan"],
}
HOOKS = {  # each starts a process in the middle of the agent's work: only what its transcript tells late or not at all
    "UserPromptSubmit": "report active",
    "PermissionRequest": "report waiting_input",
    "Stop": "report ready",
}
EXCLUDES = ("/.claude/settings.local.json",)  # what a person allows for good in a dialog; never to be committed
START = {  # dialogs at the start, which keep the task from the agent -> how to be spared them
    r"Is this a project you created or one you trust": "agent_config.trust: true accepts this for the repository",
    r"Do you want to use this API key": "answer once, or log in with: claude /login",
    r"running in Bypass Permissions mode": "answer once, or set agent_config.permissions",
    r"Choose the text style|Select login method": "start claude once by hand, and log in",
}
LIMIT = re.compile(r"What do you want to do\?\n.*Stop and wait for limit to reset", re.S)
MENU = re.compile(r"^\s*❯ \d+\. ")
RULE = re.compile(r"^─{20,}")
BUSY = re.compile(r"^[·✢✳✶✻✽*] \S.*…|^ .*\besc to interrupt\b")
RETRYING = re.compile(r"^[·✢✳✶✻✽*] (.*\bRetrying in\b.*)")
PLACEHOLDER = re.compile(r'Press up to edit queued messages|Try ".*"$')
NEAR = 8  # lines above the input box that tell what happens now
RESETS = re.compile(
    r"resets (?:(?P<month>[A-Z][a-z]{2}) (?P<day>\d+), (?:(?P<year>\d{4}), )?)?"
    r"(?P<hour>\d|1[0-2])(?::(?P<minute>[0-5]\d))?(?P<half>am|pm) \((?P<zone>[^)]+)\)"
)
USAGE = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
INTERRUPTED = "[Request interrupted by user"
BY_HAND = ("<local-command", "<command-name>")  # what a person did with the program, and no turn
LOGINS = (
    *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"),
    *("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"),
)
LOCK_STALE = 10.0  # seconds after which the program takes the lock of its settings for left behind


def prepare(project: Project, session: Session) -> None:
    """Keep the program's local settings out of commits; accept the repository, where that is configured."""
    git.exclude(session["workspace_path"], EXCLUDES)
    if config.setting(project, "agent_config.trust"):
        _trust(project.path)


def launch(project: Project, session: Session, prompt: str | None) -> Launch:
    words = ["--session-id", _new_id(session), *_flags(project, session)]
    return _launch(project, [*words, "--", prompt] if prompt else words)


def resume(project: Project, session: Session) -> Launch | None:
    """In the conversation that was written to last; None when there is none in this worktree any more."""
    found = [path for path in _conversations(session) if _has_begun(path)]
    if not found:
        return None
    return _launch(project, ["--resume", _tale.name(max(found, key=os.path.getmtime)), *_flags(project, session)])


def recall(project: Project, session: Session, state: dict[str, Any]) -> Story:
    born = session["created_at"]
    for path in _conversations(session):
        copied = _ids(known) if path not in (known := state.get("files") or {}) else set()
        _tale.learn(state, path, functools.partial(_take, state, born, copied, _tale.name(path)))
        for other in glob.glob(glob.escape(path.removesuffix(".jsonl")) + "/subagents/*.jsonl"):
            _tale.learn(state, other, functools.partial(_take, state, born, copied, ""))
    return _tale.story(state)


def _look(screen: str) -> _screen.Look:
    lines = screen.rstrip().split("\n")
    box = _box(lines)
    if box is None:
        question = _dialog(lines)
        if LIMIT.search(question):
            trouble = "its usage limit is reached"
            return _screen.Look(Reading("blocked", trouble=trouble, is_sure=True, key=INTERRUPT))
        return _screen.without_box(question)
    text = "\n".join(lines[box.start : box.stop]).strip().removeprefix("❯").strip()
    around = [*lines[max(0, box.start - NEAR) : box.start], *lines[box.stop :]]
    return _screen.with_box(
        bool(text) and not PLACEHOLDER.match(text), any(map(BUSY.match, around)), any(map(RETRYING.match, around))
    )


read, obstacle, has_draft = _screen.functions(_look)  # whatever is typed while it works is queued by itself
fit = _tale.fit


def received(project: Project, session: Session, ids: Sequence[str], history: str | None) -> dict[str, bool | None]:
    """What it was sent, and what it has queued in this life of it: that queue ends with it."""
    runs, born = session.get("runtime_state") == "alive", session.get("restored_at") or ""

    def said(entry: dict[str, Any]) -> str:
        is_queued = entry.get("operation") == "enqueue" and runs and _tale.noted(entry) > born
        return _said(entry) if entry.get("type") == "user" or _queued(entry) or is_queued else ""

    return _tale.answers(session, ids, _tale.arrived(_conversations(session), ids, said), history)


def program(project: Project) -> str | None:
    return "claude"


def check(project: Project) -> list[Check]:
    found = [_program.version("claude")]
    settings = _settings_of_person()
    credentials = os.path.join(_program.folder(*HOME), ".credentials.json")
    if not (settings.get("oauthAccount") or any(map(os.environ.get, LOGINS)) or os.path.exists(credentials)):
        found.append(_program.logged_out("claude /login"))
    accepted = (settings.get("projects") or {}).get(project.path) or {}
    return found + _program.trust(project, "claude", bool(accepted.get("hasTrustDialogAccepted")))


# --- starting ---------------------------------------------------------------------------------------------------------


def _launch(project: Project, words: list[str]) -> Launch:
    environment = {"CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1"}
    if os.geteuid() == 0:
        environment["IS_SANDBOX"] = "1"  # else it refuses to skip permissions as root
    return Launch(["claude", *words], environment, "--" in words, _program.folder(*HOME))


def _flags(project: Project, session: Session) -> list[str]:
    prompt = config.setting(project, "agent_config.system_prompt")
    return [
        *_program.options(project, session, PERMISSIONS),
        *(["--append-system-prompt", prompt] if prompt else []),
        *("--settings", json.dumps(_settings())),
    ]


def _settings() -> dict[str, Any]:
    """Settings for this start only. That nobody need be asked about skipping permissions was said in ao.yaml."""
    hook = shlex.quote(os.path.join(ROOT, "bin", "ao-hook"))
    hooks = {event: [{"hooks": [{"type": "command", "command": f"{hook} {words}"}]}] for event, words in HOOKS.items()}
    return {"skipDangerousModePermissionPrompt": True, "hooks": hooks}


def _new_id(session: Session) -> str:
    """An id that no conversation of this worktree has: a start with a used one is refused."""
    names = (f"{session['project_id']}/{session['id']}/{session['created_at']}/{number}" for number in range(10_000))
    taken = {_tale.name(path) for path in _conversations(session)}
    ids = (str(uuid.uuid5(uuid.NAMESPACE_URL, name)) for name in names)
    return next(id for id in ids if id not in taken)


def _settings_file() -> str:
    return os.path.join(_program.folder("CLAUDE_CONFIG_DIR", "~"), ".claude.json")


def _settings_of_person() -> dict[str, Any]:
    return _program.settings(_settings_file(), json.load, "; see: agent_config.trust")


def _trust(repository: str) -> None:
    """Add one entry to the person's own settings of the program, under the lock that the program itself takes."""
    path = _settings_file()
    with _locked(path):
        settings = _settings_of_person()
        entry = settings.setdefault("projects", {}).setdefault(repository, {})
        if entry.get("hasTrustDialogAccepted"):
            return
        entry["hasTrustDialogAccepted"] = True
        store.replace(os.path.realpath(path), json.dumps(settings, indent=2).encode())


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the lock of a settings file of the program: a folder beside it."""
    folder, until = os.path.realpath(path) + ".lock", time.monotonic() + LOCK_STALE
    while True:
        try:
            os.mkdir(folder)
            break
        except FileExistsError:
            with contextlib.suppress(OSError):
                if time.time() - os.stat(folder).st_mtime > LOCK_STALE:
                    os.rmdir(folder)
        if time.monotonic() > until:
            raise AoError(f"cannot change '{path}': '{folder}' is held by another program")
        time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder)


# --- transcripts ------------------------------------------------------------------------------------------------------


def _conversations(session: Session) -> list[str]:
    home = _program.records(session) or _program.folder(*HOME)
    cwd = os.path.realpath(session["workspace_path"])
    name = re.sub("[^a-zA-Z0-9]", lambda found: "-" * (1 + (found[0] > "\uffff")), cwd)
    return sorted(glob.glob(os.path.join(glob.escape(os.path.join(home, "projects", name)), "*.jsonl")))


def _has_begun(path: str) -> bool:
    return any(kind in ("user", "assistant") for kind in _tale.words(path, lambda entry: str(entry.get("type"))))


def _ids(paths: Iterable[str]) -> set[str]:
    """The messages of conversations: another one may begin with a copy of them."""
    found = set[str]()
    for path in paths:
        _tale.learn({}, path, lambda entry: found.add(str((entry.get("message") or {}).get("id"))))
    return found


def _take(state: dict[str, Any], born: str, copied: set[str], conversation: str, entry: dict[str, Any]) -> None:
    """Learn from one line of a conversation, or of a sub-agent, which has no name here: those only cost."""
    at, message = _tale.noted(entry), entry.get("message") or {}
    if at < born:
        return  # of an earlier session in the same folder, or of no interest
    if message.get("usage") and message.get("id") and message["id"] not in copied:
        _count(state, at, message)
    found = _activity(entry) if conversation and not entry.get("isSidechain") else None
    if found is None:
        return
    activity, text = found
    if entry["type"] == "system" and (state.get("tells") or {}).get("activity") == "blocked":
        return  # the end of a turn that failed
    is_turn = isinstance(message.get("content"), str)  # a person's message, and no result of a tool
    until = _reset(text, at) if entry.get("error") == "rate_limit" else 0.0
    if _tale.tell(state, at, activity, text, until, is_turn):
        state["session_id"] = conversation


def _count(state: dict[str, Any], at: str, message: dict[str, Any]) -> None:
    usage, model = message["usage"], message.get("model") or ""
    written = usage.get("cache_creation") or {}
    if model != "<synthetic>":
        tokens = [*map(usage.get, USAGE), written.get("ephemeral_1h_input_tokens")]
        _tale.count(state, at, model, message["id"], *tokens)


def _activity(entry: dict[str, Any]) -> tuple[str, str] | None:
    """What a line says about the turn, and why; None for one that says nothing about it."""
    message, text = entry.get("message") or {}, _said(entry)
    if entry.get("isMeta"):
        return None
    if entry["type"] == "user":
        if text.startswith(BY_HAND):
            return None
        return ("ready" if text.startswith(INTERRUPTED) else "active"), ""
    if entry["type"] == "assistant":
        if entry.get("isApiErrorMessage"):
            return "blocked", text
        if message.get("model") == "<synthetic>":
            return None
        return ("active" if message.get("stop_reason") in (None, "tool_use") else "ready"), ""
    if entry["type"] == "system" and entry.get("subtype") == "turn_duration":
        return "ready", ""
    return ("active", "") if _queued(entry) else None


def _queued(entry: dict[str, Any]) -> bool:
    """Whether a message that was queued while it worked is taken up here."""
    return (entry.get("attachment") or {}).get("type") == "queued_command"


def _said(entry: dict[str, Any]) -> str:
    """The text of a line."""
    content = (entry.get("message") or {}).get("content") or (entry.get("attachment") or {}).get("prompt")
    content = content or entry.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(block.get("text") or "") for block in content if isinstance(block, dict))


def _reset(text: str, at: str) -> float:
    """When the usage limit ends that this text tells of, said at that time."""
    found = RESETS.search(text)
    try:
        zone: datetime.tzinfo | None = zoneinfo.ZoneInfo(found["zone"]) if found else None
    except (OSError, ValueError, KeyError):
        zone = None  # that of this machine, which is where the program took it from
    return _tale.limit_end(found, at, zone)


# --- screens ----------------------------------------------------------------------------------------------------------


def _box(lines: list[str]) -> range | None:
    """The lines of the input box: behind a rule `❯` and the text, up to the next rule."""
    for place in range(len(lines) - 2, -1, -1):
        if RULE.match(lines[place]) and lines[place + 1].startswith("❯"):
            end = next((one for one in range(place + 1, len(lines)) if RULE.match(lines[one])), None)
            return range(place + 1, end) if end is not None and not MENU.match(lines[place + 1]) else None
    return None


def _dialog(lines: list[str]) -> str:
    """The text of the dialog that is open, and how to be spared it; "" when there is none."""
    menu = _screen.rfind(lines, MENU)
    if menu < 0:
        return ""
    begin = _screen.rfind(lines, RULE, menu) + 1
    text = "\n".join(line.strip() for line in lines[begin:] if line.strip() and not RULE.match(line))
    return _screen.question(text, START)
