"""A small world in which every process of ao may be killed at any moment, and what must hold in it when all is over.

Scripts run as processes, as a person, an agent or cron runs them. Whoever was killed is simply run again.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import forging
from conftest import ROOT

from lib import events, faults, sessions, store
from lib.runtime import tmux

Session = dict[str, Any]
SIGNED = re.compile(r"\(ao message (m-[a-z0-9]{8})\)\Z")
CHECK = "sleep 0.05; ! grep -q broken *.txt"
LOOP = ("ao-tick", "ao-react", "ao-ci")
STORY = '''\
"""Breaks the check first, and does what its messages ask for; whatever it is told again it has done already."""

import os
import re


def on_message(text, say, run):
    name, words = f"work-{os.environ['AO_ISSUE_ID'] or 'x'}.txt", None
    content = open(name).read() if os.path.exists(name) else ""
    if "How to work:" in text and not content:
        words = "broken\\n"
    elif "CI failed" in text:
        words = content.replace("broken", "mended")
    elif "A reviewer commented" in text:
        words = content + re.search(r"write '(.+)'", text)[1] + "\\n"
    elif "conflicts with its base" in text:
        run(["sh", "-c", REBASE])
    if words and words != content:
        with open(name, "w") as file:
            file.write(words)
        run(["git", "add", "--all"])
        run(["git", "commit", "-q", "-m", "work"])
    if PUSH:
        run(["sh", "-c", PUSH])
    opening = re.search("open a pull request: (.+)", text)
    if opening:
        run(["sh", "-c", opening[1]])
'''


class Chaos:
    """The world: a repository, its project `shop`, and the processes that are run in it."""

    words: tuple[str, ...] = ()  # options of ao-spawn
    rebase, push = "git rebase -X theirs main", ""  # what its agents run
    settings: ClassVar[dict[str, Any]] = {"ci": [{"name": "lint", "run": "true"}, {"name": "test", "run": CHECK}]}

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.home, self.repo = os.path.join(folder, "home"), os.path.join(folder, "repo")
        self.points, self.temporary = os.path.join(folder, "points"), os.path.join(folder, "tmp")
        for path in (self.repo, self.points, self.temporary, os.path.join(folder, "agents")):
            os.makedirs(path)
        os.makedirs(self.home, mode=0o700)
        self.kills = 0
        self.by_steps = False  # scripts are killed at their first step, then at the second, until they come through
        self.steps: dict[str, int] = {}  # at which each script was killed last; one of LOOP comes through in between
        self.killer: Killer | None = None
        forging.git(self.repo, "init", "--quiet", "--initial-branch", "main")
        forging.git(self.repo, "config", "user.name", "Grace")
        forging.git(self.repo, "config", "user.email", "grace@example.org")
        forging.commit(self.repo, "a.txt", "one\n", "first")
        self.configure()

    def configure(self, **settings: Any) -> None:
        with open(os.path.join(self.folder, "story.py"), "w") as file:
            file.write(STORY.replace("REBASE", repr(self.rebase)).replace("PUSH", repr(self.push)))
        agent = f"exec {sys.executable} {ROOT}/tests/demo/agent.py --hooks --story {self.folder}/story.py"
        agent += f' --log {self.folder}/agents/"$AO_SESSION_ID".log'
        project = {
            "path": self.repo,
            "default_branch": "main",
            "agent_config": {"command": ["sh", "-c", agent], "ready": "^> $", "busy": r"^\* working"},
            "post_create": ["sleep 0.05"],
            "merge": {"settle": "0s", "delete_branch": True},
            "reactions": {"approved-and-green": {"action": "auto-merge"}},
            **self.settings,
            **settings,
        }
        values = {"projects": {"shop": project}, "lifecycle": {"on_merge": "prune"}, "poll_interval": "1s"}
        with open(os.path.join(self.folder, "ao.yaml"), "w") as file:
            json.dump(values, file)

    # --- what people do ---

    def write_issue(self, title: str) -> None:
        self.run("ao-issue", "new", title, "-b", "As you like.")

    def ask_for(self, session: Session, text: str) -> None:
        self.run("ao-review", session["id"], "--request-changes", "-m", text, "--as", "riley")

    def approve(self, session: Session) -> None:
        self.run("ao-review", session["id"], "--approve", "--as", "riley", also="it is merged")

    def commit(self, name: str, text: str) -> None:
        forging.commit(self.repo, name, text, "a person's")

    def base(self) -> str:
        """The commit that work is merged into."""
        return self.git("rev-parse", "main")

    def issues(self) -> list[str]:
        """The states of all issues."""
        return [one["state"] for one in json.loads(self.run("ao-issue", "list", "--state", "all", "--json"))]

    # --- processes ---

    def arm(self, names: Iterable[str]) -> None:
        """Let the next process that comes to one of these points die there; each is one death."""
        for name in names:
            with open(os.path.join(self.points, name), "w"):
                pass

    def left(self) -> list[str]:
        """The points that nobody has come to."""
        return sorted(os.listdir(self.points))

    def start(self, name: str, *args: str, **env: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "AO_HOME": self.home, "AO_CONFIG": os.path.join(self.folder, "ao.yaml")}
        environment |= {faults.VARIABLE: self.points, "TMPDIR": self.temporary, **env}
        return subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "bin", name), *args],
            cwd=self.repo,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def once(self, name: str, *args: str, **env: str) -> tuple[int, str]:
        """Run a script: its exit code (-9 when it was killed) and what it said."""
        process = self.start(name, *args, **env)
        out, err = process.communicate(timeout=120)
        self.kills += process.returncode == -signal.SIGKILL
        assert "Traceback" not in err, err
        return process.returncode, out + err

    def run(self, name: str, *args: str, also: str | None = None, **env: str) -> str:
        """Run a script again and again until it is not killed; `also`: what it may say when it fails."""
        for death in itertools.count():
            fault = {}
            if self.by_steps and (name not in LOOP or not death):
                self.steps[name] = self.steps.get(name, 0) + 1
                fault = {faults.VARIABLE: f"step:{self.steps[name]}"}
            code, said = self.once(name, *args, **fault, **env)
            if code != -signal.SIGKILL:
                if fault:
                    self.steps[name] = 0  # it does not take that many
                assert code == 0 or (also is not None and also in said), (name, args, said)
                return said
        raise AssertionError

    def turn(self) -> None:
        if self.killer:
            return self.killer.turn()
        for name in ("ao-tick", "ao-react"):
            self.run(name)
        for one in self.records() if self.by_steps else ():  # what ao-react starts dies at the same step each time
            if (one["pr"] or {}).get("state") == "open":
                self.run("ao-ci", one["id"], also="")

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 240.0) -> Any:
        """Look and act until something holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            self.turn()
        records = [{key: one.get(key) for key in SHOWN} for one in self.records()]
        raise AssertionError(f"waited in vain: {what}; {json.dumps(records, indent=1)}")

    # --- what there is ---

    def records(self) -> list[Session]:
        return sessions.everything(self.home).records

    def of_issue(self, issue: str) -> Session:
        """The one session that works on an issue."""
        [found] = [one for one in self.records() if one["issue_id"] == issue and one["outcome"] != "errored"]
        return found

    def show(self, session: Session, name: str) -> str:
        pull = session.get("pr") or {}
        argv = ["git", "show", f"{pull.get('head_sha')}:{name}"]
        return subprocess.run(argv, cwd=self.repo, capture_output=True, text=True, check=False).stdout

    def git(self, *args: str) -> str:
        return forging.git(self.repo, *args)

    def received(self, id: str) -> list[str]:
        """The messages in an agent's own log."""
        path = os.path.join(self.folder, "agents", id + ".log")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8") as file:
            entries = [json.loads(line) for line in file]
        return [entry["text"] for entry in entries if entry["kind"] == "message"]


