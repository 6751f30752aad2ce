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
from typing import TYPE_CHECKING, Any

from lib import clock, config, git, proc
from lib.agent import Check, Launch, Reading, Session, Story, _tale, command
from lib.errors import AoError

if TYPE_CHECKING:
    from lib.config import Project

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
POINTER = re.compile(r"[→▶](?: |$)")
OPTION = re.compile(r"[→▶] (?:\[[a-z]\] |.*\((?:y|n|p|tab|shift\+tab|enter|esc(?: or [a-z])*)\)$)")
PLACEHOLDERS = ("", "Plan, search, build anything", "Add a follow-up")
FRAME = " │┃"
STOP = re.compile(r"(?:^|\s{2,})ctrl\+c to stop$")  # shown while it works, and only then
ABOVE = 12  # lines above the chosen answer that may belong to a question


def prepare(project: Project, session: Session) -> None:
    """Never start another program of that name; let it edit unasked where that and no more is allowed."""
    if shutil.which(_program()):  # that there is none is said by who starts it
        _version(_program())
    path = os.path.join(session["workspace_path"], EDITS_FILE)
    if config.setting(project, "agent_config.permissions") != "auto-edit":
        if _is_ours(path):
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
    return _launch(project, session, [f"--resume={_name(found[-1])}"]) if found else None


def recall(project: Project, session: Session, state: dict[str, Any]) -> Story:
    """Only which chat it is: its lines have no times, and nobody has said when they are written."""
    return Story(session_id=next((_name(path) for path in reversed(_chats(session))), ""))


def interrupt() -> str:
    return "C-c"  # once: pressed twice at rest it ends the program


def read(project: Project, screen: str) -> Reading:
    """Where its input box is, it works or rests; never taken for sure."""
    lines = _lines(screen)
    place = _pointer(lines)
    if place is None:
        text = "\n".join(lines[-ABOVE:])
        return Reading("waiting_input", _question(text)) if _hints(text) else Reading(None)
    if OPTION.match(lines[place]):
        return Reading("waiting_input", _question("\n".join(lines[max(0, place - ABOVE) :])))
    return Reading("active" if any(map(STOP.search, lines[place:])) else "ready")


def obstacle(project: Project, screen: str, is_awaited: bool = False) -> str:
    activity = read(project, screen).activity
    if activity == "waiting_input":
        return "a question is open"
    if has_draft(project, screen):
        return "its input box holds text"
    return {"ready": "", "active": "it is busy"}.get(activity or "", "it shows no input box")


def has_draft(project: Project, screen: str) -> bool:
    lines = _lines(screen)
    place = _pointer(lines)
    if place is None or OPTION.match(lines[place]):
        return False
    return STOP.sub("", lines[place][1:]).strip() not in PLACEHOLDERS


def fit(text: str) -> str:
    return _tale.not_a_command(text)


def received(project: Project, session: Session, ids: Sequence[str], history: str | None) -> dict[str, bool | None]:
    """What its transcripts have, and what its screen shows above the input box."""
    lines = _lines(history or "")
    box = _pointer(lines)
    draft = "\n".join(lines[box:]) if box is not None and has_draft(project, history or "") else ""
    is_at_rest = not draft and read(project, history or "").activity == "ready"
    return command.shown(session, ids, history or "", draft, is_at_rest) | _tale.arrived(_chats(session), ids, _said)


def program(project: Project) -> str | None:
    return _program()


def check(project: Project) -> list[Check]:
    found = [
        Check("ok", _version(_program())),
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


def _program() -> str:
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
        *PERMISSIONS[config.setting(project, "agent_config.permissions")],
        *_tale.model(project, session),
        *(["--trust"] if config.setting(project, "agent_config.trust") else []),
    ]
    return Launch([_program(), *flags, *words], {}, "--" in words, _home())


def _is_ours(path: str) -> bool:
    with contextlib.suppress(OSError, UnicodeDecodeError), open(path, encoding="utf-8") as file:
        return file.read() == EDITS
    return False


# --- transcripts ------------------------------------------------------------------------------------------------------


def _home() -> str:
    return os.path.expanduser(os.environ.get("CURSOR_DATA_DIR") or "~/.cursor")


def _chats(session: Session) -> list[str]:
    """The transcripts of the session's worktree, the one that was written to last at the end.

    How a folder is named was recorded in three ways, and a transcript in two places.
    """
    home = (session.get("agent_config") or {}).get("records") or _home()
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


def _name(path: str) -> str:
    return os.path.basename(path).removesuffix(".jsonl")


def _said(entry: dict[str, Any]) -> str:
    """The text of a person's message; "" for any other line."""
    content = (entry.get("message") or {}).get("content") if entry.get("role") == "user" else None
    return "\n".join(str(part.get("text") or "") for part in content or () if isinstance(part, dict))


# --- screens ----------------------------------------------------------------------------------------------------------


def _lines(screen: str) -> list[str]:
    """The lines with text, without the frames around them."""
    return [line for line in (line.strip(FRAME) for line in screen.split("\n")) if re.search(r"\w|→", line)]


def _pointer(lines: list[str]) -> int | None:
    """The last line that is pointed at: the input box, or the chosen answer of a dialog."""
    return next((place for place in range(len(lines) - 1, -1, -1) if POINTER.match(lines[place])), None)


def _hints(text: str) -> list[str]:
    return [f"({hint})" for pattern, hint in START.items() if re.search(pattern, text)]


def _question(text: str) -> str:
    return "\n".join([text[-_tale.LONGEST :], *_hints(text)])
