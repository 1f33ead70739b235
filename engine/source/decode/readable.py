"""
Readable: a body becomes UTF-8 text of its format, whatever its label says.

Owns the content family, the charset and what is unpacked first.  JSON is UTF-8
(RFC 8259, 8.1); what is not is read by its label where that is honest, and by
`http.response.charset` where somebody knows better.  Pure.

Path: `source.decode` (a response) -> here -> bytes to split
"""

from __future__ import annotations

import codecs
import functools
import re
from typing import Final, TypeAlias

from engine.errors import BadPage
from engine.language.charsets import text_codec
from engine.later import pattern
from engine.records import Response
from engine.source.decode.packed import packed, unpacked
from engine.source.wire.pieces import BodyLimits, hand_back

Body: TypeAlias = bytes | bytearray | memoryview

#: Bytes whose UTF-8 is checked in one go where the body is mapped.
STRIDE: Final = 1 << 20

_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
#: Families that no format of ours is sent as; what is not listed is let in.
_FOREIGN: Final = ("image/", "audio/", "video/", "font/", "multipart/")
_XML: Final = re.compile(r"(?:application|text)/(?:[^;]+\+)?xml").fullmatch

_DECLARED: Final = pattern(
    rb"""\s*<\?xml\b[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']"""
)

#: Marks at the beginning, the longer ones first.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Where zeros stand among the first bytes, without a mark.
_ZEROS: Final = (
    ("000x", "utf-32-be"),
    ("x000", "utf-32-le"),
    ("0x", "utf-16-be"),
    ("x0", "utf-16-le"),
)
#: What a label is often said of: a set that holds it and more (WHATWG's Encoding
#: Standard reads the smaller by the larger).
_WIDER: Final = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
_C1: Final = pattern(rb"[\x80-\x9f]")


#: First bytes of a JSON document that holds records.
_OPENING: Final = (b"{", b"[")
_OURS: Final = ((False, ""), (False, "utf-8"), (False, "UTF-8"))


class Unreadable(BadPage):
    """
    A body that is no document of its format.

    Attributes:
        format, detail: As `diagnosis.unreadable` takes them.
    """

    def __init__(self, format: str, detail: str = ""):
        super().__init__(f"not {format}: {detail}")
        self.format = format
        self.detail = detail


def readable(
    response: Response, format: str, charset: str | None, bounds: BodyLimits
) -> list[Body]:
    """
    The body as UTF-8 without a byte order mark; several for an archive's files.

    Args:
        format: json, ndjson, csv or text.
        charset: `http.response.charset` as a codec of Python, or None.

    Raises:
        BadPage: Another content family, a broken charset or archive.
        Forbidden: An archive beyond `bounds`.
    """
    body = response.body
    label = ""
    if packed(body):
        parts = unpacked(body, bounds)
    else:
        parts = [body]
        foreign, label = family(response.header("content-type"))
        if foreign and format != "text":
            xml = format == "xml" and is_xml(response.header("content-type"))
            if not xml:
                raise Unreadable(format.upper())
    return [_utf8(part, format, label, charset) for part in parts]


def is_xml(kind: str | None) -> bool:
    """Whether a content type is XML of any vocabulary (RFC 7303)."""
    name = (kind or "").partition(";")[0].strip().lower()
    return _XML(name) is not None


@functools.lru_cache(256)
def family(kind: str | None) -> tuple[bool, str]:
    """Whether a content type is none of ours, and the charset that it names, or ""."""
    if kind is None:
        return False, ""
    name, _, rest = kind.partition(";")
    name = name.strip().lower()
    foreign = name in _HTML or name.startswith(_FOREIGN) or _XML(name) is not None
    return foreign, _label(rest) if rest else ""


def plain(response: Response) -> bool:
    """
    True for a body of ASCII that begins as JSON does and is labelled as nothing else.

    Hot path: most pages are; all that `readable` looks for is not in them.
    """
    body = response.body
    return (
        type(body) is not memoryview
        and body[:1] in _OPENING
        and body.isascii()
        and body.find(b"\0", 0, 4) < 0
        and family(response.header("content-type")) in _OURS
    )


