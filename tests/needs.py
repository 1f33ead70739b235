"""What a test cannot do without: missing at home is a skip, in CI a failure."""

from __future__ import annotations

import os

import pytest


def need(found: object, what: str) -> None:
    """Skip, or fail where `CI` is set, if `found` is nothing."""
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")
