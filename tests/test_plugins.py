"""The contract of plugins: every module has the functions that its slot describes, with the same parameters."""

from __future__ import annotations

import importlib
import inspect

import pytest

from lib import plugins
from lib.errors import AoError

PROTOCOLS = {slot: slot.title() for slot in plugins.SLOTS}
EVERY = [(slot, name) for slot in plugins.SLOTS for name in plugins.names(slot)]


def described(slot):
    """The functions of a slot's Protocol by name."""
    protocol = getattr(importlib.import_module(f"lib.{slot}"), PROTOCOLS[slot])
    return {
        name: function for name, function in vars(protocol).items() if inspect.isfunction(function) and name[0] != "_"
    }


def parameters(function):
    return [(one.name, one.kind, one.default) for one in inspect.signature(function).parameters.values()]


def returned(function):
    return str(inspect.signature(function).return_annotation).replace("builtins.", "")


@pytest.mark.parametrize("slot", plugins.SLOTS)
def test_every_slot_has_a_plugin_and_describes_its_functions(slot):
    assert plugins.names(slot)
    assert described(slot)


@pytest.mark.parametrize(("slot", "name"), EVERY)
def test_a_plugin_keeps_the_contract_of_its_slot(slot, name):
    module = plugins.load(slot, name)
    for function, contract in described(slot).items():
        ours = getattr(module, function, None)
        assert inspect.isfunction(ours), f"{slot} {name} has no {function}"
        assert parameters(ours) == parameters(contract)[1:], f"{slot} {name}: {function}"
        assert returned(ours) == returned(contract), f"{slot} {name}: {function}"


@pytest.mark.parametrize("slot", plugins.SLOTS)
def test_an_unknown_word_names_the_known(slot):
    with pytest.raises(AoError) as error:
        plugins.load(slot, "carrier-pigeon")
    assert str(error.value).startswith(f"there is no {slot} 'carrier-pigeon' (known: ")
    assert all(name in str(error.value) for name in plugins.names(slot))


@pytest.mark.parametrize("word", ["", "_checks", "../store", "tmux.py", "Tmux", "__init__", "os"])
def test_only_the_file_of_a_plugin_is_a_word(word):
    """F56"""
    for slot in plugins.SLOTS:
        with pytest.raises(AoError, match="there is no"):
            plugins.load(slot, word)