UNUSED = "refs/heads/feat/2-take-over"  # the branch of who claimed another's stays, killed or not
SHOWN = ("id", "status", "activity", "runtime_state", "doing", "inbox", "conditions", "error", "react_error")


# --- the stories -----------------------------------------------------------------------------------------------------


def spawn(chaos: Chaos, *words: str, issue: str) -> Session:
    """Spawn until there is a session whose agent runs. For an issue: the same task again is another task."""
    chaos.run("ao-spawn", *words, also="has a session already")
    return dict(chaos.until(lambda: _runs(chaos, issue), f"an agent for {words}"))


def _runs(chaos: Chaos, issue: str) -> Session | None:
    session = chaos.of_issue(issue)
    return session if session["runtime_state"] == "alive" and not session["doing"] else None


def is_told(chaos: Chaos, issue: str) -> bool:
    """Whether the agent has its first message."""
    inbox = chaos.of_issue(issue)["inbox"]
    return bool(inbox) and inbox[0]["state"] == "confirmed"


def pull(chaos: Chaos, issue: str, **facts: Any) -> bool:
    found = chaos.of_issue(issue).get("pr") or {}
    return bool(found) and all(found.get(key) == value for key, value in facts.items())


def work(chaos: Chaos, later: Callable[[], None] = lambda: None) -> None:
    """Spawn, work, CI failure, review, conflict, merge, clean-up; `later` is called when the agent has its task.

    Its pull request is opened for it, in the other story by itself.
    """
    chaos.configure(publish="auto")
    chaos.write_issue("Do some work")
    session = spawn(chaos, "1", *chaos.words, issue="1")
    chaos.until(lambda: is_told(chaos, "1"), "the task")
    later()
    chaos.until(lambda: pull(chaos, "1", ci_status="passing"), "the broken check to be mended")
    chaos.ask_for(session, "please write 'thanks'")
    chaos.until(lambda: "thanks" in chaos.show(chaos.of_issue("1"), "work-1.txt"), "the review to be heeded")
    chaos.commit("work-1.txt", "somebody was faster\n")
    chaos.until(lambda: pull(chaos, "1", mergeable=True, ci_status="passing") and _is_rebased(chaos), "the rebase")
    chaos.approve(session)
    chaos.until(lambda: chaos.of_issue("1")["status"] == "merged" and is_quiet(chaos), "the merge")