def blank(body: Body, format: str) -> bool:
    """True if nothing is said: no bytes, blanks, or JSON's null."""
    if bytes(body[:4096]).strip() not in (b"", b"null"):
        return False
    content = bytes(body).strip()
    return not content or (content == b"null" and format == "json")


def _label(parameters: str) -> str:
    """The charset among a content type's parameters, or ""."""
    for item in parameters.split(";"):
        name, _, value = item.partition("=")
        if name.strip().lower() == "charset":
            return value
    return ""


def _utf8(body: Body, format: str, label: str, charset: str | None) -> Body:
    # Hot path: the first bytes, and one look for others than ASCII.
    if charset is not None and charset != "utf-8":
        return _recoded(body, charset)
    head = bytes(body[:4])
    if format == "xml" and not label:
        label = _declared(body)
    if head[:3] == codecs.BOM_UTF8:
        body = memoryview(body)[3:]
    elif charset is None:
        wide = _wide(head, format, label)
        if wide is not None:
            return _recoded(body, wide)
    if label and charset is None and text_codec(label) == "iso2022_jp":
        # All its bytes are ASCII's, and what is ASCII alone reads the same.
        return _recoded(body, "iso2022_jp")
    try:
        _check_utf8(body)
    except BadPage:
        honest = text_codec(label) if label and charset is None else None
        if honest is None or honest in ("utf-8", "ascii"):
            raise
        return _recoded(body, honest)
    return body


def _declared(body: Body) -> str:
    """The encoding in the declaration of an XML document, or "" (XML 1.0, 4.3.3)."""
    found = _DECLARED.match(bytes(body[:200]))
    return found[1].decode("ascii") if found is not None else ""


def _wide(head: bytes, format: str, label: str) -> str | None:
    """UTF-16 or UTF-32, by its mark or by where its zeros stand."""
    for begin, marked in _MARKS:
        if head.startswith(begin):
            return marked
    if b"\0" not in head:
        return None
    if format == "xml" and head[:2] in (b"<\0", b"\0<"):
        return "utf-16-le" if head[:1] == b"<" else "utf-16-be"
    if format not in ("json", "ndjson", "json-seq"):
        codec = text_codec(label) if label else None
        return codec if codec is not None and codec.startswith("utf-") else None
    # JSON begins with two characters of ASCII (RFC 4627, 3).
    zeros = "".join("0" if byte == 0 else "x" for byte in head)
    return next((each for mark, each in _ZEROS if zeros.startswith(mark)), None)


def _recoded(body: Body, charset: str) -> bytes:
    wider = _WIDER.get(charset)
    tried = [charset]
    if wider is not None:
        # C1 controls stand in no document: who sends them means cp1252.
        first = charset == "iso8859-1" and _C1.search(body) is not None
        tried = [wider, charset] if first else [charset, wider]
    failure: Exception | None = None
    for codec in tried:
        try:
            text = str(body, codec)
            return text.removeprefix("\ufeff").encode("utf-8", "strict")
        except (UnicodeError, LookupError) as error:
            failure = failure or error
    assert failure is not None
    raise BadPage(f"the body is not {charset}: {_at(failure)}") from failure


def _at(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} ({error.reason})"
    return type(error).__name__


def _check_utf8(body: Body) -> None:
    """
    Refuse bytes that are not UTF-8: msgspec does not look into unread text.

    Hot path: `isascii` runs at memory speed (4 us for 100 KB); only a body with
    other characters is decoded, and that result thrown away.
    """
    at = 0
    try:
        if not isinstance(body, memoryview):
            if not body.isascii():
                str(body, "utf-8")
            return
        check = codecs.getincrementaldecoder("utf-8")()
        for at in range(0, len(body), STRIDE):
            check.decode(body[at : at + STRIDE])
            hand_back(body, at, at + STRIDE)
        check.decode(b"", True)
    except UnicodeDecodeError as error:
        start = error.start + (at if isinstance(body, memoryview) else 0)
        raise BadPage(
            f"not UTF-8 at byte {start} ({error.reason}); if it is meant to be "
            "another charset, http.response.charset states it"
        ) from error
