"""Fixtures of every room."""

from __future__ import annotations

from tests.brokers.fixtures import apache, broker, embedded, own_apache

__all__ = ["apache", "broker", "embedded", "own_apache"]
