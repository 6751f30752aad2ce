"""Issues in the repository itself: docs/issues/NNNN-slug.md, `# Title`, a blank line, the body.

A file holds only text; whether its issue is open or closed is kept under $AO_HOME, so that closing one never dirties a
checkout. Labels are a line `Labels: bug, ui` right after the title. People write these files by hand, so anything in
them can be read: a file without a title gets one from its name.
"""

from __future__ import annotations

import builtins
import glob
import os
import re
from collections.abc import Sequence
from typing import Any

from lib import cli, paths, render, store
from lib.config import Project
from lib.errors import AoError
from lib.tracker import Issue

FOLDER = os.path.join("docs", "issues")
LARGEST = 256 * 1024  # bytes that are read of an issue; nobody means more than that as a task
LONGEST_TITLE = 200
SHAPE: store.Shape = {"closed?": [int], "last?": int}  # of the file that holds the states
_FILE = re.compile(r"0*([0-9]{1,9})(?:[-_. ].*)?\.md")


def get(home: str, project: Project, id: str) -> Issue:
    """One issue by `12`, `0012` or `#12`; AoError when there is none."""
    number = _number(id)
    name = _files(project).get(number)
    if name is None:
        raise AoError(f"there is no issue '{id}' in '{os.path.join(project.path, FOLDER)}'; see: ao-issue list")
    return _read(project, name, number, _closed(home, project))


def list(
    home: str, project: Project, state: str = "open", labels: Sequence[str] = (), limit: int = 30
) -> builtins.list[Issue]:
    """Issues in order of their number that have all of `labels`; state is open, closed or all."""
    closed, found = _closed(home, project), []
    for number, name in sorted(_files(project).items()):
        if state not in ("all", "closed" if number in closed else "open"):
            continue
        issue = _read(project, name, number, closed)
        if set(labels) <= set(issue.labels):
            found.append(issue)
    return found[:limit]


def create(home: str, project: Project, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
    """Write a new issue file; its number was never given to another one, also when that was deleted."""
    title = _line(title)
    if not title:
        raise AoError(f"cannot make an issue in '{project.id}': its title is empty")
    parts = [f"# {title}", f"Labels: {', '.join(labels)}" if labels else "", body.strip("\n")]
    text = "\n\n".join(part for part in parts if part) + "\n"
    folder, slug = os.path.join(project.path, FOLDER), render.slug(title) or "issue"

    def reserve(states: dict[str, Any]) -> None:
        last, known = states.get("last", 0), _files(project)
        cut_off = (n for n, name in known.items() if n > last and name == _name(n, slug) and _holds(folder, name, text))
        number = next(cut_off, 0) or max([last, *known]) + 1
        while number not in known and not store.create(os.path.join(folder, _name(number, slug)), content, 0o644):
            number += 1
        states["last"] = number

    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise AoError(f"cannot write '{folder}': {error.strerror}") from error
    store.sweep(glob.escape(folder))
    content = text.encode("utf-8", "replace")
    return get(home, project, str(store.update(_states(home, project), reserve, SHAPE)[1]["last"]))


def close(home: str, project: Project, id: str) -> None:
    """Goal-state: an issue that is closed already stays so."""
    number = int(get(home, project, id).id)
    store.update(
        _states(home, project), lambda states: states.update(closed=sorted({*_numbers(states), number})), SHAPE
    )


def reopen(home: str, project: Project, id: str) -> None:
    """Goal-state, like close."""
    number = int(get(home, project, id).id)
    store.update(
        _states(home, project), lambda states: states.update(closed=sorted({*_numbers(states)} - {number})), SHAPE
    )


def assign(home: str, project: Project, id: str) -> None:
    raise AoError(f"cannot assign issue '{id}': issues of tracker local belong to nobody")


def program(project: Project) -> str | None:
    return None


def _states(home: str, project: Project) -> str:
    return os.path.join(paths.forge(home, project.id), "issues.yaml")


def _closed(home: str, project: Project) -> set[int]:
    return _numbers(store.read(_states(home, project), SHAPE) or {})


def _numbers(states: dict[str, Any]) -> set[int]:
    return {*(states.get("closed") or ())}


def _number(id: str) -> int:
    number = cli.number(id.strip())
    if number is None:
        raise AoError(f"not an issue number: '{id[:80]}'; see: ao-issue list")
    return number


def _files(project: Project) -> dict[int, str]:
    """The name of each issue's file; of two with one number (written on two branches) the first by name."""
    folder = os.path.join(project.path, FOLDER)
    found: dict[int, str] = {}
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise AoError(f"cannot read '{folder}': {error.strerror}") from error
    for name in names:
        match = _FILE.fullmatch(name)
        if match:
            found.setdefault(int(match.group(1)), name)
    return found


def _read(project: Project, name: str, number: int, closed: set[int]) -> Issue:
    path = os.path.join(project.path, FOLDER, name)
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            text = render.harmless(file.read(LARGEST))
    except OSError as error:
        raise AoError(f"cannot read issue '{number}': {error.strerror}: '{path}'") from error
    title, labels, body = _parse(text)
    title = title or re.sub(r"^[0-9]+|[-_]", " ", name.removesuffix(".md")).strip() or f"issue {number}"
    return Issue(str(number), title, body, f"file://{path}", "closed" if number in closed else "open", labels)


def _parse(text: str) -> tuple[str, builtins.list[str], str]:
    """Title, labels and body; a text that does not start with `# ` has no title and is all body."""
    first, _, rest = text.lstrip().partition("\n")
    if not first.startswith("# "):
        return "", [], text.strip()
    top, _, below = rest.lstrip().partition("\n")
    if not top.lower().startswith("labels:"):
        return _line(first[2:]), [], rest.strip()
    labels = [label.strip() for label in top.partition(":")[2].split(",")]
    return _line(first[2:]), [label for label in labels if label], below.strip()


def _line(text: str) -> str:
    return " ".join(render.harmless(text).split())[:LONGEST_TITLE]


def _name(number: int, slug: str) -> str:
    return f"{number:04}-{slug}.md"


def _holds(folder: str, name: str, text: str) -> bool:
    """Whether an issue that nobody noted is this one, written by a process that was killed before it could."""
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read() == text
    except (OSError, UnicodeDecodeError):
        return False
