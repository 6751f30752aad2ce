"""Files under cache/: derived from other files, and thrown away when absent, cut short, damaged or of another version.

They are written by marshal, which takes no time to import and reads a thousand records in a few milliseconds, but
trusts what it reads: the checksum in front, which covers the version too, is what makes that safe.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib

from lib import VERSION, paths
from lib.errors import AoError

TYPE_CHECKING = False  # see render
if TYPE_CHECKING:
    from typing import Any

SEED = zlib.crc32(f"{VERSION} {sys.version}".encode())


def load(home: str, name: str) -> dict[Any, Any]:
    """The mapping that was kept under `name`, {} when there is none that can be trusted."""
    try:
        with open(paths.cache(home, name), "rb") as file:
            data = file.read()
    except OSError:
        return {}
    body = memoryview(data)[4:]
    if data[:4] != _checksum(body):
        return {}
    found: dict[Any, Any] = marshal.loads(body)
    return found


def save(home: str, name: str, value: dict[Any, Any]) -> None:
    """Keep a mapping of plain values. Where it cannot be written it is not kept."""
    from lib import store

    body = marshal.dumps(value)
    try:
        store.replace(paths.cache(home, name), _checksum(body) + body, durable=False)
    except AoError:
        return


def forget(home: str, name: str) -> None:
    """Throw away what is kept under `name`."""
    try:
        os.unlink(paths.cache(home, name))
    except OSError:
        return


def signature(path: str) -> tuple[int, int, int] | None:
    """What tells one content of a file from the next without reading it; None when there is no file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError:
        return 0, 0, 0  # whoever reads it finds out why
    return found.st_mtime_ns, found.st_size, found.st_ino


def _checksum(body: bytes | memoryview) -> bytes:
    return zlib.crc32(body, SEED).to_bytes(4, "big")
