"""How a person has set up Aider, and how the model works and refuses."""

from __future__ import annotations

import os

from model import Refuse, Say

PACKAGE = "aider-chat"
MODEL = "openai/gpt-5"
SETTINGS = {"agent": "aider", "agent_config": {"model": MODEL}}
LIMIT = Refuse(429, {}, "rate_limit_error", "Rate limit reached for gpt-5")


def set_up(person: str, url: str) -> dict[str, str]:
    """Fill the person's home folder; returns the environment."""
    with open(os.path.join(person, ".aider.conf.yml"), "w") as file:
        file.write("weak-model: openai/gpt-5-mini\n")
    return {"OPENAI_API_BASE": f"{url}/whole", "OPENAI_API_KEY": "no-account"}


def edit(path: str, before: str, after: str) -> Say:
    """An answer that changes a file, or makes it where nothing was before."""
    return Say(f"So:\n\n{path}\n```\n<<<<<<< SEARCH\n{before}=======\n{after}>>>>>>> REPLACE\n```\n")
