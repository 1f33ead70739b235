"""
Request: what an api is asked, compiled once.

Owns the URL, query, body and headers of an api, which paging parameters go
into the query, and how each value is encoded in its place.  Pure: it sends
nothing, and a page costs it only what differs from the page before.

Path: `source.paging.paginator` (where a poll stands) -> here -> Request
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote

import msgspec
from msgspec import Raw

from engine.errors import SourceError
from engine.language.answers import Scope
from engine.language.faults import EvaluationError
from engine.language.nodes import Name
from engine.language.paths import compile_path, placed
from engine.language.places import (
    BodyTemplate,
    compile_body,
    encode_header,
    encode_json,
    encode_path_segment,
    encode_query_value,
    encode_text,
)
from engine.language.templates import (
    REQUEST_NAMES,
    Expression,
    Template,
    compile_template,
)
from engine.later import pattern
from engine.records import Request
from engine.source.paging.named import (
    PAGE_KEYS,
    TemplateKeys,
    TemplatePlace,
    missing_in,
    unfit,
)
from engine.source.paging.pager import Paging
from engine.source.paging.params import (
    FIRST,
    PAGE_NAMES,
    PATH_SAFE,
    QUERY_SAFE,
    TIE,
    FirstParam,
    Param,
    Replacing,
    TieParam,
    joined,
    name_of,
    nodes_of,
    part_of,
    split_at,
    varies,
)

#: Methods that carry a body.
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_CONTROL = pattern(r"[\x00-\x1f\x7f]")
_JSON_NUMBER = pattern(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")

#: A piece of a URL or header, made anew for each page.
_Varying: TypeAlias = Callable[[Scope], str | None]


def behind(base: str, reference: str) -> str:
    """
    A relative `http.source.url` put behind a base URL, whose path is kept.

    An absolute one is handed back.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", reference):
        return reference
    if reference.startswith("?"):
        return base + reference
    return f"{base.rstrip('/')}/{reference.lstrip('/')}" if reference else base


def literals(url: str, params: str) -> dict[str, str]:
    """
    The query parameters of a URL template and of `http.source.query.params` whose
    values are plain text, by name, decoded; the first of a name.
    """
    _, *queries = split_at(compile_template(url, REQUEST_NAMES).parts, "?")
    texts = [joined(queries, "?")] if queries else []
    texts += [list(compile_template(params, REQUEST_NAMES).parts)] if params else []
    found: dict[str, str] = {}
    for text in texts:
        for parts in split_at(text, "&"):
            if len(parts) == 1 and isinstance(parts[0], str):
                name, _, value = parts[0].partition("=")
                found.setdefault(unquote(name), unquote(value))
    return found


