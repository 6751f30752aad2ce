"""The GitHub of the tests, asked by the real `gh` and pushed to by the real git."""

from __future__ import annotations

import json
import subprocess

import forging
import github
import pytest
from github import queries
from graphql import parse

LOOK = "mergeable mergeStateStatus"


def gh(*args, host=github.HOST, code=0):
    """What `gh api` prints."""
    argv = ["gh", "api", "--hostname", host, *args]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, (args, done)
    return done.stdout + (done.stderr if code else "")


def rest(path, *args, **options):
    return json.loads(gh(f"repos/acme/widgets{path}", *args, **options))


def query(text, **options):
    return json.loads(gh("graphql", "-f", f"query={text}", **options))


def look(fields=LOOK, number=1):
    """Fields of a pull request, by GraphQL."""
    text = f'{{ repository(owner: "acme", name: "widgets") {{ pullRequest(number: {number}) {{ {fields} }} }} }}'
    return query(text)["data"]["repository"]["pullRequest"]


def a_pull(repo, branch="feat/b", files=None, **options):
    repo.commit(branch, files or {"b.txt": "new\n"}, "add b")
    return repo.pull(branch, **options)


def test_work_goes_from_a_clone_over_a_pull_request_into_the_base(hub, tmp_path):
    repo, clone = hub.repo(), str(tmp_path / "clone")
    repo.issue("It is missing", labels=["bug"])
    forging.git(str(tmp_path), "clone", "--quiet", "git@github.localhost:acme/widgets.git", clone)
    forging.git(clone, "switch", "--quiet", "-c", "feat/b")
    head = forging.commit(clone, "b.txt", "new\n", "add b")
    forging.git(clone, "push", "--quiet", "origin", "feat/b")
    body = ("-f", "title=Add b", "-f", "body=Closes #1", "-f", "head=feat/b", "-f", "base=main")
    made = rest("/pulls", *body)
    assert (made["number"], made["head"]["sha"], made["user"]["login"]) == (2, head, "me")
    assert look("headRefOid additions", number=2) == {"headRefOid": head, "additions": 1}

    later = forging.commit(clone, "b.txt", "newer\n", "mend b")
    forging.git(clone, "push", "--quiet", "origin", "feat/b")
    assert look("headRefOid", number=2) == {"headRefOid": later}
    merging = ("-X", "PUT", "-f", "merge_method=squash", "-f")
    assert "Head branch was modified" in gh("repos/acme/widgets/pulls/2/merge", *merging, f"sha={head}", code=1)
    assert rest("/pulls/2/merge", *merging, f"sha={later}")["merged"]
    gh("-X", "DELETE", "repos/acme/widgets/git/refs/heads/feat/b")
    forging.git(clone, "fetch", "--quiet", "--prune")
    assert forging.git(clone, "show", "origin/main:b.txt") == "newer"
    assert forging.git(clone, "branch", "--remotes", "--list", "*feat*") == ""
    assert rest("/issues/1")["state"] == "closed"
    assert "not mergeable" in gh("repos/acme/widgets/pulls/2/merge", *merging, f"sha={later}", code=1)


@pytest.mark.parametrize(("method", "parents", "count"), [("merge", 2, 4), ("squash", 1, 3), ("rebase", 1, 3)])
def test_each_method_makes_its_commits(hub, method, parents, count):
    repo = hub.repo()
    pull = a_pull(repo)
    repo.commit("main", {"c.txt": "other\n"})
    sha = rest("/pulls/1/merge", "-X", "PUT", "-f", f"sha={pull.head_sha}", "-f", f"merge_method={method}")["sha"]
    assert repo.refs["main"] == sha
    assert len(forging.git(repo.path, "log", "-1", "--format=%P", "main").split()) == parents
    assert len(forging.git(repo.path, "rev-list", "main").split()) == count


def test_after_a_push_mergeability_is_unknown_for_some_looks(hub):
    hub.unknown_looks, repo = 2, hub.repo()
    pull = a_pull(repo)
    assert [look()["mergeable"] for _ in range(3)] == ["UNKNOWN", "UNKNOWN", "MERGEABLE"]
    repo.commit("main", {"b.txt": "theirs\n"})
    assert [rest("/pulls/1")["mergeable"] for _ in range(3)] == [None, None, False]
    assert look() == {"mergeable": "CONFLICTING", "mergeStateStatus": "DIRTY"}
    repo.commit(pull.head, {"d.txt": "more\n"})
    assert look() == {"mergeable": "UNKNOWN", "mergeStateStatus": "UNKNOWN"}


