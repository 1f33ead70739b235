"""
Options of what is asked: URL, method, body and headers.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from typing import ClassVar

from engine.config.grammar import REQUEST_NAMES
from engine.config.kinds import (
    BodyText,
    Bool,
    Choice,
    Comment,
    Glob,
    Header,
    Headers,
    Params,
    TemplateText,
    Url,
)
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.section import Section, option, unset


def _idempotent(get: Lookup) -> object:
    return get("http.source.method") in ("GET", "POST")


class RequestConfig(Section, frozen=True, kw_only=True):
    """What an api is asked for."""

    TITLE: ClassVar[str] = "Request"
    SCOPE: ClassVar[str] = "A"

    url: str | None = unset(
        "http.source.url",
        TemplateText(REQUEST_NAMES, url=True, comment=Comment.ENDS_OUTSIDE_TEMPLATE),
        None,
        "What is asked. ${...} may stand behind the host only. A query in it "
        "comes before the parameters.",
        "https://api.example.com/v1/orders",
        required="every api",
    )
    base_url: str | None = unset(
        "http.api.base.url",
        Url(),
        None,
        "What a relative http.source.url, warming patterns and relative next "
        "links are put behind.",
        "https://api.example.com/v1",
    )
    method: str = option(
        "http.source.method",
        Choice(("GET", "POST", "PUT", "PATCH", "DELETE")),
        "GET",
        "The method. A POST body may page by ${cursor}, ${offset} or ${page}.",
    )
    idempotent: bool = option(
        "http.source.idempotent",
        Bool(),
        Computed(_idempotent, "true for GET and POST, else false"),
        "Whether a request whose end is unknown may be sent again. false: such a "
        "failure ends the poll.",
        "false",
    )
    params: str | None = unset(
        "http.source.query.params",
        Params(REQUEST_NAMES),
        None,
        "Query parameters, order and repeats kept; what an expression gives is "
        "encoded whole, null leaves the parameter out.",
        "since=${offset}&sort=asc",
    )
    body: str | None = unset(
        "http.source.body",
        BodyText(REQUEST_NAMES),
        None,
        "Sent with POST, PUT and PATCH; Content-Type is application/json if no "
        "header says otherwise. JSON may run over lines.",
        '{"cursor": ${cursor}, "size": ${limit}}',
    )
    body_null: str = option(
        "http.source.body.null",
        Choice(("KEEP", "OMIT")),
        "KEEP",
        "What a member of the body whose expression is null becomes. KEEP: null, "
        "or an empty text inside quotes; OMIT: the member is left out, in a form "
        "the field.",
        "OMIT",
    )
    headers: tuple[tuple[str, str], ...] | None = unset(
        "http.source.headers",
        Headers(REQUEST_NAMES),
        None,
        "Headers of every page request, separated by ';', a name and its value by "
        "the first ':'. An Accept-Encoding here replaces ours.",
        "Accept:application/json;X-Tenant:blue",
    )
    header: str | None = unset(
        "http.source.header.<Name>",
        Header(REQUEST_NAMES),
        None,
        "One header, taken as it is; it wins over the list for that name.",
        "a;b:c",
    )


class CatalogConfig(Section, frozen=True, kw_only=True):
    """Which of the endpoints of a description are polled."""

    TITLE: ClassVar[str] = "Request"
    SCOPE: ClassVar[str] = "C"

    url_pattern: str | None = unset(
        "http.source.url.pattern",
        Glob(),
        None,
        "This connector takes only the endpoints whose URL without query fits; "
        "it adds none. Several instances divide a catalog with it.",
        "https://api.example.com/[a-m]*",
    )
