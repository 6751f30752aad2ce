"""Text for people and agents: tables for terminals, and templates.

What others wrote (titles, branches, errors) may hold escape sequences that would move a terminal's cursor or worse:
every cell goes through `plain` first. Jinja is imported only when a template is rendered.
"""

from __future__ import annotations

import os

from lib import ROOT
from lib.errors import AoError

TYPE_CHECKING = False  # not typing's: ao-status starts with this module, and typing costs it a third of its time
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TextIO

TEMPLATES = os.path.join(ROOT, "templates")
COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36", "grey": "90"}
GAP = "  "
# What gives way when a table is wider than the terminal: columns wider than ROOMY, then the last one, which is for
# text, down to TEXT, then whole columns that can be spared, then the widest down to NARROWEST. The first one never
# does: it has the names by which things are called.
ROOMY, TEXT, NARROWEST = 24, 20, 6
LONGEST = 120  # characters of what others wrote, where a line is cut by no terminal
SLUG = 40  # characters of a name that is made of a title
_ESCAPES = r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])"
# Also what turns the order of letters around, and letters that only a model reads: nobody would see what they say.
_CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e0fff]"

Cell = str | tuple[str, str]  # a text, or a text and the name of its colour


def table(
    rows: Sequence[Sequence[Cell]],
    head: Sequence[str] = (),
    room: int | None = None,
    colour: bool = False,
    spare: Sequence[str] = (),
) -> str:
    """Aligned columns under `head`, at most `room` wide, without trailing blanks; "" for no rows and no head.

    `spare` names columns of the head that are left out where there is no room for them, the first one first.
    """
    lines: list[Sequence[Cell]] = [head, *rows] if head else list(rows)
    cells = [
        [(plain(cell), "") if isinstance(cell, str) else (plain(cell[0]), cell[1]) for cell in line] for line in lines
    ]
    sizes = [[width(text) for text, _ in line] for line in cells]
    kept = _kept(sizes, head, room, spare)
    widths = _widths([[line[column] for column in kept if column < len(line)] for line in sizes], room)
    drawn = (_line([line[column] for column in kept if column < len(line)], widths, colour) for line in cells)
    return "".join((clip(line, room) if room else line) + "\n" for line in drawn)


def plain(text: str) -> str:
    """`text` as one line in which nothing is left that a terminal would obey."""
    if text.isprintable():
        return text
    import unicodedata

    spaced = "".join(" " if char.isspace() else char for char in text)
    return "".join(
        char if char.isprintable() else "" if unicodedata.category(char) == "Cf" else "\ufffd" for char in spaced
    )


def harmless(text: str) -> str:
    """`text` without escape sequences, control characters and hidden letters; newlines and tabs stay."""
    import re

    return re.sub(_CONTROL, "", re.sub(_ESCAPES, "", text.replace("\r\n", "\n").replace("\r", "\n")))


def width(text: str) -> int:
    """How many columns a terminal needs for `text`."""
    if text.isascii():
        return len(text)
    import unicodedata

    zero = sum(unicodedata.category(char) in ("Mn", "Me", "Cf") for char in text)
    return len(text) - zero + sum(unicodedata.east_asian_width(char) in "WF" for char in text)


def fit(text: str, room: int) -> str:
    """`text` in at most `room` columns, with … where it was cut."""
    if width(text) <= room:
        return text
    kept = ""
    for char in text:
        if width(kept + char) > room - 1:
            break
        kept += char
    return kept.rstrip() + "…" if room > 0 else ""


def clip(line: str, room: int) -> str:
    """`fit` for a line that may have colours."""
    text, *coloured = line.split("\x1b[")
    kept = fit(text, room)
    for piece in coloured:
        room -= min(room, width(text))
        code, _, text = piece.partition("m")
        kept += f"\x1b[{code}m{fit(text, room)}"
    return kept


def brief(text: str) -> str:
    """A title or a task in one line, however long its author made it."""
    return fit(plain(text), LONGEST)


def slug(text: str) -> str:
    """A title as a part of a file's or branch's name: letters and digits of ASCII with dashes; "" when it has none."""
    import re
    import unicodedata

    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", plain))
    return words[:SLUG].rsplit("-", 1)[0] if len(words) > SLUG else words


def counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def size(bytes: int) -> str:
    """Bytes for people: `800 B`, `164 KiB`, `1.5 GiB`."""
    value, unit = float(bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"


def age(seconds: float) -> str:
    """A short age for people: `12s`, `5m`, `3h`, `2d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return f"{int(max(0.0, seconds))}s"


def painted(text: str, colour: str) -> str:
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour in COLOURS and text else text


def has_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def room(stream: TextIO) -> int | None:
    """The columns of the terminal behind `stream`, None when it is none: then nothing needs to be cut."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None if stream.isatty() else None
    except (OSError, ValueError):
        return None


def redraw(stream: TextIO, text: str, drawn: Sequence[int] = (), said: str = "", foot: str = "") -> list[int]:
    """Put `text` where the last one stood, which had lines of the widths `drawn`, without a blank screen in between.

    What was `said` in the meantime goes above it and stays. `foot` is a last line that is there however long the text
    is. Returns the widths of what was drawn: a terminal that was made narrower since then has wrapped it.
    """
    if not stream.isatty():
        stream.write(said + text)
        return []
    columns, rows = os.get_terminal_size(stream.fileno())
    lines, last = text.splitlines(), [foot] if foot else []
    room = max(1, rows - 2 - len(last))
    lines = lines if len(lines) <= room else [*lines[: room - 1], f"and {len(lines) - room + 1} more; see: ao-status"]
    lines = [clip(line, columns) for line in [*lines, *last]]
    widths = [width(harmless(line)) for line in lines]
    above = sum(max(1, -(-wide // columns)) for wide in drawn)
    up = f"\x1b[{above}A\r" if above else ""
    up += "\x1b[J" if said else ""  # the terminal wraps it where it is long, onto what stood there
    # Each line is erased first, or a terminal that once wrapped it joins it to the one above when there is room again.
    stream.write(up + "".join(f"\x1b[2K{line}\n" for line in [*said.splitlines(), *lines]) + "\x1b[J")
    stream.flush()
    return widths


def template(name: str, **values: Any) -> str:
    """The text of templates/NAME with `values` in it. A name that the template uses and nobody gave is a bug."""
    import jinja2

    places = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # prompts are not HTML
        trim_blocks=True,
        lstrip_blocks=True,
    )
    try:
        return places.get_template(name).render(values)
    except jinja2.TemplateNotFound as error:
        raise AoError(f"there is no template '{name}' in '{TEMPLATES}'") from error


def _kept(sizes: list[list[int]], head: Sequence[str], room: int | None, spare: Sequence[str]) -> list[int]:
    """The places of the columns for which there is room."""
    kept = list(range(max(map(len, sizes), default=0)))
    least = [min(max((line[place] for line in sizes if place < len(line)), default=0), ROOMY) for place in kept]
    for name in spare:
        needed = sum(least[place] for place in kept[:-1]) + min(least[kept[-1]], TEXT) + len(GAP) * (len(kept) - 1)
        if not room or needed <= room:
            break
        kept = [place for place in kept if head[place] != name]
    return kept


def _widths(lines: list[list[int]], room: int | None) -> list[int]:
    """The width of each column, so that a line fits into `room`."""
    count = max(map(len, lines), default=0)
    widths = [max((line[column] for line in lines if column < len(line)), default=0) for column in range(count)]
    excess = sum(widths) + len(GAP) * (count - 1) - room if room else 0
    while excess > 0 and max(widths[1:], default=0) > NARROWEST:
        widest = widths.index(max(widths[1:]), 1)
        place = widest if widths[widest] > ROOMY or widths[-1] <= TEXT else count - 1
        widths[place] -= 1
        excess -= 1
    return widths


def _line(cells: Sequence[tuple[str, str]], widths: Sequence[int], colour: bool) -> str:
    texts = [(fit(text, size), name, size) for (text, name), size in zip(cells, widths, strict=False)]
    padded = [(painted(text, name) if colour else text) + " " * (size - width(text)) for text, name, size in texts]
    return GAP.join(padded).rstrip()
