"""ao.yaml: found, read, checked against config/defaults.yaml and merged over it.

defaults.yaml is both the documentation and the defaults, and a setting takes what its default is (`30s`: a duration,
`true`: true or false); lib/kinds.py says the rest. A mistake inside one project breaks only that project: it is in
`Config.broken` with its one line, and the others work on. Nothing is kept between two runs.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from lib import ROOT, paths, store
from lib.errors import AoError
from lib.kinds import kind_of, shown

if TYPE_CHECKING:
    import yaml

NAMES = ("ao.yaml", "ao-rs.yaml")
DEFAULTS = os.path.join(ROOT, "config", "defaults.yaml")
INHERITED = ("runtime", "agent", "workspace", "scm", "tracker", "branch_namespace", "max_sessions")
ONLY_FOR = {"auto-merge": "approved-and-green", "restore": "agent-exited"}  # actions that fit a single reaction
READ_BY = {  # fields of a reaction that only these read
    "threshold": ("agent-idle", "agent-stuck"),
    "merge_method": ("approved-and-green",),
    "include_summary": ("all-complete", "cannot-look"),
}
OPEN_ENDED = ("retries", "escalate_after")  # null is a value of these: no end, never
UNADDRESSED = (
    "all-complete",
    "cannot-look",
    "budget-warning",
    "budget-exceeded",
    "cost-unknown",
)  # reactions without an agent that could be told
_VARIABLE = re.compile(r"\$(\$?)\{([A-Za-z_][A-Za-z0-9_]*)\}")

Place = tuple[str, ...]  # where a setting stands: ("projects", "shop", "merge", "settle")


class Project(NamedTuple):
    """A project with all that applies to it: its own settings, the defaults, and the rest of its file."""

    id: str
    path: str  # absolute real path of the repository
    source: str  # path of the ao.yaml
    values: dict[str, Any]


class Config(NamedTuple):
    source: str  # path of the ao.yaml, "" without one
    values: dict[str, Any]  # what is not about one project
    projects: dict[str, Project]
    broken: dict[str, str]  # project id -> what is wrong, in one line
    warnings: list[str]
    hidden: frozenset[str] = frozenset()  # texts that came from the environment, never to be shown
    lines: Mapping[Place, int] = MappingProxyType({})  # where each setting of the file stands


def find(start: str, explicit: str | None = None) -> str | None:
    """The file that counts in the folder `start`: `explicit` (--config), else AO_CONFIG, else the nearest upward."""
    named = explicit or os.environ.get("AO_CONFIG")
    if named:
        path = os.path.abspath(os.path.expanduser(named))
        if not os.path.isfile(path):
            raise AoError(f"cannot read '{path}' ({'--config' if explicit else 'AO_CONFIG'}): no such file")
        return path
    candidates = (os.path.join(folder, name) for name in NAMES for folder in _upward(os.path.realpath(start)))
    return next(filter(os.path.isfile, candidates), None)


def load(path: str | None) -> Config:
    """The file merged over the defaults; without a file the defaults, and no project.

    Raises AoError `file:line: setting: what is wrong` for the first mistake that is not inside one project.
    """
    config, mistakes = examine(path)
    if mistakes.get(""):
        raise AoError(mistakes[""][0])
    return config


def examine(path: str | None) -> tuple[Config, dict[str, list[str]]]:
    """Like `load`, with all mistakes by project ("" for those outside of any) instead of an exception for the first."""
    defaults = _defaults()
    check = _Check(path or "", defaults["reactions"])
    given = _read(path) if path else _Given(1, {})
    pattern = defaults.pop("projects")["<id>"]
    own = check.part(given, "projects")
    top = check.mapping(defaults, given, ())
    _check_reactions(check, top["reactions"], ("reactions",), check.reactions)
    pattern.update({word: top["defaults"][word] for word in INHERITED}, reactions=top["reactions"])
    projects = _projects(check, pattern, top, own)
    broken = {id: texts[0] for id, texts in check.mistakes.items() if id}
    sound = {id: project for id, project in projects.items() if id not in broken}
    return Config(path or "", top, sound, broken, check.warnings, frozenset(check.hidden), check.lines), check.mistakes


def setting(scope: Project | Config, key: str) -> Any:
    """The value of a setting by its name in defaults.yaml: `setting(project, "merge.settle")`. Durations are texts."""
    value: Any = scope.values
    for word in key.split("."):
        value = value[word]
    return value


def reactions(project: Project) -> dict[str, dict[str, Any]]:
    """Reaction key -> all fields of its settings; {} without an ao.yaml, because then nothing is done by itself."""
    found: dict[str, dict[str, Any]] = project.values["reactions"] if project.source else {}
    return found


def derived_prefix(id: str, taken: set[str]) -> str:
    """A short prefix for session ids: `shop` -> shop, `web-shop` -> ws; longer when another project has it."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", id)] or ["p"]
    whole = "-".join(words)[:16].strip("-")
    short = "".join(word[0] for word in words)[:8] if len(words) > 1 else words[0][:8]
    numbered = (f"{short}{number}" for number in range(2, 10_000))
    return next(prefix for prefix in (short, whole, *numbered) if prefix not in taken)