def test_the_state_of_a_merge_follows_protection_checks_and_reviews(hub):
    repo = hub.repo()
    pull = a_pull(repo)
    states = []

    def see():
        states.append(look()["mergeStateStatus"])

    see()
    repo.check(pull, "test", "in_progress")
    see()
    repo.protect(checks=["test", "lint"], reviews=1, strict=True)
    see()
    refused = gh("repos/acme/widgets/pulls/1/merge", "-X", "PUT", code=1)
    assert 'Required status check "test" is in progress.' in refused
    repo.check(pull, "test")
    repo.status(pull, "lint")
    review = pull.review("approved")
    see()
    repo.commit("main", {"c.txt": "other\n"})
    see()
    review.dismiss()
    see()
    pull.ready(is_draft=True)
    see()
    assert states == ["CLEAN", "UNSTABLE", "BLOCKED", "CLEAN", "BEHIND", "BLOCKED", "DRAFT"]


def test_checks_threads_and_reviews_are_seen_with_their_authors(hub):
    repo = hub.repo()
    pull = a_pull(repo)
    for number in range(130):
        repo.check(pull, f"test-{number}", "failure" if number == 129 else "success")
    first = pull.thread("why?", path="b.txt", line=1, author="bugbot[bot]")
    first.comments[0].edit("why so?")
    pull.review("changes_requested", "no", author="ada")
    contexts = (
        "statusCheckRollup { state contexts(first: 100%s) { pageInfo { hasNextPage endCursor } nodes { __typename \
... on CheckRun { name conclusion isRequired(pullRequestNumber: 1) } } } }"
    )
    page = look(contexts % "")["statusCheckRollup"]
    assert page["state"] == "FAILURE" and page["contexts"]["pageInfo"] == {"hasNextPage": True, "endCursor": "100"}
    rest_of_them = look(contexts % ', after: "100"')["statusCheckRollup"]["contexts"]["nodes"]
    failed = {"__typename": "CheckRun", "name": "test-129", "conclusion": "FAILURE", "isRequired": False}
    assert len(rest_of_them) == 30 and rest_of_them[-1] == failed
    said = look("""reviewThreads(first: 9) { nodes { id isResolved comments(first: 9) { nodes {
        body author { __typename login } } } } }
        latestOpinionatedReviews(first: 9) { nodes { state author { login } } }""")
    (thread,) = said["reviewThreads"]["nodes"]
    assert thread["comments"]["nodes"] == [{"body": "why so?", "author": {"__typename": "Bot", "login": "bugbot"}}]
    assert said["latestOpinionatedReviews"]["nodes"] == [{"state": "CHANGES_REQUESTED", "author": {"login": "ada"}}]
    query(f'mutation {{ resolveReviewThread(input: {{threadId: "{thread["id"]}"}}) {{ thread {{ isResolved }} }} }}')
    assert first.resolved_by == "me"


def test_the_log_of_a_job_lies_behind_a_redirect(hub):
    repo = hub.repo()
    check = repo.check(a_pull(repo), "test", "failure", log={"Build": "fine", "Unit tests": "\x1b[31mboom\x1b[0m"})
    log = gh(f"repos/acme/widgets/actions/jobs/{check.id}/logs")
    assert (
        "##[group]Unit tests" in log
        and "Z \x1b[31mboom" in log
        and log.rstrip().endswith("Cleaning up orphan processes")
    )
    steps = {step["name"]: step["conclusion"] for step in rest(f"/actions/jobs/{check.id}")["steps"]}
    assert (steps["Build"], steps["Unit tests"], steps["Complete job"]) == ("success", "failure", "success")
    other = repo.check(repo.pulls()[0], "scan", "failure", app="scanner")
    gh(f"repos/acme/widgets/actions/jobs/{other.id}/logs", code=1)
    hub.problems.clear()


