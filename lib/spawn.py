"""From an issue or a task to an agent at work: id, branch, worktree, set-up, terminal.

The record is written first and carries the intent, so that a spawn that dies half-way can be found and undone; the
effect lock is held from before the record appears until the agent runs. A failure leaves nothing behind but its error.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lib import (
    deliver,
    effects,
    events,
    git,
    launch,
    paths,
    plugins,
    proc,
    projects,
    prompts,
    render,
    sessions,
    status,
    store,
)
from lib.agent import Launch
from lib.clock import Clock
from lib.config import Project, setting
from lib.errors import AoError
from lib.tracker import Issue
from lib.workspace import Taken

Session = dict[str, Any]
KINDS = {  # the first part of a branch's name, and the words of a label or title that lead to it; else it is `feat`
    "fix": {"bug", "fix", "error", "crash", "regression"},
    "docs": {"docs", "doc", "documentation"},
    "test": {"test", "tests"},
    "refactor": {"refactor"},
    "chore": {"chore"},
    "perf": {"perf"},
}


class Request(NamedTuple):
    """What somebody wants to have worked on: an issue, a task, an open pull request, or several of these together."""

    project: Project
    issue: Issue | None = None
    task: str | None = None
    pull: Mapping[str, Any] | None = None  # from `claimable`
    agent: str | None = None
    model: str | None = None
    runtime: str | None = None
    template: str = "task"
    has_prompt: bool = True
    force: bool = False
    assign: bool = False  # the issue to whoever uses ao
    spawned_by: str | None = None


class Refused(AoError):
    """Not spawned for a reason that is no failure: there is a session for it, or the project is full."""


def run(home: str, request: Request, clock: Clock, tell: Callable[[str], None]) -> Session:
    """Spawn a session and return its record. Raises Refused or AoError, and leaves nothing behind then."""
    record = _draft(home, request, clock)
    with contextlib.ExitStack() as held:
        _reserve(home, request, record, held, clock)
        try:
            return _build(home, request, record, clock)
        except BaseException as error:
            _undo(home, request, record, tell)
            what = {"type": "spawn_failed", "project_id": request.project.id, "session_id": record["id"]}
            message = str(error) or type(error).__name__
            events.append(home, clock, [{**what, "issue_id": record["issue_id"], "message": message}])
            raise


def preview(home: str, request: Request, clock: Clock) -> dict[str, Any]:
    """What `run` would do, with nothing done."""
    project, record = request.project, _draft(home, request, clock)
    taken = _branches(project) | _check_free(home, request, clock)
    next(n for n in itertools.count(_next_number(home, project)) if _name(home, request, record, n, taken))
    text = _prompt(request, record)
    found = plugins.load("agent", record["agent"]).launch(project, record, text)
    return {
        **{key: record[key] for key in ("id", "branch", "base_branch", "base_sha", "workspace_path")},
        "symlinks": setting(project, "symlinks"),
        "post_create": setting(project, "post_create"),
        "argv": found.argv,
        "sent": None if found.has_prompt else text,
    }


def refresh(project: Project, tell: Callable[[str], None]) -> None:
    """Fetch what is new at the remote, where there is one. One that does not answer is said, and keeps nobody."""
    if "origin" not in git.remotes(project.path):
        return
    try:  # not under the repository's lock: a remote that hangs would hold up everybody else
        result = git.run(project.path, "fetch", "--quiet", "origin", limit="git-network")
        why = git.reason(result) if result.code else ""
    except AoError as error:
        why = str(error)
    if why:
        tell(f"could not fetch from 'origin': {why}; starting from what is here")


def base(project: Project) -> tuple[str, str]:
    """The branch that work starts from and its newest commit that is known here."""
    folder = project.path
    if not os.path.isdir(folder) or git.run(folder, "rev-parse", "--git-dir").code:
        raise AoError(f"cannot use '{folder}' for project '{project.id}': it is not a git repository")
    branch = setting(project, "default_branch") or git.default_branch(folder)
    if not branch:
        raise AoError(f"cannot find a branch to start from in '{folder}': it has no commits; make the first one")
    here, there = git.commit(folder, f"refs/heads/{branch}"), git.commit(folder, f"refs/remotes/origin/{branch}")
    if not here and not there:
        raise AoError(f"cannot start from '{branch}' in '{folder}': there is no such branch; see: default_branch")
    if here and there and setting(project, "scm") == "local" and not git.contains(folder, there, here):
        return branch, here  # what the local forge merged is here first
    return branch, str(there or here)


def claimable(home: str, project: Project, number: int, id: str = "") -> Mapping[str, Any]:
    """The open pull request of that number, for session `id` to take over, with its branch's name here.

    Raises Refused when a live one has it.
    """
    scm = plugins.load("scm", setting(project, "scm"))
    pull: Mapping[str, Any] = scm.pull(home, project, {"id": "", "claimed_pr_number": number})
    if pull["state"] != "open":
        raise AoError(f"cannot take over pull request '{number}': it is {pull['state']}")
    _check_unclaimed(_live(home, project), number, id)
    return {**pull, "branch": scm.fetch(home, project, pull)}


def open_pr(project: Project, record: Mapping[str, Any]) -> str:
    """What an agent runs to open its pull request."""
    return str(plugins.load("scm", setting(project, "scm")).opening(project, record))


def fork_point(project: Project, pull: Mapping[str, Any]) -> str:
    """The commit at which a pull request left the branch that work starts from."""
    newest = base(project)[1]
    return git.merge_base(project.path, newest, pull["head_sha"]) or newest


def furnish(home: str, project: Project, record: Session) -> None:
    """Make a new worktree fit to work in: the project's links and set-up commands."""
    for name in setting(project, "symlinks"):
        _link(project.path, record["workspace_path"], name)
    with effects.effect("spawn.post-create"):
        _post_create(home, project, record)


