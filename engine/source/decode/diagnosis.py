"""
Diagnosis: what an answer is, in one line for people.

Owns the words by which a refused answer or a bad page is told: method, URL,
status, content type, the members or first bytes that are there, and the API's
own error text.  Pure; secrets are cut, and it never fails, whatever came.

Path: `source.fetch.policy`, `source.decode`, `source.decode.answers` (a failure) ->
here
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from engine.language.faults import EvaluationError
from engine.language.paths import Path
from engine.language.values import MISSING, decode, text_of
from engine.later import pattern
from engine.observe.redact import REDACTOR
from engine.records import Response
from engine.source.wire.origin import shown

#: Characters of a body, and of the API's own text, that are shown.
SNIPPET: Final = 200
#: Bytes of a body up to which its members are looked at.
LOOKED_AT: Final = 1 << 20
#: Names of members that are shown.
_MOST_MEMBERS: Final = 12

#: Where APIs say what is wrong, nearest first: RFC 9457 and RFC 6749, Google and
#: Microsoft (error.message), JSON:API and GraphQL (errors[]), Salesforce (a list of
#: objects), Jira, AWS (Message), Apigee (fault.faultstring), Slack (error).
_TEXTS: Final = (
    "error_description", "message", "Message", "detail", "error_message",
    "errorMessage", "error_msg", "errormsg", "faultstring", "title", "description",
    "reason", "msg", "errorSummary", "statusMessage", "status_message",
)  # fmt: skip
_CODES: Final = (
    "errorCode", "error_code", "code", "__type", "Code", "status", "type",
)  # fmt: skip
_NESTS: Final = (
    "error", "errors", "Error", "Errors", "fault", "errorMessages", "error_messages",
    "messages", "response", "meta", "exception", "result",
)  # fmt: skip
#: Which `http.response.format` a content type is read by; any XML by xml.
_FORMATS: Final = {
    "application/json": "json",
    "application/ndjson": "ndjson", "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson", "application/x-jsonl": "ndjson",
    "application/jsonlines": "ndjson", "application/x-jsonlines": "ndjson",
    "application/x-json-stream": "ndjson", "application/stream+json": "ndjson",
    "application/json-seq": "json-seq", "application/geo+json-seq": "json-seq",
    "text/csv": "csv", "application/csv": "csv", "text/x-csv": "csv",
    "text/tab-separated-values": "csv",
}  # fmt: skip
#: The formats as messages call them.
_NAMES: Final = {
    "JSON": "json", "NDJSON": "ndjson", "a sequence of JSON": "json-seq",
    "JSON-SEQ": "json-seq", "CSV": "csv", "XML": "xml",
}  # fmt: skip
_XML: Final = pattern(
    r"<(?:[\w.-]+:)?(Message|message|faultstring|Text|Reason|title|h1)\b[^>]*>"
    r"\s*([^<>]*[^<>\s])\s*</",
    re.IGNORECASE,
)


def line(response: Response) -> str:
    """`GET https://api.example/v1 answers 404`, secrets cut."""
    return f"{response.request.method} {shown(response.url)} answers {response.status}"


def kind(response: Response) -> str:
    """The content type without its parameters, for brackets."""
    value = (response.header("content-type") or "").partition(";")[0].strip()
    printable = "".join(char for char in value if char.isprintable())
    return printable[:80].lower() or "no content type"


def snippet(response: Response) -> str:
    """The beginning of a body for people, secrets cut, on one line."""
    # Cut after the secrets are: half of one is not recognised.
    body = bytes(response.body[: 16 * SNIPPET])
    wide = b"\0" in body[:4]
    text = body.decode("utf-16" if wide else "utf-8", "replace")
    return _one_line(text) or "(no body)"


def _one_line(text: str) -> str:
    cut = REDACTOR.redact(text)
    shown_ = "".join(char if char.isprintable() else " " for char in cut)
    words = " ".join(shown_.split())
    return words if len(words) <= SNIPPET else f"{words[:SNIPPET]}..."


def document_of(response: Response) -> Any:
    """The body as JSON, or MISSING where it is none or too long to look at."""
    body = response.body
    if not 1 < len(body) <= LOOKED_AT:
        return MISSING
    head = bytes(body[:64]).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if head not in (b"{", b"["):
        return MISSING
    start = 3 if bytes(body[:3]) == b"\xef\xbb\xbf" else 0
    try:
        return decode(bytes(body[start:]))
    except (EvaluationError, msgspec.MsgspecError, ValueError, RecursionError):
        return MISSING


def told(response: Response, field: Path | None = None) -> str:
    """
    The API's own error text, secrets cut, or "".

    Args:
        field: `http.response.error.message.field`; without it, or where nothing
            stands there, the places where APIs say such things are looked at.
    """
    document = document_of(response)
    if document is MISSING:
        return _told_in_text(response)
    if field is not None:
        try:
            found = field.get(document)
        except (EvaluationError, msgspec.MsgspecError):
            found = MISSING
        texts = list(_leaves(found, 3)) if found is not MISSING else []
        if texts:
            return _one_line("; ".join(texts))
    return _one_line(_guess(document, 4))


def _told_in_text(response: Response) -> str:
    """The message of an XML or HTML answer: S3's, SOAP's, a title."""
    body = bytes(response.body[: 16 * 1024])
    if body.lstrip()[:1] != b"<":
        return ""
    found = _XML.search(body.decode("utf-8", "replace"))
    return _one_line(found[2]) if found else ""


def _plain(value: Any) -> str:
    if value is None or value is MISSING or isinstance(value, dict | list):
        return ""
    try:
        return (text_of(value) or "").strip()
    except EvaluationError:
        return ""


def _leaves(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, list) and depth:
        for item in value[:5]:
            yield from _leaves(item, depth - 1)
    elif isinstance(value, dict) and depth:
        text = _guess(value, depth)
        if text:
            yield text
    elif text := _plain(value):
        yield text


def _guess(value: Any, depth: int) -> str:
    """What an error object says: its code and its text, as far as they are known."""
    if depth <= 0:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (_guess(item, depth - 1) for item in value[:5])))
    if not isinstance(value, dict):
        return _plain(value) if depth < 4 else ""
    text = next(filter(None, (_plain(value.get(name)) for name in _TEXTS)), "")
    nested = ""
    for name in _NESTS:
        inner = value.get(name)
        if inner in (None, False, True) or inner == "":
            continue
        nested = _plain(inner) or _guess(inner, depth - 1)
        if not nested and name in ("errors", "Errors") and isinstance(inner, dict):
            # {"errors": {"name": ["is too short"]}}, as Rails and Laravel say it.
            nested = "; ".join(
                f"{key}: {', '.join(_leaves(item, 2))}"
                for key, item in list(inner.items())[:5]
            )
        if nested:
            break
    if not text:
        text, nested = nested, ""
    codes = [code for name in _CODES if (code := _plain(value.get(name)))]
    # A word says more than a number, which is mostly the status once more.
    code = next((each for each in codes if not each.isdigit()), *codes[:1] or [""])
    extensions = value.get("extensions")
    if not code and isinstance(extensions, dict):
        code = _plain(extensions.get("code"))
    if nested and nested not in text and text not in nested:
        text = f"{text}: {nested}"
    elif nested and text in nested:
        text = nested
    if code and text and code not in text and not code.isdigit():
        text = f"{code}: {text}"
    elif code and text and code not in text:
        text = f"{text} ({code})"
    return text


def members(response: Response) -> str:
    """What stands at the top of a JSON answer: its members' names, or its kind."""
    document = document_of(response)
    if isinstance(document, dict):
        if not document:
            return "an object without members"
        names = [_one_line(str(name))[:40] for name in list(document)[:_MOST_MEMBERS]]
        more = ", ..." if len(document) > _MOST_MEMBERS else ""
        return f"the members are {', '.join(names)}{more}"
    if isinstance(document, list):
        return f"the answer is a list of {len(document)}"
    return f"it begins {snippet(response)}"


