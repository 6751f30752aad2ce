"""What is asked of GitHub about pull requests: many in one request, and the rest of what has more than a page.

A request costs a point for each hundred connections that it names, so comments, of which there are many, are asked for
by the ids of the threads that are open and of the pull requests that are talked about. An error about a part makes that
pull request unknown and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from lib import gh
from lib.errors import AoError, Unknown

PAGES = 20  # of one thing; more means that something is wrong
Raw = dict[str, Any]  # as GitHub shows it, with `checks` and `threads` as whole lists

PAGE = "pageInfo { hasNextPage endCursor }"
REVIEW = (
    "nodes { id state body url submittedAt lastEditedAt viewerDidAuthor author { __typename login } commit { oid } }"
)
COMMENTS = "nodes { id state body url lastEditedAt viewerDidAuthor isMinimized diffHunk author { __typename login } }"
REMARKS = "nodes { id body url createdAt lastEditedAt viewerDidAuthor isMinimized authorAssociation \
author { __typename login } }"
THREADS = f"reviewThreads(first: 100, after: $after) {{ {PAGE} nodes {{ id isResolved }} }}"
CHECKS = """commits(last: 1) { nodes { commit { oid statusCheckRollup { contexts(first: 100, after: $after) { %s nodes {
  __typename
  ... on CheckRun { name status conclusion detailsUrl startedAt isRequired(pullRequestNumber: %d) %s
    checkSuite { workflowRun { workflow { name } } } }
  ... on StatusContext { context state targetUrl createdAt isRequired(pullRequestNumber: %d) %s }
} } } } } }"""
PULL = f"""id number url title isDraft state isCrossRepository headRefName headRefOid baseRefName baseRefOid updatedAt
  mergeable mergeStateStatus reviewDecision additions deletions totalCommentsCount author {{ __typename login }}
  latestOpinionatedReviews(first: 100, writersOnly: true) {{ {REVIEW} }}
  reviews(last: 100, states: [COMMENTED, CHANGES_REQUESTED]) {{ {REVIEW} }}"""
SOURCE = "maintainerCanModify headRepository { nameWithOwner viewerPermission isArchived }"
WRITERS = ("ADMIN", "MAINTAIN", "WRITE")
CANDIDATES = "nodes { number state isCrossRepository headRefName headRefOid }"


class Found(NamedTuple):
    """What one request answered."""

    pulls: dict[int, Raw]
    missing: list[int]
    branches: dict[str, list[Raw]]
    unknown: dict[int | str, AoError]  # why the rest could not be told, by number or branch
    points: int


def batch(home: str, repo: gh.Repo, items: Sequence[int | str]) -> Found:
    """Pull requests by number, and candidates by the name of their branch, newest first. Raises Unknown."""
    numbers, branches = [one for one in items if isinstance(one, int)], [one for one in items if isinstance(one, str)]
    parts = [f"p{number}: pullRequest(number: {number}) {{ {PULL} {_unpaged(number)} }}" for number in numbers]
    parts += [
        f"b{place}: pullRequests(headRefName: $b{place}, first: 10, orderBy: {{field: CREATED_AT, direction: DESC}}) "
        f"{{ {CANDIDATES} }}"
        for place in range(len(branches))
    ]
    names = {f"b{place}": branch for place, branch in enumerate(branches)}
    data, broken, points = _ask(home, repo, " ".join(parts), names)
    found = Found({}, [], {}, {}, 0)
    for number in numbers:
        raw, error = data.get(f"p{number}"), broken.get(f"p{number}")
        try:
            if not raw and error and error.get("type") == "NOT_FOUND":
                found.missing.append(number)
                continue
            if error or not raw:
                raise _not_shown(f"pull request {number}", error)
            points += _complete(home, repo, raw)
            found.pulls[number] = raw
        except AoError as problem:
            found.unknown[number] = problem
    for alias, branch in names.items():
        if data.get(alias) and alias not in broken:
            found.branches[branch] = data[alias]["nodes"]
        else:
            found.unknown[branch] = _not_shown(f"the pull requests of '{branch}'", broken.get(alias))
    return found._replace(points=points)


def checks(home: str, repo: gh.Repo, number: int) -> list[Raw]:
    """The checks of a pull request's head with what they say of themselves."""
    raw: Raw = {"number": number}
    _read_pages(home, repo, raw, "checks", _checks(number, "title summary text", "description"), None)
    return list(raw["checks"])


def source(home: str, repo: gh.Repo, number: int) -> tuple[str, bool]:
    """Where a pull request comes from, `owner/name` or "" when that is gone, and whether one may push to its branch."""
    parts = f"viewerPermission p: pullRequest(number: {number}) {{ {SOURCE} }}"
    data, broken, _ = _ask(home, repo, parts, {})
    if broken or not data.get("p"):
        raise _not_shown(f"where pull request {number} comes from", next(iter(broken.values()), None))
    head = data["p"]["headRepository"] or {"nameWithOwner": "", "viewerPermission": None, "isArchived": True}
    is_let_in = data["p"]["maintainerCanModify"] and data["viewerPermission"] in WRITERS
    return head["nameWithOwner"], (is_let_in or head["viewerPermission"] in WRITERS) and not head["isArchived"]


