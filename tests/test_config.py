"""ao.yaml: what is found, merged, refused and forgiven, with the exact lines."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from lib import ROOT, config, kinds, store
from lib.errors import AoError

SHOP = """
projects:
  shop:
    path: /src/shop
    agent_config: {command: [my-agent]}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes an ao.yaml and returns its path."""
    monkeypatch.delenv("AO_CONFIG", raising=False)

    def writer(text: str, name: str = "ao.yaml") -> str:
        (tmp_path / name).write_text(text.lstrip("\n"))
        return str(tmp_path / name)

    return writer


def shop(path: str) -> config.Project:
    return config.load(path).projects["shop"]


def test_without_a_file_there_are_defaults_no_project_and_no_reactions():
    found = config.load(None)
    assert (found.source, found.projects, found.warnings) == ("", {}, [])
    assert config.setting(found, "defaults.notifiers") == ["stdout"]
    assert config.reactions(config.Project("x", "/x", "", found.values)) == {}


def test_a_project_has_its_own_settings_the_defaults_and_the_rest_of_the_file(write):
    project = shop(write("defaults: {max_sessions: 3}\nlifecycle: {on_merge: prune}" + SHOP))
    got = {key: config.setting(project, key) for key in ("max_sessions", "merge.settle", "lifecycle.on_merge", "ci")}
    assert got == {"max_sessions": 3, "merge.settle": "30s", "lifecycle.on_merge": "prune", "ci": []}
    assert config.setting(project, "merge.method") == "merge"
    with pytest.raises(KeyError):
        config.setting(project, "merge.mode")


def test_reactions_merge_field_by_field_from_defaults_over_the_file_to_the_project(write):
    """F27: naming one field keeps the others."""
    text = SHOP + "    reactions:\n      agent-stuck: {priority: action}\nreactions: {agent-stuck: {retries: 1}}\n"
    stuck = config.reactions(shop(write(text)))["agent-stuck"]
    kept = {"action": "notify", "threshold": "10m", "auto": True, "message": None, "include_summary": False}
    assert stuck == {**kept, "priority": "action", "retries": 1, "escalate_after": None, "merge_method": None}


def test_the_default_reactions_are_those_that_are_documented(write):
    table = config.reactions(shop(write(SHOP)))
    told = {key: (of["action"], of["priority"], of["retries"], of["escalate_after"]) for key, of in table.items()}
    assert told["ci-failed"] == ("send-to-agent", "urgent", 3, None)
    assert told["changes-requested"] == told["bugbot-comments"] == ("send-to-agent", "urgent", None, "30m")
    assert told["merge-conflicts"] == ("send-to-agent", "urgent", None, "15m")
    assert told["agent-idle"] == ("send-to-agent", "urgent", 2, "15m")
    notified = {key: of["priority"] for key, of in table.items() if of["action"] == "notify"}
    assert notified == {
        "approved-and-green": "action",
        "pr-closed": "action",
        "agent-stuck": "warning",
        "agent-needs-input": "urgent",
        "agent-exited": "urgent",
        "message-waiting": "urgent",
        "budget-warning": "warning",
        "budget-exceeded": "urgent",
        "cost-unknown": "warning",
        "cannot-look": "warning",
        "all-complete": "info",
    }
    thresholds = {key: of["threshold"] for key, of in table.items() if of["threshold"]}
    assert thresholds == {"agent-idle": "5m", "agent-stuck": "10m"}
    assert [key for key, of in table.items() if of["include_summary"]] == ["all-complete"]


def test_null_takes_a_limit_away_and_elsewhere_keeps_the_default(write):
    table = config.reactions(shop(write(SHOP + "reactions: {ci-failed: {retries: null}, agent-stuck: {threshold: }}")))
    assert (table["ci-failed"]["retries"], table["agent-stuck"]["threshold"]) == (None, "10m")


@pytest.mark.parametrize("spelling", ["default_branch", "default-branch", "defaultBranch"])
def test_names_may_be_spelled_in_three_ways(write, spelling):
    found = config.load(write(SHOP + f"    {spelling}: trunk\n    reactions: {{ciFailed: {{escalateAfter: 2}}}}\n"))
    assert found.warnings == []
    assert config.setting(found.projects["shop"], "default_branch") == "trunk"
    assert config.reactions(found.projects["shop"])["ci-failed"]["escalate_after"] == 2


def test_words_that_yaml_takes_for_something_else_stay_words(write):
    project = shop(write(SHOP + "    default_branch: on\n    symlinks: [012, 1:30, no]\n"))
    assert config.setting(project, "default_branch") == "on"
    assert config.setting(project, "symlinks") == ["012", "1:30", "no"]


def test_paths_may_start_at_home_or_at_the_file(write, monkeypatch, tmp_path):
    """F48: `~` was refused."""
    monkeypatch.setenv("HOME", "/home/ada")
    text = (
        "projects:\n  a: {path: ~/src, agent_config: {command: [x]}}\n  b: {path: .., agent_config: {command: [x]}}\n"
    )
    projects = config.load(write(text)).projects
    assert (projects["a"].path, projects["b"].path) == ("/home/ada/src", os.path.realpath(tmp_path.parent))


def test_a_rules_file_is_relative_to_the_repository(write):
    project = shop(write(SHOP + "    rules_file: docs/rules.md\n"))
    assert config.setting(project, "rules_file") == "/src/shop/docs/rules.md"


# Each mistake with the line that is said of it; `shop` is broken by it, the file is not.
MISTAKES = {
    "    merge: {settle: 30}": "6: projects.shop.merge.settle: not a duration: 30 (write 30s, 5m, 2h or 1d)",
    "    merge: {settle: soon}": "6: projects.shop.merge.settle: not a duration: 'soon' (write 30s, 5m, 2h or 1d)",
    "    merge: fast": "6: projects.shop.merge: must be a mapping, not 'fast'",
    "    merge: {method: octopus}": "6: projects.shop.merge.method: must be one of merge, squash, rebase, not "
    "'octopus'",
    "    merge: {delete_branch: yes}": "6: projects.shop.merge.delete_branch: must be true or false, not 'yes'",
    "    max_sessions: many": "6: projects.shop.max_sessions: must be a whole number, not 'many'",
    "    max_sessions: -1": "6: projects.shop.max_sessions: must be a whole number, not -1",
    "    symlinks: .env": "6: projects.shop.symlinks: must be a list of texts, like [.env], not '.env'",
    "    symlinks: [a, true]": "6: projects.shop.symlinks: must be a list of texts: put true in quotes",
    "    symlinks: [../x]": "6: projects.shop.symlinks: must be inside the repository: '../x'",
    "    default_branch: --all": "6: projects.shop.default_branch: not a branch name: '--all'",
    "    prefix: Shop": "6: projects.shop.prefix: not a prefix: 'Shop' (lowercase letters, digits and '-', at most 20)",
    "    rules: [a]": "6: projects.shop.rules: must be text, not a list",
    "    ci: [{run: make}]": "6: projects.shop.ci.0.name: is missing",
    "    ci: [{name: a, run: ' '}]": "6: projects.shop.ci.0.run: is empty",
    '    ci: [{name: a, run: "b\\0"}]': "6: projects.shop.ci.0.run: must be text without NUL characters (\\0)",
    '    post_create: ["b\\0"]': "6: projects.shop.post_create: must be text without NUL characters (\\0)",
    "    ci: [make]": "6: projects.shop.ci.0: must be a mapping, not 'make'",
    "    ci:\n      - name: a\n        run: b\n        timeout: 9": "9: projects.shop.ci.0.timeout: not a duration: 9 "
    "(write 30s, 5m, 2h or 1d)",
    "    ci: [{name: a, run: b}, {name: a, run: c}]": "6: projects.shop.ci.1.name: 'a' is the name of another check",
    "    reactions: {ci-failed: {threshold: 1d}}": "6: projects.shop.reactions.ci-failed.threshold: is only for "
    "agent-idle and agent-stuck",
    "    reactions: {ci-failed: {merge_method: squash}}": "6: projects.shop.reactions.ci-failed.merge_method: is only "
    "for approved-and-green",
    "    reactions: {ci-failed: {include_summary: true}}": "6: projects.shop.reactions.ci-failed.include_summary: is "
    "only for all-complete and cannot-look",
    "    reactions: {config-error: {include_summary: true}}": "6: projects.shop.reactions.config-error: no such ",
    "    agent: claude-kode": "6: projects.shop.agent: must be one of ",
    "    reactions: {ci-fialed: {}}": "6: projects.shop.reactions.ci-fialed: no such reaction; did you mean ci-failed?",
    "    reactions:\n      ci-failed:\n        auto: yes": "8: projects.shop.reactions.ci-failed.auto: must be true or "
    "false, not 'yes'",
    "    reactions: {ci-failed: {action: mail}}": "6: projects.shop.reactions.ci-failed.action: must be one of "
    "send-to-agent, notify, auto-merge, restore, not 'mail'",
    "    reactions: {ci-failed: {escalate_after: never}}": "6: projects.shop.reactions.ci-failed.escalate_after: must "
    "be a number of deliveries (3) or a duration (30m), not never",
    "    reactions: {ci-failed: {action: auto-merge}}": "6: projects.shop.reactions.ci-failed.action: auto-merge is "
    "only for approved-and-green",
    "    reactions: {pr-closed: {action: send-to-agent}}": "6: projects.shop.reactions.pr-closed.message: is missing: "
    "what to tell the agent",
    "    reactions: {all-complete: {action: send-to-agent}}": "6: projects.shop.reactions.all-complete.action: there "
    "is no one agent to send this to; use notify",
    "    defaultBranch: a\n    default_branch: b": "7: projects.shop.default_branch: given twice, also in another "
    "spelling of default_branch",
    "    rules: ${NOT_SET_ANYWHERE}": "6: projects.shop.rules: the environment variable NOT_SET_ANYWHERE is not set",
}


@pytest.mark.parametrize("lines", MISTAKES)
def test_a_mistake_is_said_with_its_line_and_breaks_only_its_project(write, lines):
    """F27"""
    path = write(SHOP.lstrip("\n") + "    poll: 1\n" + lines + "\n  other: {path: /o, agent_config: {command: [x]}}\n")
    found = config.load(path)
    assert list(found.projects) == ["other"]
    assert found.broken["shop"].startswith(f"{path}:{MISTAKES[lines]}")


def test_a_path_and_a_command_are_required(write):
    path = write("projects:\n  shop:\n    ci: []\n")
    _, mistakes = config.examine(path)
    assert mistakes == {
        "shop": [
            f"{path}:2: projects.shop.path: is missing: the folder of the project's git repository",
            f"{path}:2: projects.shop.agent_config.command: is missing: the words of the program that is to work",
        ]
    }


def test_a_check_may_have_several_lines(write):
    found = config.load(write(SHOP + "    ci:\n      - name: a\n        run: |\n          make\n          make test\n"))
    assert config.setting(found.projects["shop"], "ci")[0]["run"] == "make\nmake test\n"


def test_what_is_wrong_is_not_missing_besides(write):
    path = write("projects:\n  shop:\n    path: 3\n    ci: [{name: 3, run: make}]\n    agent_config: x\n")
    assert config.examine(path)[1] == {
        "shop": [
            f"{path}:3: projects.shop.path: must be text, not 3",
            f"{path}:4: projects.shop.ci.0.name: must be one line of text",
            f"{path}:5: projects.shop.agent_config: must be a mapping, not 'x'",
        ]
    }


GENERAL = {
    "poll_interval: 5": "1: poll_interval: not a duration: 5 (write 30s, 5m, 2h or 1d)",
    "projects: [shop]": "1: projects: must be a mapping, not a list",
    "notifiers: {x: '${NOT_SET_ANYWHERE}'}": "1: notifiers.x: the environment variable NOT_SET_ANYWHERE is not set",
    "notification_routing: {urgent: [pigeon]}": "1: notification_routing.urgent: must be one of ",
    "lifecycle: {on_merge: burn}": "1: lifecycle.on_merge: must be one of stop, prune, not 'burn'",
    "reactions:\n  ci-failed: {priority: high}": "2: reactions.ci-failed.priority: must be one of urgent, action, "
    "warning, info, not 'high'",
    "a: 1\na: 2": "2: a: given twice",
    "- a": "1: must be a mapping of settings, like 'projects:'",
    "a: [": "2: not YAML: ",
    "a: &x [*x]": "1: not YAML: ",
    "[a]: b": "1: ",
}


@pytest.mark.parametrize("text", GENERAL)
def test_a_mistake_outside_of_a_project_stops_everything_with_its_line(write, text):
    path = write(text + "\n")
    with pytest.raises(AoError) as caught:
        config.load(path)
    assert str(caught.value).startswith(f"{path}:{GENERAL[text]}")
    assert "\n" not in str(caught.value)


def test_unknown_settings_are_warnings_with_the_nearest_known_one(write):
    found = config.load(write(SHOP + "    defualt_branch: x\nzzz: 1\n"))
    assert found.broken == {}
    assert [line.split(":", 1)[1] for line in found.warnings] == [
        "6: zzz: unknown setting, ignored",
        "5: projects.shop.defualt_branch: unknown setting, ignored; did you mean default_branch?",
    ]


def test_a_bad_project_name_never_becomes_a_path(write):
    """F56."""
    found = config.load(write("projects:\n  ../x: {path: /x, agent_config: {command: [x]}}\n"))
    assert found.projects == {} and "not a valid project" in found.broken["../x"]


def test_variables_come_from_the_environment_and_are_remembered_as_hidden(write, monkeypatch):
    monkeypatch.setenv("AO_TEST_KEY", "s3cret")
    found = config.load(write(SHOP + "    rules: say ${AO_TEST_KEY}\n    post_create: ['echo $${HOME} $HOME']\n"))
    project = found.projects["shop"]
    assert config.setting(project, "rules") == "say s3cret" and found.hidden == {"say s3cret"}
    assert config.setting(project, "post_create") == ["echo ${HOME} $HOME"]


def test_prefixes_are_short_and_unique(write):
    ids = ["shop", "web-shop", "WebShop", "ws", "internationalisation", "2048"]
    text = "projects:\n" + "".join(f"  {id}: {{path: /x, agent_config: {{command: [x]}}}}\n" for id in ids)
    prefixes = [config.setting(project, "prefix") for project in config.load(write(text)).projects.values()]
    assert prefixes == ["shop", "ws", "web-shop", "ws2", "internat", "2048"]


def test_one_prefix_for_two_projects_is_a_mistake_of_the_second(write):
    project = "{path: /x, prefix: a, agent_config: {command: [x]}}"
    found = config.load(write(f"projects:\n  one: {project}\n  two: {project}\n"))
    assert list(found.projects) == ["one"] and "already the prefix of project 'one'" in found.broken["two"]


def test_the_nearest_file_upward_counts_then_the_older_name(write, tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    older = write("", "ao-rs.yaml")
    assert config.find(str(inner)) == older
    newer = write("")
    assert config.find(str(inner)) == newer
    nearer = tmp_path / "a" / "ao.yaml"
    nearer.write_text("")
    assert config.find(str(inner)) == str(nearer)
    monkeypatch.setenv("AO_CONFIG", newer)
    assert config.find(str(inner)) == newer
    assert config.find(str(inner), older) == older
    with pytest.raises(AoError, match="AO_CONFIG"):
        monkeypatch.setenv("AO_CONFIG", "/nowhere/ao.yaml")
        config.find(str(inner))


def test_a_file_that_is_gone_is_said_in_words(tmp_path):
    """A session goes by the file that it was spawned with, wherever that is by now."""
    path = str(tmp_path / "ao.yaml")
    with pytest.raises(AoError) as error:
        config.load(path)
    assert str(error.value) == f"cannot read '{path}': No such file or directory"


def test_the_example_is_valid(monkeypatch):
    found, mistakes = config.examine(os.path.join(ROOT, "config", "ao.example.yaml"))
    assert mistakes == {} and found.warnings == [] and list(found.projects) == ["shop"]


def test_importing_the_configuration_imports_no_yaml():
    code = "import sys; from lib import config; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


# --- every setting has a reader, every reader a setting -------------------------------------------------------------


def leaves(value: Any, name: str = "") -> list[str]:
    """Dotted names as setting() takes them: without `projects.<id>`, the fields of list entries included."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return leaves(value[0], name)
    if not isinstance(value, dict) or not value:
        return [name]
    inner = [(word, item) for word, item in value.items()]
    return [leaf for word, item in inner for leaf in leaves(item, f"{name}.{word}".lstrip("."))]


