"""How a person has set up Codex, and how the model says to it that a limit is reached."""

from __future__ import annotations

import os

from model import Refuse

PACKAGE = "@openai/codex"
MODEL = "gpt-5-codex"
SETTINGS = {"agent": "codex", "agent_config": {"trust": True, "model": MODEL}}
ASKS = {"permissions": "suggest"}  # what makes it ask before it runs a command
YES = "y"  # the key that allows it
LOST_WITH_A_TOOL = 0  # answers whose tokens are written nowhere when it is killed while their tool runs
CONFIG = """
model_provider = "loopback"
[model_providers.loopback]
name = "loopback"
base_url = "{url}"
wire_api = "responses"
"""


def set_up(person: str, url: str) -> dict[str, str]:
    """Fill the person's home folder; returns the environment."""
    os.mkdir(os.path.join(person, ".codex"))
    with open(os.path.join(person, ".codex", "config.toml"), "w") as file:
        file.write(CONFIG.format(url=url))
    return {"CODEX_HOME": os.path.join(person, ".codex")}


def limit(until: float) -> Refuse:
    """The answer of a model whose usage limit is reached."""
    details = {"plan_type": "plus", "resets_at": int(until)}
    return Refuse(429, {}, "usage_limit_reached", "The usage limit has been reached", details)
