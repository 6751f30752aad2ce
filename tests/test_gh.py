"""Where a project is at GitHub, and what an answer of gh means."""

from __future__ import annotations

import os

import forging
import github
import hubbing
import pytest

from lib import config, gh
from lib.errors import AoError, Unknown
from lib.scm import _github_pace as pace


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("git@github.com:acme/shop.git", "github.com/acme/shop"),
        ("github.com:acme/shop", "github.com/acme/shop"),
        ("ssh://git@ghe.example.org:2222/acme/shop.git", "ghe.example.org/acme/shop"),
        ("git+ssh://git@ghe.example.org/acme/shop", "ghe.example.org/acme/shop"),
        ("ssh://git@ssh.github.com:443/acme/shop.git", "github.com/acme/shop"),
        ("https://github.com/acme/shop", "github.com/acme/shop"),
        ("https://ann@github.com/acme/shop.git/", "github.com/acme/shop"),
        ("https://ann:secret@GHE.example.org:8443/acme/my.shop.git", "ghe.example.org/acme/my.shop"),
        ("git://github.com/acme/shop.git", "github.com/acme/shop"),
        ("acme/shop", "github.com/acme/shop"),
        ("ghe.example.org/acme/shop", "ghe.example.org/acme/shop"),
    ],
)
def test_a_repository_is_known_in_every_spelling(text, repo):
    assert str(gh.parse(text)) == repo


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/srv/git/shop.git",
        "../shop",
        "file:///srv/git/shop.git",
        "https://github.com/acme",
        "https://github.com/acme/shop/pulls",
        "-oProxyCommand=x/shop",
        "git@-evil:acme/shop",
        "https://github.com/-acme/shop",
        "https://github.com/acme/--hostname=evil",
        "https://github.com/acme/..",
        "git@github.com:acme/shop;rm -rf",
    ],
)
def test_what_names_no_repository_is_none_and_never_an_option_or_a_path(text):
    """F56"""
    assert gh.parse(text) is None


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("git@github.com:acme/shop.git", "git@github.com:ann/shed.git"),
        ("work:acme/shop", "work:ann/shed.git"),
        ("ssh://git@ghe.example.org:2222/acme/shop.git", "ssh://git@ghe.example.org:2222/ann/shed.git"),
        ("https://github.com/acme/shop", "https://github.com/ann/shed.git"),
        ("HTTPS://ann:secret@ghe.example.org:8443/acme/shop.git/", "HTTPS://ghe.example.org:8443/ann/shed.git"),
        ("https://token@github.com/acme/shop", "https://github.com/ann/shed.git"),
    ],
)
def test_a_fork_is_reached_as_origin_is_and_no_token_is_copied(origin, url):
    """F56"""
    assert gh.spelled_like(origin, gh.Repo("github.com", "ann", "shed")) == url


def test_a_fork_of_what_is_not_at_github_is_nowhere():
    with pytest.raises(AoError, match="does not say where"):
        gh.spelled_like("/srv/git/shop.git", gh.Repo("github.com", "ann", "shed"))


def test_a_name_that_could_be_read_as_more_is_quoted():
    """F56: gh fills in {owner} and :branch in what it is asked for."""
    repo = gh.Repo("h", "acme", "shop")
    assert repo.path("git/ref/heads", "feat/{owner}:branch?x#y") == (
        "repos/acme/shop/git/ref/heads/feat/%7Bowner%7D%3Abranch%3Fx%23y"
    )


@pytest.mark.parametrize(
    "spelling", ["git@%s:acme/widgets.git", "ssh://git@%s:22/acme/widgets", "https://me@%s/acme/widgets"]
)
def test_a_project_is_where_its_origin_is_also_at_an_enterprise_host(hub, home, tmp_path, spelling):
    world = hubbing.make(hub, home, tmp_path)
    world.local.git("remote", "set-url", "origin", spelling % github.ENTERPRISE)
    found = gh.repository(world.local.project)
    assert str(found) == f"{github.ENTERPRISE}/acme/widgets"
    hub.repo("acme/widgets", github.ENTERPRISE).issue("One")
    assert [one["title"] for one in gh.ask(home, found.host, found.path("issues"))] == ["One"]
    hubbing.configure(world.local, repo="github.localhost/acme/widgets")
    assert gh.repository(world.local.project).host == github.HOST


