"""The words for an open condition: the message to the agent, the sentence to a person.

What is new is fetched when it is told: logs of the checks that are red now, comments that are open now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib import config, plugins, prompts
from lib.config import Project
from lib.due import Step
from lib.errors import AoError, Unknown
from lib.rules import COMMENTS
from lib.spawn import open_pr

Session = dict[str, Any]
Reaction = Mapping[str, Any]

HEADLINES = {
    "ci-failed": "checks of pull request {number} fail: {checks}",
    "changes-requested": "reviewers want changes to pull request {number}",
    "bugbot-comments": "programs commented on pull request {number}",
    "merge-conflicts": "pull request {number} conflicts with {base}",
    "approved-and-green": "pull request {number} is approved and green, ready to be merged",
    "pr-closed": "pull request {number} was closed without being merged",
    "agent-idle": "the agent is idle and has opened no pull request",
    "agent-stuck": "the agent seems stuck: it is its turn and nothing moves; see: ao-attach {id}",
    "agent-needs-input": "the agent asks: {question}; answer: ao-send {id} --answer TEXT",
    "agent-exited": "the agent ended{code} {when}; bring it back: ao-restore {id}",
    "budget-warning": "{spent} USD are spent, and the budget of the session is nearly used up",
    "budget-exceeded": "the session is parked: {spent} USD are spent and its budget is used up; "
    "let it go on: ao-cost {id} --raise USD, or end it: ao-kill {id}",
    "cost-unknown": "no price of {models} is known, so no budget counts what it spends; "
    "add it to config/prices.yaml, then: ao-cost --rebuild",
    "message-waiting": "a message to the agent was not confirmed; see: ao-status --why {id}",
}
LONGEST = 1500  # characters of what the agent would have been told that a person is told


def compose(home: str, project: Project, session: Session, key: str, step: Step, reaction: Reaction) -> str:
    """The message to the agent for what is due. Raises Unknown when the forge cannot be asked."""
    message = reaction.get("message")
    scm = plugins.load("scm", config.setting(project, "scm"))
    if key == "ci-failed":
        failures = scm.failures(home, project, session)
        if not failures:
            raise Unknown("no check is red any more, as the next look will find")
        return prompts.ci_failed(project, session, failures, message)
    if key in COMMENTS:
        wanted = set(step.items)
        new = [comment for comment in scm.comments(home, project, session) if comment.id in wanted]
        if not new:
            raise Unknown("no comment is open any more, as the next look will find")
        return prompts.comments(project, session, new, message, bots=key == "bugbot-comments")
    if key == "merge-conflicts":
        return prompts.merge_conflicts(project, session, message)
    if key == "agent-idle":
        return prompts.agent_idle(project, session, message, open_pr(project, session))
    return str(message)  # the configuration demands one for the others


def sentence(home: str, project: Project, session: Session, key: str, step: Step, reaction: Reaction) -> str:
    """What a person is told: what is the matter, why it comes to them, and what the agent was not told any more."""
    parts = [
        str(reaction.get("message") or headline(session, key)) if step.action == "notify" else headline(session, key)
    ]
    if step.why:
        parts.append(step.why)
    if step.action == "escalate" and step.items and reaction.get("action") == "send-to-agent":
        try:
            parts.append(compose(home, project, session, key, step, reaction)[:LONGEST])
        except AoError as error:
            parts.append(str(error))
    return "; ".join(parts)


def headline(session: Session, key: str) -> str:
    pr = session.get("pr") or {}
    code = session.get("exit_code")
    return HEADLINES[key].format(
        id=session["id"],
        number=pr.get("number"),
        base=pr.get("base_branch"),
        checks=", ".join(pr.get("failing_check_names") or ()),
        spent=f"{(session.get('cost') or {}).get('cost_usd') or 0:.2f}",
        models=", ".join((session.get("cost") or {}).get("unpriced") or ()),
        question=session.get("question") or "something",
        when="while its pull request is open" if pr.get("state") == "open" else "before its work was done",
        code="" if code is None else f" with exit code {code}",
    )
