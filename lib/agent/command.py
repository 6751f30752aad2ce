"""The agent that is any command: `agent_config.command` is its argv, started without a shell.

All that is known of such a program is its screen, read with three patterns from `agent_config` (Python's, `^` and `$`
match at every line, `\\Z` only at the end of the screen):

    ready      the last line with text, while it waits for a message; `^> $`
    busy       somewhere near the end, for a program that keeps its prompt on the screen while it works
    question   a dialog that waits for a person

A screen has no blanks at the ends of its lines, so `^> $` is tried on `>` and on `> `.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from lib import config, launcher
from lib.agent import Check, Launch, Reading, Session, Story
from lib.config import Project
from lib.errors import AoError

INTERRUPT = ""  # a key may mean anything to it
PROMPT = "{prompt}"
UNREADABLE = "its agent has no 'ready' pattern, so nobody can tell when it listens; see: agent_config.ready"
MESSAGE = re.compile(r"\(ao message\s+([a-z0-9-]+)\)")  # a program may wrap the line
NEAR = 12  # lines with text at the end of the screen in which `busy` counts: further up it is the past
BESIDE = 2  # a question this close to the end is open although the prompt is below it
LONGEST_LINE = 4000  # bytes; a terminal in line mode cuts a line at 4,096


class Patterns(NamedTuple):
    ready: re.Pattern[str] | None
    draft: re.Pattern[str] | None  # the beginning of `ready`: the prompt with or without text behind it
    busy: re.Pattern[str] | None
    question: re.Pattern[str] | None


def prepare(project: Project, session: Session) -> None:
    """Nothing: a command is ready as it is."""


def launch(project: Project, session: Session, prompt: str | None) -> Launch:
    """The configured words with the prompt in the place of `{prompt}`, and the model in that of `{model}`."""
    model = session["agent_config"].get("model") or ""
    words = [word.replace("{model}", model) for word in config.setting(project, "agent_config.command")]
    if not words:
        raise AoError(
            f"cannot start an agent: 'projects.{project.id}.agent_config.command' is empty; see: ao-config show"
        )
    takes_prompt = prompt is not None and any(PROMPT in word for word in words)
    return Launch([word.replace(PROMPT, prompt or "") for word in words], {}, takes_prompt)


def resume(project: Project, session: Session) -> Launch | None:
    return None  # nothing is known of its conversations


def recall(project: Project, session: Session, state: dict[str, Any]) -> Story:
    return Story()  # nothing is known of its records


def program(project: Project) -> str | None:
    return None


def check(project: Project) -> list[Check]:
    return []


def read(project: Project, screen: str) -> Reading:
    """What the screen says; a program without patterns says nothing."""
    patterns = _patterns(project)
    state, question = _state(patterns, screen)
    if question:
        return Reading("waiting_input", question)
    return Reading("ready" if state == "ready" else "active" if any(patterns) else None)


def obstacle(project: Project, screen: str, is_awaited: bool = False) -> str:
    """Without `ready` any screen may be a dialog that takes what is typed for its answer: only the task is tried."""
    patterns = _patterns(project)
    state, _ = _state(patterns, screen)
    if state == "question":
        return "a question is open"
    if has_draft(project, screen):
        return "its input box holds text"
    if state == "busy" or (patterns.ready and state != "ready"):
        return "it is busy"
    return "" if patterns.ready or is_awaited else UNREADABLE


def has_draft(project: Project, screen: str) -> bool:
    """Whether text follows the last prompt up to the cursor; a cursor below the text means that it was sent."""
    patterns = _patterns(project)
    lines = screen.split("\n")
    if not lines[-1] or _state(patterns, screen)[0] in ("question", "busy"):
        return False
    if MESSAGE.search(lines[-1]):  # a message ends with its id
        return True
    prompts = [(found, place) for place, line in enumerate(lines) if (found := _search(patterns.draft, line + " "))]
    if not prompts:
        return False
    found, place = prompts[-1]
    return any(line.strip() for line in (lines[place][found.end() :], *lines[place + 1 :]))


def received(project: Project, session: Session, ids: Sequence[str], history: str | None) -> dict[str, bool | None]:
    text = history or ""
    return shown(session, ids, text, text.rpartition("\n")[2], _state(_patterns(project), text)[0] == "ready")


def shown(session: Session, ids: Sequence[str], history: str, draft: str, is_at_rest: bool) -> dict[str, bool | None]:
    """An id with anything below it was received. One that is nowhere was not, as far as that can be known.

    It can be when the scrollback is whole (it begins with the launcher's banner), the prompt is back, and either the
    program is known to show what it is sent or the message may never have been typed (`sending`).
    """
    seen, drafted = set(MESSAGE.findall(history)), set(MESSAGE.findall(draft))
    whole = history.startswith(launcher.BANNER) and is_at_rest
    sending = {entry["id"] for entry in session.get("inbox") or () if entry.get("state") == "sending"}
    answers: dict[str, bool | None] = dict.fromkeys(ids)
    for id in ids:
        if id in seen - drafted:
            answers[id] = True
        elif whole and id not in seen and (seen or id in sending):
            answers[id] = False
    return answers


def fit(text: str) -> str:
    """`text` with lines over 4,000 bytes broken at blanks: a terminal in line mode would cut them."""
    return "\n".join(piece for line in text.split("\n") for piece in _broken(line))


def _broken(line: str) -> list[str]:
    pieces = []
    while len(line.encode("utf-8", "replace")) > LONGEST_LINE:
        piece = line.encode("utf-8", "replace")[:LONGEST_LINE].decode("utf-8", "ignore")
        cut = piece.rfind(" ") + 1 or len(piece)
        pieces.append(line[:cut].rstrip(" "))
        line = line[cut:]
    return [*pieces, line]


def _state(patterns: Patterns, screen: str) -> tuple[str, str]:
    """(question, its text), (busy, ""), (ready, "") or ("", "")."""
    lines = [line.rstrip() for line in screen.split("\n") if line.strip()][-NEAR:]
    last = lines[-1] if lines else ""
    ready = bool(patterns.ready and any(patterns.ready.search(last + blank) for blank in ("", " ")))
    question = _question(patterns.question, lines[-BESIDE:] if ready else lines)
    if question:
        return "question", question
    if _search(patterns.busy, "\n".join(lines)):
        return "busy", ""
    return ("ready" if ready else ""), ""


def _question(pattern: re.Pattern[str] | None, lines: Sequence[str]) -> str:
    """The whole lines of the last question in `lines`."""
    text = "\n".join(lines)
    found = list(pattern.finditer(text))[-1:] if pattern else []
    if not found:
        return ""
    begin, end = text.rfind("\n", 0, found[0].start()) + 1, text.find("\n", found[0].end())
    return text[begin : end if end >= 0 else None].strip()


def _search(pattern: re.Pattern[str] | None, text: str) -> re.Match[str] | None:
    return pattern.search(text) if pattern else None


def _patterns(project: Project) -> Patterns:
    ready = config.setting(project, "agent_config.ready")
    return Patterns(
        _compiled(project, "ready", ready),
        _compiled(project, "ready", re.sub(r"(?<!\\)\$$", "", ready or "")),
        _compiled(project, "busy", config.setting(project, "agent_config.busy")),
        _compiled(project, "question", config.setting(project, "agent_config.question")),
    )


def _compiled(project: Project, key: str, pattern: Any) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern, re.MULTILINE) if pattern else None
    except (re.error, TypeError) as error:
        where = f"'projects.{project.id}.agent_config.{key}'"
        raise AoError(f"cannot use {where}: {pattern!r} is not a regular expression: {error}") from error
