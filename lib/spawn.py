"""From an issue or a task to an agent at work: id, branch, worktree, set-up, terminal.

The record is written first and carries the intent, so that a spawn that dies half-way can be found and undone; the
effect lock is held from before the record appears until the agent runs. A failure leaves nothing behind but its error.
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lib import deliver, effects, git, launch, paths, plugins, proc, prompts, sessions, status, store
from lib.clock import Clock
from lib.config import Project, setting
from lib.errors import AoError
from lib.tracker import Issue

Session = dict[str, Any]
TYPES = {  # the first word of a label or a title -> the first part of the branch's name
    "bug": "fix",
    "fix": "fix",
    "error": "fix",
    "crash": "fix",
    "regression": "fix",
    "docs": "docs",
    "doc": "docs",
    "documentation": "docs",
    "test": "test",
    "tests": "test",
    "refactor": "refactor",
    "chore": "chore",
    "perf": "perf",
}
OPEN_PR = 'ao-pr open --title "what it does" --body "why, and how it was verified"'
SLUG = 40  # characters


class Request(NamedTuple):
    """What somebody wants to have worked on."""

    project: Project
    issue: Issue | None = None
    task: str | None = None
    agent: str | None = None
    model: str | None = None
    runtime: str | None = None
    template: str = "task"
    note: str | None = None  # said beside the issue
    has_prompt: bool = True
    force: bool = False
    spawned_by: str | None = None


class Refused(AoError):
    """Not spawned for a reason that is no failure: there is a session for it, or the project is full."""


def run(home: str, request: Request, clock: Clock, tell: Callable[[str], None]) -> Session:
    """Spawn a session and return its record. Raises Refused or AoError, and leaves nothing behind then."""
    project = request.project
    base_branch, base_sha = base(home, project, tell)
    record = _draft(request, base_branch, base_sha, clock)
    with contextlib.ExitStack() as held:
        _reserve(home, request, record, held, clock)
        try:
            return _build(home, request, record, clock)
        except BaseException as error:
            roll_back(home, project, record)
            sessions.remove(home, record)
            _log_failure(home, request, record, error, clock)
            raise


def preview(home: str, request: Request, clock: Clock) -> dict[str, Any]:
    """What `run` would do, with nothing done but a look at the repository."""
    base_branch, base_sha = base(home, request.project, lambda text: None, fetch=False)
    record = _draft(request, base_branch, base_sha, clock)
    with store.lock(paths.project(home, request.project.id)):
        _check_free(home, request)
        _name(home, request, record, _next_number(home, request.project))
    _choose_branch(request, record)
    prompt = _prompt(request, record)
    found = plugins.load("agent", record["agent"]).launch(request.project, record, prompt)
    return {
        "id": record["id"],
        "branch": record["branch"],
        "base_branch": base_branch,
        "base_sha": base_sha,
        "workspace_path": record["workspace_path"],
        "symlinks": setting(request.project, "symlinks"),
        "post_create": setting(request.project, "post_create"),
        "argv": found.argv,
        "sent": None if found.has_prompt else prompt,
    }


def base(home: str, project: Project, tell: Callable[[str], None], fetch: bool = True) -> tuple[str, str]:
    """The branch that work starts from and its newest commit; the remote's when that is ahead of the local one."""
    if not os.path.isdir(project.path) or git.run(project.path, "rev-parse", "--git-dir").code:
        raise AoError(f"cannot use '{project.path}' for project '{project.id}': it is not a git repository")
    branch = setting(project, "default_branch") or git.default_branch(project.path)
    if not branch:
        raise AoError(f"cannot find a branch to start from in '{project.path}': it has no commits; make the first one")
    remote = "origin" if "origin" in git.remotes(project.path) else ""
    if remote and fetch:
        with git.changing(home, project.path):
            result = git.run(project.path, "fetch", "--quiet", remote, limit="git-network")
        if result.code:
            tell(f"could not fetch from '{remote}': {git.reason(result)}; starting from what is here")
    local = git.commit(project.path, f"refs/heads/{branch}")
    there = git.commit(project.path, f"refs/remotes/{remote}/{branch}") if remote else None
    if not local and not there:
        raise AoError(f"cannot start from '{branch}' in '{project.path}': there is no such branch; see: default_branch")
    if local and there:
        is_ahead = git.contains(project.path, there, local)
        return branch, there if is_ahead or setting(project, "scm") != "local" else local
    return branch, str(local or there)