def _is_rebased(chaos: Chaos) -> bool:
    head = chaos.of_issue("1")["pr"]["head_sha"]
    return chaos.git("merge-base", chaos.base(), head) == chaos.base()


def lives(chaos: Chaos, later: Callable[[], None] = lambda: None) -> None:
    """Spawn, message, kill, restore, prune with work that is saved, claim by another, merge by hand."""
    for title in ("Do some work", "Take over"):
        chaos.write_issue(title)
    id = spawn(chaos, "1", issue="1")["id"]
    chaos.until(lambda: is_told(chaos, "1"), "the task")
    later()
    chaos.run("ao-send", id, "hello")
    chaos.until(lambda: sessions.open_message(chaos.of_issue("1")) is None, "the greeting")
    chaos.until(lambda: pull(chaos, "1", ci_status="passing"), "the broken check to be mended")
    chaos.run("ao-kill", id)
    chaos.run("ao-restore", id, also="its agent runs")
    chaos.until(lambda: _runs(chaos, "1") and is_told(chaos, "1"), "the restored agent")
    chaos.run("ao-kill", id)
    chaos.run("ao-prune", id)
    other = spawn(chaos, "2", "--no-prompt", issue="2")["id"]
    number = chaos.of_issue("1")["pr"]["number"]
    chaos.run("ao-claim", other, str(number))
    chaos.until(lambda: pull(chaos, "2", number=number, ci_status="passing") and is_told(chaos, "2"), "the claim")
    chaos.run("ao-prune", id, "--archive")
    chaos.approve(chaos.of_issue("2"))
    chaos.run("ao-merge", other)
    chaos.until(lambda: chaos.of_issue("2")["status"] == "merged" and is_quiet(chaos), "the merge")
    chaos.run("ao-issue", "close", "1")


def is_quiet(chaos: Chaos) -> bool:
    """Whether nothing is under way any more."""
    records = chaos.records()
    return not any(one["doing"] or one["conditions"] for one in records) and not tmux.look(chaos.home) and _told(chaos)


def _told(chaos: Chaos) -> bool:
    return any("ended:" in line for line in told(chaos))


def told(chaos: Chaos) -> list[str]:
    path = os.path.join(chaos.home, "logs", "notifications.log")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


# --- what must hold in the end ---------------------------------------------------------------------------------------


def check(chaos: Chaos) -> None:
    """Nothing lost, nothing twice, nothing left over."""
    chaos.run("ao-prune", "--all", "--archive")
    chaos.turn()
    assert chaos.records() == []
    _check_merges(chaos)
    _check_messages(chaos)
    _check_notifications(chaos)
    _check_events(chaos)
    assert not leftovers(chaos), "\n".join(leftovers(chaos))
    assert tmux.look(chaos.home) == {}
    assert held(chaos) == []


def archived(chaos: Chaos) -> list[Session]:
    paths = glob.glob(os.path.join(chaos.home, "archive", "*", "*.yaml"))
    return [sessions.find(chaos.home, os.path.basename(path).removesuffix(".yaml")) for path in paths]


def _check_merges(chaos: Chaos) -> None:
    subjects = [
        line for line in chaos.git("log", "--format=%s", chaos.base()).splitlines() if line.startswith("Merge pull")
    ]
    assert len(subjects) == len(set(subjects)) == 1, subjects
    assert len([one for one in archived(chaos) if one["status"] == "merged"]) == 1
    assert "mended" in chaos.git("show", f"{chaos.base()}:work-1.txt")
    assert chaos.git("status", "--porcelain", "--untracked-files=no") == ""
    chaos.git("fsck", "--connectivity-only")
    assert set(chaos.issues()) == {"closed"} and len(chaos.issues()) <= 2


