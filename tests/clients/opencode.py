"""How a person has set up OpenCode, and how the model says to it that a limit is reached."""

from __future__ import annotations

import json
import os
import time

from model import Refuse

PACKAGE = "opencode-ai"
MODEL = "claude-sonnet-5"
SETTINGS = {"agent": "opencode", "agent_config": {"model": f"anthropic/{MODEL}"}}
ASKS = {"permissions": "suggest"}  # what makes it ask before it runs a command
YES = "Enter"  # the key that allows it
LOST_WITH_A_TOOL = 1  # answers whose tokens are written nowhere when it is killed while their tool runs


def set_up(person: str, url: str) -> dict[str, str]:
    """Fill the person's home folder; returns the environment."""
    folder = os.path.join(person, ".config", "opencode")
    os.makedirs(folder)
    options = {"baseURL": f"{url}/v1", "apiKey": "no-account"}
    with open(os.path.join(folder, "opencode.json"), "w") as file:
        json.dump({"provider": {"anthropic": {"options": options, "models": {MODEL: {}}}}}, file)
    return {"OPENCODE_DISABLE_MODELS_FETCH": "1"}


def limit(until: float) -> Refuse:
    """The answer of a model whose usage limit is reached."""
    headers = {"retry-after": f"{until - time.time():.0f}"}
    return Refuse(429, headers, "rate_limit_error", "This request would exceed the rate limit.")
