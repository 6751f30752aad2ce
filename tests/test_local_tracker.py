"""Issues that are files of the repository."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from forging import git, make

from lib import ROOT
from lib.errors import AoError
from lib.tracker import local


def _write(world, name, content):
    folder = os.path.join(world.repo, "docs", "issues")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def _get(world, id):
    return local.get(world.home, world.project, id)


def test_a_new_issue_is_a_file_that_people_can_read(tmp_path):
    world = make(tmp_path)
    issue = local.create(world.home, world.project, "Prices:  rounded\ndown!", "Half a cent.\n", ["bug", "ui"])
    path = os.path.join(world.repo, "docs", "issues", "0001-prices-rounded-down.md")
    with open(path) as file:
        assert file.read() == "# Prices: rounded down!\n\nLabels: bug, ui\n\nHalf a cent.\n"
    assert issue == _get(world, "1")
    assert issue[:6] == ("1", "Prices: rounded down!", "Half a cent.", f"file://{path}", "open", ["bug", "ui"])


@pytest.mark.parametrize("id", ["12", "0012", "#12", " 12 "])
def test_an_issue_is_found_however_its_number_is_written(tmp_path, id):
    world = make(tmp_path)
    _write(world, "0012-twelve.md", "# Twelve\n\nDo it.\n")
    assert _get(world, id)[:3] == ("12", "Twelve", "Do it.")


@pytest.mark.parametrize("id", ["13", "twelve", "", "../12", "-1", "9" * 30, "１２"])
def test_an_issue_that_is_not_there_is_said_in_one_line(tmp_path, id):
    world = make(tmp_path)
    _write(world, "0012-twelve.md", "# Twelve\n")
    with pytest.raises(AoError, match="ao-issue list") as caught:
        _get(world, id)
    assert "\n" not in str(caught.value)


def test_closing_does_not_dirty_the_checkout_and_can_be_taken_back(tmp_path):
    world = make(tmp_path)
    for title in ("One", "Two"):
        local.create(world.home, world.project, title, "")
    git(world.repo, "add", "-A")
    git(world.repo, "commit", "-qm", "issues")
    for _ in range(2):
        local.close(world.home, world.project, "1")
    assert git(world.repo, "status", "--porcelain") == ""
    listed = {
        state: [i.id for i in local.list(world.home, world.project, state)] for state in ("open", "closed", "all")
    }
    assert listed == {"open": ["2"], "closed": ["1"], "all": ["1", "2"]}
    local.reopen(world.home, world.project, "1")
    assert _get(world, "1").state == "open"
    with pytest.raises(AoError, match="there is no issue"):
        local.close(world.home, world.project, "3")


def test_a_number_is_never_used_twice(tmp_path):
    world = make(tmp_path)
    local.create(world.home, world.project, "One", "")
    os.unlink(os.path.join(world.repo, "docs", "issues", "0001-one.md"))
    assert local.create(world.home, world.project, "Two", "").id == "2"
    _write(world, "0007-by-hand.md", "# By hand\n")
    assert local.create(world.home, world.project, "Eight", "").id == "8"


@pytest.mark.parametrize("point", ["step:1", "step:2", "step:3", "step:4"])
def test_an_issue_whose_writer_was_killed_is_there_once_when_it_is_written_again(tmp_path, point):
    """F23"""
    world = make(tmp_path)
    local.create(world.home, world.project, "One", "Do it.")
    script = (
        "import sys; from lib import config; from lib.tracker import local\n"
        "local.create(sys.argv[1], config.load(sys.argv[2]).projects['shop'], 'Two', 'Do it.')"
    )
    argv = [sys.executable, "-c", script, world.home, world.project.source]
    for wanted in (-signal.SIGKILL, 0):
        env = {**os.environ, **({"AO_FAULT": point} if wanted else {})}
        assert subprocess.run(argv, cwd=ROOT, env=env, check=False, timeout=60).returncode == wanted
    twice = 1 if point == "step:4" else 0  # it was noted, and another one of the same text is another issue
    assert len(os.listdir(os.path.join(world.repo, "docs", "issues"))) == 2 + twice
    assert local.create(world.home, world.project, "Two", "Do it.").id == str(3 + twice)


def test_issues_written_at_once_get_different_numbers(tmp_path):
    world = make(tmp_path)
    script = (
        "import sys; from lib import config; from lib.tracker import local\n"
        "project = config.load(sys.argv[2]).projects['shop']\n"
        "print(*[local.create(sys.argv[1], project, f't{n}', '').id for n in range(10)])"
    )
    argv = [sys.executable, "-c", script, world.home, world.project.source]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)]
    numbers = [int(word) for process in running for word in process.communicate()[0].split()]
    assert sorted(numbers) == list(range(1, 41))


BAD = {
    "no title": (b"Just do it.\n\n# Later\n", "fix the thing", "Just do it.\n\n# Later"),
    "empty": (b"", "fix the thing", ""),
    "not utf-8": (b"# Caf\xe9\n\n\xff\xfe body", "Caf\ufffd", "\ufffd\ufffd body"),
    "control characters": (b"# A\x1b[31m\x07 b\x00\n\nx\x1b]0;y\x07\tz\n", "A b", "x\tz"),
    "windows": (b"\xef\xbb\xbf# Title\r\n\r\nbody\r\nmore\r\n", "Title", "body\nmore"),
    "long title": (b"# " + b"x" * 999 + b"\n", "x" * 200, ""),
    "directory separator": (b"# ../../etc\n", "../../etc", ""),
    "no blank line": (b"# Title\nbody\n", "Title", "body"),
}


@pytest.mark.parametrize(("content", "title", "body"), BAD.values(), ids=BAD)
def test_anything_that_people_write_can_be_read(tmp_path, content, title, body):
    world = make(tmp_path)
    _write(world, "0003-fix-the_thing.md", content)
    issue = _get(world, "3")
    assert (issue.title, issue.body, issue.state) == (title, body, "open")


def test_labels_are_read_and_filtered_by(tmp_path):
    world = make(tmp_path)
    _write(world, "0001-a.md", "# A\nLabels: bug , ui,\n\nbody\n")
    _write(world, "0002-b.md", "# B\n\nlabels: bug\n")
    _write(world, "0003-c.md", "# C\n\nThe labels: none.\n")
    assert [(i.id, i.labels, i.body) for i in local.list(world.home, world.project)] == [
        ("1", ["bug", "ui"], "body"),
        ("2", ["bug"], ""),
        ("3", [], "The labels: none."),
    ]
    assert [i.id for i in local.list(world.home, world.project, labels=["bug", "ui"])] == ["1"]
    assert [i.id for i in local.list(world.home, world.project, limit=2)] == ["1", "2"]


def test_what_is_no_issue_is_left_out(tmp_path):
    world = make(tmp_path)
    for name in ("README.md", "0001-a.md~", ".0001-a.md", "1-a.txt", "12x.md"):
        _write(world, name, "# No\n")
    os.symlink("/etc/passwd", os.path.join(world.repo, "docs", "issues", "0005-secret.md"))
    os.mkdir(os.path.join(world.repo, "docs", "issues", "0006-folder.md"))
    _write(world, "0007-good.md", "# Good\n")
    assert [issue.title for issue in local.list(world.home, world.project)] == ["Good"]
    with pytest.raises(AoError):
        _get(world, "5")


@pytest.mark.parametrize("title", ["", "  \n ", "\x1b\x07"])
def test_an_issue_needs_a_title(tmp_path, title):
    world = make(tmp_path)
    with pytest.raises(AoError, match="its title is empty"):
        local.create(world.home, world.project, title, "body")
    assert not os.path.exists(os.path.join(world.repo, "docs"))


def test_a_title_in_any_script_gives_a_file_name(tmp_path):
    world = make(tmp_path)
    for title in ("Größe ändern", "修复", "../../x", "-rf /"):
        local.create(world.home, world.project, title, "")
    assert sorted(os.listdir(os.path.join(world.repo, "docs", "issues"))) == [
        "0001-grosse-andern.md",
        "0002-issue.md",
        "0003-x.md",
        "0004-rf.md",
    ]