def _check_messages(chaos: Chaos) -> None:
    """Each exactly once in the agent's own log, or not known to be there and a person told."""
    for session in archived(chaos):
        texts = chaos.received(session["id"])
        arrived = [found for text in texts for found in SIGNED.findall(text.strip())]
        assert len(arrived) == len(texts), f"something arrived that is no whole message: {texts}"
        assert len(arrived) == len(set(arrived)), f"twice: {arrived}"
        for message in session["inbox"]:
            if message["state"] == "confirmed":
                assert message["id"] in arrived
            elif message["state"] == "unconfirmed":
                assert any(session["id"] in line for line in told(chaos)), "nobody was told"


def _check_notifications(chaos: Chaos) -> None:
    ids = [line.rpartition("[")[2] for line in told(chaos)]
    assert len(ids) == len(set(ids)), told(chaos)


def _check_events(chaos: Chaos) -> None:
    lines = []
    for path in events.files(chaos.home):
        with open(path, encoding="utf-8") as file:
            lines += file.read().splitlines()
    ids = [event["id"] for event in map(events.parse, lines) if event]
    assert len(ids) == len(lines) and ids == sorted(set(ids))


def leftovers(chaos: Chaos) -> list[str]:
    """Whatever killed processes may have left: temporary files, worktrees, branches, locks of git, buffers."""
    found = [path for path in _files(chaos) if _is_leftover(path)]
    found += glob.glob(os.path.join(chaos.home, "worktrees", "*", ".*"))
    found += glob.glob(os.path.join(chaos.home, "worktrees", "*", "*"))
    found += glob.glob(os.path.join(chaos.home, "forge", "*", "scratch", "*"))
    found += glob.glob(os.path.join(chaos.home, "forge", "*", "scratch", ".*"))
    found += glob.glob(os.path.join(chaos.home, "launch", "*", "*"))
    found += os.listdir(chaos.temporary)
    found += chaos.git("worktree", "list").splitlines()[1:]
    refs = chaos.git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/ao/merge").splitlines()
    found += [ref for ref in refs if ref not in ("refs/heads/main", UNUSED)]
    backups = chaos.git("for-each-ref", "--format=%(tree)", "refs/ao/backup").splitlines()
    found += [f"backup {tree} twice" for tree in set(backups) if backups.count(tree) > 1]
    return found + _buffers(chaos)


def _files(chaos: Chaos) -> Iterator[str]:
    for root in (chaos.home, chaos.repo):
        for folder, _, names in os.walk(root):
            yield from (os.path.join(folder, name) for name in names)


def _is_leftover(path: str) -> bool:
    name = os.path.basename(path)
    is_lock_of_git = f"{os.sep}.git{os.sep}" in path and name.endswith(".lock") and name != "ao.lock"
    is_alone = name.endswith(store.BEFORE) and not os.path.exists(path.removesuffix(store.BEFORE))
    return is_lock_of_git or is_alone or name.startswith((".tmp-", ".new-")) or name.endswith(".tmp")


def _buffers(chaos: Chaos) -> list[str]:
    done = subprocess.run(
        ["tmux", "-S", tmux.socket(chaos.home), "list-buffers", "-F", "buffer #{buffer_name}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


def held(chaos: Chaos) -> list[str]:
    """The locks that somebody still holds."""
    found = []
    for path in (path for path in _files(chaos) if path.endswith(".lock")):
        with open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(path)
    return found


# --- killed at random ------------------------------------------------------------------------------------------------


class Killer:
    """Runs the loop and kills it at random moments: the process alone or its group; and the checks that it started."""

    def __init__(self, chaos: Chaos, seed: int) -> None:
        self.chaos, self.dice = chaos, random.Random(seed)
        started = time.monotonic()
        chaos.turn()
        self.pace = (time.monotonic() - started) / 2  # of one script, on this machine and with its load

    def turn(self) -> None:
        name = self.dice.choice(("ao-tick", "ao-react", "ao-react", "ao-watch"))
        args = ["--interval", "0.1", "--quiet", "--for", "5s"] if name == "ao-watch" else []
        process = self.chaos.start(name, *args)
        try:
            process.communicate(timeout=self.pace * self.dice.uniform(0.3, 3.0))
        except subprocess.TimeoutExpired:
            kind = self.dice.choice((os.kill, os.killpg))
            kind(process.pid, signal.SIGKILL)
            process.communicate()
            self.chaos.kills += 1
        if self.dice.random() < 0.2:
            self._kill_checks()

    def _kill_checks(self) -> None:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
                if f"AO_HOME={self.chaos.home}".encode() in file.read().split(b"\0") and "ao-ci" in _command(pid):
                    os.kill(int(pid), signal.SIGKILL)
                    self.chaos.kills += 1


def _command(pid: str) -> str:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().decode("utf-8", "replace")
