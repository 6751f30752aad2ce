#!/usr/bin/env python3
"""A scripted agent: behaves in a terminal like a real one, and does what its story says instead of thinking.

    agent.py [--log FILE] [--story FILE.py] [--hooks] [--dialog] [--delay S] [--die CODE] [--exit-after N] [PROMPT]

It shows `> ` when it waits for a message and `* working...` while it acts on one; what is typed meanwhile is taken
afterwards. A story is a file with `def on_message(text: str, say, run) -> None`: `text` is the message word for word,
`say(text)` prints, `run(argv, **options)` runs a program and returns (exit code, output). `--log` (or AGENT_LOG) takes
one JSON line per thing that happened: `{"kind": "start|message|key|exit", "text": ...}`, so that a test reads what the
agent really received. `--hooks` reports with ao-hook. `--dialog` asks a question before the first prompt. `--die CODE`
exits with CODE at a message that holds the word `die`, `--exit-after N` after N messages. `/exit` and Ctrl-D end it.
"""

import argparse
import codecs
import contextlib
import json
import os
import re
import runpy
import subprocess
import sys
import termios
import time
import tty

QUESTION = "Do you want to proceed? (y/n) "
READY, BUSY = "> ", "* working..."
PASTE_ON, PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
# A pasted block, an escape sequence, or one character.
INPUT = re.compile(r"\x1b\[200~(.*?)\x1b\[201~|\x1b\[(?!200~)[0-9;?]*[A-Za-z~]|(.)", re.DOTALL)
OPTIONS = None


def show(text: str) -> None:
    os.write(1, text.encode("utf-8", "replace"))


def log(kind: str, text: str) -> None:
    if OPTIONS.log:
        with open(OPTIONS.log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "text": text, "at": time.time()}) + "\n")


def hook(*words: str) -> None:
    if OPTIONS.hooks:
        subprocess.run(["ao-hook", *words], check=False)


def say(text: str) -> None:
    show(f"\r\x1b[K{text}\n{BUSY}")


def run(argv: list[str], **options: object) -> tuple[int, str]:
    """Run a program without the terminal and show what was run."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
    done = subprocess.run(argv, check=False, text=True, errors="replace", **options)
    say(f"$ {' '.join(argv)[:150]} -> {done.returncode}")
    return done.returncode, done.stdout


def keys():
    """What is typed, piece by piece: (text, whether it was pasted)."""
    waiting = ""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        found = INPUT.match(waiting)
        if not found or found.group(2) == "\x1b":  # the rest is on its way
            data = os.read(0, 65536)
            if not data:
                return
            waiting += decoder.decode(data)
            continue
        waiting = waiting[found.end() :]
        pasted, key = found.groups()
        if pasted is not None:
            yield pasted.replace("\r", "\n"), True
        elif key:
            yield key, False


def messages(typed):
    """Messages from the input box: Enter sends what was typed and pasted, Ctrl-D in an empty box is the end."""
    draft = ""
    for text, pasted in typed:
        if not pasted and text in "\r\n":
            show("\n")
            yield draft
            draft = ""
        elif not pasted and text == "\x04":
            if not draft:
                return
        elif not pasted and text in "\x7f\x15":
            draft = draft[:-1] if text == "\x7f" else ""
            show(f"\r\x1b[K{READY}{draft}")
        else:
            draft += text
            show(text)


def turn(text: str, story: dict[str, object]) -> None:
    for id in re.findall(r"\(ao message ([a-z0-9-]+)\)", text):
        hook("received", id)
    hook("report", "active")
    show(BUSY)
    if OPTIONS.die is not None and re.search(r"\bdie\b", text):
        raise SystemExit(OPTIONS.die)
    story.get("on_message", lambda text, say, run: None)(text, say, run)
    hook("report", "ready")
    show("\r\x1b[K")


def dialog(typed) -> None:
    hook("report", "waiting_input", "-m", QUESTION.strip())
    show(QUESTION)
    for text, pasted in typed:
        log("key", text)
        if not pasted and text in "yn":
            show(text + "\n")
            return


def talk() -> int:
    story = runpy.run_path(OPTIONS.story) if OPTIONS.story else {}
    time.sleep(OPTIONS.delay)
    termios.tcflush(0, termios.TCIFLUSH)  # as real ones do: what was typed too early is lost
    show(PASTE_ON)
    typed = keys()
    if OPTIONS.dialog:
        dialog(typed)
    received = messages(typed)
    count, text = 0, OPTIONS.prompt
    if text:
        show(f"{READY}{text}\n")
    while count != OPTIONS.exit_after:
        if not text:
            if not count:
                hook("report", "ready")
            show(READY)
            text = next(received, "/exit")
        if text.strip() == "/exit":
            break
        if text.strip():
            log("message", text)
            count += 1
            turn(text, story)
        text = ""
    return 0


def main() -> int:
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", nargs="?", default="")
    for name in ("--hooks", "--dialog"):
        parser.add_argument(name, action="store_true")
    for name, kind, default in (("--delay", float, 0.0), ("--die", int, None), ("--exit-after", int, -1)):
        parser.add_argument(name, type=kind, default=default)
    parser.add_argument("--log", default=os.environ.get("AGENT_LOG"))
    parser.add_argument("--story", default=os.environ.get("AGENT_STORY"))
    OPTIONS = parser.parse_args()
    log("start", json.dumps({"argv": sys.argv, "folder": os.getcwd()}))
    before, code = termios.tcgetattr(0), 130
    tty.setcbreak(0, termios.TCSADRAIN)
    try:
        code = talk()
    except SystemExit as end:
        code = int(end.code or 0)
    except KeyboardInterrupt:
        pass
    finally:
        show(PASTE_OFF)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        log("exit", str(code))
    return code


if __name__ == "__main__":
    sys.exit(main())
