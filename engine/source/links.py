"""
Links: the Link header, and query parameters cut out of URLs.

Owns the grammar of RFC 8288's field.  Where a link may lead is not decided
here but in `source.origin`.

Path: `source.chained` -> here
"""

from __future__ import annotations

import re

_LINK = re.compile(
    r"[\s,]*<([^>]*)>((?:\s*;[^;,\"]*(?:\"(?:[^\"\\]|\\.)*\")?[^;,\"]*)*)"
)


_PARAM = re.compile(r";\s*([^=;\s]+)\s*(?:=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^;,\s]*)))?")


def link_of(header: str | None, rel: str) -> str | None:
    """
    The target of the first link with a relation, or None.

    Source: RFC 8288, section 3; relations compare without case, only the
    first `rel` of a link counts, one about another resource (`anchor`) is
    passed over.
    """
    if header is None:
        return None
    wanted = rel.lower()
    place = 0
    while (match := _LINK.match(header, place)) is not None:
        place = match.end()
        params: dict[str, str] = {}
        for name, quoted, plain in _PARAM.findall(match[2]):
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            params.setdefault(name.lower(), value)
        if wanted in params.get("rel", "").lower().split() and "anchor" not in params:
            return match[1].strip()
    return None


def without(url: str, names: frozenset[str]) -> str:
    """A URL without some query parameters, the rest byte for byte."""
    if not names or "?" not in url:
        return url
    head, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair.partition("=")[0] not in names]
    return f"{head}?{'&'.join(kept)}" if kept else head