class Shape:
    """
    Everything that the requests of one api have in common.

    Args:
        keys: What its templates are called in a file.
        method: Upper case.
        url: Template of an absolute URL; expressions stand behind the host.
        paging: Type, mode, limit and the names of the paging parameters.
        params: `http.source.query.params`.
        headers: Names and templates of values, in order, repeats kept.
        body: Template, or None.
        omit: `http.source.body.null=OMIT`.
        initial: `http.initial.offset`, or None.
        constants: What `connector`, `api`, `entityName` and `task` are.
        zone: Of dates in templates.

    Attributes:
        last: The fields of a record that are named as `last.<path>`.
        carries: True if the place of a page stands in its URL or body.
        in_headers: True if it stands in a header.
        pages: True if the page's number is named anywhere.

    Raises:
        LanguageError: A template cannot be compiled.
    """

    def __init__(
        self,
        *,
        method: str,
        url: str,
        paging: Paging,
        params: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: str | None = None,
        omit: bool = False,
        initial: str | None = None,
        constants: Mapping[str, object] | None = None,
        zone: tzinfo = UTC,
        keys: TemplateKeys = PAGE_KEYS,
    ):
        def compiled(text: str) -> Template:
            return compile_template(text, REQUEST_NAMES, zone)

        self.method = method
        self.keys = keys
        self._text = params
        self._paging = paging
        self.by_record = paging.kind.by_record
        self._constants = {**(constants or {}), "limit": paging.limit}
        whole = compiled(url)
        path, *queries = split_at(whole.parts, "?")
        self._origin, path = _origin(path)
        self._path = part_of(path, PATH_SAFE)
        texts = [joined(queries, "?")] if queries else []
        texts += [list(compiled(params).parts)] if params else []
        self._params: list[Param | Replacing | TieParam] = [
            Param(part_of(parts, QUERY_SAFE))
            for text in texts
            for parts in split_at(text, "&")
            if parts
        ]
        self._params += [
            FirstParam(part_of(parts, QUERY_SAFE))
            for parts in split_at(compiled(paging.first_params).parts, "&")
            if parts
        ]
        self._headers = [(name, compiled(value)) for name, value in headers]
        self._body: BodyTemplate | None = None
        if body is not None and method in _WITH_BODY:
            kind = next(
                (value for name, value in headers if name.lower() == "content-type"),
                None,
            )
            if kind is None:
                kind = "application/json"
                self._headers.append(("Content-Type", compiled(kind)))
            self._body = compile_body(body, REQUEST_NAMES, kind, zone, omit=omit)
        self._initial = compiled(initial) if initial else None

        in_url = frozenset[str]().union(
            self._path.names, *(param.names for param in self._params)
        )
        in_body = self._body.names if self._body is not None else frozenset[str]()
        in_headers = frozenset[str]().union(
            *(template.names for _, template in self._headers)
        )
        used = in_url | in_body | in_headers
        self._add_paging(used, zone)
        in_url = in_url.union(*(param.names for param in self._params))
        self.carries = bool((in_url | in_body) & {"offset", "page", "skip"})
        #: True if ${offset} is sent somewhere.
        self.offset = "offset" in used or paging.next_param is not None
        self.in_headers = bool(in_headers & PAGE_NAMES)
        self.pages = "page" in in_url | in_body | in_headers
        self.last = tuple(dict.fromkeys(self.paths("last")))
        self._last_steps = [(text, compile_path(text).steps) for text in self.last]

    def _add_paging(self, used: frozenset[str], zone: tzinfo) -> None:
        """The parameters that no template of the request brings itself."""
        paging = self._paging
        kind = paging.kind
        params = {
            "offset": paging.offset_param,
            "page": paging.page_param,
            "cursor": paging.cursor_param,
        }
        # Where both mean the same, a template may name either.
        asks = kind.asks
        if asks == "offset" and paging.bookmarked:
            # ${offset} is the bookmark.
            asks = "skip"
        names = {asks}
        if kind.by_record or (kind.chained and paging.mode == "CURSOR_PAGINATION"):
            names.add("offset")
        wanted: list[tuple[str, str]] = []
        if asks and not names & used:
            wanted.append((params[kind.asks], asks))
        if paging.next_param is not None and "offset" not in used:
            wanted.append((paging.next_param, "offset"))
        if "limit" not in used and (kind.sized or paging.limit_stated):
            wanted.append((paging.limit_param, "limit"))
        for name, value in wanted:
            expression = compile_template(f"${{{value}}}", REQUEST_NAMES, zone).parts
            param = Param(Template("", [f"{quote(name, safe='')}=", *expression]))
            self._place(name, param)
        if kind.by_record and paging.tie_param is not None:
            self._params.append(TieParam(paging.tie_param))

    def _place(self, name: str, param: Param) -> None:
        """
        Add a paging parameter, in the place of one that has its name.

        What stood there is sent while paging has no value of its own.
        """
        places = [at for at, each in enumerate(self._params) if name_of(each) == name]
        if not places:
            self._params.append(param)
            return
        first = self._params[places[0]]
        assert isinstance(first, Param)
        self._params[places[0]] = Replacing(param, first)
        for at in reversed(places[1:]):
            del self._params[at]

    def _templates(self) -> Iterable[Template]:
        return (place.template for place in self.places())

    def places(self) -> Iterable[TemplatePlace]:
        """Its templates, and the keys under which they stand in a file."""
        keys = self.keys
        yield TemplatePlace(keys.url, self._path, encode_path_segment)
        for param in self._params:
            key = keys.first_params if isinstance(param, FirstParam) else keys.params
            for template in param.templates:
                asked = [e.text for e in template.parts if isinstance(e, Expression)]
                if key == keys.params and not all(each in self._text for each in asked):
                    # It stands behind the question mark of the URL.
                    key = keys.url
                yield TemplatePlace(key, template, encode_query_value)
        for name, template in self._headers:
            yield TemplatePlace(f"{keys.header}{name}", template, encode_header)
        if self._body is not None:
            yield TemplatePlace(keys.body, self._body.template, encode_json)
        if self._initial is not None:
            yield TemplatePlace("http.initial.offset", self._initial, encode_text)

    def missing(
        self,
        names: frozenset[str],
        scope: Mapping[str, object],
        now_ms: int,
        later: frozenset[str] = frozenset(),
    ) -> tuple[str, str] | None:
        """As `missing_in`, of its own templates."""
        known = {**self._constants, **scope, "now": now_ms}
        return missing_in(self.places(), names, known, later=later)

    def paths(self, name: str) -> Iterable[str]:
        """The fields that are named as `<name>.<path>`."""
        for template in self._templates():
            for node in nodes_of(template):
                if isinstance(node, Name) and node.key == name:
                    yield node.path.text

    def begin(
        self, now_ms: int, scope: Mapping[str, object] | None = None
    ) -> RequestsOfPoll:
        """
        Fill in what stays the same in a poll.

        Args:
            now_ms: `${now}`, epoch milliseconds.
            scope: `parent`, `parent_value`, `window.start` and the like.

        Raises:
            SourceError: A template has no value for its place.
        """
        return RequestsOfPoll(self, {**self._constants, **(scope or {}), "now": now_ms})