def equip(
    home: str, project: Project, record: Session, resumed: Launch | None, text: str | None, clock: Clock
) -> list[deliver.Message]:
    """Write the launcher's file for an agent that goes on as `resumed` or starts with `text`.

    Returns the messages that are to be delivered to it: [] when it starts with its text. `record` learns where it
    keeps its own records; the caller saves that.
    """
    agent = plugins.load("agent", record["agent"])
    agent.prepare(project, record)
    words = launch.shortened(home, record, text, "task") if text else None
    found = resumed or agent.launch(project, record, words)
    launch.prepare(home, project, record, found)
    record["agent_config"] = {**record["agent_config"], "records": found.records or None}
    return [] if found.has_prompt or not text else [deliver.message(text, "ao", clock)]


def roll_back(home: str, project: Project, record: Session) -> None:
    """Undo a spawn that did not finish: terminal, worktree, branch, launcher's files. Absent is success."""
    plugins.load("runtime", record["runtime"]).stop(home, record["runtime_handle"])
    plugins.load("workspace", record["workspace"]).remove(home, project, record["workspace_path"])
    if record["branch"] and os.path.isdir(project.path):
        with git.changing(home, project.path):  # only as it was made: without a commit, and in nobody's checkout
            if record["branch"] not in git.checkouts(project.path):
                ref = git.HEADS + record["branch"]
                git.run(project.path, "update-ref", "-d", ref, record["base_sha"], limit="git-write")
    launch.forget(home, record)


def _draft(home: str, request: Request, clock: Clock) -> Session:
    """The record without what depends on its number. AoError for whatever can be known to fail beforehand."""
    project, issue, pull = request.project, request.issue, request.pull
    record = sessions.blank("", project.id, clock)
    base_branch, base_sha = (pull["base_branch"], fork_point(project, pull)) if pull else base(project)
    record.update(
        agent=request.agent or setting(project, "agent"),
        agent_config={"model": request.model or setting(project, "agent_config.model")},
        task=render.harmless(request.task) if request.task else None,
        issue_id=issue.id if issue else None,
        issue_url=issue.url if issue else None,
        issue_title=issue.title if issue else None,
        assign_issue=bool(issue and request.assign),
        branch=pull["branch"] if pull else None,
        base_branch=base_branch,
        base_sha=base_sha,
        claimed_pr_number=pull["number"] if pull else None,
        claimed_pr_url=pull["url"] if pull else None,
        workspace=setting(project, "workspace"),
        runtime=request.runtime or setting(project, "runtime"),
        spawned_by=request.spawned_by,
        config_path=project.source,
    )
    for slot in ("agent", "workspace"):
        plugins.load(slot, record[slot])
    plugins.load("runtime", record["runtime"]).look(home)  # one that cannot be asked could not be tidied up either
    return record


