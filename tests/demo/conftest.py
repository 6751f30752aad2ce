"""The sample repository has a test suite of its own, which the demo's checks run."""

collect_ignore = ["shop"]