def test_an_alias_of_a_remote_is_followed(hub, home, tmp_path):
    world = hubbing.make(hub, home, tmp_path)
    world.local.git("config", f"url.https://{github.HOST}/.insteadOf", "hub:")
    world.local.git("remote", "set-url", "origin", "hub:acme/widgets")
    assert str(gh.repository(world.local.project)) == f"{github.HOST}/acme/widgets"


def test_a_bad_repository_in_the_configuration_is_said(tmp_path):
    forging.make(tmp_path)
    path = tmp_path / "ao.yaml"
    path.write_text("projects: {shop: {path: repo, repo: shop, agent_config: {command: [cat]}}}\n")
    assert "not a repository: 'shop'" in config.load(str(path)).broken["shop"]


def test_a_definite_no_is_told_from_not_knowing(hub, home):
    """F11"""
    hub.repo()
    with pytest.raises(gh.Refused) as error:
        gh.ask(home, github.HOST, "repos/acme/widgets/issues/9")
    assert error.value.status == 404 and not isinstance(error.value, Unknown)
    hub.fail("status", status=403, message="Resource not accessible by personal access token")
    with pytest.raises(gh.Refused, match="not accessible"):
        gh.ask(home, github.HOST, "repos/acme/widgets")
    hub.fail("status", status=403, message="API rate limit exceeded", times=1)
    with pytest.raises(Unknown, match="asks to wait until"):
        gh.ask(home, github.HOST, "repos/acme/widgets")
    assert gh.budget(home, github.HOST)["cool_until"]


def test_a_host_that_gh_does_not_know_gets_no_token(hub, home):
    """F56"""
    with pytest.raises(AoError):
        gh.ask(home, "ghe.example.org", "user")
    assert "authorization" not in {name.lower() for name in hub.requests[-1].headers}
    hub.problems.clear()  # where real hosts would have answered


def test_who_is_not_logged_in_is_told_how(hub, home):
    with open(os.path.join(os.environ["GH_CONFIG_DIR"], "hosts.yml"), "w"):
        pass
    with pytest.raises(Unknown, match="run: gh auth login --hostname github"):
        gh.ask(home, github.HOST, "user")


def test_a_cool_down_that_a_clock_set_back_has_made_endless_is_not_kept(home, monkeypatch):
    known = {"cool_until": gh.time.time() + 100_000, "why": "x"}
    monkeypatch.setattr(gh, "budget", lambda home, host: known)
    gh._wait(home, "h")
    known["cool_until"] = gh.time.time() + 100
    with pytest.raises(Unknown, match="x"):
        gh._wait(home, "h")


def test_a_batch_that_is_too_much_for_github_is_made_smaller(hub, home, tmp_path):
    """A heavy request that times out each time would leave its pull requests unseen for ever."""
    world = hubbing.make(hub, home, tmp_path)
    memory = pace.Memory(home, world.local.project, hubbing.clock())
    for failed, size in ((True, 12), (True, 6), (True, 5), (False, 10), (False, 20), (False, 25)):
        memory.save([], True, failed)
        memory = pace.Memory(home, world.local.project, hubbing.clock())
        assert memory.size == size


@pytest.mark.parametrize(
    ("fields", "quiet", "seconds"),
    [
        ({"ci_status": "pending", "mergeable": True}, 0, 5),
        ({"ci_status": "pending", "mergeable": True}, 3600, 20),
        ({"ci_status": "passing", "mergeable": None}, 60, 5),
        ({"ci_status": "passing", "mergeable": True}, 16, 5),
        ({"ci_status": "passing", "mergeable": True}, 240, 30),
        ({"ci_status": "passing", "mergeable": True}, 86400, 60),
        ({"ci_status": "passing", "mergeable": True, "state": "closed"}, 0, 60),
    ],
)
def test_the_next_look_comes_soon_where_something_moves(fields, quiet, seconds):
    """F51"""
    assert pace.interval({"state": "open", **fields}, quiet, 5.0) == seconds
