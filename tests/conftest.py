"""Fixtures for every kind of test."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_proxies() -> None:
    """Only loopback is ever spoken to: an inherited proxy would stand in between."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