def _reserve(home: str, request: Request, record: Session, held: contextlib.ExitStack, clock: Clock) -> None:
    """Take the next id and create the record, under the project's lock; `held` gets the session's effect lock."""
    path, project = paths.project(home, request.project.id), request.project
    taken = _branches(project)
    with store.lock(path):
        projects.check_owner(home, project)
        taken |= _check_free(home, request, clock)
        for number in itertools.count(_next_number(home, project)):
            if not _name(home, request, record, number, taken):
                continue
            record["doing"] = {"effect": "spawn", "at": clock.iso}
            held.enter_context(effects.hold(home, record))
            with effects.effect("spawn.record"):
                if sessions.create(home, record, clock):
                    break
            held.close()
        store.write(path, {**(store.read(path, projects.SHAPE) or {}), "path": project.path, "next_number": number + 1})


def _undo(home: str, request: Request, record: Session, tell: Callable[[str], None]) -> None:
    try:
        roll_back(home, request.project, record)
        sessions.remove(home, record)
    except AoError as error:  # the record stays with its intent, so that the next tick undoes the rest
        tell(f"could not undo all of '{record['id']}': {error}; what is left goes with the next ao-tick")


def _live(home: str, project: Project) -> list[Session]:
    return [one for one in sessions.everything(home, project.id).records if status.is_live(one)]


def _check_unclaimed(live: list[Session], number: int, id: str = "") -> None:
    for other in live:
        if other.get("claimed_pr_number") == number and other["id"] != id:
            raise Refused(f"pull request {number} has a session already: {other['id']} ({other['status']})")


def _check_free(home: str, request: Request, clock: Clock) -> set[str]:
    """Raise Refused when this request must not be; returns the branches of live sessions."""
    live = _live(home, request.project)
    limit = projects.rules(home, request.project, clock).budget.of_project()
    parked = [one["id"] for one in live if (one.get("hold") or {}).get("reason") == "budget"]
    if (limit or parked) and (request.spawned_by or not request.force):  # a person may, an agent may not
        why = f"{limit} of its budget is used up" if limit else f"{', '.join(parked)} is parked by its budget"
        raise Refused(f"project '{request.project.id}' takes no new session: {why}; see: ao-cost --help")
    workers = [one for one in live if one.get("role") == "worker"]
    most = setting(request.project, "max_sessions")
    for other in workers:
        if request.issue and other.get("issue_id") == request.issue.id and not request.force:
            raise Refused(f"issue {request.issue.id} has a session already: {other['id']} ({other['status']})")
    if request.pull:
        _check_unclaimed(live, request.pull["number"])
    if most is not None and len(workers) >= most and not request.force:
        raise Refused(f"project '{request.project.id}' has {len(workers)} sessions, and max_sessions is {most}")
    return {str(one["branch"]).lower() for one in live}


def _next_number(home: str, project: Project) -> int:
    return int((store.read(paths.project(home, project.id), projects.SHAPE) or {}).get("next_number") or 1)


def _name(home: str, request: Request, record: Session, number: int, taken: set[str]) -> bool:
    """Name everything after a number; False when something lies where its worktree would be."""
    record["id"] = record["runtime_handle"] = f"{setting(request.project, 'prefix')}-{number}"
    record["workspace_path"] = paths.worktree(home, request.project.id, record["id"])
    if not request.pull:
        record["branch"] = _new_branch(request, record, taken)
    return not os.path.lexists(record["workspace_path"])


def _build(home: str, request: Request, record: Session, clock: Clock) -> Session:
    project, workspace = request.project, plugins.load("workspace", record["workspace"])
    with effects.effect("spawn.worktree"):
        if request.pull:
            workspace.reopen(home, project, record["id"], record["branch"])
        else:
            _create(home, request, record, workspace, clock)
    furnish(home, project, record)
    messages = equip(home, project, record, None, _prompt(request, record), clock)
    if request.pull:
        plugins.load("scm", setting(project, "scm")).take_over(home, project, record, request.pull["number"])
    known = record["agent_config"]
    sessions.update(home, record, lambda new: new.update(agent_config=known, inbox=new["inbox"] + messages), clock)
    with effects.effect("spawn.pane"):
        launch.start(home, record)
    with effects.effect("spawn.inbox"):
        return sessions.update(home, record, lambda fresh: fresh.update(doing=None), clock)


