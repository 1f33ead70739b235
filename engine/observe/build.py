"""
Build: which state of the source this engine was made from.

Owns the finding of it, where pip or git have left it, without running either;
where neither has, the answer is "unknown" and nobody's failure.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import msgspec
from msgspec import Struct

#: Characters of a commit, as Kafka's own builds show them.
SHOWN = 16

UNKNOWN = "unknown"


class _Vcs(Struct, frozen=True):
    commit_id: str = ""


class _Direct(Struct, frozen=True):
    vcs_info: _Vcs = _Vcs()


def commit(distribution: str = "kafka-http-source", root: Path | None = None) -> str:
    """
    The commit: what pip installed it from (PEP 610), else the checkout it is in.

    Args:
        root: The folder above the package.

    Returns: 16 characters, or "unknown".
    """
    found = _installed(distribution) or _checked_out(
        root or Path(__file__).resolve().parents[2]
    )
    return found[:SHOWN] or UNKNOWN


def _installed(distribution: str) -> str:
    try:
        text = metadata.distribution(distribution).read_text("direct_url.json")
        return msgspec.json.decode(text or "{}", type=_Direct).vcs_info.commit_id
    except (metadata.PackageNotFoundError, OSError, msgspec.DecodeError):
        return ""


def _checked_out(root: Path) -> str:
    """What git's HEAD stands for; a worktree's `.git` is a file that leads on."""
    place = root / ".git"
    try:
        if place.is_file():
            place = root / place.read_text().removeprefix("gitdir:").strip()
        head = (place / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        common = place / "commondir"
        if common.exists():
            place = place / common.read_text().strip()
        if (place / ref).exists():
            return (place / ref).read_text().strip()
        for line in (place / "packed-refs").read_text().splitlines():
            if line.endswith(f" {ref}"):
                return line.split()[0]
    except (OSError, UnicodeDecodeError):
        pass
    return ""
