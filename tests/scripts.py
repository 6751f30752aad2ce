"""Scripts of bin/ for tests: loaded and called in this process, or run as a person would."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

from lib import ROOT

BIN = os.path.join(ROOT, "bin")
NAMES = sorted(os.listdir(BIN)) if os.path.isdir(BIN) else []


def load(name: str) -> ModuleType:
    """The module that a script is; nothing of it has run yet."""
    loader = SourceFileLoader(name.replace("-", "_"), os.path.join(BIN, name))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def run(name: str, *args: str, cwd: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a process and wait for it."""
    return subprocess.run(
        [sys.executable, os.path.join(BIN, name), *args],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