def talks(home: str, repo: gh.Repo, ids: Sequence[str]) -> tuple[dict[str, Raw], int]:
    """The comments of up to 100 threads and pull requests, by the ids of these, and what it cost. Raises Unknown."""
    text = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on PullRequestReviewThread {{ id isResolved path line \
originalLine comments(last: 50) {{ {COMMENTS} }} }} ... on PullRequest {{ id comments(last: 50) {{ {REMARKS} }} }} }} \
rateLimit {{ cost }} }}"
    data, errors = gh.graphql(home, repo.host, text, {"ids": list(ids)})
    for error in errors:
        if error.get("type") != "NOT_FOUND":  # one that is gone is no failure
            raise _not_shown("all comments", error)
    return {raw["id"]: raw for raw in data["nodes"] if raw}, _cost(data)


def _ask(home: str, repo: gh.Repo, parts: str, more: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Raw], int]:
    """The repository's data, the errors of the aliases whose data is not whole, and the cost."""
    types = "".join(f", ${key}: String!" for key in more if key != "after") + ", $after: String" * ("$after" in parts)
    text = f"query($owner: String!, $name: String!{types}) {{ repository(owner: $owner, name: $name) {{ {parts} }} \
rateLimit {{ cost }} }}"
    data, errors = gh.graphql(home, repo.host, text, {"owner": repo.owner, "name": repo.name, **more})
    whole = [error for error in errors if len(error.get("path") or ()) < 2]
    if whole or not data.get("repository"):
        raise _not_shown(f"'{repo.owner}/{repo.name}'", (whole or errors or [None])[0])
    return data["repository"], {str(error["path"][1]): error for error in errors}, _cost(data)


def _not_shown(what: str, error: Raw | None) -> Unknown:
    """Why GitHub does not show something. NoAnswer where it may have been asked for too much at once."""
    error = error or {}
    kind = gh.NoAnswer if error.get("type") in (None, "RESOURCE_LIMITS_EXCEEDED") else Unknown
    place = ".".join(str(part) for part in (error.get("path") or ())[2:])
    return kind(f"GitHub does not show {what}: {error.get('message') or 'nothing'}" + f" ({place})" * bool(place))


def _cost(data: dict[str, Any]) -> int:
    return int((data.get("rateLimit") or {}).get("cost") or 1)


def _checks(number: int, of_run: str, of_status: str) -> str:
    return CHECKS % (PAGE, number, of_run, number, of_status)


def _unpaged(number: int) -> str:
    return (_checks(number, "", "") + THREADS).replace(", after: $after", "")


def _contexts(raw: Raw) -> Raw:
    """The page of checks; no checks at all where there are none. Unknown while GitHub shows those of another head."""
    commit = raw["commits"]["nodes"][0]["commit"] if raw["commits"]["nodes"] else {}
    if raw.get("headRefOid") not in (None, commit.get("oid")):
        raise Unknown("the head has just changed")
    found: Raw = (commit.get("statusCheckRollup") or {}).get("contexts") or {"nodes": [], "pageInfo": {}}
    return found


CONNECTIONS: dict[str, Callable[[Raw], Raw]] = {"checks": _contexts, "threads": lambda raw: raw["reviewThreads"]}


def _complete(home: str, repo: gh.Repo, raw: Raw) -> int:
    """Make `checks` and `threads` of a pull request whole lists; what it cost beyond the first page."""
    points = 0
    for key, query in (("checks", _checks(raw["number"], "", "")), ("threads", THREADS)):
        page = CONNECTIONS[key](raw)
        raw[key] = list(page["nodes"])
        if page["pageInfo"].get("hasNextPage"):
            points += _read_pages(home, repo, raw, key, query, page["pageInfo"]["endCursor"])
    return points


def _read_pages(home: str, repo: gh.Repo, raw: Raw, key: str, query: str, after: str | None) -> int:
    """Add the pages behind `after` to `raw[key]`; what they cost."""
    points = 0
    for _ in range(PAGES):
        alias = f"p{raw['number']}"
        text = f"{alias}: pullRequest(number: {raw['number']}) {{ headRefOid {query} }}"
        data, broken, cost = _ask(home, repo, text, {"after": after})
        if broken or not data.get(alias) or raw.get("headRefOid") not in (None, data[alias]["headRefOid"]):
            raise Unknown(f"pull request {raw['number']} could not be shown whole")
        page, points = CONNECTIONS[key](data[alias]), points + cost
        raw.setdefault(key, []).extend(page["nodes"])
        after = page["pageInfo"].get("endCursor")
        if not page["pageInfo"].get("hasNextPage"):
            return points
    raise Unknown(f"pull request {raw['number']} has no end of {key}")
