"""How a person has set up Claude Code, and how the model says to it that a limit is reached."""

from __future__ import annotations

import json
import os

from model import Refuse

PACKAGE = "@anthropic-ai/claude-code"
SETTINGS = {"agent": "claude-code", "agent_config": {"trust": True, "model": "claude-sonnet-5"}}
MODEL = "claude-sonnet-5"
ASKS = {"permissions": "default"}  # what makes it ask before it runs a command
YES = "1"  # the key that allows it
LOST_WITH_A_TOOL = 0  # answers whose tokens are written nowhere when it is killed while their tool runs


def set_up(person: str, url: str) -> dict[str, str]:
    """Fill the person's home folder; returns the environment."""
    with open(os.path.join(person, ".claude.json"), "w") as file:
        json.dump({"hasCompletedOnboarding": True}, file)
    return {"ANTHROPIC_BASE_URL": url, "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-no-account"}


def limit(until: float) -> Refuse:
    """The answer of a model whose usage limit is reached."""
    name = "anthropic-ratelimit-unified"
    headers = {f"{name}-status": "rejected", f"{name}-reset": f"{until:.0f}"}
    headers[f"{name}-representative-claim"] = "five_hour"
    return Refuse(429, headers, "rate_limit_error", "This request would exceed the rate limit.")
