"""The world of crashing.py with its repository at GitHub: people and checks act there, agents push with git."""

from __future__ import annotations

from typing import Any, ClassVar

import crashing
import forging
import github


class Chaos(crashing.Chaos):
    """Agents deliver with real git and gh; whoever is killed in the middle of a request leaves it to GitHub."""

    words = ("--assign",)
    rebase = "git fetch -q origin && git rebase -X theirs origin/main"
    push = "! git rev-parse -q --verify @{u} || git push -q --force"
    settings: ClassVar[dict[str, Any]] = {"scm": "github", "tracker": "github"}

    def __init__(self, folder: str, hub: github.Hub) -> None:
        super().__init__(folder)
        self.hub, self.remote = hub, hub.repo("acme/shop")
        self.remote.roles["riley"] = "write"
        forging.git(self.repo, "remote", "add", "origin", self.remote.remote)
        forging.git(self.repo, "push", "-q", "--force", "origin", "main")

    def turn(self) -> None:
        super().turn()
        for pull in self.remote.pulls():
            if pull.is_open and not self.remote.contexts(pull.head_sha):
                texts = forging.git(self.remote.path, "grep", "-h", "", pull.head_sha, "--", "*.txt")
                self.remote.check(pull, "test", "failure" if "broken" in texts else "success", log=texts)

    def write_issue(self, title: str) -> None:
        self.remote.issue(title, "As you like.")

    def ask_for(self, session: crashing.Session, text: str) -> None:
        self._pull().thread(text, "work-1.txt", 1, "riley")

    def approve(self, session: crashing.Session) -> None:
        for thread in self._pull().threads:
            thread.resolve("riley")
        self._pull().review("approved", author="riley")

    def commit(self, name: str, text: str) -> None:
        self.remote.commit("main", {name: text})

    def base(self) -> str:
        forging.git(self.repo, "fetch", "-q", "origin")
        return self.remote.refs["main"]

    def issues(self) -> list[str]:
        return [one.state for one in self.remote.issues.values() if not isinstance(one, github.Pull)]

    def _pull(self) -> github.Pull:
        [found] = self.remote.pulls()
        return found


def check(chaos: Chaos) -> None:
    """What holds at GitHub when all is over: one pull request, merged by one request; its branch is gone."""
    crashing.check(chaos)
    [pull] = chaos.remote.pulls()
    assert pull.merged and list(chaos.remote.refs) == ["main"]
    assert [one.status for one in chaos.hub.asked("PUT", "/merge")].count(200) == 1
    assert pull.comments == [] and len(pull.reviews) <= 2