def roll_back(home: str, project: Project, record: Session) -> None:
    """Undo a spawn that did not finish: terminal, worktree, branch, launcher's files. Absent is success."""
    plugins.load("runtime", record["runtime"]).stop(home, record["runtime_handle"])
    doing = record.get("doing") or {}
    if doing.get("branch"):
        plugins.load("workspace", record["workspace"]).remove(home, project, record["workspace_path"])
        with git.changing(home, project.path):  # only if nothing was committed on it
            ref = f"refs/heads/{doing['branch']}"
            git.run(project.path, "update-ref", "-d", ref, record["base_sha"], limit="git-write")
    launch.forget(home, record)


def adopt(record: Session) -> None:
    """Finish a spawn whose process died after the agent was started."""
    record["doing"] = None


def _draft(request: Request, base_branch: str, base_sha: str, clock: Clock) -> Session:
    project, issue = request.project, request.issue
    record = sessions.blank("", project.id, clock)
    config = {"model": setting(project, "agent_config.model")}
    if request.model:
        config["model"] = request.model
    record.update(
        agent=request.agent or setting(project, "agent"),
        agent_config=config,
        task=request.task,
        issue_id=issue.id if issue else None,
        issue_url=issue.url if issue else None,
        issue_title=issue.title if issue else None,
        base_branch=base_branch,
        base_sha=base_sha,
        workspace=setting(project, "workspace"),
        runtime=request.runtime or setting(project, "runtime"),
        spawned_by=request.spawned_by,
        config_path=project.source,
    )
    for slot in ("agent", "workspace", "runtime"):
        plugins.load(slot, record[slot])
    return record


def _reserve(home: str, request: Request, record: Session, held: contextlib.ExitStack, clock: Clock) -> None:
    """Take the next id and create the record, under the project's lock; `held` gets the session's effect lock."""
    path = paths.project(home, request.project.id)
    with store.lock(path):
        _check_free(home, request)
        number = _next_number(home, request.project)
        while True:
            _name(home, request, record, number)
            record["doing"] = {"effect": "spawn", "at": clock.iso, "branch": None}
            held.enter_context(effects.hold(home, record))
            with effects.effect("spawn.record"):
                if sessions.create(home, record, clock):
                    break
            held.close()
            number += 1
        facts = store.read(path) or {}
        store.write(path, {**facts, "next_number": number + 1})


def _check_free(home: str, request: Request) -> None:
    live = [one for one in sessions.everything(home, request.project.id).records if status.is_live(one)]
    workers = [one for one in live if one.get("role") == "worker"]
    if request.force:
        return
    for other in workers:
        if request.issue and other.get("issue_id") == request.issue.id:
            raise Refused(f"issue {request.issue.id} has a session already: {other['id']} ({other['status']})")
    most = setting(request.project, "max_sessions")
    if most is not None and len(workers) >= most:
        raise Refused(f"project '{request.project.id}' has {len(workers)} sessions, and max_sessions is {most}")


def _next_number(home: str, project: Project) -> int:
    return int((store.read(paths.project(home, project.id)) or {}).get("next_number") or 1)


def _name(home: str, request: Request, record: Session, number: int) -> None:
    record["id"] = record["runtime_handle"] = f"{setting(request.project, 'prefix')}-{number}"
    record["workspace_path"] = paths.worktree(home, request.project.id, record["id"])


