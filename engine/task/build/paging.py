"""
Paging: the keys of paging made into what the source walks by.

Owns their translation, the share of `pagination.max.pages` that a shard has, and
the condition that ends a poll, which is written in the filters' language.

Path: ``task.build.sources``, ``bench.stand_in`` -> here -> `source.paging.pager`,
`transform.conditions`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.config import Api, Values
from engine.config.pagination import TYPES
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.request import RequestConfig
from engine.language import MISSING, LanguageError, Path
from engine.records import Response
from engine.source.paging.pager import Paging, Stop
from engine.source.paging.request import literals
from engine.task.build.auth import secret_params
from engine.transform.conditions import compile_condition, fields_of, holds


def paging_of(api: Api, url: str, *, index: int = 0, count: int = 1) -> Paging:
    """
    The paging keys of one api.

    Args:
        url: Its absolute URL template; what stands in it counts where no key
            says more.
        index, count: Which of the shards its pages are dealt to.
    """
    values = api.values
    asked = values.of(PaginationConfig)
    kind = TYPES[asked.type]
    written = literals(url, values.of(RequestConfig).params or "")
    limit, limit_stated = asked.limit, True
    if not values.stated("pagination.limit.value"):
        said = _number(written, asked.limit_param)
        # 0 asks for everything, or for nothing: it is no size.
        limit = said or limit
        limit_stated = bool(said) and bool(kind.asks) and not kind.chained
    start = asked.page_start
    numbered = kind.asks == "page"
    if numbered and not values.stated("pagination.page.start"):
        said = _number(written, asked.page_param)
        start = start if said is None else said
    tie = None
    by_page = values.stated("pagination.page.param")
    if kind.by_record and (by_page or values.stated("pagination.offset.param")):
        tie = asked.page_param if by_page else asked.offset_param
    stop, stop_paths = stop_of(values)
    most = asked.max_pages
    return Paging(
        type=asked.type,
        # What a snapshot leaves out is no matter of the walk.
        mode="FULL"
        if values.of(OffsetsConfig).rereads
        else values.of(OffsetsConfig).mode,
        limit=limit,
        limit_stated=limit_stated,
        max_pages=max(1, most // count + (index < most % count)),
        page_start=start,
        cursor_field=asked.cursor_field,
        has_more_field=asked.has_more_field,
        inverted=asked.inverted,
        total_field=asked.total_field,
        total_pages_field=asked.total_pages_field,
        short_ends=asked.end == "SHORT_PAGE",
        empty_pages=asked.empty_pages,
        repeats=asked.repeats == "ALLOW",
        stop=stop,
        stop_paths=stop_paths,
        link_header=asked.link_header,
        link_rel=asked.link_rel,
        own_origin=asked.next_origin == "OWN",
        base_field=asked.base_field,
        same_method=asked.next_method == "SAME",
        nextlink_field=_annotation(asked.nextlink_field),
        deltalink_field=_annotation(asked.deltalink_field),
        offset_field=values.of(OffsetsConfig).pointer,
        limit_param=asked.limit_param,
        offset_param=asked.offset_param,
        page_param=asked.page_param,
        cursor_param=asked.cursor_param,
        tie_param=tie,
        tie_by_page=by_page,
        cut=secret_params(values),
        bookmarked=values.of(OffsetsConfig).mode == "INCREMENTAL",
        next_param=values.of(OffsetsConfig).next_param,
        first_params=asked.first_params or "",
    )


def _annotation(path: str) -> str:
    """An annotation of OData by its path; its name has a dot, quoted or not."""
    return f"'{path}'" if path.startswith("@odata.") else path


def initial_of(values: Values, paging: Paging, url: str) -> str | None:
    """`http.initial.offset`; unstated, what the URL asks for by itself."""
    initial: str | None = values.of(OffsetsConfig).initial
    if values.stated("http.initial.offset") or paging.bookmarked:
        return initial
    kind = TYPES[paging.type]
    if kind.asks == "page":
        return str(paging.page_start)
    if kind.addressable:
        written = literals(url, values.of(RequestConfig).params or "")
        said = _number(written, paging.offset_param)
        return initial if said is None else str(said)
    return initial


def _number(written: Mapping[str, str], name: str) -> int | None:
    text = written.get(name, "")
    return int(text) if text.isdigit() and text.isascii() and len(text) < 19 else None


def stop_of(values: Values) -> tuple[Stop | None, tuple[str, ...]]:
    """
    `pagination.stop.condition` as one callable, and the places in the response
    that a decoder has to find for it.
    """
    rule = values.of(PaginationConfig).stop_condition
    if rule is None:
        return None, ()
    condition = compile_condition(plain_names(rule))
    looks = {field.path.text: _look(field.path.text) for field in fields_of(condition)}
    paths = (place for _, place in looks.values() if place is not None)

    def stops(found: Mapping[str, object], response: Response, count: int) -> bool:
        def look(path: Path) -> Any:
            return looks[path.text][0](found, response, count)

        return holds(condition, look)

    return stops, tuple(dict.fromkeys(paths))


def plain_names(rule: Any) -> Any:
    """A condition whose fields are written without `${...}`."""
    if isinstance(rule, list):
        return [plain_names(each) for each in rule]
    if not isinstance(rule, dict):
        return rule
    changed = {
        name: plain_names(value) if name in ("any", "all", "not") else value
        for name, value in rule.items()
    }
    field = changed.get("field")
    if isinstance(field, str) and field.startswith("${") and field.endswith("}"):
        changed["field"] = field[2:-1].strip()
    return changed


def _look(
    text: str,
) -> tuple[Callable[[Mapping[str, object], Response, int], Any], str | None]:
    """How a field of the condition is read, and its place in the response."""
    if text == "count":
        return (lambda found, response, count: count), None
    kind, _, rest = text.partition(".")
    if kind == "header" and rest:
        name = rest.strip("'\"").lower()

        def header(found: Mapping[str, object], response: Response, count: int) -> Any:
            value = response.header(name)
            return MISSING if value is None else value

        return header, None
    if text.startswith("header:"):
        return _look(f"header.{text[7:]}")
    if kind == "response" and rest:
        return (lambda found, response, count: found.get(rest, MISSING)), rest
    raise LanguageError(f"{text!r} is not response.<path>, header.<Name> or count", 1)
