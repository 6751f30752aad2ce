"""A GitHub for tests, which real `gh` and real `git` talk to; tests/README.md says how."""

from .hub import ENTERPRISE, HOST, Hub, Request
from .queries import schema
from .server import serving
from .world import Check, Comment, Issue, Pull, Refused, Repo, Review, Status, Thread

__all__ = ["ENTERPRISE", "HOST", "Check", "Comment", "Hub", "Issue", "Pull", "Refused", "Repo", "Request", "Review"]
__all__ += ["Status", "Thread", "schema", "serving"]
