"""Publish an agent's commits for it, where `publish` says so: some agents can commit, and do no more than that.

It is done once the agent's turn is over. To publish is a goal-state: the intent names the head, and after a crash the
forge is simply told again.
"""

from __future__ import annotations

from typing import Any

from lib import config, effects, git, plugins, prompts, render, sessions, status
from lib.clock import Clock
from lib.config import Project
from lib.errors import AoError

Session = dict[str, Any]
RETRY_AFTER = 60.0  # seconds after which a forge that refused or could not be reached is told again


def is_due(project: Project, session: Session, clock: Clock) -> bool:
    """Whether its turn is over and left commits that its pull request lacks."""
    pull, head, last = session.get("pr") or {}, session.get("head_sha"), session.get("published") or {}
    is_over = status.is_live(session) and session.get("activity") == "ready" and not session.get("doing")
    if prompts.opens_pr(project, session) or not is_over or session.get("pr_unknown_since"):
        return False
    if head in (None, session["base_sha"], pull.get("head_sha")) or pull.get("state", "open") != "open":
        return False
    if last.get("head_sha") != head or "error" not in last:
        return True
    return bool(last["error"]) and clock.elapsed(last["at"]) >= RETRY_AFTER


def attempt(home: str, project: Project, session: Session, clock: Clock) -> None:
    """Bring the session's commits to the forge and open its pull request; the caller holds its effect lock."""
    scm, why = plugins.load("scm", config.setting(project, "scm")), None
    intent = {"head_sha": session["head_sha"], "at": clock.iso}
    title = render.brief(str(session.get("issue_title") or session.get("task") or session["branch"]))
    sessions.update(home, session, lambda fresh: fresh.update(published=intent), clock)
    try:
        with effects.effect("pull.publish"):
            scm.publish(home, project, session, title, _body(session), clock.iso)
    except AoError as error:
        why = str(error)

    def change(fresh: Session) -> list[dict[str, Any]]:
        fresh["published"] = {**intent, "error": why}
        is_news = why is None or why != (session.get("published") or {}).get("error")
        return [{"type": "published", **intent, "error": why}] if is_news else []

    sessions.update(home, session, change, clock)


def _body(session: Session) -> str:
    """What the commits say, oldest first."""
    words = ("--reverse", "--first-parent", "--no-merges", "--format=- %s%w(0,2,2)%+b")
    return git.out(session["workspace_path"], "log", *words, f"{session['base_sha']}..{session['head_sha']}")
