"""Pull requests from other repositories: how a branch comes here from a fork, and what is pushed gets back there.

Everything about them was written by others, so the fork's URL is made of its name and of how origin is reached.
"""

from __future__ import annotations

from lib import gh, git
from lib.config import Project
from lib.errors import AoError
from lib.scm import Pull, _github_query

FORK = "ao-pr-"  # and the number: the remote of a pull request from another repository


def remote(pull: Pull) -> str:
    return f"{FORK}{pull['number']}" if pull.get("from_fork") else "origin"


def tracked(pull: Pull) -> str:
    return f"refs/remotes/{remote(pull)}/{pull['branch']}"


def source(home: str, project: Project, pull: Pull, what: str) -> gh.Repo:
    """The other repository that a pull request comes from. AoError when one may not push to its branch there."""
    repo = gh.repository(project)
    name, may_push = _github_query.source(home, repo, pull["number"])
    found = gh.parse(f"https://{repo.host}/{name}")
    if found is None or not may_push:
        whose = f"another repository, '{found}', and you may not push to it" if found else "a repository that is gone"
        raise AoError(f"{what}: its branch is in {whose}")
    return found


def name_here(project: Project, pull: Pull, fork: gh.Repo, what: str) -> str:
    """What a fork's branch is called here: forks use the names of this repository's branches too, such as `main`."""
    path, branch = project.path, pull["branch"]
    for name in (branch, f"{fork.owner}-{branch}"):
        refs = (git.HEADS + name, f"refs/remotes/origin/{name}")
        is_free = name != pull["base_branch"] and not any(git.commit(path, ref) for ref in refs)
        if is_free or _pushed_to(project, name) == remote(pull):
            return name
    raise AoError(f"{what}: there are other branches '{branch}' and '{name}'")


def lead_to(project: Project, fork: gh.Repo, pull: Pull, name: str) -> None:
    """Make a plain `git push` on the branch `name`, whatever `push.default` is, arrive in the fork.

    Each pull request has a remote of its own: all that a remote's refspecs name is pushed at once.
    """
    through, theirs = remote(pull), git.HEADS + pull["branch"]
    origin = git.out(project.path, "remote", "get-url", "--push", "origin")
    settings = {
        f"remote.{through}.url": gh.spelled_like(origin, fork),
        f"remote.{through}.fetch": f"+{theirs}:{tracked(pull)}",
        f"remote.{through}.push": f"{git.HEADS}{name}:{theirs}",
        f"branch.{name}.pushRemote": through,
    }
    for key, value in settings.items():
        git.out(project.path, "config", key, value, limit="git-write")


def forget(home: str, project: Project, branch: str) -> None:
    """Remove what `lead_to` has made for a branch that is gone: a new one of its name is pushed elsewhere."""
    with git.changing(home, project.path):
        through = _pushed_to(project, branch)
        if through.startswith(FORK):
            git.run(project.path, "remote", "remove", through, limit="git-write")


def _pushed_to(project: Project, branch: str) -> str:
    return git.run(project.path, "config", f"branch.{branch}.pushRemote").out.strip()
