"""
Base: requests go where the answer of a login says.

Owns the exchange of the configured origin for that URL, on the way out, and back on
the way in: cache, state and links go by the configured one.

Path: `source.fetch` (Retrying) -> here -> `source.fetch` (Limited)
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from engine.records import Request, Response
from engine.seams import Fetch


class Rebased:
    """
    Args:
        base: Gives the URL of now, without a slash at its end; "": none is told.
        home: The configured origin, whose place it takes.
    """

    def __init__(self, inner: Fetch, base: Callable[[], str], home: str):
        self._inner = inner
        self._base = base
        self._home = home

    def __call__(self, request: Request) -> Response:
        base = self._base()
        if not base or not _under(request.url, self._home):
            # A link the API gave names its host itself.
            return self._inner(request)
        url = base + request.url[len(self._home) :]
        response = self._inner(replace(request, url=url))
        answered = response.url
        if _under(answered, base):
            answered = self._home + answered[len(base) :]
        return replace(response, request=request, url=answered)


def _under(url: str, base: str) -> bool:
    return url.startswith(base) and url[len(base) : len(base) + 1] in ("", "/", "?")
