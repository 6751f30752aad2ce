"""The documentation says what the code does."""

from __future__ import annotations

import os
import re

import docs
import pytest

from lib import ROOT


@pytest.mark.parametrize("name", docs.FILES)
def test_generated_parts_are_up_to_date(name: str) -> None:
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        text = file.read()
    assert docs.PART.search(text), f"{name} has no generated part"
    assert text == docs.rendered(text), "write them anew with: .venv/bin/python tests/docs.py"


@pytest.mark.parametrize("name", docs.FILES)
def test_every_file_and_command_that_is_named_exists(name: str) -> None:
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        text = file.read()
    for path in re.findall(r"`((?:bin|lib|templates|config|tests)/[\w./-]+)`", text):
        assert os.path.exists(os.path.join(ROOT, path)), path
    for command in re.findall(r"\bao-[a-z]+\b", text):
        assert os.path.exists(os.path.join(ROOT, "bin", command)), command
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        targets = re.findall(r"^([a-z-]+):", file.read(), re.MULTILINE)
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in targets, target