def refusal(response: Response, field: Path | None = None) -> str:
    """A refused answer: who asked what, the status, the API's own text."""
    said = told(response, field)
    own = f"the API says: {said}" if said else snippet(response)
    return f"{line(response)} ({kind(response)}): {own}"


def bad_page(response: Response, what: str, field: Path | None = None) -> str:
    """A whole answer that is not a page: what is wrong, what is there instead."""
    said = told(response, field)
    own = f"; the API says: {said}" if said else ""
    return f"{line(response)} ({kind(response)}): {what}; {members(response)}{own}"


def unreadable(response: Response, format: str, detail: str) -> str:
    """
    A body that is no document of its format: what it begins with.

    Args:
        detail: Where it breaks, of use only to a body that begins as one.
    """
    begins = snippet(response)
    where = f" ({detail})" if detail and begins[:1] in '{["' else ""
    other = _meant(kind(response), format, detail)
    hint = f"; http.response.format={other} reads such a body" if other else ""
    return f"{line(response)}: not {format} ({kind(response)}): {begins}{where}{hint}"


def _meant(kind: str, format: str, detail: str) -> str:
    """The `http.response.format` of a body that is not of the one set, or ""."""
    other = _FORMATS.get(kind, "")
    if kind.endswith(("/xml", "+xml")) and kind != "application/xhtml+xml":
        other = "xml"
    if other in ("", "json") and format == "JSON" and "trailing characters" in detail:
        other = "json-seq"
    return "" if other == _NAMES.get(format) else other
