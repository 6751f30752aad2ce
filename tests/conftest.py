"""What the tests share: a temporary AO_HOME with a tmux server of its own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, ROOT)
collect_ignore = ["demo"]  # its sample repository has a test suite of its own


def _leave_the_person_alone() -> None:
    """Without an AO_HOME of its own a test fails instead of writing to ~, and git does not read ~/.gitconfig."""
    for name in [name for name in os.environ if name.startswith(("AO_", "GIT_", "TMUX"))]:
        del os.environ[name]
    os.environ["HOME"] = os.devnull
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"
    os.environ["GIT_CONFIG_GLOBAL"] = os.path.join(ROOT, "tests", "gitconfig")


_leave_the_person_alone()
# The same examples in every run, few enough for all tests together to stay quick, on however slow a machine.
settings.register_profile("ours", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("ours")


def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    """The tests of a story stay in one process: in several at once it would be played several times."""
    from xdist.scheduler import LoadScopeScheduling

    class ByStory(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.endswith("stories.py") else nodeid

    return ByStory(config, log)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh AO_HOME; whatever runs in its tmux server is ended afterwards."""
    from lib.runtime import tmux

    folder = tempfile.mkdtemp(prefix="ao-", dir="/tmp")  # short, for the socket
    monkeypatch.setenv("AO_HOME", folder)
    yield folder
    monkeypatch.undo()  # a test may have broken PATH or the limits
    tmux.kill_server(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A GitHub that real gh and git talk to, and nobody else; nonsense that it was asked fails the test."""
    import github

    with github.serving() as hub:
        for name, value in hub.environment().items():
            monkeypatch.setenv(name, value)
        yield hub
        assert not hub.problems


def until(condition: Callable[[], object], what: str = "", seconds: float = 60.0) -> object:
    """The first true value of `condition()`; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s in vain: {what or condition}")