def _origin(path: list[str | Expression]) -> tuple[str, list[str | Expression]]:
    """Cut scheme and host off the front of a URL."""
    first = path[0] if path and isinstance(path[0], str) else ""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*://[^/]+)(.*)", first, re.DOTALL)
    if match is None:
        raise SourceError(
            "http.source.url needs scheme and host, and templates only behind them"
        )
    rest: list[str | Expression] = [match[2] or "/"]
    if not match[2] and len(path) > 1:
        raise SourceError("http.source.url has a template in its host or port")
    return match[1], rest + path[1:]


class RequestsOfPoll:
    """
    The requests of one poll.

    Attributes:
        initial: `http.initial.offset` as a value, or None.
        home: The URL of the first request, without query.
    """

    def __init__(self, shape: Shape, scope: dict[str, object]):
        self._scope = scope
        self._shape = shape
        self.initial: object = None
        if shape._initial is not None:
            self.initial = self._evaluated(shape._initial.value, scope)
        #: It as a number, where a file writes one: what stands in a body as it is.
        self._first_number: Raw | None = None
        if isinstance(self.initial, str) and _JSON_NUMBER.fullmatch(self.initial):
            self._first_number = Raw(self.initial.encode())
        # Hot path: what is the same on all pages of the poll is joined here.
        self._path: str | None = None
        if not varies(shape._path):
            self._path = self._path_for(scope)
        self._query: list[str | _Varying] = []
        for param in shape._params:
            if param.varies:
                self._query.append(param.render)
                continue
            text = self._evaluated(param.render, scope)
            if text is None:
                continue
            if self._query and isinstance(self._query[-1], str):
                self._query[-1] += f"&{text}"
            else:
                self._query.append(text)
        self._headers: tuple[tuple[str, str], ...] | None = None
        if not any(varies(template) for _, template in shape._headers):
            self._headers = self._headers_for(scope)
        self._body: bytes | None = None
        body = shape._body
        self._body_varies = body is not None and varies(body.template)
        if body is not None and not self._body_varies:
            self._body = self._evaluated(body.render, scope)
        self._chained = shape._paging.kind.chained
        self._placed = shape._paging.kind.asks == "offset"
        text = str(self.initial or "")
        self._base = int(text) if text.isdigit() and not shape._paging.bookmarked else 0

    @property
    def home(self) -> str:
        path = self._path if self._path is not None else f"{self._shape._origin}/"
        return path

    def __call__(
        self,
        index: int,
        *,
        offset: object = None,
        cursor: object = None,
        page: int | None = None,
        last: Mapping[str, object] | None = None,
        tie: int | None = None,
        skip: object = None,
    ) -> Request:
        """
        The request for one page.

        Args:
            skip: Place of the page's first record, where `offset` is a bookmark.
            tie: Value of the parameter that pages within one offset value
                (type keyset); None leaves it out.

        Raises:
            SourceError: A value does not fit its place.
        """
        shape = self._shape
        scope = self._scope
        scope["offset"] = offset
        scope["cursor"] = cursor
        scope["page"] = page if page is not None else shape._paging.page_start + index
        scope["last"] = self._last_document(last) if last else None
        scope[TIE] = tie
        place = scope["skip"] = offset if skip is None else skip
        scope[FIRST] = index == 0 and (
            shape.by_record
            or (cursor is None and (not self._placed or place == self._base))
        )
        url = self._path if self._path is not None else self._path_for(scope)
        try:
            found = [
                part if isinstance(part, str) else part(scope) for part in self._query
            ]
            query = "&".join([part for part in found if part is not None])
            body = self._body
            if self._body_varies:
                assert shape._body is not None
                if self._first_number is not None and offset == self.initial:
                    scope["offset"] = self._first_number
                body = shape._body.render(scope)
        except EvaluationError as e:
            raise unfit(e, self._shape.places(), scope) from e
        headers = self._headers
        if headers is None:
            headers = self._headers_for(scope)
        return Request(
            shape.method,
            f"{url}?{query}" if query else url,
            headers,
            body,
            index,
            self._chained and cursor is not None,
        )

    def follow(self, index: int, url: str, *, offset: object = None) -> Request:
        """
        A GET of another URL with the same headers; with `pagination.next.method=
        SAME` our own method and body.

        Raises:
            SourceError: A value does not fit its place.
        """
        shape = self._shape
        if shape._paging.same_method:
            return msgspec.structs.replace(
                self(index, offset=offset), url=url, page=index, chained=True
            )
        headers = self._headers
        if headers is None:
            if offset is not None:
                self._scope["offset"] = offset
            headers = self._headers_for(self._scope)
        if shape._body is not None:
            headers = tuple(
                pair for pair in headers if pair[0].lower() != "content-type"
            )
        return Request("GET", url, headers, None, index, True)

    def _evaluated(self, answer: Callable[[Scope], Any], scope: Scope) -> Any:
        try:
            return answer(scope)
        except EvaluationError as e:
            raise unfit(e, self._shape.places(), scope) from e

    def _path_for(self, scope: Scope) -> str:
        try:
            path = self._shape._path.render(scope, encode_path_segment)
        except EvaluationError as e:
            raise unfit(e, self._shape.places(), scope) from e
        return f"{self._shape._origin}{path}"

    def _headers_for(self, scope: Scope) -> tuple[tuple[str, str], ...]:
        headers = []
        for name, template in self._shape._headers:
            try:
                value = template.render(scope, encode_header)
            except EvaluationError as e:
                raise unfit(e, self._shape.places(), scope) from e
            if value is None:
                continue
            if _CONTROL.search(value.replace("\t", "")):
                raise SourceError(f"a control character in the header {name}")
            headers.append((name, value))
        return tuple(headers)

    def _last_document(self, last: Mapping[str, object]) -> object:
        """A record that holds what is known of the last one."""
        document: object = None
        for text, steps in self._shape._last_steps:
            value = last.get(text)
            if value is not None:
                document = placed(document, steps, value)
        return document
