"""The contract of plugins: the functions that a slot describes, and what they answer where there is nothing to answer.

A new file in a slot is tested by this as it is. One that needs more than a repository and an empty AO_HOME (a forge
that answers, a program that is installed) puts a world of its own into WORLDS.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import forging
import hubbing
import pytest

from lib import plugins
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError, Unknown
from lib.runtime import Gone, Pane
from lib.workspace import State

PROTOCOLS = {slot: slot.title() for slot in plugins.SLOTS}
EVERY = [(slot, name) for slot in plugins.SLOTS for name in plugins.names(slot)]


def described(slot):
    """The functions of a slot's Protocol by name."""
    protocol = getattr(importlib.import_module(f"lib.{slot}"), PROTOCOLS[slot])
    return {
        name: function for name, function in vars(protocol).items() if inspect.isfunction(function) and name[0] != "_"
    }


def parameters(function):
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


def returned(function):
    return str(inspect.signature(function).return_annotation).replace("builtins.", "")


@pytest.mark.parametrize("slot", plugins.SLOTS)
def test_every_slot_has_a_plugin_and_describes_its_functions(slot):
    assert plugins.names(slot)
    assert described(slot)


@pytest.mark.parametrize(("slot", "name"), EVERY)
def test_a_plugin_keeps_the_contract_of_its_slot(slot, name):
    module = plugins.load(slot, name)
    protocol = getattr(importlib.import_module(f"lib.{slot}"), PROTOCOLS[slot])
    assert all(isinstance(getattr(module, word, None), str) for word in protocol.__annotations__), f"{slot} {name}"
    for function, contract in described(slot).items():
        ours = getattr(module, function, None)
        assert inspect.isfunction(ours), f"{slot} {name} has no {function}"
        assert parameters(ours) == parameters(contract)[1:], f"{slot} {name}: {function}"
        assert returned(ours) == returned(contract), f"{slot} {name}: {function}"


@pytest.mark.parametrize("slot", plugins.SLOTS)
def test_an_unknown_word_names_the_known(slot):
    with pytest.raises(AoError) as error:
        plugins.load(slot, "carrier-pigeon")
    assert str(error.value).startswith(f"there is no {slot} 'carrier-pigeon' (known: ")
    assert all(name in str(error.value) for name in plugins.names(slot))


@pytest.mark.parametrize("word", ["", "_checks", "../store", "tmux.py", "Tmux", "__init__", "os"])
def test_only_the_file_of_a_plugin_is_a_word(word):
    """F56"""
    for slot in plugins.SLOTS:
        with pytest.raises(AoError, match="there is no"):
            plugins.load(slot, word)


# --- what they answer -----------------------------------------------------------------------------------------------


class World(NamedTuple):
    """A project that was just set up, with one session that has a worktree and nothing else."""

    home: str
    project: Project
    session: dict[str, Any]
    settings: dict[str, Any]  # of a notifier


def make(home: str, folder: Any, fixture: Callable[[str], Any]) -> World:
    world = forging.World(home, forging.make(folder, merge={"delete_branch": True}).project)
    empty = {"inbox": [], "agent_config": {}, "conditions": {}, "created_at": "2026-01-01T00:00:00.000Z"}
    return World(home, world.project, {**empty, **forging.spawn(world)}, {})


def at_github(home: str, folder: Any, fixture: Callable[[str], Any]) -> World:
    world = hubbing.make(fixture("hub"), home, folder, merge={"delete_branch": True})
    return World(home, world.local.project, world.session(), {})


Maker = Callable[[str, Any, Callable[[str], Any]], World]
WORLDS: dict[tuple[str, str], Maker] = {("scm", "github"): at_github, ("tracker", "github"): at_github}


@pytest.fixture
def world(home, tmp_path, plugin, request):
    return WORLDS.get(plugin, make)(home, tmp_path, request.getfixturevalue)


