"""Issues at GitHub, through `gh`. Its pull requests are numbered with them and are none."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from lib import config, gh
from lib.config import Project
from lib.errors import AoError
from lib.tracker import Issue

PAGE = 100


def get(home: str, project: Project, id: str) -> Issue:
    """One issue by `12` or `#12`; AoError when there is none."""
    found = _ask(home, project, id)
    if "pull_request" in found:
        raise AoError(f"'{id}' is a pull request and no issue; see: ao-pr {id}")
    return _issue(found)


def list(
    home: str, project: Project, state: str = "open", labels: Sequence[str] = (), limit: int = 30
) -> builtins.list[Issue]:
    """Issues in order of their number that have all of `labels`; state is open, closed or all."""
    repo, found, page = _repository(project), builtins.list[Issue](), 0
    while len(found) < limit:
        page += 1
        query = f"?state={state}&labels={quote(','.join(labels))}&sort=created&direction=asc"
        entries = gh.ask(home, repo.host, repo.path("issues") + f"{query}&per_page={PAGE}&page={page}")
        found += [_issue(entry) for entry in entries if "pull_request" not in entry]
        if len(entries) < PAGE:
            break
    return found[:limit]


def create(home: str, project: Project, title: str, body: str, labels: Sequence[str] = ()) -> Issue:
    """Goal-state: what is open already, by a process that died before it knew, is not written again."""
    repo, fields = _repository(project), {"title": title, "body": body, "labels": builtins.list(labels)}
    path, me = repo.path("issues"), quote(gh.login(home, repo.host))
    mine = gh.ask(home, repo.host, f"{path}?creator={me}&state=open&sort=created&direction=desc&per_page=10")
    for one in (one for one in mine if "pull_request" not in one):
        if (one["title"].strip(), (one["body"] or "").strip()) == (title.strip(), body.strip()):
            return _issue(one)
    return _issue(gh.ask(home, repo.host, path, "POST", fields))


def close(home: str, project: Project, id: str) -> None:
    """Goal-state: an issue that is closed already stays so."""
    _ask(home, project, id, "PATCH", state="closed")


def reopen(home: str, project: Project, id: str) -> None:
    """Goal-state, like close."""
    _ask(home, project, id, "PATCH", state="open")


def assign(home: str, project: Project, id: str) -> None:
    """Goal-state: assign it to whom `gh` is logged in as."""
    login = gh.login(home, _repository(project).host)
    found = _issue(_ask(home, project, id, "POST", "assignees", assignees=[login]))
    if login not in found.assignees:  # GitHub leaves out without a word who may not be assigned
        raise AoError(f"cannot assign issue '{id}' to '{login}': at '{_repository(project)}' you are no collaborator")


def label(home: str, project: Project, id: str, labels: Sequence[str]) -> None:
    """Goal-state: give it these labels too."""
    _ask(home, project, id, "POST", "labels", labels=builtins.list(labels))


def comment(home: str, project: Project, id: str, text: str) -> None:
    """Goal-state: what was said already, by a process that died before it knew, is not said again."""
    me, last = gh.login(home, _repository(project).host), _ask(home, project, id)["comments"]
    page = f"comments?per_page={PAGE}&page={max(1, -(-last // PAGE))}"
    found = _ask(home, project, id, "GET", page)  # by nobody where an account is gone
    mine = [one["body"].strip() for one in found if (one["user"] or {}).get("login") == me]
    if text.strip() not in mine[-1:]:
        _ask(home, project, id, "POST", "comments", body=text)


def program(project: Project) -> str | None:
    return "gh"


def _repository(project: Project) -> gh.Repo:
    return gh.repository(project, config.setting(project, "tracker_repo"))


def _ask(home: str, project: Project, id: str, method: str = "GET", part: str = "", **fields: Any) -> Any:
    """Ask about one issue; AoError when there is none of that number."""
    number, repo = id.strip().removeprefix("#"), _repository(project)
    if not number.isascii() or not number.isdigit():
        raise AoError(f"not an issue number: '{id}'; see: ao-issue list")
    path = repo.path("issues", int(number)) + (f"/{part}" if part else "")
    try:
        return gh.ask(home, repo.host, path, method, fields or None)
    except gh.Refused as error:
        if error.status in (404, 410):
            raise AoError(f"there is no issue '{id}' in '{repo}'; see: ao-issue list") from error
        raise


def _issue(found: dict[str, Any]) -> Issue:
    return Issue(
        str(found["number"]),
        found["title"],
        found["body"] or "",
        found["html_url"],
        found["state"],
        [label["name"] for label in found["labels"]],
        [user["login"] for user in found["assignees"]],
        (found["milestone"] or {}).get("title") or "",
        found["comments"],
    )