def test_issues_come_in_pages_with_pull_requests_among_them(hub):
    repo = hub.repo()
    a_pull(repo)
    for number in range(40):
        repo.issue(f"Issue {number}", labels=["bug"] if number % 2 else [])
    numbers = gh("repos/acme/widgets/issues?per_page=15", "--paginate", "--jq", ".[].number").split()
    assert len(numbers) == 41 and len(hub.asked("GET", "page=")) == 3
    assert len(rest("/issues?labels=bug&per_page=100")) == 20
    made = rest("/issues", "-f", "title=New", "-f", "labels[]=bug", "-f", "assignees[]=me")
    gh(f"repos/acme/widgets/issues/{made['number']}/comments", "-f", "body=hello")
    closed = rest(f"/issues/{made['number']}", "-X", "PATCH", "-f", "state=closed")
    assert (closed["comments"], closed["state"], closed["labels"]) == (1, "closed", [{"name": "bug"}])


def test_an_unchanged_answer_costs_nothing(hub):
    hub.repo()
    tag = gh("-i", "repos/acme/widgets").split("Etag: ")[1].split("\n")[0].strip()
    before = hub.points(graphql=False)
    assert "HTTP 304" in gh("repos/acme/widgets", "-H", f"If-None-Match: {tag}", code=1)
    assert hub.points(graphql=False) == before


def test_a_query_costs_what_github_s_rule_says():
    """The example of GitHub's documentation: 1 + 100 + 5000 requests, which are 51 points."""
    text = """query($n: Int!) { viewer { repositories(first: $n) { edges { repository: node {
        issues(first: 50) { edges { node { labels(first: 60) { edges { node { name } } } } } } } } } } }"""
    points, nodes, errors = queries.price(parse(text), {"n": 100})
    assert (points, nodes, errors) == (51, 100 + 5000 + 300_000, ())
    unbounded = parse("{ viewer { repositories { nodes { name } } issues(first: 101) { totalCount } } }")
    assert len(queries.price(unbounded, {})[2]) == 2


def test_the_budget_ends_and_comes_back(hub):
    hub.repo()
    hub.leave(1, reset_in=3600)
    assert query("{ rateLimit { cost remaining } }")["data"]["rateLimit"] == {"cost": 1, "remaining": 0}
    assert "RATE_LIMITED" in gh("graphql", "-f", "query={ viewer { login } }", code=1)
    hub.leave(0, reset_in=-1)
    assert query("{ viewer { login } }")["data"]["viewer"] == {"login": "me"}
    hub.leave(0, graphql=False)
    refused = gh("-i", "repos/acme/widgets", code=1)
    assert "HTTP/1.1 403" in refused and "X-Ratelimit-Remaining: 0" in refused and "rate limit exceeded" in refused


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("unauthorized", {}, "Bad credentials (HTTP 401)"),
        ("rate_limit", {"seconds": 9}, "X-Ratelimit-Reset"),
        ("secondary", {"seconds": 9}, "Retry-After: 9"),
        ("server_error", {}, "HTTP 500"),
        ("bad_gateway", {}, "HTTP 502"),
        ("status", {"status": 422, "message": "no"}, "no (HTTP 422)"),
        ("hang", {"seconds": 0.1}, "EOF"),
        ("cut", {}, "unexpected EOF"),
    ],
)
def test_a_fault_strikes_as_often_as_it_should(hub, kind, options, said):
    hub.repo()
    fault = hub.fail(kind, on="GET .*/widgets$", **options)
    gh("user")
    assert said in gh("-i", "repos/acme/widgets", code=1)
    gh("repos/acme/widgets")
    assert fault.hits == 1


def test_a_truncated_answer_is_no_error_of_gh_s(hub):
    hub.repo()
    hub.fail("truncated")
    with pytest.raises(ValueError, match=r"line 1 column"):
        json.loads(gh("repos/acme/widgets"))


def test_an_effect_may_happen_although_its_answer_is_lost(hub):
    issue = hub.repo().issue("It is missing")
    hub.fail("bad_gateway", on="POST .*/comments", done=True)
    hub.fail("server_error", on="POST .*/comments")
    for _ in range(2):
        gh("repos/acme/widgets/issues/1/comments", "-f", "body=hello", code=1)
    assert len(issue.comments) == 1


