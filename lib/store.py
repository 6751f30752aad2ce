"""YAML files that survive crashes, races and each other's writers.

The lock is a sidecar, never x.yaml itself: `write` replaces the file's inode, and a lock on the old inode protects
nobody. Readers take no lock: a rename is atomic, so they see the old file or the new one. Every file ends with the
line `...`, YAML's own end of document, so that a file cut short is noticed instead of being read as a smaller one.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lib.errors import AoError, Busy, Damaged, Unreadable

if TYPE_CHECKING:
    import yaml

# What a mapping must hold: `{field: type, tuple of types, shape of a mapping, or [shape of each entry]}`. A field whose
# name ends with `?` may be null or absent, `*` is for every value, and what is not named may be anything.
Shape = dict[str, Any]

END = "\n...\n"  # YAML's own end of document, on a line of its own: a text may end with three dots too
DEEPEST = 50  # levels of lists and mappings within each other; ours have six
PATIENCE = 20.0  # seconds; record locks are held for milliseconds, so longer means that a process hangs
_SURROGATES = re.compile("[\ud800-\udfff]")
_PLAIN = (  # the only plain scalars that are not strings: no dates, octals, sexagesimals, on/off or yes/no
    ("bool", re.compile(r"^(?:true|false)$"), "tf"),
    ("int", re.compile(r"^-?(?:0|[1-9][0-9]*)$"), "-0123456789"),
    ("float", re.compile(r"^-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?$"), "-0123456789"),
    ("null", re.compile(r"^(?:null|~|)$"), ["n", "~", ""]),
)


def read(path: str, shape: Shape | None = None) -> dict[str, Any] | None:
    """The mapping in a file, None when there is no file. Raises Unreadable for all but a whole mapping of `shape`."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:  # no word about what it holds
        raise Unreadable(f"cannot read '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Damaged(f"cannot read '{path}': {error}") from error
    value = loads(text, path)
    problem = misfit(value, shape) if shape else ""
    if problem:
        raise Damaged(f"cannot read '{path}': {problem}")
    return value


def loads(text: str, path: str = "text", whole: bool = True) -> dict[str, Any]:
    """The mapping in `text`. `whole` demands the end line that `write` leaves."""
    import yaml

    if whole and not text.endswith(END):
        raise Damaged(f"cannot read '{path}': it was cut short (no '...' at its end)")
    try:
        value = yaml.load(text, Loader=loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Damaged(f"cannot read '{path}': {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise Damaged(f"cannot read '{path}': it holds {type(value).__name__}, not a mapping")
    if not _is_plain(value):
        raise Damaged(f"cannot read '{path}': it holds an anchor, a tag, or more than {DEEPEST} levels")
    return value


def misfit(value: Any, shape: Any, name: str = "") -> str:
    """What in `value` is not as `shape` says, "" when nothing is."""
    is_leaf = isinstance(shape, type | tuple)
    if not isinstance(value, shape if is_leaf else type(shape)):
        return f"its '{name}' is {type(value).__name__}"
    if is_leaf:
        return ""
    if isinstance(shape, list):
        parts = [(place, item, shape[0]) for place, item in enumerate(value)]
    elif "*" in shape:
        parts = [(key, item, shape["*"]) for key, item in value.items()]
    else:
        found = [(key.rstrip("?"), key) for key in shape]
        parts = [(n, value.get(n), shape[key]) for n, key in found if n == key or value.get(n) is not None]
    return next(filter(None, (misfit(item, inner, f"{name}.{key}".lstrip(".")) for key, item, inner in parts)), "")


def dumps(value: dict[str, Any]) -> str:
    """YAML text for a mapping: no anchors, no wrapping that would change with content, lone surrogates replaced."""
    import yaml

    return str(
        yaml.dump(clean(value), Dumper=dumper(), sort_keys=False, allow_unicode=True, width=200, explicit_end=True)
    )


def write(path: str, value: dict[str, Any], mode: int = 0o600) -> None:
    """Replace a file by a mapping, all or nothing, also when the power goes."""
    replace(path, dumps(value).encode("utf-8"), mode)


def replace(path: str, content: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace a file by `content` through a temporary file of a unique name in the same folder."""
    _save(path, content, os.replace, mode, durable)


def reserve(path: str, value: dict[str, Any]) -> bool:
    """Create a file that nobody else has created, with its content from the first moment on; False when it exists."""
    return _save(path, dumps(value).encode("utf-8"), os.link)


def _save(
    path: str, content: bytes, place: Callable[[str, str], None], mode: int = 0o600, durable: bool = True
) -> bool:
    """Write a temporary file and `place` it: nobody ever sees half of it. False when `place` finds the name taken."""
    folder, temporary = os.path.dirname(path), ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=folder)
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(handle, mode)
            if durable:
                os.fsync(handle)
        try:
            place(temporary, path)
        except FileExistsError:
            return False
        if durable:
            _sync(folder)
        return True
    except OSError as error:
        raise AoError(f"cannot write '{path}': {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def update(
    path: str, change: Callable[[dict[str, Any]], None], shape: Shape | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read, change and write a mapping under its lock, and return it as it was and as it is.

    `change` edits the mapping in place; a file that is not there is an empty one. Nothing is written when nothing
    differs. A file that cannot be read raises Unreadable and stays as it is.
    """
    with lock(path):
        before = read(path, shape) or {}
        after = copy.deepcopy(before)
        change(after)
        if after != before:
            write(path, after)
    return before, after


@contextlib.contextmanager
def lock(path: str, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the sidecar lock of `path`. Raises Busy when another process holds it for longer than `patience` seconds."""
    import filelock

    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        held = filelock.FileLock(path + ".lock", mode=0o600, thread_local=False)
        held.acquire(timeout=patience, poll_interval=0.005)
    except filelock.Timeout as error:
        raise Busy(f"cannot lock '{path}': another process holds it") from error
    except OSError as error:
        raise AoError(f"cannot lock '{path}': {error.strerror}") from error
    try:
        yield
    finally:
        held.release()


def is_held(path: str) -> bool:
    """Whether some process holds the lock of `path` at this moment."""
    if not os.path.exists(path + ".lock"):
        return False
    try:
        with lock(path, patience=0):
            return False
    except Busy:
        return True


def set_aside(path: str, now: str, rested: float = 0.0, shape: Shape | None = None) -> str:
    """Move a damaged file out of the way, never over another; returns what is wrong with it, "" when nothing is.

    One that was written less than `rested` seconds ago is left alone: a person's editor may not have finished.
    """
    with lock(path):
        try:
            read(path, shape)
            return ""
        except Damaged as error:
            if time.time() - os.stat(path).st_mtime < rested:
                return str(error)
            target = f"{path}.damaged-{re.sub('[^0-9]', '', now)}"
            while os.path.exists(target):
                target += "x"
            os.rename(path, target)
            return f"{error}; it is set aside as '{target}'"
        except Unreadable as error:  # what it holds is not known, so it stays
            return str(error)


def clean(value: Any) -> Any:
    """`value` with every lone surrogate in its strings replaced: they cannot be encoded, and come from bad names."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


@functools.cache
def loader() -> type[yaml.CSafeLoader]:
    """A C loader that takes `on`, `012`, `1:30` and dates for the strings they are."""
    import yaml

    class Loader(yaml.CSafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    for tag, pattern, first in _PLAIN:
        Loader.add_implicit_resolver("tag:yaml.org,2002:" + tag, pattern, list(first))
    return Loader


@functools.cache
def dumper() -> type[yaml.CSafeDumper]:
    """A C dumper without anchors that quotes whatever any YAML 1.1 reader would take for something else."""
    import yaml

    class Dumper(yaml.CSafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    return Dumper


def _is_plain(value: dict[str, Any]) -> bool:
    """Whether it is what `dumps` writes: a tree, not too deep to be copied, of texts, numbers, true, false and null."""
    layer: list[Any] = [value]
    seen = {id(value)}
    for _ in range(DEEPEST):
        inner = [item for one in layer for item in (one.values() if isinstance(one, dict) else one)]
        layer = [item for item in inner if isinstance(item, dict | list)]
        ids = set(map(id, layer))
        if len(ids) < len(layer) or ids & seen or not all(map(_is_scalar, inner)):
            return False
        seen |= ids
    return not layer


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | None | dict | list) or (isinstance(value, float) and abs(value) < math.inf)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
