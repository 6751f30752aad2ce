"""YAML files that survive crashes, races and each other's writers.

The lock is a sidecar, never x.yaml itself: `write` replaces the file's inode, and a lock on the old inode protects
nobody. Readers take no lock: a rename is atomic, so they see the old file or the new one. Every file ends with the
line `...`, YAML's own end of document, so that a file cut short is noticed instead of being read as a smaller one.
What a file held before it was last written stays beside it: that is what a process leaves which dies before its write,
so whatever goes on after a crash goes on from there too when a disk has lost the newest state.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import functools
import glob
import math
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lib import faults
from lib.errors import AoError, Busy, Damaged, Unreadable

if TYPE_CHECKING:
    import yaml

# What a mapping must hold: `{field: type, tuple of types, shape of a mapping, or [shape of each entry]}`. A field whose
# name ends with `?` may be null or absent, `*` is for every value, and what is not named may be anything.
Shape = dict[str, Any]

TEMPORARY = ".tmp-"  # how the names of files begin that are about to be renamed
END = "\n...\n"  # YAML's own end of document, on a line of its own: a text may end with three dots too
DEEPEST = 50  # levels of lists and mappings within each other; ours have six
ASIDE = ".damaged-"  # before the time in the name of a damaged file that was set aside
BEFORE = ".before"  # of the name of the file that keeps what another held before it was last written
UNFINISHED = 10.0  # seconds in which a person's editor may still be writing a file
PATIENCE = 60.0  # seconds; record locks are held for milliseconds, so longer means that a process hangs
BLINK = 0.05  # seconds that everybody waits: whoever asks whether a lock is held holds it for a moment
POLL = 0.005  # seconds between two tries to get a lock
_kept = threading.local()  # handles: the lasting locks of this thread
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
    if value is ...:
        return f"its '{name}' is missing"
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
        parts = [(n, value.get(n, ...), shape[key]) for n, key in found if n == key or value.get(n) is not None]
    return next(filter(None, (misfit(item, inner, f"{name}.{key}".lstrip(".")) for key, item, inner in parts)), "")


def dumps(value: dict[str, Any]) -> str:
    """YAML text for a mapping: no anchors, no wrapping that would change with content, lone surrogates replaced."""
    import yaml

    return str(
        yaml.dump(clean(value), Dumper=dumper(), sort_keys=False, allow_unicode=True, width=200, explicit_end=True)
    )


def write(path: str, value: dict[str, Any], mode: int = 0o600) -> None:
    """Replace a file by a mapping, all or nothing, also when the power goes; what it held is kept beside it."""
    content = dumps(value).encode("utf-8")
    if os.path.exists(path):
        with contextlib.suppress(OSError):  # without it a damaged file leaves less behind, which is no reason to fail
            _unlink(path + BEFORE)
            os.link(path, path + BEFORE)
    replace(path, content, mode)


def replace(path: str, content: bytes, mode: int = 0o600, durable: bool = True) -> None:
    """Replace a file by `content` through a temporary file of a unique name in the same folder."""
    _save(path, content, os.replace, mode, durable)


def reserve(path: str, value: dict[str, Any]) -> bool:
    """Create a file that nobody else has created, with its content from the first moment on; False when it exists."""
    return create(path, dumps(value).encode("utf-8"), 0o600)


def create(path: str, content: bytes, mode: int) -> bool:
    """Like `reserve`, with any content."""
    return _save(path, content, os.link, mode)


def sweep(folders: str) -> None:
    """Remove the temporary files of writers that were killed, from the folders that a glob pattern means."""
    for path in glob.glob(os.path.join(folders, TEMPORARY + "*")):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # its writer holds it for as long as it lives
            os.unlink(path)


def _save(
    path: str, content: bytes, place: Callable[[str, str], None], mode: int = 0o600, durable: bool = True
) -> bool:
    """Write a temporary file and `place` it: nobody ever sees half of it. False when `place` finds the name taken."""
    folder, temporary = os.path.dirname(path), ""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        handle, temporary = _temporary(folder)
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(handle, mode)
            if durable:
                os.fsync(handle)
            faults.step()
            try:
                place(temporary, path)
            except FileExistsError:
                return False
        if durable:
            _sync(folder)
        faults.step()
        return True
    except OSError as error:
        raise AoError(f"cannot write '{path}': {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _temporary(folder: str) -> tuple[int, str]:
    """A new file that `sweep` leaves alone while this process lives."""
    while True:
        handle, path = tempfile.mkstemp(prefix=TEMPORARY, dir=folder)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else it was swept away before it was locked
            return handle, path
        os.close(handle)


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
def lock(path: str, patience: float = PATIENCE, lasts: bool = False) -> Iterator[None]:
    """Hold the sidecar lock of `path`. Raises Busy when another process holds it for longer than `patience` seconds.

    One that `lasts` is held on, when this process is killed, by what it has started (`proc.run` with `changes`).
    """
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        handle = os.open(path + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise AoError(f"cannot lock '{path}': {error.strerror}") from error
    try:
        _acquire(handle, path, time.monotonic() + max(patience, BLINK))
        if lasts:
            _kept.handles = [*lasting(), handle]
        yield
    finally:
        _kept.handles = [one for one in lasting() if one != handle]
        os.close(handle)


def lasting() -> list[int]:
    """The descriptors of the locks that this thread holds and that last."""
    return list(getattr(_kept, "handles", ()))


def _acquire(handle: int, path: str, end: float) -> None:
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise Busy(f"cannot lock '{path}': another process holds it") from error
        except OSError as error:
            raise AoError(f"cannot lock '{path}': {error.strerror}") from error
        time.sleep(POLL)


def is_held(path: str) -> bool:
    """Whether some process holds the lock of `path` at this moment."""
    try:
        with open(path + ".lock", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # with whoever else asks
        return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def set_aside(
    path: str,
    now: str,
    rested: float = 0.0,
    mend: Callable[[dict[str, Any]], None] | None = None,
    only_for_another: bool = False,
    shape: Shape | None = None,
) -> str:
    """Move a damaged file out of the way, never over another; returns what is wrong with it, "" when nothing is.

    What it held before takes its place, changed by `mend`; with `only_for_another` it stays when there is nothing that
    could. One that was written less than `rested` seconds ago is left alone: a person's editor may not have finished.
    """
    with lock(path):
        try:
            read(path, shape)
            return ""
        except Damaged as error:
            known = earlier(path, shape)
            if 0 <= time.time() - os.stat(path).st_mtime < rested or (only_for_another and known is None):
                return str(error)
            said = f"{error}; it is set aside as '{keep_aside(path, now)}'"
            if known is None:
                os.unlink(path)
                return said
            if mend:
                mend(known)
            replace(path, dumps(known).encode("utf-8"))
            return said + ", and what it held before is used"
        except Unreadable as error:  # what it holds is not known, so it stays
            return str(error)


def keep_aside(path: str, now: str) -> str:
    """Keep a damaged file under another name, which is returned, before something takes its place."""
    target = f"{path}{ASIDE}{re.sub('[^0-9]', '', now)}"
    while os.path.exists(target):
        target += "x"
    os.link(path, target)
    return target


def earlier(path: str, shape: Shape | None = None) -> dict[str, Any] | None:
    """What a file held before it was last written, None when that is not known."""
    try:
        return read(path + BEFORE, shape)
    except Unreadable:
        return None


def is_whole(path: str) -> bool:
    """Whether a file ends as `write` ends it, which is quicker to see than what it holds. True when there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - len(END)))
            return file.read() == END.encode()
    except OSError:
        return True  # whoever reads it finds out why


def forget(path: str) -> None:
    """Remove a file and what is kept of it; absent is success."""
    _unlink(path + BEFORE)
    _unlink(path)


def move(path: str, target: str) -> None:
    """Move a file, without what is kept of it, to another folder."""
    _unlink(path + BEFORE)
    os.replace(path, target)


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


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
