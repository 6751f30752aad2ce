"""A configuration word is a file name: `agent: claude-code` is lib/agent/claude_code.py.

The folder is the registry. A plugin is a module with the functions that the Protocol in its slot's __init__.py
describes; it is imported when it is first used.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from lib import ROOT
from lib.errors import AoError

SLOTS = ("runtime", "agent", "workspace", "scm", "tracker", "notifier")


def names(slot: str) -> list[str]:
    """The configuration words that a slot knows."""
    files = os.listdir(os.path.join(ROOT, "lib", slot))
    return sorted(file[:-3].replace("_", "-") for file in files if file.endswith(".py") and not file.startswith("_"))


@functools.cache
def load(slot: str, name: str) -> Any:
    """The module that plays `name` in `slot`; AoError naming the known ones when there is none."""
    known = names(slot)
    if name not in known:
        raise AoError(f"there is no {slot} '{name}' (known: {', '.join(known)}); see: ao-config plugins")
    return importlib.import_module(f"lib.{slot}.{name.replace('-', '_')}")
