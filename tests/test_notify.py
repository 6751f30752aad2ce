"""Notifications: somebody always hears of it, once, and a notifier that hangs keeps nobody waiting."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from talking import clock, configure, logged_events, told

from lib import cli, config, notify, plugins


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.setitem(cli._notices, "to", "")


@pytest.fixture
def notifier(monkeypatch):
    """Add a notifier of the test's own: a function that is called with each notification."""
    load, names, own = plugins.load, plugins.names, {}
    monkeypatch.setattr(plugins, "names", lambda slot: names(slot) + sorted(own) * (slot == "notifier"))
    monkeypatch.setattr(plugins, "load", lambda slot, name: own.get(name) or load(slot, name))

    def add(name, send, has=lambda home, id: None):
        own[name] = SimpleNamespace(send=lambda home, told, settings: send(told), has=has, problem=lambda settings: "")

    return add


def news(message: str = "look here", priority: str = "urgent") -> notify.Notification:
    return notify.notification("ci-failed", priority, message, clock(), "shop", news=[message])


def file_of(home: str, **top) -> config.Config:
    project = configure(home, top=top)
    return config.load(project.source)


@pytest.mark.parametrize(
    ("top", "names"),
    [
        ({}, ["stdout"]),
        ({"notification_routing": {"info": ["stdout"]}}, ["stdout"]),
        ({"notification_routing": {"urgent": []}, "defaults": {"notifiers": []}}, ["stdout"]),
        ({"notification_routing": {"urgent": ["loud", "stdout"]}}, ["loud", "stdout"]),
        ({"defaults": {"notifiers": ["loud"]}}, ["loud"]),
    ],
)
def test_a_priority_always_reaches_somebody(home, notifier, top, names):
    """F29"""
    notifier("loud", lambda told: None)
    assert notify.route(file_of(home, **top), "urgent") == names


def test_a_notifier_that_fails_or_breaks_keeps_the_others_from_nothing(home, notifier):
    """F29"""

    def fails(told):
        raise ValueError("no such channel")

    notifier("broken", fails)
    file = file_of(home, defaults={"notifiers": ["broken", "stdout"]})
    one = news()
    assert notify.send(home, [(file, one)], clock()) == {one["id"]: ""}
    assert len(told(home)) == 1
    failed = logged_events(home, "notify_failed")
    assert [(event["notifier"], event["message"].split(" (")[0]) for event in failed] == [
        ("broken", "ValueError: no such channel")
    ]


def test_what_reached_nobody_says_so(home, notifier):
    def fails(told):
        raise ValueError("no such channel")

    notifier("broken", fails)
    file = file_of(home, defaults={"notifiers": ["broken"]})
    one = news()
    assert notify.send(home, [(file, one)], clock())[one["id"]].startswith("broken: ValueError: no such channel")


def test_a_notifier_that_hangs_delays_nobody_and_sends_nothing_later(home, notifier, monkeypatch):
    """F29, F53"""
    monkeypatch.setattr(notify, "PATIENCE", 2.0)
    wakes, sent = threading.Event(), []

    def hangs(told):
        sent.append(told["message"])
        wakes.wait()  # whoever waits for it hangs with it

    notifier("slow", hangs)
    file = file_of(home, defaults={"notifiers": ["slow", "stdout"]})
    answers = notify.send(home, [(file, news("first")), (file, news("second"))], clock())
    assert set(answers.values()) == {""} and len(told(home)) == 2
    assert len(logged_events(home, "notify_failed")) == 2
    wakes.set()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(60)
    assert sent == ["first"]


def test_the_same_notification_is_sent_once_by_a_notifier_that_can_tell(home):
    """F23"""
    file, one = file_of(home), news()
    for _ in range(2):
        assert notify.send(home, [(file, one)], clock()) == {one["id"]: ""}
    assert len(told(home)) == 1


def test_the_same_news_has_the_same_id_when_it_comes_again():
    """A notifier whose answer was lost may have sent it: by the id it knows."""
    one, other = {"id": "shop-1"}, {"id": "shop-2"}
    ids = [
        notify.notification(key, "urgent", "look", clock(later), "shop", session, [item])["id"]
        for key, session, item in (("ci-failed", one, "a"), ("ci-failed", one, "b"), ("ci-failed", other, "a"))
        for later in (0, 60)
    ]
    assert ids[::2] == ids[1::2] and len(set(ids)) == 3


def test_after_a_crash_only_those_are_asked_again_that_do_not_have_it(home, notifier):
    file, one, sent = file_of(home, defaults={"notifiers": ["stdout"]}), news(), []
    notify.send(home, [(file, one)], clock())
    notifier("loud", lambda told: sent.append(told["id"]))
    notify.send(home, [(file_of(home, defaults={"notifiers": ["stdout", "loud"]}), one)], clock())
    assert sent == [one["id"]] and len(told(home)) == 1


def test_it_says_which_session_and_links_to_what_it_is_about():
    session = {"id": "shop-1", "status": "ci_failed", "pr": {"url": "http://pr/7"}, "issue_url": "http://issue/1"}
    one = notify.notification("ci-failed", "action", "red", clock(), "shop", session)
    assert [one[key] for key in ("project_id", "session_id", "status", "pr_url", "issue_url", "reaction_key")] == [
        *("shop", "shop-1", "ci_failed", "http://pr/7", "http://issue/1", "ci-failed")
    ]