@pytest.fixture
def plugin(request):
    return request.param


def every(slot):
    """Run a test with the module and the world of each plugin of a slot."""
    found = [(slot, name) for name in plugins.names(slot)]
    return pytest.mark.parametrize("plugin", found, indirect=True, ids=[name for _, name in found])


def raised(act: Callable[[], object]) -> type[BaseException]:
    with pytest.raises(AoError) as error:
        act()
    assert str(error.value)
    return error.type


def is_refused(act: Callable[[], object]) -> bool:
    """Whether it is a definite no, and not something that may be tried again."""
    return not issubclass(raised(act), Unknown)


# --- runtimes


@every("runtime")
def test_a_terminal_that_is_not_there_is_gone_and_nothing_else(plugin, world, tmp_path):
    runtime, home = plugins.load(*plugin), world.home
    assert runtime.look(home) == {}
    acts = (
        lambda: runtime.screen(home, "app-1"),
        lambda: runtime.screen(home, "app-1", history=True),
        lambda: runtime.paste(home, "app-1", "x"),
        lambda: runtime.press(home, "app-1", "Enter"),
    )
    assert {raised(act) for act in acts} == {Gone}
    runtime.start(home, "app-10", ["cat"], str(tmp_path), {})
    assert {raised(act) for act in acts} == {Gone}
    for _ in range(2):
        assert runtime.stop(home, "app-1") is None
    assert list(runtime.look(home)) == ["app-10"]


@every("runtime")
def test_a_terminal_starts_once_and_ends_for_good(plugin, world, tmp_path):
    runtime, home = plugins.load(*plugin), world.home
    runtime.start(home, "app-1", ["cat"], str(tmp_path), {"NAME": "value"})
    pane = runtime.look(home)["app-1"]
    assert isinstance(pane, Pane) and pane.pid > 1 and (pane.in_mode, pane.typed_at) == (False, 0.0)
    assert is_refused(lambda: runtime.start(home, "app-1", ["cat"], str(tmp_path), {}))
    assert runtime.look(home)["app-1"].pid == pane.pid
    assert isinstance(runtime.screen(home, "app-1"), str) and runtime.attach(home, "app-1")[0]
    for _ in range(2):
        runtime.stop(home, "app-1")
        assert runtime.look(home) == {}


@every("runtime")
def test_a_runtime_that_cannot_be_asked_is_unknown(plugin, world, monkeypatch):
    runtime, home = plugins.load(*plugin), world.home
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/nonexistent")
        for act in (runtime.look, lambda home: runtime.screen(home, "app-1"), lambda home: runtime.stop(home, "app-1")):
            assert raised(lambda act=act: act(home)) is Unknown


# --- agents


@every("agent")
def test_an_agent_starts_with_its_prompt_or_waits_for_it(plugin, world):
    agent = plugins.load(*plugin)
    for prompt in ("mend the shed", None):
        started = agent.launch(world.project, world.session, prompt)
        assert started.argv and all(isinstance(word, str) for word in started.argv)
        assert started.has_prompt == any("mend the shed" in word for word in started.argv)
    assert agent.resume(world.project, world.session) is None or agent.resume(world.project, world.session).argv


@every("agent")
def test_preparing_an_agent_can_be_repeated_and_leaves_nothing_to_commit(plugin, world):
    agent = plugins.load(*plugin)
    for _ in range(2):
        agent.prepare(world.project, world.session)
        assert forging.git(world.session["workspace_path"], "status", "--porcelain") == ""


@every("agent")
def test_an_agent_says_nothing_of_an_empty_screen_and_knows_no_more_than_it_sees(plugin, world):
    agent = plugins.load(*plugin)
    assert agent.read(world.project, "").question == "" and not agent.has_draft(world.project, "")
    assert isinstance(agent.obstacle(world.project, ""), str)
    ids = ["m-1", "m-2"]
    known = agent.received(world.project, world.session, ids, None)
    assert list(known) == ids and not any(known.values())
    assert agent.received(world.project, world.session, [], None) == {}


