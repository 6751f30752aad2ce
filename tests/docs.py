"""The generated parts of README.md and lib/README.md, from the code that they describe.

    python3 tests/docs.py          write them anew
    make test                      fails when one is out of date

A generated part stands between `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
sys.path.insert(0, ROOT)
FILES = ("README.md", "lib/README.md")
PART = re.compile(r"(<!-- (?P<name>[a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rows(head: list[str], body: list[list[str]]) -> str:
    cells = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def statuses() -> str:
    from lib import status

    body = [
        [f"`{rung.status}`", rung.when, "yes" if rung.terminal else "", "yes" if rung.restorable else ""]
        for rung in status.LADDER
    ]
    return rows(["status", "when; the first row that holds counts", "terminal", "restorable"], body)


def conditions() -> str:
    from lib import rules

    body = [[f"`{rule.key}`", rule.opens_when, rule.closes_when, rule.due_for] for rule in rules.RULES]
    return rows(["condition", "opens when", "closes when", "due again for"], body)


def plugins() -> str:
    from lib import plugins as registry

    body = [
        [slot, ", ".join(f"`{name}`" for name in registry.names(slot)), first_line(f"lib/{slot}/__init__.py")]
        for slot in registry.SLOTS
    ]
    return rows(["slot", "plugins", "what it is"], body)


def modules() -> str:
    sys.path.insert(0, os.path.join(ROOT, "tests"))
    from test_house import ORDER

    body = [[f"`{name}`", first_line(f"lib/{name}.py")] for name in ORDER]
    return rows(["module", "what it does"], body)


def effects() -> str:
    from lib import effects as declared

    return rows(["effect", "what it does to the world"], [[f"`{k}`", v] for k, v in declared.EFFECTS.items()])


def commands() -> str:
    names = sorted(name for name in os.listdir(os.path.join(ROOT, "bin")) if name != "ao")
    return rows(["command", "what it does"], [[f"`{name}`", first_line(f"bin/{name}")] for name in names])


def settings() -> str:
    """Every key of config/defaults.yaml with its default and the first line of its comment."""
    body: list[list[str]] = []
    path: list[tuple[int, str]] = []  # (depth, word)
    with open(os.path.join(ROOT, "config", "defaults.yaml"), encoding="utf-8") as file:
        for line in file:
            found = re.match(r"( *)(?:- )?([a-z_<>-]+):(?: +([^#\n]*?))?(?: +# (.*))?$", line.replace("- ", "  ", 1))
            if not found or line.startswith("#"):
                if body and re.match(r" {20,}# ", line):  # a comment that goes on
                    body[-1][2] += " " + line.strip("# \n")
                continue
            depth = len(found[1]) // 2
            path = [one for one in path if one[0] < depth]
            if line.lstrip().startswith("- "):  # the first word of an entry of a list
                path[-1] = (path[-1][0], path[-1][1] + "[]")
            path.append((depth, found[2]))
            if found[3]:
                body.append([f"`{'.'.join(word for _, word in path)}`", f"`{found[3].strip()}`", found[4] or ""])
    return rows(["setting", "default", "what it does"], body)


def first_line(path: str) -> str:
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return (ast.get_docstring(ast.parse(file.read())) or "").split("\n")[0]


PARTS: dict[str, Callable[[], str]] = {
    "statuses": statuses,
    "conditions": conditions,
    "plugins": plugins,
    "modules": modules,
    "effects": effects,
    "commands": commands,
    "settings": settings,
}


def rendered(text: str) -> str:
    """`text` with every generated part as it should be."""
    return PART.sub(lambda found: found[1] + PARTS[found["name"]]() + "\n" + found[3], text)


def main() -> int:
    for name in FILES:
        path = os.path.join(ROOT, name)
        with open(path, encoding="utf-8") as file:
            text = rendered(file.read())
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