def _create(home: str, request: Request, record: Session, workspace: Any, clock: Clock) -> None:
    """Make the worktree, on a branch of another name when somebody has taken that name since it was chosen."""
    while True:
        try:
            workspace.create(home, request.project, record["id"], record["branch"], record["base_sha"])
            return
        except Taken:
            record["branch"] = _new_branch(request, record, _branches(request.project))
            sessions.update(home, record, lambda fresh: fresh.update(branch=record["branch"]), clock)


def _prompt(request: Request, record: Session) -> str | None:
    if not request.has_prompt:
        return None
    parts = [
        prompts.claimed(request.project, record, request.pull) if request.pull else "",
        prompts.rules(request.project),
    ]
    rules = "\n".join(part for part in parts if part)
    opening = open_pr(request.project, record)
    return prompts.task(request.project, record, request.issue, rules, opening, request.template)


def _branches(project: Project) -> set[str]:
    """Every branch here or at a remote, in lower case: some file systems cannot keep `Fix` and `fix` apart."""
    refs = git.out(project.path, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").splitlines()
    return {re.sub("^refs/(heads|remotes/[^/]+)/", "", ref).lower() for ref in refs}


def _new_branch(request: Request, record: Session, taken: set[str]) -> str:
    """`<type>/<issue>-<slug>`, made unique: an existing branch is never taken over."""
    issue, namespace = request.issue, setting(request.project, "branch_namespace")
    title = issue.title if issue else str(request.task or "task")
    words = re.findall(r"[a-z]+", " ".join([*(issue.labels if issue else ()), title]).lower())
    kind = next((kind for word in words for kind, known in KINDS.items() if word in known), "feat")
    parts = [render.slug(issue.id.lstrip("0") or "0") if issue else "", render.slug(title)]
    name = "-".join(part for part in parts if part) or record["id"]
    wanted = "/".join(part for part in (namespace, kind, name) if part)
    folders = [wanted[:place] for place, char in enumerate(wanted) if char == "/"]
    if any(folder.lower() in taken for folder in folders):
        wanted = wanted.replace("/", "-")  # a branch `docs` leaves no room for `docs/12-typo`
    candidates = itertools.chain([wanted], (f"{wanted}-{count}" for count in itertools.count(2)))
    return next(name for name in candidates if not _is_taken(name.lower(), taken))


def _is_taken(name: str, taken: set[str]) -> bool:
    return name in taken or any(other.startswith(name + "/") for other in taken)


def _link(repository: str, path: str, name: str) -> None:
    """Link what the repository keeps outside of git (.env, node_modules) into a worktree; what is there stays."""
    source, target = os.path.join(repository, name), os.path.join(path, name)
    folder = os.path.realpath(os.path.dirname(os.path.normpath(target)))
    if not (folder + "/").startswith(os.path.realpath(path) + "/"):
        raise AoError(f"cannot link '{name}': that is outside of the worktree; see: symlinks")
    if os.path.exists(source) and not os.path.lexists(target):
        try:
            os.makedirs(folder, exist_ok=True)
            os.symlink(source, target)
        except OSError as error:
            raise AoError(f"cannot link '{name}' into '{path}': {error.strerror}") from error


def _post_create(home: str, project: Project, record: Session) -> None:
    """Run the project's set-up commands, which are its own configuration, and keep what they print."""
    path = paths.log(home, project.id, f"{record['id']}.setup.log")
    environment = launch.environment(home, project, record)
    for command in setting(project, "post_create"):
        argv = ["sh", "-c", command]
        with open(path, "ab") as file:
            try:
                code = proc.run(
                    "post-create", argv, cwd=record["workspace_path"], env=environment, output=file.fileno()
                ).code
                why = f"failed with exit code {code}" if code else ""
            except proc.TimedOut:
                why = f"did not end within {proc.LIMITS['post-create']:g} s"
        if why:
            raise AoError(f"cannot set up '{record['id']}': '{command}' {why}; see: {path}")
