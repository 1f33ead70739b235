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

from engine.errors import SourceError
from engine.language.answers import Scope
from engine.language.faults import EvaluationError
from engine.language.nodes import Name, Node, Unique, children
from engine.language.paths import compile_path
from engine.language.places import (
    BodyTemplate,
    compile_body,
    encode_header,
    encode_path_segment,
    encode_query_value,
)
from engine.language.templates import (
    REQUEST_NAMES,
    Expression,
    Template,
    compile_template,
)
from engine.later import pattern
from engine.records import Request
from engine.source.paging.pager import Paging

#: What changes from page to page of one poll.
_PAGE_NAMES: Final = frozenset({"offset", "cursor", "page", "last", "skip"})
#: What no template can name: see `_TieParam`.
_TIE: Final = " tie"
#: True for the first page of a poll: see `_FirstParam`.
_FIRST: Final = " first"
#: Methods that carry a body.
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})

#: Characters of literal text that are sent as they are (RFC 3986, 3.3, 3.4).
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~"
_QUERY_SAFE: Final = "/?%:@!$'()*+,;=~"
_STRAY_PERCENT = pattern(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = pattern(r"[\x00-\x1f\x7f]")

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


def _literal(text: str, safe: str) -> str:
    """Literal text of a URL: illegal characters encoded, `%XX` kept."""
    return quote(_STRAY_PERCENT.sub("%25", text), safe=safe)


def _nodes(template: Template) -> Iterable[Node]:
    rest = [part.node for part in template.parts if isinstance(part, Expression)]
    while rest:
        node = rest.pop()
        yield node
        rest.extend(children(node))


def _varies(template: Template) -> bool:
    """True if its text may differ between two pages of a poll."""
    return bool(template.names & _PAGE_NAMES) or any(
        isinstance(node, Unique) for node in _nodes(template)
    )


def _split(parts: Iterable[str | Expression], at: str) -> list[list[str | Expression]]:
    """Cut a template at a character of its literal text, everywhere."""
    pieces: list[list[str | Expression]] = [[]]
    for part in parts:
        if isinstance(part, Expression):
            pieces[-1].append(part)
            continue
        first, *others = part.split(at)
        if first:
            pieces[-1].append(first)
        pieces.extend([other] if other else [] for other in others)
    return pieces


def _template(parts: Sequence[str | Expression], safe: str) -> Template:
    """A part of a URL as a template of its own, its literal text encoded."""
    encoded = [
        part if isinstance(part, Expression) else _literal(part, safe) for part in parts
    ]
    return Template("", encoded or [""])


class _TieParam:
    """What pages within one offset value; left out but there."""

    names: frozenset[str] = frozenset()
    templates: tuple[Template, ...] = ()
    varies = True

    def __init__(self, name: str):
        self._name = quote(name, safe="")

    def render(self, scope: Scope) -> str | None:
        tie = scope[_TIE]
        return None if tie is None else f"{self._name}={tie}"


class _Param:
    """One query parameter; left out where an expression in it is null."""

    __slots__ = ("names", "template", "templates", "varies")

    def __init__(self, template: Template):
        self.template = template
        self.templates: tuple[Template, ...] = (template,)
        self.names = template.names
        self.varies = _varies(template)

    def render(self, scope: Scope) -> str | None:
        return self.template.render(scope, encode_query_value)


class _FirstParam(_Param):
    """A query parameter of a poll's first page only."""

    __slots__ = ()

    def __init__(self, template: Template):
        super().__init__(template)
        self.varies = True

    def render(self, scope: Scope) -> str | None:
        return super().render(scope) if scope[_FIRST] else None


class _Replacing:
    """A paging parameter that stands in the place of one of its name."""

    __slots__ = ("_instead", "_param", "names", "templates", "varies")

    def __init__(self, param: _Param, instead: _Param):
        self._param = param
        self._instead = instead
        self.names = param.names | instead.names
        self.templates = (*param.templates, *instead.templates)
        self.varies = param.varies or instead.varies

    def render(self, scope: Scope) -> str | None:
        text = self._param.render(scope)
        return self._instead.render(scope) if text is None else text


def _name_of(param: _Param | _Replacing | _TieParam) -> str | None:
    """The name of a parameter that is written out, decoded; else None."""
    if not isinstance(param, _Param):
        return None
    first = param.template.parts[0] if param.template.parts else ""
    if not isinstance(first, str) or "=" not in first and len(param.template.parts) > 1:
        return None
    return unquote(first.partition("=")[0])


def literals(url: str, params: str) -> dict[str, str]:
    """
    The query parameters of a URL template and of `http.source.query.params` whose
    values are plain text, by name, decoded; the first of a name.
    """
    _, *queries = _split(compile_template(url, REQUEST_NAMES).parts, "?")
    texts = [_joined(queries, "?")] if queries else []
    texts += [list(compile_template(params, REQUEST_NAMES).parts)] if params else []
    found: dict[str, str] = {}
    for text in texts:
        for parts in _split(text, "&"):
            if len(parts) == 1 and isinstance(parts[0], str):
                name, _, value = parts[0].partition("=")
                found.setdefault(unquote(name), unquote(value))
    return found


class Shape:
    """
    Everything that the requests of one api have in common.

    Args:
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
    ):
        def compiled(text: str) -> Template:
            return compile_template(text, REQUEST_NAMES, zone)

        self.method = method
        self._paging = paging
        self.by_record = paging.kind.by_record
        self._constants = {**(constants or {}), "limit": paging.limit}
        whole = compiled(url)
        path, *queries = _split(whole.parts, "?")
        self._origin, path = _origin(path)
        self._path = _template(path, _PATH_SAFE)
        texts = [_joined(queries, "?")] if queries else []
        texts += [list(compiled(params).parts)] if params else []
        self._params: list[_Param | _Replacing | _TieParam] = [
            _Param(_template(parts, _QUERY_SAFE))
            for text in texts
            for parts in _split(text, "&")
            if parts
        ]
        self._params += [
            _FirstParam(_template(parts, _QUERY_SAFE))
            for parts in _split(compiled(paging.first_params).parts, "&")
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
        self.in_headers = bool(in_headers & _PAGE_NAMES)
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
            param = _Param(Template("", [f"{quote(name, safe='')}=", *expression]))
            self._place(name, param)
        if kind.by_record and paging.tie_param is not None:
            self._params.append(_TieParam(paging.tie_param))

    def _place(self, name: str, param: _Param) -> None:
        """
        Add a paging parameter, in the place of one that has its name.

        What stood there is sent while paging has no value of its own.
        """
        places = [at for at, each in enumerate(self._params) if _name_of(each) == name]
        if not places:
            self._params.append(param)
            return
        first = self._params[places[0]]
        assert isinstance(first, _Param)
        self._params[places[0]] = _Replacing(param, first)
        for at in reversed(places[1:]):
            del self._params[at]

    def _templates(self) -> Iterable[Template]:
        yield self._path
        for param in self._params:
            yield from param.templates
        yield from (template for _, template in self._headers)
        if self._body is not None:
            yield self._body.template

    def paths(self, name: str) -> Iterable[str]:
        """The fields that are named as `<name>.<path>`."""
        for template in self._templates():
            for node in _nodes(template):
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


def _joined(pieces: list[list[str | Expression]], by: str) -> list[str | Expression]:
    """Undo a split."""
    parts: list[str | Expression] = list(pieces[0])
    for piece in pieces[1:]:
        parts += [by, *piece]
    return parts


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
            self.initial = _evaluated(shape._initial.value, scope)
        # Hot path: what is the same on all pages of the poll is joined here.
        self._path: str | None = None
        if not _varies(shape._path):
            self._path = self._path_for(scope)
        self._query: list[str | _Varying] = []
        for param in shape._params:
            if param.varies:
                self._query.append(param.render)
                continue
            text = _evaluated(param.render, scope)
            if text is None:
                continue
            if self._query and isinstance(self._query[-1], str):
                self._query[-1] += f"&{text}"
            else:
                self._query.append(text)
        self._headers: tuple[tuple[str, str], ...] | None = None
        if not any(_varies(template) for _, template in shape._headers):
            self._headers = self._headers_for(scope)
        self._body: bytes | None = None
        body = shape._body
        self._body_varies = body is not None and _varies(body.template)
        if body is not None and not self._body_varies:
            self._body = _evaluated(body.render, scope)
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
        scope[_TIE] = tie
        place = scope["skip"] = offset if skip is None else skip
        scope[_FIRST] = index == 0 and (
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
                body = shape._body.render(scope)
        except EvaluationError as e:
            raise _unfit(e) from e
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

    def _path_for(self, scope: Scope) -> str:
        try:
            path = self._shape._path.render(scope, encode_path_segment)
        except EvaluationError as e:
            raise _unfit(e) from e
        return f"{self._shape._origin}{path}"

    def _headers_for(self, scope: Scope) -> tuple[tuple[str, str], ...]:
        headers = []
        for name, template in self._shape._headers:
            try:
                value = template.render(scope, encode_header)
            except EvaluationError as e:
                raise _unfit(e) from e
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


def placed(document: object, steps: Sequence[object], value: object) -> object:
    """A document in which a path leads to a value."""
    if not steps:
        return value
    step = (
        steps[0]
        if isinstance(steps[0], str | int)
        else str(getattr(steps[0], "text", ""))
    )
    if isinstance(step, int):
        items = list(document) if isinstance(document, list) else []
        place = step if step >= 0 else -step - 1
        items += [None] * (place + 1 - len(items))
        items[step] = placed(items[step], steps[1:], value)
        return items
    members = dict(document) if isinstance(document, dict) else {}
    members[step] = placed(members.get(step), steps[1:], value)
    return members


def _evaluated(answer: Callable[[Scope], Any], scope: Scope) -> Any:
    try:
        return answer(scope)
    except EvaluationError as e:
        raise _unfit(e) from e


def _unfit(error: EvaluationError) -> SourceError:
    return SourceError(f"a template of the request has no fitting value: {error}")
