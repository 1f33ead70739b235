"""Fixtures of every room."""

from __future__ import annotations

from tests.brokers.fixtures import apache, broker, embedded

__all__ = ["apache", "broker", "embedded"]
