"""The demo's story, as ao's event log tells it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from world import ISSUES, World

from lib import events, render, sessions

ROLES = {
    "1": "goes straight through",
    "2": "breaks the tests first",
    "3": "is asked for changes",
    "4": "conflicts with the first",
}
SENT = {  # what a message is about, by the condition that sent it
    "ao": "gets its task",
    "ci-failed": "gets the log of the failed check",
    "changes-requested": "gets what the reviewer wrote",
    "merge-conflicts": "is told that it conflicts, and how to settle that",
}
CI = {"passing": ("CI passes", ""), "failing": ("CI fails", "red")}


class Teller:
    """Tells what happens as ao's event log has it, and what the reviewer says."""

    def __init__(self, world: World, began: float) -> None:
        self.world, self.began = world, began
        self.events: list[Mapping[str, Any]] = []
        self._pulls: dict[str, Mapping[str, Any]] = {}
        self._known: set[tuple[str, ...]] = set()

    def line(self, who: str, text: str, colour: str = "", quote: str = "") -> None:
        seconds, room = time.monotonic() - self.began, render.room(sys.stdout) or 1000
        text = render.fit(render.plain(text), room - 19)
        print(f"{seconds:6.1f}s  {who:<7}  {painted(text, colour)}")
        if quote:
            print(" " * 18 + painted(render.fit(render.plain("| " + quote), room - 19), "grey"))
        sys.stdout.flush()

    def go_on(self) -> None:
        """Tell what is new."""
        for event in events.read(self.world.home, after=self.events[-1]["id"] if self.events else 0):
            self.events.append(event)
            tell = TELLERS.get(event["type"])
            if tell:
                tell(self, str(event.get("session_id") or "ao"), event)

    def spawned(self, who: str, event: Mapping[str, Any]) -> None:
        self.line(who, f"starts on issue {event['issue_id']}, in a worktree and a terminal of its own")

    def message(self, who: str, event: Mapping[str, Any]) -> None:
        if event["state"] != "confirmed":
            return
        inbox = sessions.find(self.world.home, who)["inbox"]
        sent = next(one for one in inbox if one["id"] == event["message_id"])
        words = (self.world.season, self.world.tariff)
        lines = [line for line in sent["text"].split("\n") if any(word in line for word in words)]
        self.line(who, SENT.get(sent["from"], f"gets a message from {sent['from']}"), quote="".join(lines[-1:]))

    def pull(self, who: str, event: Mapping[str, Any]) -> None:
        new, old = event["pr"] or {}, self._pulls.get(who)
        self._pulls[who] = new
        name, head = f"#{new['number']}", new["head_sha"][:7]
        if old is None:
            self.line(who, f"opens pull request {name}: {new['title']}", "cyan")
        elif head != old["head_sha"][:7]:
            self.line(who, f"has a new commit for {name}: {head}", "cyan")
        if new["ci_status"] in CI and self._is_news(who, head, new["ci_status"]):
            self.line(who, f"{CI[new['ci_status']][0]} on {name}, {head}", CI[new["ci_status"]][1])
        if new["mergeable"] is False and self._is_news(who, head, "conflict"):
            self.line(who, f"{name} conflicts with {new['base_branch']}", "red")
        if new["state"] == "merged" and self._is_news(who, "merged"):
            self.line(who, f"{name} is merged: approved, green and clean", "green")

    def activity(self, who: str, event: Mapping[str, Any]) -> None:
        if event["next"] in ("exited", "waiting_input", "blocked"):
            is_expected = event["next"] == "exited" and self._pulls.get(who, {}).get("state") == "merged"
            text = "its work is done, and its terminal is closed" if is_expected else f"the agent is {event['next']}"
            self.line(who, text, "" if is_expected else "red")

    def told(self, who: str, event: Mapping[str, Any]) -> None:
        told = event["notification"]
        self.line("ao", f"tells you: {told['message']}", "green" if told["priority"] == "info" else "red")

    def trouble(self, who: str, event: Mapping[str, Any]) -> None:
        self.line(who, f"{event['type'].replace('_', ' ')}: {event.get('message')}", "red")

    def _is_news(self, *words: str) -> bool:
        is_news = words not in self._known
        self._known.add(words)
        return is_news


TELLERS: dict[str, Callable[[Teller, str, Mapping[str, Any]], None]] = {
    "spawned": Teller.spawned,
    "message_changed": Teller.message,
    "pr_enrichment_changed": Teller.pull,
    "activity_changed": Teller.activity,
    "ui_notification": Teller.told,
    "tick_error": Teller.trouble,
    "spawn_failed": Teller.trouble,
    "notify_failed": Teller.trouble,
}


def introduce(world: World) -> None:
    print(f"Four issues, four scripted agents at once, in {world.folder}\n")
    for number, (title, _) in ISSUES.items():
        print(f"  issue {number}  {title:<31}  shop-{number} {ROLES[number]}")
    print("\nThe log of CI and the review each hold a word that was made up just now. Both")
    print("must be in the code at the end: an agent can have them only from what ao sends it.")


def heading(text: str) -> None:
    print("\n" + painted(f"== {text} ==", "blue"))
    sys.stdout.flush()


def painted(text: str, colour: str) -> str:
    return render.painted(text, colour) if render.has_colour(sys.stdout) else text