def _build(home: str, request: Request, record: Session, clock: Clock) -> Session:
    project = request.project
    workspace = plugins.load("workspace", record["workspace"])
    _choose_branch(request, record)
    record["doing"]["branch"] = record["branch"]
    fields = {"branch": record["branch"], "doing": record["doing"]}
    sessions.update(home, record, lambda fresh: fresh.update(fields), clock)
    with effects.effect("spawn.worktree"):
        workspace.create(home, project, record["id"], record["branch"], record["base_sha"])
    _link(project, record["workspace_path"])
    with effects.effect("spawn.post-create"):
        _post_create(home, project, record)
    prompt = _prompt(request, record) if request.has_prompt else None
    agent = plugins.load("agent", record["agent"])
    agent.prepare(project, record)
    found = agent.launch(project, record, prompt)
    if prompt and not found.has_prompt:
        first = deliver.message(prompt, "ao", clock)
        sessions.update(home, record, lambda fresh: fresh["inbox"].insert(0, first), clock)
    launch.prepare(home, project, record, found)
    with effects.effect("spawn.pane"):
        launch.start(home, record)
    with effects.effect("spawn.inbox"):
        return sessions.update(home, record, adopt, clock)


def _prompt(request: Request, record: Session) -> str:
    rules = "\n".join(text for text in (request.note, prompts.rules(request.project)) if text)
    return prompts.task(request.project, record, request.issue, rules, OPEN_PR, request.template)


def _choose_branch(request: Request, record: Session) -> None:
    """`<type>/<issue>-<slug>`, made unique: an existing branch is never taken over."""
    project, issue = request.project, request.issue
    title = issue.title if issue else str(request.task or "task")
    words = [*(issue.labels if issue else ()), *re.findall(r"[a-z]+", title.lower())]
    kind = next((TYPES[word.lower()] for word in words if word.lower() in TYPES), "feat")
    slug = _slug(title)
    name = f"{issue.id.lstrip('0') or '0'}-{slug}".strip("-") if issue else slug or record["id"]
    namespace = setting(project, "branch_namespace")
    wanted = "/".join(part for part in (namespace, kind, name) if part)
    refs = git.out(project.path, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").splitlines()
    taken = {re.sub("^refs/(heads|remotes/[^/]+)/", "", ref).lower() for ref in refs}
    branch, count = wanted, 1
    while branch.lower() in taken:
        count += 1
        branch = f"{wanted}-{count}"
    record["branch"] = branch


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = "-".join(re.findall(r"[a-z0-9]+", plain))
    return words[:SLUG].rsplit("-", 1)[0] if len(words) > SLUG else words


def _link(project: Project, path: str) -> None:
    """Link what the repository keeps outside of git (.env, node_modules) into a new worktree."""
    for name in setting(project, "symlinks"):
        source, target = os.path.join(project.path, name), os.path.join(path, name)
        if os.path.relpath(target, path).startswith("..") or os.path.isabs(name):
            raise AoError(f"cannot link '{name}': it is outside of the repository; see: symlinks")
        if os.path.exists(source) and not os.path.lexists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.symlink(source, target)


def _post_create(home: str, project: Project, record: Mapping[str, Any]) -> None:
    """Run the project's set-up commands, which are its own configuration, and keep what they print."""
    path = paths.log(home, project.id, f"{record['id']}.setup.log")
    for command in setting(project, "post_create"):
        with open(path, "ab") as file:
            result = proc.run("post-create", ["sh", "-c", command], cwd=record["workspace_path"], output=file.fileno())
        if result.code:
            raise AoError(f"post_create command '{command}' failed with exit code {result.code}; see: {path}")


def _log_failure(home: str, request: Request, record: Session, error: BaseException, clock: Clock) -> None:
    from lib import events

    what = {"type": "spawn_failed", "project_id": request.project.id, "session_id": record["id"]}
    issue = request.issue.id if request.issue else None
    events.append(home, clock, [{**what, "issue_id": issue, "message": str(error) or type(error).__name__}])
