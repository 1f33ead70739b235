"""
By link: chains in which each page says at which URL the next one is.

Owns where each type finds the link, and where a link may lead.

Path: `source.paging.paginator` -> here -> `source.paging.by_cursor`,
`source.paging.links`
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Final

from msgspec import Raw
from msgspec import json as msgjson

from engine.errors import BadPage, Forbidden, StateError
from engine.records import Primitive, Request, Response
from engine.source.decode.decoder import Decoded
from engine.source.paging.by_cursor import ChainPager
from engine.source.paging.links import at_own, link_of, without
from engine.source.paging.of_type import TypePager
from engine.source.paging.pager import Paging
from engine.source.paging.position import local_part
from engine.source.paging.request import behind


class LinkPager(ChainPager):
    """A chain of links: a type says where an answer has the next one."""

    FIELD = "next"

    @abstractmethod
    def _reference(self, response: Response, decoded: Decoded) -> object:
        """What stands in an answer where the next link is, or None."""

    def _request(self, at: object, index: int) -> Request:
        if at is None:
            start, mode = self._start, self._plan.paging.mode
            offset = None if mode == "CURSOR_PAGINATION" else start.initial
            return start(index, offset=offset, last=self._ledger.last)
        assert isinstance(at, str)
        return self._start.follow(index, at)

    def _onward(self, request: Request, response: Response, decoded: Decoded) -> object:
        link = self._reference(response, decoded)
        return None if link is None else self._link(request, response, decoded, link)

    def _link(
        self, request: Request, response: Response, decoded: Decoded, link: object
    ) -> str:
        """
        The URL that a link leads to, from the one that answered.

        Source: RFC 3986, section 5.1.3: after a redirect that is the last one.
        """
        plan = self._plan
        paging = plan.paging
        if isinstance(link, Raw):
            link = _target(link)
        if not isinstance(link, str):
            raise BadPage("the next link is not text", url=request.url)
        base = response.url
        if paging.base_field is not None:
            start = plan.fields.token("base", decoded.found)
            if isinstance(start, str):
                link = behind(start, link)
        if paging.own_origin:
            link = at_own(self._start.home, base, link)
            base = request.url
        try:
            url = plan.follow(base, link)
        except Forbidden as e:
            if paging.own_origin:
                raise
            raise Forbidden(
                f"the next link leads astray: {e}; pagination.next.origin=OWN asks "
                "for it where the page before came from",
                url=request.url,
            ) from e
        return without(url, paging.cut)

    def _place(self, at: object) -> dict[str, Primitive]:
        assert isinstance(at, str)
        return {"next": local_part(at, self._start.home)}

    def _kept(self, at: Primitive, position: Mapping[str, Primitive]) -> object:
        if not isinstance(at, str):
            field = self._field_in(position)
            raise StateError(f"the stored offset's {field} is {at!r}")
        return self._plan.follow(self._start.home, at)


class NextUrlPager(LinkPager):
    """Links in the body, or in a header that holds nothing else."""

    TYPE = "next_url"

    def _reference(self, response: Response, decoded: Decoded) -> object:
        return self._plan.fields.token("cursor", decoded.found)


class LinkHeaderPager(LinkPager):
    """Links in a Link header, by their relation. Source: RFC 8288."""

    TYPE = "link_header"

    def _reference(self, response: Response, decoded: Decoded) -> object:
        paging = self._plan.paging
        header = response.header(paging.link_header.lower())
        return link_of(header, paging.link_rel)


class ODataPager(LinkPager):
    """Links of OData, the last of which leads to what has changed since."""

    TYPE = "odata"

    @classmethod
    def places(cls, paging: Paging) -> Mapping[str, str | None]:
        return {"next": paging.nextlink_field, "delta": paging.deltalink_field}

    def _reference(self, response: Response, decoded: Decoded) -> object:
        return self._plan.fields.token("next", decoded.found)

    def _behind_all(
        self, request: Request, decoded: Decoded
    ) -> dict[str, Primitive] | None:
        plan = self._plan
        delta = plan.fields.token("delta", decoded.found)
        if delta is None:
            return None
        if plan.paging.mode == "FULL":
            plan.note("delta_links_unused_total")
            return None
        url = without(plan.follow(request.url, str(delta)), plan.paging.cut)
        return {"delta": local_part(url, self._start.home)}

    def _field_in(self, position: Mapping[str, Primitive]) -> str:
        return "delta" if "delta" in position else self.FIELD


PAGERS: Final[tuple[type[TypePager], ...]] = (NextUrlPager, LinkHeaderPager, ODataPager)


def _target(link: Raw) -> object:
    """The URL of a link that is an object: its `href`, as JSON:API has it."""
    value = msgjson.decode(link)
    if isinstance(value, dict):
        for name in ("href", "url"):
            if isinstance(value.get(name), str):
                return value[name]
    return None
