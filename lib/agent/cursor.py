"""Cursor's agent for the terminal, the program `cursor-agent`, which newer installations also call `agent`.

Not tried with the real program: it is in no package registry, and needs an account. What is relied on here was taken
from its documentation, and where that is silent from what other projects have recorded of versions 2026.02 to 2026.09:

    options --force, --mode plan, --model, --resume     cursor.com/docs/cli/reference/parameters
    --trust in a terminal, since version 2026.07.20     cursor.com/docs/cli/changelog; corveil/crow, pull request 901
    .cursor/cli.json of a folder, Write(docs/**/*)      cursor.com/docs/cli/reference/permissions, cookbook of CI
    versions, transcripts, their folders and lines      entireio/cli, cmd/entire/cli/agent/cursor/AGENT.md
    folders named without dots                          baksohyeon/mogui-ADE-orchestrator, pull request 71
    CURSOR_DATA_DIR                                     Untrivial-ai/agent-orchestrator, pull request 2567
    the input box and its placeholders                  awslabs/cli-agent-orchestrator, issue 299
    `ctrl+c to stop` while it works; one Ctrl-C does    kunchenguid/firstmate, pull requests 491 and 501
    answers with their keys                             herdrdev/herdr, issue 3657 (cursor.toml)
    the dialog of trust                                 stablyai/orca, issue 11765

That `--` ends its options is a convention, which other projects use with it.

Not known, and so not said: what it spends (its transcripts have no usage), when a usage limit ends, whether somebody is
logged in (`status` asks its server), whether what is typed while it works is kept in order. So nothing is typed before
its turn is over, and what it does is told by its screen alone. Its hooks are not used: they would be a file in the
repository or the person's own. A transcript whose folder is named in another way is not found: a message is then known
by the screen, and a restored agent begins anew with its task.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
from collections.abc import Sequence
from typing import Any

from lib import clock, config, git, proc
from lib.agent import Check, Launch, Reading, Session, Story, _program, _screen, _tale, command
from lib.config import Project
from lib.errors import AoError

INTERRUPT = "C-c"  # once: pressed twice at rest it ends the program
HOME = ("CURSOR_DATA_DIR", "~/.cursor")
NAMES = ("cursor-agent", "agent")  # other programs are called `agent` too
VERSION = re.compile(r"\d{4}\.\d\d\.\d\d-")
PERMISSIONS = {
    "permissionless": ["--force"],
    "default": [],  # what the person's own configuration says
    "auto-edit": [],  # no option of it means this: EDITS does
    "suggest": ["--mode", "plan"],
}
EDITS = '{"permissions": {"allow": ["Write(**/*)"], "deny": []}}\n'
EDITS_FILE = ".cursor/cli.json"
START = {  # dialogs at the start, which keep the task from the agent -> how to be spared them
    r"Workspace Trust Required": "agent_config.trust: true accepts this, from version 2026.07.20 on",
    r"Press any key to sign in": "log in with: agent login",
}
POINTER = re.compile(r"[→▶](?: |$)")  # the input box, or the chosen answer of a dialog
OPTION = re.compile(r"[→▶] (?:\[[a-z]\] |.*\((?:y|n|p|tab|shift\+tab|enter|esc(?: or [a-z])*)\)$)")
PLACEHOLDERS = ("", "Plan, search, build anything", "Add a follow-up")
FRAME = " │┃"
STOP = re.compile(r"(?:^|\s{2,})ctrl\+c to stop$")  # shown while it works, and only then
ABOVE = 12  # lines above the chosen answer that may belong to a question


def prepare(project: Project, session: Session) -> None:
    """Never start another program of that name; let it edit unasked where that and no more is allowed."""
    if shutil.which(_installed()):  # that there is none is said by who starts it
        _version(_installed())
    path = os.path.join(session["workspace_path"], EDITS_FILE)
    if config.setting(project, "agent_config.permissions") != "auto-edit":
        if _program.holds(path, EDITS.__eq__):
            os.unlink(path)
    elif not os.path.lexists(path):
        git.exclude(session["workspace_path"], ["/" + EDITS_FILE])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(EDITS)


def launch(project: Project, session: Session, prompt: str | None) -> Launch:
    """No option takes a system prompt: it comes before the task. A task of one word could be one of its commands."""
    if not prompt:
        return _launch(project, session, [])
    system = config.setting(project, "agent_config.system_prompt")
    text = "\n\n".join(part for part in (system, prompt) if part)
    return _launch(project, session, ["--", fit(text if len(text.split()) > 1 else f"A message:\n{text}")])


def resume(project: Project, session: Session) -> Launch | None:
    """In the chat that was written to last; None when there is none in this worktree that can be found."""
    found = [path for path in _chats(session) if any(_tale.words(path, _said))]
    return _launch(project, session, [f"--resume={_tale.name(found[-1])}"]) if found else None


def recall(project: Project, session: Session, state: dict[str, Any]) -> Story:
    """Only which chat it is: its lines have no times, and nobody has said when they are written."""
    return Story(session_id=next((_tale.name(path) for path in reversed(_chats(session))), ""))


def _look(screen: str) -> _screen.Look:
    """Where its input box is, it works or rests; never taken for sure."""
    lines = _lines(screen)
    place = _screen.rfind(lines, POINTER)
    if place < 0:
        text = "\n".join(lines[-ABOVE:])
        asks = bool(_screen.hints(text, START))
        return _screen.Look(Reading("waiting_input", _question(text)) if asks else Reading(None))
    if OPTION.match(lines[place]):
        return _screen.Look(Reading("waiting_input", _question("\n".join(lines[max(0, place - ABOVE) :]))))
    has_draft = STOP.sub("", lines[place][1:]).strip() not in PLACEHOLDERS
    if any(map(STOP.search, lines[place:])):
        return _screen.Look(Reading("active"), has_draft, "it is busy")
    return _screen.Look(Reading("ready"), has_draft)


read, obstacle, has_draft = _screen.functions(_look)
fit = _tale.fit


def received(project: Project, session: Session, ids: Sequence[str], history: str | None) -> dict[str, bool | None]:
    """What its transcripts have, and what its screen shows above the input box."""
    text = history or ""
    lines, shows = _lines(text), _look(text)
    draft = "\n".join(lines[_screen.rfind(lines, POINTER) :]) if shows.has_draft else ""
    is_at_rest = not draft and shows.reading.activity == "ready"
    has = dict.fromkeys(_tale.arrived(_chats(session), ids, _said), True)
    return {**command.shown(session, ids, text, draft, is_at_rest), **has}


def program(project: Project) -> str | None:
    return _installed()


def check(project: Project) -> list[Check]:
    found = [
        Check("ok", _version(_installed())),
        Check("warning", "ao was not tried with the real program", "look at its terminal now and then: ao-attach"),
    ]
    if not os.environ.get("CURSOR_API_KEY"):
        found.append(Check("ok", "who is logged in is only told with a request: agent status"))
    path = os.path.join(project.path, EDITS_FILE)
    if config.setting(project, "agent_config.permissions") == "auto-edit" and os.path.lexists(path):
        remedy = 'allow "Write(**/*)" in there, or set agent_config.permissions'
        found.append(Check("warning", f"'{path}' says what it may do, and not auto-edit", remedy))
    if not config.setting(project, "agent_config.trust"):
        found.append(Check("warning", "it may ask whether it may trust each worktree", "set agent_config.trust: true"))
    return found


def _installed() -> str:
    return next((name for name in NAMES if shutil.which(name)), NAMES[0])


def _version(name: str) -> str:
    """What it says of itself; AoError when it is another program."""
    said = proc.run("tool", [name, "--version"])
    if said.code or not VERSION.match(said.out.strip()):
        text = (said.out.strip() or said.err.strip()).partition("\n")[0][:80]
        raise AoError(f"'{name}' is not Cursor's agent: its version is '{text}'; install that, or correct PATH")
    return said.out.strip()


def _launch(project: Project, session: Session, words: list[str]) -> Launch:
    flags = [
        *_program.options(project, session, PERMISSIONS),
        *(["--trust"] if config.setting(project, "agent_config.trust") else []),
    ]
    return Launch([_installed(), *flags, *words], {}, "--" in words, _program.folder(*HOME))


# --- transcripts ------------------------------------------------------------------------------------------------------


def _chats(session: Session) -> list[str]:
    """The transcripts of the session's worktree, the one that was written to last at the end.

    How a folder is named was recorded in three ways, and a transcript in two places.
    """
    home = _program.records(session) or _program.folder(*HOME)
    path = os.path.realpath(session["workspace_path"]).lstrip("/")
    names = {re.sub("[^a-zA-Z0-9]", "-", path), re.sub("[^a-zA-Z0-9]+", "-", path)}
    names.add(re.sub("[^a-zA-Z0-9]", "-", path.replace(".", "")))
    folders = [os.path.join(glob.escape(home), "projects", name, "agent-transcripts") for name in names]
    changed = dict[str, float]()
    for folder in folders:
        for found in (*glob.glob(f"{folder}/*.jsonl"), *glob.glob(f"{folder}/*/*.jsonl")):
            with contextlib.suppress(OSError):
                changed[found] = os.path.getmtime(found)
    born = clock.parse(session["created_at"]) or 0.0
    return sorted((one for one, at in changed.items() if at >= born), key=lambda one: changed[one])


def _said(entry: dict[str, Any]) -> str:
    """The text of a person's message; "" for any other line."""
    content = (entry.get("message") or {}).get("content") if entry.get("role") == "user" else None
    return "\n".join(str(part.get("text") or "") for part in content or () if isinstance(part, dict))


# --- screens ----------------------------------------------------------------------------------------------------------


def _lines(screen: str) -> list[str]:
    """The lines with text, without the frames around them."""
    return [line for line in (line.strip(FRAME) for line in screen.split("\n")) if re.search(r"\w|→", line)]


def _question(text: str) -> str:
    return "\n".join([text[-_tale.LONGEST :], *_screen.hints(text, START)])
