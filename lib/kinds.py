"""What a setting of ao.yaml may be: checks that say what is wrong with a value, in words for a person.

`KINDS` names the settings that are more than what their default shows; all others take what their default is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from lib import clock, plugins
from lib.errors import AoError

LONGEST_INTERVAL = 60.0  # seconds between two looks
Kind = Callable[[Any], str]  # what is wrong with a value, "" when nothing is
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,19}")
_REPOSITORY = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*/)?[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")
_BRANCH = re.compile(r"(?!-)(?!.*\.\.)[^\s~^:?*\[\\\x00-\x1f\x7f]+")


def _truth(value: Any) -> str:
    return "" if isinstance(value, bool) else f"must be true or false, not {shown(value)}"


def _count(value: Any) -> str:
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return "" if fits else f"must be a whole number, not {shown(value)}"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _usd(value: Any) -> str:
    return "" if _number(value) and value >= 0 else f"must be an amount of USD, not {shown(value)}"


def _part(value: Any) -> str:
    return "" if _number(value) and 0 < value <= 1 else f"must be a part between 0 and 1, not {shown(value)}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return f"must be text, not {shown(value)}"
    return "must be text without NUL characters (\\0)" if "\0" in value else ""  # no program takes one


def _line(value: Any) -> str:
    return _text(value) or ("" if value.strip() and "\n" not in value else "must be one line of text")


def _script(value: Any) -> str:
    return _text(value) or ("" if value.strip() else "is empty")


def _texts(value: Any) -> str:
    if isinstance(value, list):
        odd = next((item for item in value if not isinstance(item, str)), "")
        return f"must be a list of texts: put {shown(odd)} in quotes" if odd != "" else "".join(map(_text, value))
    return f"must be a list of texts, like [{value if isinstance(value, str) else 'one, two'}], not {shown(value)}"


def _duration(value: Any) -> str:
    try:
        clock.duration(value)
    except AoError as error:
        return str(error)
    return ""


def _interval(value: Any) -> str:
    is_long = not _duration(value) and clock.duration(value) > LONGEST_INTERVAL
    return _duration(value) or is_long * "must be 1m at most: what lasts is measured from look to look"


def _count_or_duration(value: Any) -> str:
    return _duration(value) and _count(value) and f"must be a number of deliveries (3) or a duration (30m), not {value}"


def _pattern(value: Any) -> str:
    if _line(value):
        return _line(value)
    try:
        re.compile(value)  # which finds more that is wrong than parsing does
        parsed = re._parser.parse(value)  # type: ignore[attr-defined]
    except re.error as error:
        return f"not a regular expression: {shown(value)}: {error}"
    is_slow = _repeats_a_repeat(parsed)
    return f"may take for ever: {shown(value)} repeats something that itself has no end" if is_slow else ""


def _repeats_a_repeat(parsed: Any, is_inside: bool = False) -> bool:
    """Whether a repeat without end stands inside another: matching such a pattern can take years."""
    for _, argument in parsed:
        parts = argument if isinstance(argument, tuple | list) else (argument,)
        is_endless = len(parts) == 3 and parts[1] is re._constants.MAXREPEAT  # type: ignore[attr-defined]
        if is_endless and is_inside:
            return True
        inner = [part for part in _flat(parts) if isinstance(part, re._parser.SubPattern)]  # type: ignore[attr-defined]
        if any(_repeats_a_repeat(part, is_inside or is_endless) for part in inner):
            return True
    return False


def _flat(parts: Any) -> list[Any]:
    """The parts, those of lists of alternatives too."""
    return [one for part in parts for one in (part if isinstance(part, list) else [part])]


def _prefix(value: Any) -> str:
    fits = isinstance(value, str) and _PREFIX.fullmatch(value)
    return "" if fits else f"not a prefix: {shown(value)} (lowercase letters, digits and '-', at most 20)"


def _branch(value: Any) -> str:
    fits = isinstance(value, str) and _BRANCH.fullmatch(value)
    return "" if fits else f"not a branch name: {shown(value)}"


def _repository(value: Any) -> str:
    fits = isinstance(value, str) and _REPOSITORY.fullmatch(value)
    return "" if fits else f"not a repository: {shown(value)} (write owner/name or host/owner/name)"


def _inside(value: Any) -> str:
    bad = [path for path in value if os.path.isabs(path) or ".." in path.split("/")] if not _texts(value) else []
    return _texts(value) or (bad and f"must be inside the repository: {shown(bad[0])}") or ""


def _one_of(*words: str) -> Kind:
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}, not {shown(value)}"


def _plugin(slot: str) -> Kind:
    return lambda value: _one_of(*plugins.names(slot))(value)


def _notifiers(value: Any) -> str:
    return _texts(value) or next(filter(None, map(_plugin("notifier"), value)), "")


KINDS: dict[str, Kind] = {  # by the last word of a setting's name; others take what their default is
    "poll_interval": _interval,
    "runtime": _plugin("runtime"),
    "agent": _plugin("agent"),
    "workspace": _plugin("workspace"),
    "scm": _plugin("scm"),
    "tracker": _plugin("tracker"),
    "notifiers": _notifiers,
    "urgent": _notifiers,
    "notification_routing.action": _notifiers,
    "warning": _notifiers,
    "info": _notifiers,
    "path": _line,
    "repo": _repository,
    "tracker_repo": _repository,
    "default_branch": _branch,
    "branch_namespace": lambda value: value and _branch(value),
    "prefix": _prefix,
    "ready": _pattern,
    "busy": _pattern,
    "question": _pattern,
    "model": _line,
    "permissions": _one_of("permissionless", "default", "auto-edit", "suggest"),
    "system_prompt": _text,
    "publish": _one_of("agent", "auto"),
    "rules_file": _line,
    "symlinks": _inside,
    "name": lambda value: _line(value) and "must be one line of text",
    "run": _script,
    "session_usd": _usd,
    "day_usd": _usd,
    "month_usd": _usd,
    "warn_at": _part,
    "method": _one_of("merge", "squash", "rebase"),
    "merge_method": _one_of("merge", "squash", "rebase"),
    "action": _one_of("send-to-agent", "notify", "auto-merge", "restore"),
    "priority": _one_of("urgent", "action", "warning", "info"),
    "message": _text,
    "retries": _count,
    "escalate_after": _count_or_duration,
    "threshold": _duration,
    "on_merge": _one_of("stop", "prune"),
}


def kind_of(place: tuple[str, ...], default: Any) -> Kind:
    """What the setting at `place`, with this default, may be."""
    named = KINDS.get(".".join(place[-2:])) or KINDS.get(place[-1])
    if named:
        return named
    if isinstance(default, bool):
        return _truth
    if isinstance(default, int):
        return _count
    if isinstance(default, list):
        return _texts
    return _text if _duration(default) else _duration


def shown(value: Any) -> str:
    """A value as an error names it."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return (
        f"'{value}'" if isinstance(value, str) else {True: "true", False: "false", None: "null"}.get(value, str(value))
    )
