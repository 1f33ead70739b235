"""
Invalid: what is wrong with a configuration, in Connect's words.

Owns the texts by which clients know what to show beside which key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.errors import Finding


class Invalid(Exception):
    """A configuration that is refused with 400."""


def invalid(errors: Sequence[str]) -> Invalid:
    """Connect's text for a configuration with errors, one a line."""
    return Invalid(
        f"Connector configuration is invalid and contains the following {len(errors)} "
        "error(s):\n" + "\n".join(errors) + "\nYou can also find the above list of "
        "errors at the endpoint `/connector-plugins/{connectorType}/config/validate`"
    )


def lines(findings: Iterable[Finding]) -> list[str]:
    """The errors among some findings."""
    return [line(each) for each in findings if each.severity == "error"]


def line(finding: Finding) -> str:
    """One finding."""
    hint = f" (did you mean {finding.nearest}?)" if finding.nearest else ""
    if finding.value is None and finding.message.startswith("required"):
        return f'Missing required configuration "{finding.key}" which has no default value.'
    if not finding.key:
        return f"{finding.message}{hint}"
    if finding.message == "unknown key":
        return f"Invalid value for configuration {finding.key}: unknown key{hint}"
    value = f"{finding.value} " if finding.value is not None else ""
    return (
        f"Invalid value {value}for configuration {finding.key}: {finding.message}{hint}"
    )
