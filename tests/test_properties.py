"""Promises that hold for whatever comes in: configuration, records, events, durations, branches, issues, reports."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from typing import Any

import pytest
import records
import scripts
from hypothesis import example, given
from hypothesis import strategies as st

from lib import clock, config, events, git, observe, overview, paths, render, spawn, store
from lib.errors import AoError, Unreadable
from lib.tracker import Issue, local

TEXT = st.text(st.characters(codec=None), max_size=40)  # lone surrogates and control characters too
WORD = st.sampled_from(["on", "012", "1:30", "null", "~", "true", "2026-01-01", "-rf", "../x", "${HOME}", "a: b", "#"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | WORD
ANY = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | WORD, inner, max_size=3))
DEFAULTS = config._defaults()
HOSTILE = "\x1b[31m $(touch hit) '\"\ud800\u2028-rf ../x"


def settings_of(default: Any) -> st.SearchStrategy[Any]:
    """A part of a configuration: known settings with any values, right ones and wrong ones."""
    if isinstance(default, dict) and default:
        inner = {key: settings_of(value) for key, value in default.items()}
        return st.fixed_dictionaries({}, optional=inner) | ANY
    return st.just(default) | ANY


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="ao-", dir="/tmp") as found:
        yield found


def write(folder: str, name: str, text: str) -> str:
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return path


@given(values=settings_of({**DEFAULTS, "projects": {"shop": DEFAULTS["projects"]["<id>"]}}))
def test_any_configuration_is_used_or_refused_with_its_line(folder, values):
    path = write(folder, "ao.yaml", json.dumps(store.clean(values)))
    try:
        found, mistakes = config.examine(path)
    except AoError as error:
        assert str(error).startswith(path) and "\n" not in str(error).replace(path, "")
        return
    assert all(line.startswith(f"{path}:") for lines in mistakes.values() for line in lines)
    for project in found.projects.values():
        assert paths.is_name(project.id) and os.path.isabs(project.path)
        assert clock.duration(config.setting(project, "merge.settle")) >= 0


@given(text=TEXT | WORD | st.text(st.sampled_from("ab:-#&*![]{}\n '\"%@`,?|>~"), max_size=30))
@example(text="a: " + "9" * 5000)
@example(text="a: " + "[" * 3000)
def test_any_text_is_a_configuration_or_refused(folder, text):
    path = write(folder, "ao.yaml", text)
    try:
        config.examine(path)
    except AoError as error:
        assert path in str(error)


@given(changes=st.dictionaries(st.sampled_from(sorted(records.session())), ANY, max_size=3))
def test_any_record_is_shown_or_refused(folder, changes):
    os.makedirs(os.path.join(folder, "app"), exist_ok=True)
    path = os.path.join(folder, "app", "app-1.yaml")
    try:
        store.write(path, {**records.session(pr=records.pull(records.RED)), **changes})
        found = overview.record(path)
    except Unreadable as error:
        assert path in str(error)
        return
    assert found is not None
    records.evaluate(found)
    json.loads(overview.array([overview.entry(found)]))
    assert "app-1" in overview.table([overview.entry(found)], records.START)


@given(lines=st.lists(st.binary(max_size=60) | ANY.map(lambda value: b"- " + json.dumps(value).encode()), max_size=5))
@example(lines=[b'- {"id": 1}', b'- {"id": 2, "at": 3, "type": "x"}', b'- {"id": 3, "at": "x", "session_id": []}'])
def test_the_log_goes_on_behind_whatever_is_in_it(lines):
    with tempfile.TemporaryDirectory() as home:
        os.mkdir(paths.events(home))
        with open(os.path.join(paths.events(home), "2026-01-01.yaml"), "wb") as file:
            file.write(b"\n".join(lines))
        before = [event["id"] for event in events.read(home)]
        events.append(home, records.at(0), [{"type": "note", "text": HOSTILE}])
        found = [event["id"] for event in events.read(home)]
        assert found[:-1] == before and len(found) == len(before) + 1


@given(TEXT | WORD | st.integers().map(str) | st.floats().map(lambda number: f"{number}s") | st.none() | st.floats())
@example("1e999d")
@example("nans")
def test_any_duration_is_a_finite_number_of_seconds_or_refused(text):
    try:
        assert 0 <= clock.duration(text) < 1e10
    except AoError as error:
        assert "write 30s" in str(error)


@given(name=TEXT | WORD)
def test_a_name_is_a_file_in_its_folder_or_refused(name):
    try:
        path = paths.session("/home", name, name)
    except AoError as error:
        assert all(char.isprintable() for char in str(error))
        return
    assert name[0] not in "-." and os.path.normpath(path) == path == f"/home/sessions/{name}/{name}.yaml"


@given(title=TEXT, body=TEXT, labels=st.lists(TEXT, max_size=2), namespace=st.sampled_from(["", "ao", "x/y"]))
@example(title=HOSTILE, body=HOSTILE, labels=["Bug"], namespace="")
@example(title="..", body="", labels=["@{"], namespace="")
def test_any_title_gives_a_branch_that_git_takes(title, body, labels, namespace):
    record = {"id": "app-1", "role": "worker"}
    project = config.Project("app", "/", "", {"branch_namespace": namespace})
    request = spawn.Request(project, Issue("7", title, body, "", "open", labels))
    branch = spawn._new_branch(request, record, set())
    done = subprocess.run(["git", "check-ref-format", f"refs/heads/{branch}"], timeout=30, check=False)
    assert done.returncode == 0 and not branch.startswith("-") and branch.isascii()


@given(text=TEXT | st.text(st.sampled_from("# Labels:,ab\n\r\t\x1b[0m\ufeff"), max_size=60))
@example(text="# " + HOSTILE + "\n\nLabels: a, ,b\n\n" + HOSTILE)
def test_any_issue_file_has_a_title_and_harmless_text(folder, text):
    repo = os.path.join(folder, "issues")
    os.makedirs(os.path.join(repo, local.FOLDER), exist_ok=True)
    write(repo, os.path.join(local.FOLDER, "0007-a-b.md"), text)
    project = config.Project("shop", repo, "", {})
    issue = local.get(folder, project, "7")
    assert issue.title == render.harmless(issue.title).strip() != "" and len(issue.title.splitlines()) == 1
    assert issue.body == render.harmless(issue.body)


@given(words=st.lists(TEXT | st.sampled_from(["received", "report", "ready", "done", "-m", "m-1"]), max_size=4))
@example(words=["report", "waiting_input", "-m", HOSTILE])
@example(words=["done", "-m", "a\tb\nc\x85d\u2028e"])
def test_any_report_is_one_line_that_is_read_again_as_it_was(words):
    line = scripts.load("ao-hook").report(words)
    if not line:
        return
    assert line.count("\n") == 1 and line.count("\t") == 3
    with tempfile.TemporaryDirectory() as home:
        path = paths.report(home, "shop", "app-1")
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(line.encode("utf-8", "replace"))
        found, end = observe._read_reports(home, {"project_id": "shop", "id": "app-1"})
        assert (len(found), end) == (1, os.path.getsize(path)) and found[0][1] == words[0]


@given(data=st.binary(max_size=200))
@example(data=b"nan\tdone\t\t\ninf\tdone\t\t\n-1e308\treport\tready\tx\n")
def test_whatever_is_in_a_report_is_read_to_its_last_whole_line(data):
    with tempfile.TemporaryDirectory() as home:
        path = paths.report(home, "shop", "app-1")
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(data)
        found, end = observe._read_reports(home, {"project_id": "shop", "id": "app-1"})
        assert end in (0, data.rfind(b"\n") + 1)
        assert all(clock.parse(clock.iso(seconds)) is not None for seconds, *_ in found)


@given(url=st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30))
@example(url="ext::sh -c touch% hit")
@example(url="--upload-pack=touch hit")
def test_the_address_of_any_remote_is_read_as_it_is_written(folder, url):
    repo = os.path.join(folder, "remotes")
    if not os.path.isdir(repo):
        subprocess.run(["git", "init", "--quiet", repo], timeout=30, check=True)
    subprocess.run(["git", "config", "--replace-all", "remote.origin.url", url], cwd=repo, timeout=30, check=True)
    assert git.remotes(repo)["origin"] == url
