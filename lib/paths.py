"""Where everything lies under $AO_HOME; no other module joins these names.

Ids and project names become file names, so they are checked here, at the one place where they do.
"""

from __future__ import annotations

import os

from lib.errors import AoError

NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
LONGEST_NAME = 64


def home(make: bool = True) -> str:
    """The folder that holds all of ao's files: $AO_HOME or ~/.ao.

    It is made with mode 0700 when it is not there, except for who only reads.
    """
    path = os.path.normpath(os.path.expanduser(os.environ.get("AO_HOME") or "~/.ao"))
    if not os.path.isabs(path):  # each command would mean another folder, by where it is run
        raise AoError(f"{'AO_HOME' if os.environ.get('AO_HOME') else 'HOME'} must be an absolute path, not '{path}'")
    if make and not os.path.isdir(path):
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise AoError(
                f"cannot make ao's folder '{path}': {error.strerror}; set AO_HOME to a folder you own"
            ) from error
    return path


def is_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text[0] not in "._-" and NAME.issuperset(text)


def name(text: str, what: str = "name") -> str:
    """`text` if it can safely be a file name and a word on a command line, else AoError."""
    if not is_name(text) or text.endswith((".lock", ".yaml")):
        raise AoError(f"not a valid {what}: {text[:80]!r} (letters, digits, '.', '_' and '-', at most 64)")
    return text


def written(home: str, project: str = "*") -> list[str]:
    """Glob patterns of the folders whose files are replaced by others, and where temporary ones may be left."""
    import glob  # takes long, and ao-status starts with this module

    patterns = ("", "projects", "cache", "hosts", "sessions/*", "launch/*", "forge/*", "forge/*/prs")
    return [os.path.join(glob.escape(home), pattern.replace("*", project)) for pattern in patterns]


def sessions(home: str) -> str:
    return os.path.join(home, "sessions")


def session(home: str, project: str, id: str) -> str:
    return os.path.join(home, "sessions", name(project, "project"), name(id, "session id") + ".yaml")


def archived(home: str, project: str, id: str) -> str:
    return os.path.join(home, "archive", name(project, "project"), name(id, "session id") + ".yaml")


def project(home: str, project: str) -> str:
    return os.path.join(home, "projects", name(project, "project") + ".yaml")


def events(home: str) -> str:
    return os.path.join(home, "events")


def forge(home: str, project: str) -> str:
    return os.path.join(home, "forge", name(project, "project"))


def shared(home: str) -> list[tuple[str, str]]:
    """The files that all sessions of a project share, each with the project's name."""
    import glob

    own = glob.glob(os.path.join(glob.escape(home), "projects", "*.yaml"))
    forges = glob.glob(os.path.join(glob.escape(home), "forge", "*", "*.yaml"))
    return [(project_of(home, path), path) for path in sorted(own + forges)]


def project_of(home: str, path: str) -> str:
    """The name of the project that a file belongs to: <kind>/<project>/... or projects/<project>.yaml..."""
    project, is_folder, _ = os.path.relpath(path, home).partition(os.sep)[2].partition(os.sep)
    return project if is_folder else project.partition(".yaml")[0]


def report(home: str, project: str, id: str) -> str:
    return os.path.join(home, "reports", name(project, "project"), name(id, "session id"))


def launch(home: str, project: str, id: str) -> str:
    return os.path.join(home, "launch", name(project, "project"), name(id, "session id") + ".json")


def records(home: str, project: str, id: str) -> str:
    """The folder of what an agent writes down about its work, where it can be told to write it there."""
    return os.path.join(home, "records", name(project, "project"), name(id, "session id"))


def worktree(home: str, project: str, id: str) -> str:
    return os.path.join(home, "worktrees", name(project, "project"), name(id, "session id"))


def log(home: str, *parts: str) -> str:
    """A file under logs/; its folder is made."""
    path = os.path.join(home, "logs", *(name(part, "log") for part in parts))
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    except OSError as error:
        raise AoError(f"cannot make the folder of '{path}': {error.strerror}") from error
    return path


def lock(home: str, *parts: str) -> str:
    """A file under locks/: `tick`, `react`, `loop`, `effect/<project>/<id>`."""
    return os.path.join(home, "locks", *(name(part, "lock") for part in parts))


def is_month(text: str) -> bool:
    """Whether this is a month as ledgers are named: `2026-01`."""
    year, dash, month = text.partition("-")
    return dash == "-" and len(year) == 4 and year.isdecimal() and month in {f"{one:02d}" for one in range(1, 13)}


def ledger(home: str, month: str) -> str:
    if not is_month(month):
        raise AoError(f"not a month: {month[:20]!r} (write 2026-01)")
    return os.path.join(home, "cost-ledger", month + ".yaml")


def host(home: str, host: str) -> str:
    return os.path.join(home, "hosts", name(host, "host") + ".yaml")


def loop(home: str) -> str:
    return os.path.join(home, "loop.yaml")


def cache(home: str, entry: str) -> str:
    return os.path.join(home, "cache", name(entry, "cache"))
