"""Hostile input: seeded fuzzers of every parser that faces a network or a disk (``python -m tests.fuzz``)."""
