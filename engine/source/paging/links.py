"""
Links: the Link header, links in bodies, and query parameters cut out of URLs.

Owns the grammar of RFC 8288's field, and what is read where an API does not keep
to it.  Where a link may lead is not decided here but in `source.wire.origin`.

Path: `source.paging.by_link` -> here
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urljoin, urlsplit

from engine.errors import BadPage
from engine.later import pattern

#: Longest part of a header that is shown.
SHOWN: Final = 300

_LINK: Final = pattern(
    r"[\s,]*<([^>]*)>((?:\s*;[^;,\"]*(?:\"(?:[^\"\\]|\\.)*\")?[^;,\"]*)*)"
)
_PARAM: Final = pattern(
    r";\s*([^=;\s]+)\s*(?:=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^;,\s]*)))?"
)
#: A link's parameters as RFC 8288 has them, and nothing else.
_PARAMS: Final = pattern(
    r"(?:\s*;\s*(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*"
    r"(?:=\s*(?:\"(?:[^\"\\]|\\.)*\"|[^\s\"',;<>\x80-\U0010ffff]+))?)?)*\s*"
)
#: Where a link begins that does not keep to the grammar.
_BEGINS: Final = pattern(
    r"(?:^|,|\s)\s*(?=<|[A-Za-z][A-Za-z0-9+.-]*://)|,\s*(?=[/?])|^\s*(?=[/?])"
)
#: The relation of a link, however it is quoted.
_REL: Final = pattern(
    r"[;>\s]\s*rel\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|[\"']?([^\"',;]*))", re.IGNORECASE
)
_ANCHOR: Final = pattern(r";\s*anchor\s*=", re.IGNORECASE)


def link_of(header: str | None, rel: str) -> str | None:
    """
    The target of the first link with a relation, or None: there is none.

    A header that does not keep to the grammar is followed where it can be read in
    one way only: quotes of another kind or left open, brackets left out, a `>` in
    the URL, a stray word.

    Source: RFC 8288, section 3; relations compare without case, only the
    first `rel` of a link counts, one about another resource (`anchor`) is
    passed over.

    Raises: BadPage: it cannot be read, or in more than one way.
    """
    if header is None or not header.strip(", \t"):
        return None
    wanted = rel.lower()
    place = 0
    found: str | None = None
    while (match := _LINK.match(header, place)) is not None:
        if _PARAMS.fullmatch(match[2]) is None:
            break
        place = match.end()
        params: dict[str, str] = {}
        for name, quoted, plain in _PARAM.findall(match[2]):
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
            params.setdefault(name.lower(), value)
        named = wanted in params.get("rel", "").lower().split()
        if found is None and named and "anchor" not in params:
            found = match[1].strip()
    if not header[place:].strip(", \t"):
        return found
    return _guessed(header, wanted)


def _guessed(header: str, wanted: str) -> str | None:
    """As `link_of`, of a header that is not as it should be."""
    starts = [match.end() for match in _BEGINS.finditer(header[:65536])]
    targets: set[str] = set()
    unread = not starts or bool(header[: starts[0]].strip(", \t"))
    for start, end in zip(starts, [*starts[1:], len(header)]):
        link = header[start:end].strip(", \t")
        readings = set(_targets(link))
        rel = _REL.search(link)
        if rel is None or len(readings) != 1:
            unread = unread or rel is None or wanted in rel[0].lower()
            if rel is not None and wanted in rel[0].lower().split("=")[-1]:
                raise _unreadable(header)
            continue
        # Typographic quotes come as bytes that are no ASCII.
        names = re.sub(r"[^!-~]+", " ", rel[1] or rel[2] or rel[3] or "")
        if wanted not in names.lower().split():
            continue
        if _ANCHOR.search(link) is None:
            targets |= readings
    if len(targets) == 1:
        return targets.pop()
    if targets or unread:
        raise _unreadable(header)
    return None


def _targets(link: str) -> list[str]:
    """What may be the URL of one link of a header that is not as it should be."""
    if link.startswith("<"):
        ends = [
            match.start()
            for match in re.finditer(r">(?=\s*(?:;|$))", link)
            if _REL.search(link, match.end()) is not None
        ]
        if ends:
            return [link[1:end].strip() for end in ends]
        # A stray word behind the bracket, or no bracket to close it.
        head, closed, rest = link[1:].partition(">")
        if closed and _REL.search(f">{rest}") is not None:
            return [head.strip()]
        link = link[1:]
    ends = [match.start() for match in re.finditer(r"\s*;\s*[A-Za-z*]+\s*=", link)]
    return [link[: ends[0]].strip()] if ends else []


def _unreadable(header: str) -> BadPage:
    more = "..." if len(header) > SHOWN else ""
    return BadPage(f"the Link header cannot be read: {header[:SHOWN]}{more}")


def at_own(asked: str, answered: str, reference: str) -> str:
    """
    A link's path and query at the origin that was asked (`pagination.next.origin`).

    Args:
        asked: A URL of ours.
        answered: The URL that answered, which the link is relative to.
    """
    try:
        parts = urlsplit(urljoin(answered, reference.strip()))
    except ValueError:
        return reference
    origin = "/".join(asked.split("/", 3)[:3])
    query = f"?{parts.query}" if parts.query else ""
    return f"{origin}{parts.path or '/'}{query}"


def without(url: str, names: frozenset[str]) -> str:
    """A URL without some query parameters, the rest byte for byte."""
    if not names or "?" not in url:
        return url
    head, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair.partition("=")[0] not in names]
    return f"{head}?{'&'.join(kept)}" if kept else head