def documented() -> set[str]:
    with open(config.DEFAULTS) as file:
        defaults = store.loads(file.read(), whole=False)
    defaults["reactions"] = defaults["reactions"]["<each>"]
    project = defaults.pop("projects")["<id>"]
    return set(leaves(defaults)) | set(leaves({**project, "reactions": {}})) - {"reactions"}


def sources() -> list[ast.AST]:
    """The parsed code of the product, without the module that reads every setting."""
    found = []
    for folder in ("bin", "lib"):
        for here, _, names in os.walk(os.path.join(ROOT, folder)):
            for name in names:
                if (name.endswith(".py") or folder == "bin") and name not in ("config.py", "kinds.py"):
                    with open(os.path.join(here, name), encoding="utf-8") as file:
                        found.append(ast.parse(file.read()))
    return found


def read_keys(trees: list[ast.AST]) -> set[str]:
    """The literal second argument of every call of setting()."""
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) == "setting"]
    varying = [ast.unparse(call) for call in named if not isinstance(call.args[1], ast.Constant)]
    assert varying == [], "a setting must be read by its literal name"
    return {call.args[1].value for call in named}


def groups(names: set[str]) -> set[str]:
    """The mappings around settings: `merge` for `merge.settle`."""
    return {name[: match.start()] for name in names for match in re.finditer(r"\.", name)}