def at(source: str, lines: Mapping[Place, int], place: Place, text: str) -> str:
    """`file:line: setting: text`, with the line of the nearest setting around it that has one."""
    known = next((place[:size] for size in range(len(place), 0, -1) if place[:size] in lines), ())
    return f"{source}:{lines.get(known, 1)}: {'.'.join(place)}: {text}"


def _upward(folder: str) -> Iterator[str]:
    while True:
        yield folder
        if folder == os.path.dirname(folder):
            return
        folder = os.path.dirname(folder)


# --- reading -------------------------------------------------------------------------------------------------------


class _Given(NamedTuple):
    """A value of the file and its line; a mapping holds `dict[str, _Given]`, a list `list[_Given]`."""

    line: int
    value: Any


def _read(path: str) -> _Given:
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            loader = store.loader()(file.read())
        node = loader.get_single_node()
        given = _Given(1, {}) if node is None else _tree(loader, node, path)
    except OSError as error:
        raise AoError(f"cannot read '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AoError(f"cannot read '{path}': {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AoError(_not_yaml(path, error)) from error
    if not isinstance(given.value, dict):
        raise AoError(f"{path}:{given.line}: must be a mapping of settings, like 'projects:'")
    return given


def _not_yaml(path: str, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    why = getattr(error, "problem", None) or " ".join(str(error).split())
    return f"{path}:{mark.line + 1 if mark else 1}: not YAML: {why}"


def _tree(loader: yaml.CSafeLoader, node: Any, path: str) -> _Given:
    line = node.start_mark.line + 1
    if node.id == "sequence":
        return _Given(line, [_tree(loader, item, path) for item in node.value])
    if node.id == "scalar":
        return _Given(line, loader.construct_object(node))
    found: dict[str, _Given] = {}
    for key, value in node.value:
        if key.id != "scalar":
            raise AoError(f"{path}:{key.start_mark.line + 1}: a name must be a word, not {key.id}")
        if key.value in found:
            raise AoError(f"{path}:{key.start_mark.line + 1}: {key.value}: given twice")
        found[key.value] = _tree(loader, value, path)._replace(line=key.start_mark.line + 1)
    return _Given(line, found)


def _defaults() -> dict[str, Any]:
    """What defaults.yaml holds, each reaction with all of its fields."""
    with open(DEFAULTS, encoding="utf-8") as file:
        defaults: dict[str, Any] = store.loads(file.read(), DEFAULTS, whole=False)
    each = defaults["reactions"].pop("<each>")
    defaults["reactions"] = {key: {**each, **fields} for key, fields in defaults["reactions"].items()}
    return defaults


# --- checking and merging ------------------------------------------------------------------------------------------


class _Check:
    """Merges what is given over what is default and collects what is wrong on the way."""

    def __init__(self, source: str, reactions: dict[str, Any]) -> None:
        self.source = source
        self.reactions = reactions  # the built-in ones
        self.lines: dict[Place, int] = {}
        self.mistakes: dict[str, list[str]] = {}  # project id, "" for none -> lines
        self.places: set[Place] = set()  # of the mistakes
        self.warnings: list[str] = []
        self.hidden: set[str] = set()

    def wrong(self, place: Place, text: str) -> None:
        self.places.add(place)
        project = place[1] if len(place) > 1 and place[0] == "projects" else ""
        self.mistakes.setdefault(project, []).append(self.at(place, text))

    def at(self, place: Place, text: str) -> str:
        return at(self.source, self.lines, place, text)

    def missing(self, place: Place, text: str = "") -> None:
        """What is there and wrong is not missing besides."""
        if not any(place[:size] in self.places for size in range(1, len(place) + 1)):
            self.wrong(place, "is missing" + text)

    def part(self, given: _Given, word: str) -> dict[str, _Given]:
        """Take the mapping `word` out of `given`."""
        found = given.value.pop(word, _Given(1, None))
        self.lines[(word,)] = found.line
        if not isinstance(found.value, dict | None):
            self.wrong((word,), f"must be a mapping, not {shown(found.value)}")
        return found.value if isinstance(found.value, dict) else {}

    def value(self, default: Any, given: _Given, place: Place) -> Any:
        """`given` in place of `default`, or the default when it is null or wrong."""
        self.lines[place] = given.line
        if given.value is None:
            return None if place[-1] in OPEN_ENDED else _unpatterned(default)
        if isinstance(default, dict):
            return self.mapping(default, given, place)
        if isinstance(default, list) and default and isinstance(default[0], dict):
            return self.entries(default[0], given, place)
        value = self.plain(given, place)
        problem = "" if value is None else kind_of(place, default)(value)
        if problem:
            self.wrong(place, problem)
        return _unpatterned(default) if problem or value is None else value

    def mapping(self, default: dict[str, Any], given: _Given, place: Place) -> dict[str, Any]:
        merged = {word: _unpatterned(value) for word, value in default.items()}
        if not isinstance(given.value, dict):
            self.wrong(place, f"must be a mapping, not {shown(given.value)}")
            return merged
        if not default:  # a mapping whose names are not ours
            free = self.plain(given, place)
            return free if isinstance(free, dict) else {}
        known = {_bare(word): word for word in default}
        seen: set[str] = set()
        for spelled, value in given.value.items():
            word = known.get(_bare(spelled))
            if word is None:
                self.unknown(place, spelled, value.line, list(default))
            elif word in seen:
                self.lines[(*place, spelled)] = value.line
                self.wrong((*place, spelled), f"given twice, also in another spelling of {word}")
            else:
                seen.add(word)
                merged[word] = self.value(default[word], value, (*place, word))
        return merged

    def entries(self, pattern: dict[str, Any], given: _Given, place: Place) -> list[dict[str, Any]]:
        if not isinstance(given.value, list):
            self.wrong(place, f"must be a list, not {shown(given.value)}")
            return []
        found = []
        for number, item in enumerate(given.value):
            here = (*place, str(number))
            self.lines[here] = item.line
            entry = self.mapping(pattern, item, here)
            found.append(entry)
            for word, value in entry.items() if isinstance(item.value, dict) else ():
                if value is None:
                    self.missing((*here, word))
        return found

    def unknown(self, place: Place, word: str, line: int, known: list[str]) -> None:
        import difflib

        self.lines[(*place, word)] = line
        near = difflib.get_close_matches(_bare(word), [_bare(name) for name in known], 1, 0.6)
        nearest = next((name for name in known if near and _bare(name) == near[0]), "")
        hint = f"; did you mean {nearest}?" if nearest else ""
        if place and place[-1] == "reactions":
            self.wrong((*place, word), f"no such reaction{hint or ' (known: ' + ', '.join(known) + ')'}")
        else:
            self.warnings.append(self.at((*place, word), f"unknown setting, ignored{hint}"))

    def plain(self, given: _Given, place: Place) -> Any:
        """The bare value, environment variables replaced; None when one of them is missing."""
        if isinstance(given.value, dict):
            return {key: self.plain(value, (*place, key)) for key, value in given.value.items()}
        if isinstance(given.value, list):
            return [self.plain(value, place) for value in given.value]
        if not isinstance(given.value, str) or "${" not in given.value:
            return given.value
        missing = [name for kept, name in _VARIABLE.findall(given.value) if not kept and name not in os.environ]
        if missing:
            self.wrong(place, f"the environment variable {missing[0]} is not set (write $${{…}} to keep it as it is)")
            return None
        text = _VARIABLE.sub(lambda found: found[0][1:] if found[1] else os.environ[found[2]], given.value)
        if any(not kept for kept, _ in _VARIABLE.findall(given.value)):
            self.hidden.add(text)
        return text


def _projects(
    check: _Check, pattern: dict[str, Any], top: dict[str, Any], own: dict[str, _Given]
) -> dict[str, Project]:
    projects = {}
    for id, given in own.items():
        check.lines[("projects", id)] = given.line
        projects[id] = _project(check, pattern, top, id, given)
    _prefixes(check, projects)
    return projects


def _project(check: _Check, pattern: dict[str, Any], top: dict[str, Any], id: str, given: _Given) -> Project:
    """One project; its mistakes are in `check`."""
    place = ("projects", id)
    values = check.mapping(pattern, given if given.value is not None else given._replace(value={}), place)
    try:
        paths.name(id, "project")
    except AoError as error:
        check.wrong(place, str(error))
    if values["path"] is None:
        check.missing((*place, "path"), ": the folder of the project's git repository")
    if values["agent"] == "command" and not values["agent_config"]["command"]:
        check.missing((*place, "agent_config", "command"), ": the words of the program that is to work")
    names = [entry["name"] for entry in values["ci"]]
    for number, name in enumerate(names):
        if name and name in names[:number]:
            check.wrong((*place, "ci", str(number), "name"), f"'{name}' is the name of another check")
    _check_reactions(check, values["reactions"], (*place, "reactions"), top["reactions"])
    values["path"] = _resolved(values["path"] or ".", os.path.dirname(check.source))
    if values["rules_file"]:
        values["rules_file"] = _resolved(values["rules_file"], values["path"])
    return Project(id, values["path"], check.source, {**top, **values})


def _check_reactions(check: _Check, reactions: dict[str, Any], place: Place, inherited: dict[str, Any]) -> None:
    """Refuse actions that could never do anything there (F27)."""
    for key, fields in reactions.items():
        action, here = fields["action"], (*place, key)
        has_text = check.reactions[key]["action"] == "send-to-agent" or fields["message"]
        if fields == inherited[key]:
            continue
        for word, keys in READ_BY.items():
            if key not in keys and fields[word] != inherited[key][word]:
                check.wrong((*here, word), f"is only for {' and '.join(keys)}")
        if ONLY_FOR.get(action, key) != key:
            check.wrong((*here, "action"), f"{action} is only for {ONLY_FOR[action]}")
        elif action == "send-to-agent" and key in UNADDRESSED:
            check.wrong((*here, "action"), "there is no one agent to send this to; use notify")
        elif action == "send-to-agent" and not has_text:
            check.wrong((*here, "message"), "is missing: what to tell the agent")


def _prefixes(check: _Check, projects: dict[str, Project]) -> None:
    """Give each project a prefix that is its own: those that are written down first, then the derived ones."""
    owners: dict[str, str] = {}
    for id, project in projects.items():
        prefix = project.values["prefix"]
        if prefix in owners:
            check.wrong(("projects", id, "prefix"), f"'{prefix}' is already the prefix of project '{owners[prefix]}'")
        elif prefix:
            owners[prefix] = id
    for id, project in projects.items():
        if not project.values["prefix"]:
            project.values["prefix"] = derived_prefix(id, set(owners))
            owners[project.values["prefix"]] = id


def _resolved(path: str, folder: str) -> str:
    return os.path.realpath(os.path.join(folder, os.path.expanduser(path)))


def _bare(word: str) -> str:
    """The same for default_branch, default-branch and defaultBranch."""
    return re.sub("[-_]", "", word).lower()


def _unpatterned(default: Any) -> Any:
    """A default to use: a list that shows its entry is empty."""
    if isinstance(default, dict):
        return {word: _unpatterned(value) for word, value in default.items()}
    return [] if isinstance(default, list) and default and isinstance(default[0], dict) else copy.copy(default)
