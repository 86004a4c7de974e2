"""Real nodes in networks of their own, real faults, real clients, and judges of what came of it. ``python -m tests.faults``."""
