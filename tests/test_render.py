"""Tables, widths, and text that would harm a terminal."""

from __future__ import annotations

import io

import jinja2
import pytest

from lib import render
from lib.errors import AoError


def test_columns_line_up_without_trailing_blanks():
    rows = [["app-1", "working", ""], ["app-10", "", "fix login"]]
    assert render.table(rows, ["ID", "STATUS", "TASK"]) == (
        "ID      STATUS   TASK\napp-1   working\napp-10           fix login\n"
    )
    assert render.table([]) == ""


def test_wide_and_combining_characters_take_the_columns_they_take():
    assert [render.width(text) for text in ("abc", "日本", "e\u0301", "🙂")] == [3, 4, 1, 2]
    assert render.table([["日本", "x"], ["abcde", "y"]]) == "日本   x\nabcde  y\n"


def test_the_widest_column_gives_way_to_the_room_there_is():
    rows = [["app-1", "a very long title that does not fit"]]
    assert render.table(rows, room=20) == "app-1  a very long…\n"
    assert render.table(rows, room=None).endswith("not fit\n")


@pytest.mark.parametrize(
    ("text", "room", "kept"), [("abcdef", 4, "abc…"), ("日本語", 4, "日…"), ("ab", 2, "ab"), ("ab", 0, "")]
)
def test_what_is_cut_says_so(text, room, kept):
    assert render.fit(text, room) == kept


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("red \x1b[31malert\x07", "red \ufffd[31malert\ufffd"),
        ("two\nlines\tand\r", "two lines and "),
        ("c1 \x9b31m", "c1 \ufffd31m"),
        ("bidi \u202egnp.exe", "bidi gnp.exe"),
        ("plain ünï", "plain ünï"),
    ],
)
def test_control_characters_of_others_are_harmless(text, harmless):
    assert render.plain(text) == harmless
    assert render.table([[text]]) == harmless.rstrip() + "\n"


def test_colour_is_added_only_where_asked_and_does_not_move_columns():
    rows = [[("ok", "green"), "a"], [("bad", "red"), "b"]]
    assert render.table(rows) == "ok   a\nbad  b\n"
    assert render.table(rows, colour=True) == "\x1b[32mok\x1b[0m   a\n\x1b[31mbad\x1b[0m  b\n"


def test_no_color_and_files_are_respected(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert render.has_colour(Terminal()) and not render.has_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not render.has_colour(Terminal())
    assert render.room(io.StringIO()) is None


def test_counts_and_sizes_are_in_words_for_people():
    assert [render.counted(number, "project") for number in (0, 1, 2)] == ["0 projects", "1 project", "2 projects"]
    sizes = [0, 800, 1536, 167_936, 3 << 30, 5 << 50]
    assert [render.size(number) for number in sizes] == ["0 B", "800 B", "1.5 KiB", "164 KiB", "3.0 GiB", "5120 TiB"]


def test_a_title_is_whole_in_a_pipe_unless_it_is_absurd():
    assert render.brief("a" * 120) == "a" * 120
    assert render.brief("a\n" * 120) == ("a " * 60)[:119].rstrip() + "…"


def test_a_name_that_is_made_of_a_title_keeps_the_letters_that_ascii_has():
    assert render.slug("Größe ändern: ﬁx Straße") == "grosse-andern-fix-strasse"


def test_ages_are_short():
    assert [render.age(seconds) for seconds in (-3, 5, 300, 7200, 200_000)] == ["0s", "5s", "5m", "2h", "2d"]


def test_a_template_is_filled_and_says_what_it_misses(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "TEMPLATES", str(tmp_path))
    (tmp_path / "x.md").write_text("Do <{{ task }}>.\n{% if more %}\nmore\n{% endif %}\n")
    assert render.template("x.md", task="a & b", more=False) == "Do <a & b>.\n"
    with pytest.raises(jinja2.UndefinedError):
        render.template("x.md", more=False)
    with pytest.raises(AoError, match=r"there is no template 'y.md'"):
        render.template("y.md")
