"""What agents write down about their own work, read as it grows: of a file only the lines that were appended.

Where each file was read up to is kept in the cache together with what was learned (`state`, plain values). A lost cache
is read anew from the beginning of the transcripts and ends in the same state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

State = dict[str, Any]

MOST = 64 << 20  # bytes of one file that are read at once; the rest is read by the next looks
IDS_KEPT = 100  # of messages that were counted already


def appended(state: State, path: str) -> Iterator[bytes]:
    """The whole lines that a file has got since it was read last; one that was replaced or cut short from its start.

    `state["files"]` keeps `{path: [inode, offset]}`; the offset moves on when all lines have been taken.
    `state["path"]` is the file that was read last.
    """
    places: dict[str, list[int]] = state.setdefault("files", {})
    try:
        found = os.stat(path)
        inode, offset = places.get(path) or (found.st_ino, 0)
        if inode != found.st_ino or found.st_size < offset:
            offset = 0
            state.setdefault("again", {})[path] = (state.get("newest") or {}).get(path, "")
        if found.st_size == offset:
            return
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(MOST)
    except OSError:
        return  # not there yet, or no more
    state["path"] = path
    end = data.rfind(b"\n") + 1 or (len(data) if len(data) == MOST else 0)  # no line is that long: it is passed over
    yield from data[:end].split(b"\n")[:-1]
    places[path] = [found.st_ino, offset + end]


def is_counted(state: State, at: str) -> bool:
    """Whether a message of that time was counted before its file had to be read from its start again."""
    path, newest = state.get("path", ""), state.setdefault("newest", {})
    newest[path] = max(at, newest.get(path, ""))
    until: str = (state.get("again") or {}).get(path, "")
    return at <= until


def news(state: State, id: str, counts: Mapping[str, int]) -> dict[str, int]:
    """What a message counts beyond what it was counted for before.

    Agents write one message in several lines, each with the usage of the whole, or with what is known of it so far.
    """
    known: dict[str, list[int]] = state.setdefault("ids", {})
    before = known.get(id) or [0] * len(counts)
    known[id] = [max(pair) for pair in zip(before, counts.values(), strict=True)]
    if len(known) > 2 * IDS_KEPT:
        state["ids"] = dict(list(known.items())[-IDS_KEPT:])
    return {name: max(0, count - old) for (name, count), old in zip(counts.items(), before, strict=True)}


def tail(path: str, most: int = 1 << 18) -> list[bytes]:
    """The last whole lines of a file, of at most so many bytes."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            data = file.read(most)
    except OSError:
        return []
    lines = data.split(b"\n")
    return lines[1 if size > most else 0 : -1]
