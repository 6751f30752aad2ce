"""What every script does the same way: its help, its exit code, its one line when something cannot be done.

This is the only module of the library that prints or exits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lib.errors import AoError

if TYPE_CHECKING:
    import argparse


def run(main: Callable[[list[str]], int]) -> int:
    """Call a script's main and return its exit code: 1 could not, 2 wrong usage, 130 interrupted."""
    name = os.path.basename(sys.argv[0])
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
        return code
    except AoError as error:
        say(f"{name}: {one_line(str(error))}")
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """An argument parser whose --help is the script's docstring followed by its options."""
    import argparse

    first, _, rest = (doc or "").strip().partition("\n")
    return argparse.ArgumentParser(
        prog=name,
        description=first,
        epilog=rest.strip("\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def answer(value: Any) -> None:
    """Print `value` as JSON on stdout, in one write."""
    import json

    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def say(text: str) -> None:
    """Chat for a person, on stderr."""
    sys.stderr.write(text + "\n")


def one_line(text: str) -> str:
    return " ".join(text.split())
