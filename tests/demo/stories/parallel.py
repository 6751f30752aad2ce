"""Conflicts with another, rebases as the message says, and makes its change again on what it finds there."""

import subprocess

from acting import Edit, commit, edit, find, kind, open_pull, verified

EDITS = (
    Edit("shop/receipt.py", "{item.name}:", "{item.count} x {item.name}:"),
    Edit("tests/test_receipt.py", '"tea:', '"1 x tea:'),
    Edit("tests/test_receipt.py", '"cup:', '"2 x cup:'),
)


def on_message(text, say, run):
    if kind(text) == "task" and "how many pieces" in text:
        edit(*EDITS)
        if verified(run):
            commit(run, "Show how many pieces of each")
            open_pull(run, text, "Show how many pieces of each", "Before the name; all tests pass.")
    if kind(text) == "conflict":
        if "git fetch origin" in text:
            run(["git", "fetch", "--quiet", "origin"])
        stopped, _ = run(find(r"(git rebase [^\s,]+)", text).split())
        if stopped:
            run(["git", "checkout", "--ours", "--", *conflicting()])
            edit(*EDITS)
            run(["git", "add", "--all"])
            run(["git", "-c", "core.editor=true", "rebase", "--continue"])
        if verified(run) and "--force-with-lease" in text:
            run(["git", "push", "--quiet", "--force-with-lease"])


def conflicting() -> list[str]:
    names = ["git", "diff", "--name-only", "--diff-filter=U"]
    return subprocess.run(names, check=True, capture_output=True, text=True).stdout.split()
