"""The REST API: a table of routes, and the shapes of what they answer."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

from . import bare, faults
from .faults import Answer
from .hub import HOST, Hub, Request
from .world import Check, Comment, Issue, Pull, Refused, Repo, Review, Status, gid, iso

ROUTES: list[tuple[str, re.Pattern[str], Callable[[Any], Any]]] = []
WORDS = {"repo": r"repos/(?P<repo>[^/]+/[^/]+)", "n": r"(?P<n>\d+)", "rest": r"(?P<rest>.+)", "sha": r"(?P<sha>[^/]+)"}
EVENTS = {"APPROVE": "approved", "REQUEST_CHANGES": "changes_requested", "COMMENT": "commented"}


@dataclasses.dataclass
class Call:
    """A request with what its path names."""

    hub: Hub
    request: Request
    path: dict[str, str]
    query: dict[str, str]

    @property
    def body(self) -> dict[str, Any]:
        return self.request.body if isinstance(self.request.body, dict) else {}

    @property
    def user(self) -> str:
        return self.request.user

    @property
    def base(self) -> str:
        """What URLs of the API begin with."""
        host = self.request.host
        return f"http://api.{host}" if host == HOST else f"https://{host}/api/v3"

    @property
    def repo(self) -> Repo:
        repo = self.hub.find(self.request.host, self.path["repo"], live=self.request.method != "GET")
        if repo is None or (repo.is_private and self.user not in repo.roles):
            raise Refused(404, "Not Found")
        return repo

    @property
    def issue(self) -> Issue:
        issue: Issue = _one(self.repo.issues.get(int(self.path["n"])))
        return issue

    @property
    def pull(self) -> Pull:
        issue = self.issue
        if not isinstance(issue, Pull):
            raise Refused(404, "Not Found")
        return issue

    def sha(self) -> str:
        """The commit that the path names, by a SHA, a branch or a number."""
        name = unquote(self.path["sha"])
        sha = self.repo.resolve(name)
        if not sha:
            raise Refused(422, f"No commit found for SHA: {name}")
        return sha

    def writes(self, role: str = "write") -> None:
        """Only who may write goes on."""
        mine = self.repo.role(self.user)
        if mine != "admin" and mine != role:
            raise Refused(403, "Resource not accessible by personal access token")


def route(method: str, path: str) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    pattern = re.compile("/" + re.sub(r"\{(\w+)\}", lambda match: WORDS[match[1]], path))

    def add(function: Callable[[Call], Any]) -> Callable[[Call], Any]:
        ROUTES.append((method, pattern, function))
        return function

    return add


def answer(hub: Hub, request: Request) -> Answer:
    path, _, query = request.path.removeprefix("/api/v3").partition("?")
    refused = hub.spend(request, 0 if path == "/rate_limit" else 1)
    if refused:
        return refused
    found = _dispatch(hub, request, path, query)
    tag = f'W/"{hashlib.sha256(faults.encode(found)).hexdigest()}"'
    if request.method == "GET" and found.status == 200:
        found.headers["ETag"] = tag
        if request.headers.get("if-none-match") == tag:
            hub.spend(request, -1)
            return Answer(304, None, {"ETag": tag})
    return found


def _dispatch(hub: Hub, request: Request, path: str, query: str) -> Answer:
    for method, pattern, function in ROUTES:
        match = pattern.fullmatch(path)
        if match and method == request.method:
            words = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
            call = Call(hub, request, match.groupdict(), words)
            try:
                found = function(call)
            except Refused as error:
                return faults.refusal(error.status, error.message, *error.errors)
            if isinstance(found, Answer):
                return found
            if isinstance(found, list):
                return _page(call, path, found)
            return Answer(201 if method == "POST" else 200, found)
    hub.problems.append(f"no route for {request.method} {path}")
    return faults.refusal(404, "Not Found")


def _page(call: Call, path: str, items: Sequence[Any], wrap: str = "") -> Answer:
    """A page of a list, with the links to the others."""
    size = min(100, max(1, int(call.query.get("per_page", 30))))
    page, last = max(1, int(call.query.get("page", 1))), max(1, -(-len(items) // size))
    pages = {"prev": page - 1 if page > 1 else 0, "next": page + 1 if page < last else 0}
    pages |= {"last": last if page < last else 0, "first": 1 if page > 1 else 0}
    more = "&".join(f"{name}={value}" for name, value in call.query.items() if name != "page")
    links = [f'<{call.base}{path}?{more}&page={at}>; rel="{rel}"' for rel, at in pages.items() if at]
    part = list(items[(page - 1) * size : page * size])
    body: Any = {"total_count": len(items), wrap: part} if wrap else part
    return Answer(200, body, {"Link": ", ".join(links)} if links else {})


def _one(found: Any) -> Any:
    if found is None:
        raise Refused(404, "Not Found")
    return found


# Shapes


def user_json(login: str | None) -> Any:
    return login and {"login": login, "id": sum(login.encode()), "type": "Bot" if login.endswith("[bot]") else "User"}


def repo_json(call: Call, repo: Repo) -> dict[str, Any]:
    role = repo.role(call.user)
    rights = {"admin": role == "admin", "push": role != "read", "pull": True}
    found = {"id": repo.id, "name": repo.name, "full_name": repo.full_name, "owner": user_json(repo.owner)}
    found |= {
        "private": repo.is_private,
        "fork": bool(repo.fork_of),
        "html_url": repo.url,
        "archived": repo.is_archived,
    }
    found |= {"clone_url": f"{repo.url}.git", "ssh_url": f"git@{repo.host}:{repo.full_name}.git", "permissions": rights}
    found |= {"default_branch": repo.default_branch, "has_issues": repo.has_issues}
    found |= {f"allow_{name}" + ("_commit" if name == "merge" else "_merge"): on for name, on in repo.methods.items()}
    return {**found, "delete_branch_on_merge": repo.deletes_merged, "url": f"{call.base}/repos/{repo.full_name}"}


def issue_json(call: Call, issue: Issue) -> dict[str, Any]:
    repo, is_pull = issue.repo, isinstance(issue, Pull)
    url, kind = f"{call.base}/repos/{repo.full_name}/issues/{issue.number}", "pull" if is_pull else "issues"
    found = {"id": issue.id, "number": issue.number, "title": issue.title, "body": issue.body, "state": issue.state}
    found |= {"node_id": gid("PR" if is_pull else "I", issue), "closed_by": user_json(issue.closed_by)}
    found |= {"url": url, "html_url": f"{repo.url}/{kind}/{issue.number}", "user": user_json(issue.author)}
    found |= {"labels": [{"name": name} for name in issue.labels], "comments": len(issue.comments)}
    found |= {"assignees": [user_json(login) for login in issue.assignees], "state_reason": issue.reason}
    found |= {"assignee": user_json(issue.assignees[0]) if issue.assignees else None, "locked": False}
    found |= {"milestone": issue.milestone and {"title": issue.milestone, "number": 1}, "closed_at": iso(issue.closed)}
    found |= {"created_at": iso(issue.at), "updated_at": iso(issue.updated)}
    return {**found, "pull_request": {"url": url.replace("/issues/", "/pulls/")}} if is_pull else found


def pull_json(call: Call, pull: Pull, whole: bool = True) -> dict[str, Any]:
    found = issue_json(call, pull)
    del found["pull_request"], found["comments"], found["state_reason"]
    found |= {"draft": pull.is_draft, "merged_at": iso(pull.merged), "merge_commit_sha": pull.merge_sha}
    found |= {"url": found["url"].replace("/issues/", "/pulls/"), "maintainer_can_modify": pull.may_maintainers_push}
    ends = (("head", pull.head_repo, pull.head, pull.head_sha), ("base", pull.repo, pull.base, pull.base_sha))
    for side, repo, branch, sha in ends:
        owner = repo.owner if repo else "ghost"
        found[side] = {"ref": branch, "sha": sha, "label": f"{owner}:{branch}", "user": user_json(owner)}
        found[side]["repo"] = repo and repo_json(call, repo)
    if whole:
        known = not pull.is_open or pull.is_known()
        files = bare.changes(pull.repo.path, pull.base_sha, pull.head_sha)
        found |= {
            "merged": pull.merged is not None,
            "merged_by": user_json(pull.merged_by),
            "changed_files": len(files),
        }
        found |= {"mergeable": pull.is_clean if known and pull.is_open else None}
        found |= {"mergeable_state": pull.merge_state() if known else "unknown", "comments": len(pull.comments)}
        found |= {"additions": sum(file[1] for file in files), "deletions": sum(file[2] for file in files)}
        found |= {"commits": len(bare.commits(pull.repo.path, pull.base_sha, pull.head_sha))}
    return found


def comment_json(comment: Comment) -> dict[str, Any]:
    kind = "pull" if isinstance(comment.on, Pull) else "issues"
    url = f"{comment.repo.url}/{kind}/{comment.on.number}#issuecomment-{comment.id}"
    found = {"id": comment.id, "body": comment.body, "user": user_json(comment.author), "html_url": url}
    return {**found, "created_at": iso(comment.at), "updated_at": iso(comment.edited or comment.at)}


def review_json(review: Review) -> dict[str, Any]:
    url = f"{review.repo.url}/pull/{review.pull.number}#pullrequestreview-{review.id}"
    found = {"id": review.id, "user": user_json(review.author), "body": review.body, "state": review.state.upper()}
    return {**found, "html_url": url, "commit_id": review.sha, "submitted_at": iso(review.at)}


def check_json(check: Check) -> dict[str, Any]:
    found = {"id": check.id, "name": check.name, "head_sha": check.sha, "status": check.status}
    found |= {"conclusion": check.conclusion, "started_at": iso(check.started), "completed_at": iso(check.ended)}
    found |= {"html_url": check.url, "details_url": check.url, "app": {"slug": check.app, "name": check.app}}
    return {**found, "output": {"title": check.name, "summary": check.summary, "text": None, "annotations_count": 0}}


def status_json(status: Status) -> dict[str, Any]:
    found = {"id": status.id, "context": status.context, "state": status.state, "description": status.description}
    return {**found, "target_url": status.url, "created_at": iso(status.at), "creator": user_json(status.author)}


def job_json(check: Check) -> dict[str, Any]:
    times = [("started_at", "started"), ("completed_at", "ended")]
    steps = [
        {"number": row, "name": step["name"], "status": "completed", "conclusion": step["conclusion"]}
        | {name: iso(step[key]) for name, key in times}
        for row, step in enumerate(check.steps, 1)
    ]
    found = {"id": check.id, "run_id": check.run, "name": check.name, "head_sha": check.sha, "status": check.status}
    found |= {"conclusion": check.conclusion, "started_at": iso(check.started), "completed_at": iso(check.ended)}
    return {**found, "steps": steps, "html_url": check.url, "workflow_name": check.workflow, "run_attempt": 1}


def run_json(jobs: Sequence[Check]) -> dict[str, Any]:
    job, is_over = jobs[0], all(job.conclusion for job in jobs)
    result = ("failure" if any(job.is_failed for job in jobs) else "success") if is_over else None
    found = {
        "id": job.run,
        "name": job.workflow,
        "head_sha": job.sha,
        "status": "completed" if is_over else "in_progress",
    }
    return {**found, "conclusion": result, "html_url": f"{job.repo.url}/actions/runs/{job.run}", "run_attempt": 1}


# Routes


@route("GET", "")
def root(call: Call) -> Any:
    return {"current_user_url": f"{call.base}/user"}


@route("GET", "user")
def user(call: Call) -> Any:
    return user_json(call.user)


@route("GET", "rate_limit")
def rate_limit(call: Call) -> Any:
    if not call.hub.is_limited(call.request.host):
        raise Refused(404, "Rate limiting is not enabled.")
    found = {}
    for name in call.hub.budgets:
        budget = call.hub.budget(name == "graphql")
        limits = {"limit": budget.limit, "used": budget.used, "remaining": budget.limit - budget.used}
        found[name] = {**limits, "reset": int(budget.reset) + 1, "resource": name}
    return {"resources": found, "rate": found["core"]}


@route("GET", "{repo}")
def repo(call: Call) -> Any:
    return repo_json(call, call.repo)


@route("GET", "{repo}/issues")
def issues(call: Call) -> Any:
    """Pull requests are among them, newest first."""
    state, query = call.query.get("state", "open"), call.query
    labels = [name.lower() for name in query.get("labels", "").split(",") if name]
    key = (lambda issue: issue.updated) if query.get("sort") == "updated" else (lambda issue: issue.number)
    found = sorted(call.repo.issues.values(), key=key, reverse=query.get("direction", "desc") == "desc")
    found = [i for i in found if state in ("all", i.state) and set(labels) <= {name.lower() for name in i.labels}]
    found = [i for i in found if query.get("creator") in (None, i.author)]
    if query.get("assignee", "*") != "*":
        wanted = query["assignee"]
        found = [i for i in found if (wanted == "none" and not i.assignees) or wanted in i.assignees]
    return [issue_json(call, issue) for issue in found]


@route("POST", "{repo}/issues")
def new_issue(call: Call) -> Any:
    if not call.body.get("title"):
        raise Refused(422, "Validation Failed", {"resource": "Issue", "code": "missing_field", "field": "title"})
    if not call.repo.has_issues:
        raise Refused(410, "Issues are disabled for this repo")
    issue = call.repo.issue(call.body["title"], call.body.get("body") or "", call.user)
    if call.repo.role(call.user) != "read":
        issue.label(*call.body.get("labels", []))
        issue.edit(assignees=list(call.body.get("assignees", [])))
    return issue_json(call, issue)


@route("GET", "{repo}/issues/{n}")
def issue(call: Call) -> Any:
    return issue_json(call, call.issue)


@route("PATCH", "{repo}/issues/{n}")
def edit_issue(call: Call) -> Any:
    _edit(call, call.issue)
    return issue_json(call, call.issue)


def _edit(call: Call, issue: Issue) -> None:
    if issue.author != call.user:
        call.writes()
    issue.edit(**{name: call.body[name] for name in ("title", "body", "labels", "assignees") if name in call.body})
    state = call.body.get("state", issue.state)
    if state == "closed" and issue.state == "open":
        issue.close(call.user, call.body.get("state_reason") or "completed")
    elif state == "open" and issue.state == "closed":
        issue.reopen()


@route("GET", "{repo}/issues/{n}/comments")
def comments(call: Call) -> Any:
    return [comment_json(comment) for comment in call.issue.comments]


@route("POST", "{repo}/issues/{n}/comments")
def new_comment(call: Call) -> Any:
    return comment_json(call.issue.comment(call.body["body"], call.user))


@route("POST", "{repo}/issues/{n}/labels")
def add_labels(call: Call) -> Any:
    call.writes()
    wanted = call.body.get("labels", []) if call.body else call.request.body
    call.issue.label(*wanted)
    call.repo.labels.update(wanted)
    return Answer(200, [{"name": name} for name in call.issue.labels])


@route("POST", "{repo}/issues/{n}/assignees")
def assign(call: Call) -> Any:
    """Who may not be assigned is left out without a word."""
    wanted = [name for name in call.body["assignees"] if call.repo.role(name) != "read"]
    call.issue.edit(assignees=list(dict.fromkeys([*call.issue.assignees, *wanted])))
    return issue_json(call, call.issue)


@route("GET", "{repo}/pulls")
def pulls(call: Call) -> Any:
    """A head that is not `owner:branch` filters nothing, as on GitHub."""
    state, head, base = call.query.get("state", "open"), call.query.get("head", ""), call.query.get("base")
    found = sorted(call.repo.pulls(), key=lambda pull: -pull.number)
    found = [pull for pull in found if state in ("all", pull.state) and base in (None, pull.base)]
    if ":" in head:
        found = [p for p in found if p.head_repo and f"{p.head_repo.owner}:{p.head}" == head]
    return [pull_json(call, pull, whole=False) for pull in found]


@route("POST", "{repo}/pulls")
def new_pull(call: Call) -> Any:
    owner, _, branch = call.body["head"].rpartition(":")
    name = f"{owner or call.repo.owner}/{call.repo.name}"
    source = call.hub.find(call.request.host, name, live=True)
    wanted = {name: call.body[name] for name in ("title", "body", "base", "draft") if call.body.get(name)}
    return pull_json(call, call.repo.pull(branch, author=call.user, head_repo=source, **wanted))


@route("GET", "{repo}/pulls/{n}")
def pull(call: Call) -> Any:
    return pull_json(call, call.pull)


@route("PATCH", "{repo}/pulls/{n}")
def edit_pull(call: Call) -> Any:
    _edit(call, call.pull)
    if "base" in call.body:
        call.pull.edit(base=call.body["base"])
    return pull_json(call, call.pull)


@route("PUT", "{repo}/pulls/{n}/merge")
def merge(call: Call) -> Any:
    call.writes()
    text = "\n\n".join(filter(None, [call.body.get("commit_title"), call.body.get("commit_message")]))
    method = call.body.get("merge_method", "merge")
    if method not in call.repo.methods or len(call.body.get("sha", "0" * 40)) != 40:
        raise Refused(422, "Validation Failed")
    sha = call.pull.merge(method, call.body.get("sha", ""), call.user, text)
    return {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}


@route("GET", "{repo}/pulls/{n}/reviews")
def reviews(call: Call) -> Any:
    return [review_json(review) for review in call.pull.reviews]


@route("POST", "{repo}/pulls/{n}/reviews")
def new_review(call: Call) -> Any:
    event, body, pull = call.body.get("event", "PENDING"), call.body.get("body") or "", call.pull
    if event not in EVENTS or (event != "APPROVE" and not body and not call.body.get("comments")):
        raise Refused(422, "Unprocessable Entity", "Body can't be blank" if event in EVENTS else "invalid event")
    if pull.author == call.user and event != "COMMENT":
        raise Refused(422, "Unprocessable Entity", f"Can not {event.replace('_', ' ').lower()} your own pull request")
    review = pull.review(EVENTS[event], body, call.user)
    for said in call.body.get("comments", []):
        pull.thread(said["body"], said["path"], said.get("line"), call.user, review=review)
    return Answer(200, review_json(review))


@route("GET", "{repo}/commits/{sha}/check-runs")
def check_runs(call: Call) -> Any:
    sha = call.sha()
    found = [check_json(check) for check in call.repo.checks if check.sha == sha]
    return _page(call, f"/repos/{call.path['repo']}/commits/{sha}/check-runs", found, "check_runs")


@route("GET", "{repo}/commits/{sha}/status")
def combined_status(call: Call) -> Any:
    sha = call.sha()
    found = [status for status in call.repo.contexts(sha) if isinstance(status, Status)]
    states = {status.state for status in found}
    state = "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
    return {
        "sha": sha,
        "state": state,
        "total_count": len(found),
        "statuses": [status_json(status) for status in found],
    }


@route("GET", "{repo}/actions/runs")
def runs(call: Call) -> Any:
    wanted = call.query.get("head_sha")
    found: dict[int, list[Check]] = {}
    for check in call.repo.checks:
        if check.workflow and wanted in (None, check.sha):
            found.setdefault(check.run, []).append(check)
    rows = [run_json(jobs) for jobs in found.values()]
    return _page(call, f"/repos/{call.path['repo']}/actions/runs", rows, "workflow_runs")


@route("GET", "{repo}/actions/runs/{n}")
def run(call: Call) -> Any:
    return run_json(_jobs(call, "run"))


@route("GET", "{repo}/actions/jobs/{n}")
def job(call: Call) -> Any:
    return job_json(_jobs(call, "id")[0])


@route("GET", "{repo}/actions/jobs/{n}/logs")
def logs(call: Call) -> Any:
    check = _jobs(call, "id")[0]
    if not check.conclusion:
        raise Refused(404, "Not Found")
    return Answer(302, None, {"Location": f"https://logs.{HOST}/{call.request.host}/{call.path['repo']}/{check.id}"})


def download(hub: Hub, request: Request) -> Answer:
    """The log itself, which lies with another host and asks for no login."""
    _, host, owner, name, id = request.path.split("/")
    repo = hub.find(host, f"{owner}/{name}")
    check = next((check for check in repo.checks if str(check.id) == id), None) if repo else None
    return Answer(200, check.log(), {"Content-Type": "text/plain"}) if check else faults.refusal(404, "Not Found")


def _jobs(call: Call, key: str) -> list[Check]:
    found = [check for check in call.repo.checks if check.workflow and getattr(check, key) == int(call.path["n"])]
    return found or _one(None)


@route("GET", "{repo}/git/ref/heads/{rest}")
def ref(call: Call) -> Any:
    branch = unquote(call.path["rest"])
    return {"ref": f"refs/heads/{branch}", "object": {"type": "commit", "sha": _one(call.repo.refs.get(branch))}}


@route("DELETE", "{repo}/git/refs/heads/{rest}")
def delete_ref(call: Call) -> Any:
    call.writes()
    call.repo.delete(unquote(call.path["rest"]))
    return Answer(204)


@route("GET", "{repo}/rules/branches/{rest}")
def rules(call: Call) -> Any:
    rule, found = call.repo.protection.get(unquote(call.path["rest"])), []
    if rule and rule.checks:
        checks = [{"context": name} for name in rule.checks]
        parameters: Any = {"required_status_checks": checks, "strict_required_status_checks_policy": rule.strict}
        found.append({"type": "required_status_checks", "parameters": parameters})
    if rule and rule.reviews:
        parameters = {
            "required_approving_review_count": rule.reviews,
            "dismiss_stale_reviews_on_push": rule.dismiss_stale,
        }
        found.append({"type": "pull_request", "parameters": parameters})
    return found