@every("agent")
def test_what_fits_a_terminal_has_the_same_words_and_fits(plugin, world):
    agent = plugins.load(*plugin)
    text = "short\n\n" + "word " * 3000 + "é" * 9000 + "\nend"
    fitting = agent.fit(text)
    assert agent.fit(fitting) == fitting
    assert re.sub(r"\s", "", fitting) == re.sub(r"\s", "", text)
    assert agent.fit("as it\n\tis") == "as it\n\tis"


# --- workspaces


@every("workspace")
def test_a_workspace_is_made_once_removed_twice_and_brought_back(plugin, world):
    workspace, home, project = plugins.load(*plugin), world.home, world.project
    base = forging.git(project.path, "rev-parse", "HEAD")
    path = workspace.create(home, project, "shop-7", "feat/seven", base)
    assert workspace.head(path) == ("feat/seven", base)
    assert workspace.state(home, project, path) == State(True, False, 0)
    assert workspace.backup(home, project, "shop-7", path, "2026-01-01T00:00:00.000Z") is None
    assert is_refused(lambda: workspace.create(home, project, "shop-7", "feat/other", base))
    assert is_refused(lambda: workspace.create(home, project, "shop-8", "feat/seven", base))
    assert "feat/other" not in forging.git(project.path, "branch")
    assert workspace.remove(home, project, path) > 0
    assert workspace.remove(home, project, path) == 0
    assert (workspace.head(path), workspace.state(home, project, path)) == (None, State(False, False, 0))
    assert workspace.reopen(home, project, "shop-7", "feat/seven") == path
    assert is_refused(lambda: workspace.reopen(home, project, "shop-9", "feat/nine"))
    assert is_refused(lambda: workspace.switch(home, project, path, "feat/nine"))
    assert is_refused(lambda: workspace.remove(home, project, project.path))
    assert os.path.isdir(project.path)


@every("workspace")
def test_a_backup_is_made_and_never_moved(plugin, world):
    workspace, home, project = plugins.load(*plugin), world.home, world.project
    path, now = world.session["workspace_path"], "2026-01-01T00:00:00.000Z"
    with open(os.path.join(path, "draft"), "w") as file:
        file.write("unsaved")
    assert workspace.state(home, project, path).dirty
    ref = workspace.backup(home, project, "shop-1", path, now)
    assert ref.startswith("refs/ao/backup/shop-shop-1-")
    saved = forging.git(project.path, "rev-parse", ref)
    assert workspace.backup(home, project, "shop-1", path, now) == ref, "the same work is saved once"
    with open(os.path.join(path, "draft"), "w") as file:
        file.write("more")
    assert forging.git(project.path, "show", f"{workspace.backup(home, project, 'shop-1', path, now)}:draft") == "more"
    assert forging.git(project.path, "rev-parse", ref) == saved
    assert forging.git(project.path, "show", f"{ref}:draft") == "unsaved"


# --- scms


@every("scm")
def test_a_session_without_pull_request_has_none_and_everything_else_says_so(plugin, world):
    scm, home, project, session = plugins.load(*plugin), world.home, world.project, world.session
    assert scm.look(home, project, [session], Clock(1_800_000_000.0)) == {session["id"]: None}
    assert scm.look(home, project, [], Clock(1_800_000_000.0)) == {}
    acts = (
        lambda: scm.pull(home, project, session),
        lambda: scm.failures(home, project, session),
        lambda: scm.comments(home, project, session),
        lambda: scm.plan_merge(home, project, session, "merge"),
        lambda: scm.take_over(home, project, session, 987654),
    )
    assert all(map(is_refused, acts)), "it is known that there is none"