def test_one_bad_alias_leaves_the_others(hub):
    repo = hub.repo()
    a_pull(repo)
    text = '{ repository(owner: "acme", name: "widgets") { %s } }'
    hub.fail("partial", alias="a")
    answer = gh(
        "graphql",
        "-f",
        "query=" + text % "a: pullRequest(number: 1) { number } b: pullRequest(number: 1) { number }",
        code=1,
    )
    assert '"a": null' in answer and '"b": {"number": 1}' in answer and "Something went wrong" in answer
    answer = gh(
        "graphql",
        "-f",
        "query=" + text % "c: pullRequest(number: 1) { number } d: pullRequest(number: 9) { number }",
        code=1,
    )
    assert '"c": {"number": 1}' in answer and '"NOT_FOUND"' in answer


def test_nonsense_is_refused_and_noted(hub):
    hub.repo()
    assert "Cannot query field" in gh("graphql", "-f", "query={ viewer { loggin } }", code=1)
    gh("repos/acme/widgets/nothing", code=1)
    assert len(hub.problems) == 2
    hub.problems.clear()


def test_answers_may_lag_behind(hub):
    repo = hub.repo()
    pull = a_pull(repo)
    hub.lag(looks=2)
    pull.close()
    assert [look("state")["state"] for _ in range(3)] == ["OPEN", "OPEN", "CLOSED"]
    hub.lag(seconds=3600)
    pull.reopen()
    assert look("state") == {"state": "CLOSED"} and pull.is_open
    hub.lag()
    assert look("state") == {"state": "OPEN"}


def test_a_fork_may_have_a_branch_of_the_same_name(hub, tmp_path):
    repo = hub.repo()
    own, fork = a_pull(repo), repo.fork("stranger")
    fork.commit("feat/b", {"b.txt": "theirs\n"})
    theirs = repo.pull("feat/b", author="stranger", head_repo=fork)
    assert own.head_sha != theirs.head_sha
    fields = "number isCrossRepository headRepositoryOwner { login }"
    found = query(
        f'{{ repository(owner: "acme", name: "widgets") {{ pullRequests(first: 9, headRefName: "feat/b") {{ nodes \
{{ {fields} }} }} }} }}'
    )["data"]["repository"]["pullRequests"]["nodes"]
    assert [(one["isCrossRepository"], one["headRepositoryOwner"]["login"]) for one in found] == [
        (False, "acme"),
        (True, "stranger"),
    ]
    forging.git(str(tmp_path), "clone", "--quiet", fork.remote, "clone")
    with pytest.raises(subprocess.CalledProcessError):
        forging.git(str(tmp_path / "clone"), "push", "origin", "main:new")
    forging.git(str(tmp_path / "clone"), "fetch", "--quiet", repo.remote, f"refs/pull/{theirs.number}/head")


def test_a_branch_that_goes_takes_its_pull_request_along(hub):
    repo = hub.repo()
    renamed, deleted = a_pull(repo), a_pull(repo, "feat/c", {"c.txt": "new\n"})
    repo.rename("feat/b", "feat/new")
    repo.delete("feat/c")
    assert not renamed.is_open and not deleted.is_open
    assert "Validation Failed" in gh("repos/acme/widgets/pulls/2", "-X", "PATCH", "-f", "state=open", code=1)


def test_an_enterprise_host_has_its_own_paths_repositories_and_no_budget(hub):
    hub.repo()
    repo = hub.repo("corp/tools", github.ENTERPRISE)
    assert json.loads(gh("repos/corp/tools", host=github.ENTERPRISE))["full_name"] == "corp/tools"
    assert query("{ viewer { login } rateLimit { cost } }", host=github.ENTERPRISE)["data"]["rateLimit"] is None
    gh("repos/corp/tools", code=1)
    assert forging.git(hub.folder, "ls-remote", f"git@{github.ENTERPRISE}:corp/tools.git", "HEAD").startswith(
        repo.refs["main"]
    )
    assert {request.path for request in hub.requests if request.host == github.ENTERPRISE} > {
        "/api/v3/repos/corp/tools",
        "/api/graphql",
    }


def test_nothing_leaves_the_machine(hub):
    gh("user", host="github.com", code=1)
    with pytest.raises(subprocess.CalledProcessError):
        forging.git(hub.folder, "ls-remote", "https://github.com/acme/widgets.git")
    assert hub.problems == ["a request to GET github.com/user"]
    hub.problems.clear()
