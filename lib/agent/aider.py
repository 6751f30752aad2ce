"""Aider, the program `aider`; what is said here of its files and screens was seen of version 0.86.2.

Its records are in a folder of ao's, by flags: `chat.md`, the conversation as it is given back to it when it is resumed,
and `log.jsonl`, what each answer cost. The chat has no times and the log no words, so both are read. What it does is on
its screen alone: where its prompt is the last line, it rests.

It commits, and can neither push nor open a pull request. Answers come whole (`--no-stream`), because of a streamed one
it only estimates the tokens. What its weak model does, commit messages and summaries, is in no record, and neither is
an answer that was interrupted.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Sequence
from typing import Any

from lib import clock, config, costs, git, paths
from lib.agent import Check, Launch, Reading, Session, Story, _program, _screen, _tale
from lib.config import Project
from lib.errors import AoError

COMMITS_ONLY = True
INTERRUPT = "C-c"
PERMISSIONS = {  # it never runs a command unasked: to those, --yes-always says no
    "permissionless": ["--yes-always"],
    "default": [],  # what the person's own configuration says
    "auto-edit": ["--yes-always"],
    "suggest": ["--chat-mode", "ask"],
}
ALWAYS = (
    *("--no-check-update", "--no-show-release-notes", "--no-show-model-warnings", "--no-analytics"),
    "--no-gitignore",  # which it would change, and commit
    "--no-detect-urls",  # whose pages it would put into messages
    "--no-pretty",  # whose spinner writes over the question that an error asks
    *("--no-stream", "--auto-commits"),
)
ENVIRONMENT = {"BROWSER": "true"}  # with --yes-always it opens the pages that errors name
EXCLUDES = (".aider*",)
PROMPT = re.compile(r"(?!multi>)(?:[a-z-]+)?>(?: |$)")  # behind a chat mode; where it says multi, Enter sends nothing
ASKS = re.compile(r"\(Y\)es/\(N\)o.*\[\w+\]: ?(?:y(?:es)?|no?|a(?:ll)?|s(?:kip)?|d(?:on't)?)?$")
BEFORE = re.compile(r">|Tokens: ")  # what a question begins behind
NEAR = 20  # lines of a question
SAID = b"#### "  # before each line of a person's
ERROR = re.compile(r"> (litellm\.\w+: .*|Model \S+ has hit a token limit!)")
LIMIT = "litellm.RateLimitError: "
RETRIES = b"> Retrying in "  # by itself, for a minute at most
ENDS_ERROR = (SAID, b"> Tokens: ", b"> ^C again to exit")
KEYS = re.compile(r"^[^#]*(?:api[-_]key|_API_KEY)", re.M | re.I)
KEY_FILES = (".aider.conf.yml", ".env", ".aider/oauth-keys.env")
EVEN = 0.01  # of a token, that a whole number may be missed by


def prepare(project: Project, session: Session) -> None:
    """Keep what it writes out of commits, and write down the system prompt, which it takes as a file."""
    git.exclude(session["workspace_path"], EXCLUDES)
    folder, prompt = _folder(session), config.setting(project, "agent_config.system_prompt")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(os.path.join(folder, "rules.md"), "w", encoding="utf-8") as file:
            file.write(prompt or "")
    except OSError as error:
        raise AoError(f"cannot write into '{folder}': {error.strerror}") from error


def launch(project: Project, session: Session, prompt: str | None) -> Launch:
    """It takes no task on its command line without ending after it: that is its first message."""
    return _launch(project, session)


def resume(project: Project, session: Session) -> Launch | None:
    if not any(line.startswith(SAID) for line in _tale.appended({}, _chat(session))):
        return None
    return _launch(project, session, "--restore-chat-history")


def recall(project: Project, session: Session, state: dict[str, Any]) -> Story:
    """What it cost by its log, and by its chat whether the model has failed it."""
    model = (session.get("agent_config") or {}).get("model") or ""
    _tale.learn(state, os.path.join(_folder(session), "log.jsonl"), functools.partial(_take, state, model))
    for line in _tale.appended(state, _chat(session)):
        found = ERROR.match(line.decode("utf-8", "replace"))
        if found:
            at = state.get("asked_at") or ""
            until = _tale.limit_end(None, at, None) if found[1].startswith(LIMIT) else 0.0
            _tale.tell(state, at, "blocked", found[1].strip(), until)
        elif line.startswith(RETRIES) and "tells" in state:
            state["tells"]["until"] = 0.0
        elif line.startswith(ENDS_ERROR):
            state.pop("tells", None)
    return _tale.story(state)


def _look(screen: str) -> _screen.Look:
    """Whoever shows neither its prompt nor a question is at work: a terminal of lines, and nothing is typed ahead."""
    lines = screen.split("\n")
    box, question = _box(lines), _dialog(lines)
    draft = None if box is None else bool(box)
    if question:
        return _screen.Look(Reading("waiting_input", question, is_sure=True), draft)
    if draft is None:
        return _screen.Look(Reading("active", is_sure=True), refuses="it is busy")
    return _screen.with_box(draft, is_busy=False)


read, obstacle, has_draft = _screen.functions(_look)
fit = _tale.fit


def received(project: Project, session: Session, ids: Sequence[str], history: str | None) -> dict[str, bool | None]:
    """What its chat holds, into which a message is written before the model is asked."""
    said = {line.strip() for line in _tale.appended({}, _chat(session)) if line.startswith(SAID)}
    return _tale.answers(session, ids, {id for id in ids if SAID + f"(ao message {id})".encode() in said}, history)


def program(project: Project) -> str | None:
    return "aider"


def check(project: Project) -> list[Check]:
    found = [_program.version("aider")]
    if not _has_key(project):
        remedy = "set OPENAI_API_KEY, ANTHROPIC_API_KEY, … or `api-key` in ~/.aider.conf.yml"
        found.append(Check("warning", "no key for a model is to be seen", remedy))
    return found


# --- starting ---------------------------------------------------------------------------------------------------------


def _launch(project: Project, session: Session, *more: str) -> Launch:
    folder = _folder(session)
    files = {"--chat-history-file": "chat.md", "--input-history-file": "input", "--analytics-log": "log.jsonl"}
    if config.setting(project, "agent_config.system_prompt"):
        files["--read"] = "rules.md"
    words = [
        *ALWAYS,
        *_program.options(project, session, PERMISSIONS),
        *(word for flag, name in files.items() for word in (flag, os.path.join(folder, name))),
        *more,
    ]
    return Launch(["aider", *words], ENVIRONMENT, has_prompt=False, records=folder)


def _folder(session: Session) -> str:
    """Where its records are: with the session, and not in the worktree, which goes before its costs are counted."""
    return _program.records(session) or paths.records(paths.home(), session["project_id"], session["id"])


def _chat(session: Session) -> str:
    return os.path.join(_folder(session), "chat.md")


def _has_key(project: Project) -> bool:
    """Whether a key for any model is in the environment, or in a file of those that it reads at its start."""
    if any(value and name.endswith("_API_KEY") for name, value in os.environ.items()):
        return True
    places = itertools.product((os.path.expanduser("~"), project.path), KEY_FILES)
    return any(_program.holds(os.path.join(*place), KEYS.search) for place in places)


# --- records ----------------------------------------------------------------------------------------------------------


def _take(state: dict[str, Any], model: str, entry: dict[str, Any]) -> None:
    """Count an answer. It has no id, and a name only where the model is one that everybody knows."""
    said, at = entry.get("properties") or {}, clock.iso(entry.get("time") or 0)
    if entry.get("event") == "message_send_starting":
        state["asked_at"] = at
    if entry.get("event") != "message_send":
        return
    name = str(said.get("main_model"))
    if name == "None" or name.endswith("REDACTED"):
        name = model
    sent, received = said.get("prompt_tokens") or 0, said.get("completion_tokens") or 0
    cached = _from_cache(name, sent, received, said.get("cost") or 0)
    id = f"{entry.get('time')}/{sent}/{received}/{said.get('total_cost')}"
    _tale.count(state, at, name, id, sent - cached, received, cached)


def _from_cache(model: str, sent: int, received: int, cost: float) -> int:
    """How many of the tokens sent came from a cache, which it does not say: what its own price is lower by.

    Where that comes to no whole number of tokens it has reckoned with other prices, and nothing is known of a cache.
    """
    rate, full = costs.price(model), costs.usd(model, {"input_tokens": sent, "output_tokens": received})
    if not rate or not full or not cost or rate.get("cache_read", rate["input"]) >= rate["input"]:
        return 0
    found = (full - cost) * 1e6 / (rate["input"] - rate["cache_read"])
    return round(found) if abs(found - round(found)) < EVEN and 0 <= round(found) <= sent else 0


# --- screens ----------------------------------------------------------------------------------------------------------


def _box(lines: list[str]) -> str | None:
    """The text behind the prompt that the cursor is at, each line of which begins with it; None where it is at none."""
    prompt = PROMPT.match(lines[-1])
    if not prompt:
        return None
    begin = len(lines)
    while begin and lines[begin - 1].startswith(prompt[0].rstrip()):
        begin -= 1
    return "\n".join(line[len(prompt[0]) :] for line in lines[begin:])


def _dialog(lines: list[str]) -> str:
    """The text of the question that the cursor is at; "" when there is none."""
    near = lines[-NEAR:]
    if not near[-1] or not ASKS.search("".join(near)):
        return ""
    begin = _screen.rfind(near, BEFORE) + 1
    return "\n".join(line.strip() for line in near[begin:] if line.strip())[: _tale.LONGEST]