@every("scm")
def test_deleting_a_branch_that_is_gone_is_success(plugin, world):
    scm, path = plugins.load(*plugin), world.project.path
    tip = forging.git(path, "rev-parse", "HEAD")
    forging.git(path, "branch", "merged", tip)
    for branch in ("merged", "merged", "never-was"):
        assert scm.delete_branch(world.home, world.project, branch, tip) is True
    assert scm.delete_branch(world.home, world.project, world.session["branch"], tip) is False, "it is checked out"


@every("scm")
def test_a_forge_that_cannot_be_asked_is_unknown(plugin, world):
    scm, project = plugins.load(*plugin), world.project._replace(path="/nonexistent")
    plan = {"number": "1", "commit": "a" * 40, "base_branch": "main", "base_sha": "b" * 40, "head_sha": "c" * 40}
    assert raised(lambda: scm.look(world.home, project, [world.session], Clock(1_800_000_000.0))) is Unknown
    assert raised(lambda: scm.is_merged(world.home, project, world.session, plan)) is Unknown


# --- trackers


@every("tracker")
def test_an_issue_that_does_not_exist_is_an_error_and_not_unknown(plugin, world):
    tracker = plugins.load(*plugin)
    for id in ("987654", "", "../x", "-1", "a b", "#"):
        assert is_refused(lambda id=id: tracker.get(world.home, world.project, id))
        assert is_refused(lambda id=id: tracker.close(world.home, world.project, id))


@every("tracker")
def test_an_issue_is_made_found_listed_and_closed_twice(plugin, world):
    tracker, home, project = plugins.load(*plugin), world.home, world.project
    assert tracker.list(home, project) == []
    made = [tracker.create(home, project, title, "Do it.", ["bug"]) for title in ("First", "Second")]
    assert [(one.title, one.body, one.state, one.labels) for one in made] == [
        ("First", "Do it.", "open", ["bug"]),
        ("Second", "Do it.", "open", ["bug"]),
    ]
    assert tracker.get(home, project, made[0].id) == made[0] and made[0].url
    assert tracker.list(home, project) == made and tracker.list(home, project, limit=1) == made[:1]
    assert tracker.list(home, project, labels=["ui"]) == []
    for _ in range(2):
        tracker.close(home, project, made[0].id)
    assert tracker.get(home, project, made[0].id).state == "closed"
    assert [[one.id for one in tracker.list(home, project, state)] for state in ("open", "closed", "all")] == [
        [made[1].id],
        [made[0].id],
        [one.id for one in made],
    ]


# --- notifiers

NEWS = {"id": "n-1", "at": "2026-01-31T09:05:00.000Z", "priority": "info", "message": "it is done", "summary": None}
NEWS |= {"project_id": "shop", "session_id": "shop-1", "reaction_key": "x", "status": "merged"}
NEWS |= {"pr_url": None, "issue_url": None}


@every("notifier")
def test_what_was_sent_is_never_said_not_to_have_been(plugin, world):
    notifier = plugins.load(*plugin)
    assert notifier.has(world.home, "n-1") is not True
    notifier.send(world.home, NEWS, world.settings)
    assert notifier.has(world.home, "n-1") is not False
    assert notifier.has(world.home, "n-2") is not True


@every("notifier")
def test_what_cannot_be_sent_is_an_error_for_a_person_and_what_is_missing_is_said(plugin, world):
    notifier = plugins.load(*plugin)
    nowhere = os.path.join(world.home, "a-file")
    open(nowhere, "w").close()
    raised(lambda: notifier.send(nowhere, NEWS, {}))
    assert notifier.has(nowhere, "n-1") is None
    assert isinstance(notifier.problem({}), str)


@pytest.mark.parametrize(("slot", "name"), [one for one in EVERY if hasattr(plugins.load(*one), "program")])
def test_the_program_that_a_plugin_needs_is_a_name_or_none(slot, name, tmp_path):
    program = plugins.load(slot, name).program(forging.make(tmp_path).project)
    assert program is None or (program and os.path.basename(program) == program)
