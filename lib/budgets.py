"""Whether a session may spend more: what its project's `budget` allows, and what a person has added to it; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Session = Mapping[str, Any]
SESSION = "session_usd"
PERIODS = {"day_usd": 10, "month_usd": 7}  # limits of a whole project -> how much of an ISO date names their period


class Budget(NamedTuple):
    """What a project may spend, and what it has spent."""

    limits: Mapping[str, Any] = {}  # the setting `budget`
    spent: Mapping[str, float] = {}  # USD of the whole project by UTC day: `2026-01-31`
    raised: Mapping[str, float] = {}  # USD that a person has added, by day or month
    today: str = ""

    def exceeded(self, session: Session, part: float = 1.0) -> str:
        """The limit that keeps a session from going on, or of which that part is used; "" when there is none."""
        limit = self.limits.get(SESSION)
        used = float((session.get("cost") or {}).get("cost_usd") or 0.0)
        if limit is not None and used >= part * (limit + float(session.get("budget_raised") or 0.0)):
            return SESSION
        return self.of_project(part)

    def near(self, session: Session) -> str:
        """The limit of which more than `warn_at` is used, "" when there is none."""
        return self.exceeded(session, self.warn_at)

    def uncounted(self, session: Session) -> list[str]:
        """The models of a session of which no price is known, so that no limit counts them; [] without a limit."""
        return list((session.get("cost") or {}).get("unpriced") or ()) if self.in_force else []

    @property
    def in_force(self) -> list[str]:
        """The limits that there are."""
        return [name for name in (SESSION, *PERIODS) if self.limits.get(name) is not None]

    @property
    def warn_at(self) -> float:
        return float(self.limits.get("warn_at") or 1.0)

    def of_project(self, part: float = 1.0) -> str:
        """The limit of the whole project of which that part is used, "" when there is none."""
        for name, length in PERIODS.items():
            limit, period = self.limits.get(name), self.today[:length]
            used = sum(usd for day, usd in self.spent.items() if day.startswith(period))
            if limit is not None and used >= part * (float(limit) + self.raised.get(period, 0.0)):
                return name
        return ""
