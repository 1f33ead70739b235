"""
Rules: what keys say to one another.

Owns every check that needs more than one key.

Path: ``load`` -> here
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.config.entries import Findings
from engine.config.values import Connector, Values


def check_connector(connector: Connector, findings: Findings) -> None:
    """Errors and warnings of one connector."""
    for api in connector.apis:
        prefix = f"api{api.index}." if len(connector.apis) > 1 else ""
        for key in ("http.source.url", "kafka.topic"):
            if api.values[key] is None:
                findings.add("error", "required", key=f"{prefix}{key}")
    if connector.values["bootstrap.servers"] is None:
        findings.add("error", "required", key="bootstrap.servers")


def check_all(
    connectors: Sequence[Connector], process: Values, findings: Findings
) -> None:
    """Errors and warnings between connectors."""
