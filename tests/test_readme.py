"""The transcript at the top of the README, replayed."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys

from conftest import until
from forging import git
from scripts import call

from lib import ROOT, rounds

STORY = """
def on_message(text, say, run):
    with open("greet.py", "w") as file:
        file.write("import sys; print('hello', sys.argv[1])")
    run(["git", "add", "-A"])
    run(["git", "commit", "-qm", "Greet by name"])
    run(["ao-pr", "open", "--title", "Greet by name"])
"""


def transcript() -> list[tuple[str, list[str]]]:
    """The commands of the README's first block, each with what it prints."""
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        block = re.findall(r"```console\n(.*?)```", file.read(), re.DOTALL)[0]
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def test_the_transcript_at_the_top_is_what_happens(home, tmp_path, monkeypatch) -> None:
    repository = tmp_path / "hello"
    git(str(tmp_path), "init", "-q", "hello")
    (repository / "greet.py").write_text("print('hello')\n")
    git(str(repository), "add", "-A")
    git(str(repository), "commit", "-qm", "first")
    (tmp_path / "story.py").write_text(STORY)
    agent = [sys.executable, os.path.join(ROOT, "tests", "demo", "agent.py"), "--story", str(tmp_path / "story.py")]
    project = {
        "path": str(repository),
        "agent_config": {"command": agent, "ready": "^> $", "busy": r"^\* working"},
        "ci": [{"name": "test", "run": "python3 greet.py you | grep -x 'hello you'"}],
        "merge": {"settle": "0s"},
        "reactions": {"approved-and-green": {"action": "auto-merge"}},
    }
    (repository / "ao.yaml").write_text(json.dumps({"projects": {"hello": project}}))
    monkeypatch.chdir(repository)
    for line, expected in transcript():
        commands, watched = [], False
        for command in line.split("; "):
            words = shlex.split(command)
            watched = watched or words[1] == "watch"
            commands += [] if words[1] == "watch" else [words]
        *first, last = commands
        printed = [shown(words, home, tmp_path) for words in first]
        if watched:  # as long as it takes, instead of the time that a person would leave it running
            wanted = expected[-2:]
            until(lambda words=last, end=wanted: looked(home) and agrees(shown(words, home, tmp_path), end), line)
        got = [text for lines in printed for text in lines] + shown(last, home, tmp_path)
        assert agrees(got, expected), (line, got)


def shown(words: list[str], home: str, folder: object) -> list[str]:
    """What a command prints, with the paths of the README."""
    done = call(f"ao-{words[1]}", *words[2:])
    text = (done.out + done.err).replace(home, "~/.ao").replace(str(folder), "~")
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def looked(home: str) -> bool:
    rounds.look(home)
    rounds.act(home)
    return True


def agrees(got: list[str], expected: list[str]) -> bool:
    """The same words; ages differ."""
    without_age = [
        [re.sub(r"\s+", " ", re.sub(r"\b\d+[smh]\b", "AGE", line)) for line in lines] for lines in (got, expected)
    ]
    return without_age[0] == without_age[1]