def test_no_setting_is_read_that_is_not_documented():
    """F48"""
    assert sorted(read_keys(sources()) - documented() - groups(documented())) == []


def test_no_setting_is_documented_that_nobody_reads():
    """F48. Where a mapping is read as a whole, its fields are read by their names."""
    trees = sources()
    read = read_keys(trees) | {"reactions", "path"}  # config.reactions and Project.path
    words = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    inherited = {f"defaults.{word}" for word in config.INHERITED if word in read}
    fields = {name for name in documented() if groups({name}) & read and name.rpartition(".")[2] in words}
    assert sorted(documented() - read - inherited - fields) == []


@pytest.mark.parametrize(
    ("pattern", "is_slow"),
    [(r"(\w+ ?)+$", True), ("a(b|c*)*d", True), (r"\(y/n\) ?\Z", False), ("^> $", False), ("(ab){2,5}c*", False)],
)
def test_a_pattern_that_may_take_for_ever_is_refused(pattern, is_slow):
    """F53: an agent's screen decides what it is matched against, and one line of it would stop the loop."""
    assert ("may take for ever" in kinds.kind_of(("agent_config", "busy"), None)(pattern)) == is_slow


def test_a_pattern_is_checked_as_a_whole():
    assert "not a regular expression" in kinds.kind_of(("agent_config", "busy"), None)("(?<=a+)b")


def test_looks_are_not_further_apart_than_their_gaps_are_measured(write):
    with pytest.raises(AoError, match="poll_interval: must be 1m at most"):
        config.load(write("poll_interval: 5m\n"))
