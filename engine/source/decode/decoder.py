"""
Decoder: a response becomes records that are not yet read, and what pages need.

Owns what a usable page is: content family, one whole document, the
records where the configuration says, no error in their place.  A record stays the bytes the API wrote
(`msgspec.Raw` over the body); nothing runs per record but C.  Never fetches,
never decides what follows from a bad page.

Path: `source.fetch` (Response) -> here -> `source.paging.paginator` (Decoded)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from engine.errors import BadPage, ConfigError
from engine.language.faults import EvaluationError
from engine.language.paths import Path, compile_path
from engine.language.values import MISSING
from engine.language.values import decode as decode_value
from engine.records import Response
from engine.source.decode import diagnosis, formats
from engine.source.decode.answers import ERRORS, Errors, TreatedAsEmpty
from engine.source.decode.formats import LONE, SPELLER, CsvFormat, Xml
from engine.source.decode.mapped import split_mapped
from engine.source.decode.readable import Unreadable, blank, plain, readable
from engine.source.decode.shapes import Reshape, Rows, by_member, by_row, members_of
from engine.source.decode.spelling import as_raw, items_at, member_at, skip_blank
from engine.source.wire.origin import shown
from engine.source.wire.pieces import BodyLimits

Body: TypeAlias = bytes | bytearray | memoryview


class Shapes(Struct, frozen=True):
    """
    How records stand in an answer that is no array of objects.

    Attributes:
        rows: Whether rows of values stand where the records should.
        member_field: Field for the name of the member a record came from.
        csv: How CSV is written.
        xml: How XML becomes JSON.
    """

    rows: Rows = Rows()
    member_field: str = ""
    csv: CsvFormat = CsvFormat()
    xml: Xml = Xml()


class Decoded(Struct, frozen=True):
    """
    A page in pieces.

    Attributes:
        records: One piece of JSON each, in order; views into the body, or of a mapped
            body cut off it when they are asked for (`CutSequence`).
        found: The wanted places of the response, by the path as it was given:
            text, int, bool or None; numbers with a fraction as written, and
            arrays and objects as compact JSON, in a `Raw`; a list where a path
            asks for many.  What is missing is not in it.
        empty: True if the answer as a whole means an empty page, so that nothing
            of what pages need is in it: a status, a 304, an error rule.
    """

    records: Sequence[Raw]
    found: dict[str, Any]
    empty: bool = False


Decode: TypeAlias = Callable[[Response], Decoded]


def compile_decoder(
    *,
    format: str = "json",
    data_path: str = "",
    wanted: Sequence[str] = (),
    optional: bool = False,
    empty: Container[int] = frozenset({204, 205}),
    errors: Errors | None = None,
    empty_body: bool = False,
    charset: str | None = None,
    bounds: BodyLimits | None = None,
    shapes: Shapes | None = None,
) -> Decode:
    """
    Make the one callable that splits an api's pages.

    Args:
        format: json, ndjson, json-seq, csv, xml or text (`http.response.format`).
        data_path: Where the records are; "" is the whole document, `.*` at its end
            the values of the object there.
        wanted: Paths in the response whose values pagination needs, and
            `header:NAME`; only json and xml have other than headers.
        optional: Whether a missing `data_path` is an empty page.
        empty: Statuses that mean an empty page, whatever the body.
        errors: How the api says that something is wrong.
        empty_body: Whether a body without content is an empty page
            (`http.response.empty.body=EMPTY`) and not a bad one.
        charset: `http.response.charset`, or None: found out.
        bounds: What a compressed file may unpack to.
        shapes: How records stand in it; None: as an array of objects.

    Returns:
        Response to Decoded.  It raises BadPage for what is not such a page, and
        another SourceError for an error inside of it; never anything else.  A
        response that was decoded before (by `fetch.Retrying`) brings what was
        found then.

    Raises:
        ConfigError, LanguageError: a path that cannot be.
    """
    headers = {
        text: text.partition(":")[2].strip().lower()
        for text in wanted
        if text.lower().startswith("header:")
    }
    paths = [
        compile_path(text) for text in dict.fromkeys(wanted) if text not in headers
    ]
    errors = errors or Errors()
    bounds = bounds or BodyLimits()
    graphql = False
    shapes = shapes or Shapes()
    rows = shapes.rows
    reshapes = _reshapes(data_path, rows, shapes.member_field)
    data_path, _ = members_of(data_path)
    if format in _DOCUMENTS:
        data = compile_path(data_path)
        names = data.names or ("",)
        # What GraphQL's answers have: records under `data`, or a document as one.
        graphql = not data.steps or names[0] == "data"
        looked = [text for text in errors.fields if text not in set(wanted)]
        looked += [ERRORS] if graphql and ERRORS not in (*wanted, *looked) else []
        looked += [rows.place] if rows.place not in ("", *wanted, *looked) else []
        split = _json(data, [*paths, *map(compile_path, looked)], optional, graphql)
        if format == "xml":
            split = _translated(formats.document(shapes.xml, data.names or ()), split)
    else:
        if paths or data_path or rows.place:
            place = paths[0].text if paths else data_path or rows.place
            raise ConfigError(
                f"a path in the response ({place!r}) needs http.response.format=json "
                "or xml"
            )
        split = _listed(
            {
                "ndjson": formats.ndjson,
                "json-seq": formats.sequence,
                "csv": formats.table(shapes.csv),
                "text": formats.text,
            }[format]
        )
    if reshapes:
        split = _reshaped(split, reshapes)

    quick = format == "json" and charset in (None, "utf-8")

    def found_in(response: Response, decoded: Decoded) -> Decoded:
        found = decoded.found
        if not found:
            # Nothing was looked for, or there is nothing of it: only rules may mind.
            failure = errors.in_page(response, found) if errors.any else None
        else:
            failure = errors.in_page(response, found)
            if failure is None and graphql and found.get(ERRORS) is not None:
                failure = errors.beside_data(response, found[ERRORS])
        if failure is not None:
            raise failure
        return decoded

    def read(response: Response) -> Decoded:
        status = response.status
        if status == 304 or status in empty:
            if (failure := errors.in_refusal(response)) is not None:
                raise failure
            return Decoded([], {}, empty=True)
        try:
            if quick and plain(response):
                decoded = split(response.body)
            else:
                parts = readable(response, format, charset, bounds)
                if empty_body and all(blank(part, format) for part in parts):
                    return Decoded([], {}, empty=True)
                decoded = split(parts[0]) if len(parts) == 1 else _joined(parts, split)
        except BadPage as error:
            failure = errors.in_rubble(response, json=format == "json")
            if failure is not None:
                raise failure from error
            raise _explained(error, response, errors) from error
        return found_in(response, decoded)

    def decode(response: Response) -> Decoded:
        if response.decoded is not None:
            before: Decoded = response.decoded
            return before
        try:
            decoded = read(response)
        except TreatedAsEmpty:
            decoded = Decoded([], {}, empty=True)
        for text, name in headers.items():
            value = response.header(name)
            if value is not None:
                decoded.found[text] = value
        return decoded

    return decode


#: Formats with one document that paths lead into.
_DOCUMENTS = frozenset({"json", "xml"})


def _reshapes(data_path: str, rows: Rows, member_field: str) -> list[Reshape]:
    """What is to be made of records, in order."""
    found = []
    if members_of(data_path)[1]:
        found.append(by_member(member_field))
    if rows.how != "OBJECTS":
        found.append(by_row(rows))
    return found


def _reshaped(
    split: Callable[[Body], Decoded], reshapes: Sequence[Reshape]
) -> Callable[[Body], Decoded]:
    def reshaped(body: Body) -> Decoded:
        decoded = split(body)
        records = decoded.records
        for reshape in reshapes:
            records = reshape(records, decoded.found)
        return replace(decoded, records=records)

    return reshaped


def _listed(read: Callable[[Body], Sequence[Raw]]) -> Callable[[Body], Decoded]:
    return lambda body: Decoded(read(body), {})


def _translated(
    document: Callable[[Body], bytes], split: Callable[[Body], Decoded]
) -> Callable[[Body], Decoded]:
    return lambda body: split(document(body))


# -- what every format shares ---------------------------------------------


def _explained(error: BadPage, response: Response, errors: Errors) -> BadPage:
    """The same with everything there is to say about the answer."""
    if isinstance(error, Unreadable):
        text = diagnosis.unreadable(response, error.format, error.detail)
    else:
        text = diagnosis.bad_page(response, str(error), errors.message)
    return BadPage(text, status=response.status, url=shown(response.url))


def _joined(parts: Sequence[Body], split: Callable[[Body], Decoded]) -> Decoded:
    """The files of an archive as one page: records in order, the rest of the first."""
    pages = [split(part) for part in parts]
    records = [record for page in pages for record in page.records]
    return Decoded(records, pages[0].found if pages else {})


# -- json -----------------------------------------------------------------

_ITEMS = msgspec.json.Decoder(list[Raw])
_WHOLE = msgspec.json.Decoder(Raw)
_BROKEN = (msgspec.DecodeError, UnicodeError, RecursionError)


def _json(
    data: Path, wanted: list[Path], optional: bool, graphql: bool
) -> Callable[[Body], Decoded]:
    # A list of records has no place for GraphQL's errors: nothing is looked for.
    bare = not data.steps and graphql and [path.text for path in wanted] == [ERRORS]
    quick = _quick(data, [] if bare else wanted)
    general = _general(data, wanted, optional)

    def split(body: Body, guarded: bool = True) -> Decoded:
        if not len(body):
            raise BadPage("the body is empty")
        if len(body) < 64 and not bytes(body).strip():
            raise BadPage("the body is blank, not JSON")
        try:
            decoded = None
            if quick is not None and isinstance(body, memoryview):
                decoded = split_mapped(body, data.names or (), quick)
            if quick is not None and decoded is None:
                decoded = quick(body)
            return decoded if decoded is not None else general(body)
        except (EvaluationError, *_BROKEN) as error:
            if isinstance(error, RecursionError):
                raise BadPage("the JSON is nested too deeply") from error
            if LONE.search(body) is not None:
                # msgspec reads no lone surrogate, JSON (RFC 8259, 8.2) has them.
                return _spelled(body, data, wanted, optional, error)
            inner = formats.unguarded(body) if guarded else None
            if inner is not None:
                return split(inner, False)
            raise Unreadable("JSON", str(error)) from error

    return split


def _quick(data: Path, wanted: list[Path]) -> Callable[[Body], Decoded | None] | None:
    """
    One C call for page and envelope, where all paths are plain names.

    Hot path: a Struct type is made with a field for each wanted place, so that
    the whole page is split in 0.22 us a record and nothing else is decoded.
    Answers None where the page is not of the usual shape.
    """
    names = [path.names for path in (data, *wanted)]
    if not data.steps:
        return _array if not wanted else None
    if any(name is None or not name for name in names):
        return None
    places: dict[str, Any] = {}
    for place in dict.fromkeys(name for name in names if name):
        at = places
        for step in place[:-1]:
            at = at.setdefault(step, {})
            if not isinstance(at, dict):
                return None
        if place[-1] in at:
            return None
        at[place[-1]] = place
    data_names = data.names or ()
    decode = msgspec.json.Decoder(_struct(places, data_names)).decode
    read = _reader(places, data_names)
    reads = [(path.text, _reader(places, path.names or ())) for path in wanted]

    def split(body: Body) -> Decoded | None:
        try:
            page = decode(body)
        except msgspec.ValidationError:
            return None
        records = read(page)
        if records is UNSET:
            return None
        found = {}
        for text, get in reads:
            value = get(page)
            if value is not UNSET and len(value):
                found[text] = _plain(value)
        return Decoded(records if records is not None else [], found)

    return split


def _array(body: Body) -> Decoded | None:
    try:
        return Decoded(_ITEMS.decode(body), {})
    except msgspec.ValidationError:
        return None


def _struct(places: dict[str, Any], data: tuple[str, ...], depth: int = 0) -> Any:
    """A Struct type for a tree of names; the leaves are Raw, or the records."""
    fields: list[tuple[str, Any, Any]] = []
    rename: dict[str, str] = {}
    for index, (name, inner) in enumerate(places.items()):
        field = f"f{index}"
        rename[field] = name
        if isinstance(inner, dict):
            kind = _struct(inner, data, depth + 1)
            fields.append((field, kind | UnsetType, UNSET))
        elif inner == data:
            fields.append((field, list[Raw] | None | UnsetType, UNSET))
        else:
            fields.append((field, Raw, Raw(b"")))
    return msgspec.defstruct(f"Page{depth}", fields, rename=rename)


def _reader(places: dict[str, Any], names: tuple[str, ...]) -> Callable[[Any], Any]:
    fields = []
    for name in names:
        fields.append(f"f{list(places).index(name)}")
        places = places[name]

    def read(page: Any) -> Any:
        for field in fields:
            page = getattr(page, field)
            if page is UNSET:
                return UNSET
        return page

    return read


def _general(
    data: Path, wanted: list[Path], optional: bool
) -> Callable[[Body], Decoded]:
    """Any path, any shape; each level on the way is read once for each path."""

    def split(body: Body) -> Decoded:
        document = _WHOLE.decode(body)
        return _pieces(
            data.get(document),
            {path.text: path.get(document) for path in wanted},
            data,
            optional,
        )

    return split


def _pieces(value: Any, places: dict[str, Any], data: Path, optional: bool) -> Decoded:
    """
    What was found, as records and plain values.

    Raises: BadPage: nothing stands where the records should.
    """
    found = {
        text: [_plain(item) for item in place]
        if isinstance(place, list)
        else _plain(place)
        for text, place in places.items()
        if place is not MISSING
    }
    if value is MISSING:
        if not optional:
            raise BadPage(f"nothing stands at {data.text!r}, where the records should")
        return Decoded([], found)
    if isinstance(value, list):
        return Decoded(value, found)
    text = bytes(memoryview(value)[:64]).lstrip()[:4]
    if text[:1] == b"[":
        return Decoded(_ITEMS.decode(value), found)
    if text == b"null":
        return Decoded([], found)
    return Decoded([value], found)


def _plain(value: Raw) -> Any:
    """A scalar as Python has it; arrays and objects as compact JSON."""
    text = bytes(value).strip()
    if text[:1] in (b"{", b"["):
        return Raw(msgspec.json.format(text, indent=-1))
    return decode_value(text)


# -- json with lone surrogates: rare, slow, byte for byte ------------------


def _spelled(
    body: Body, data: Path, wanted: list[Path], optional: bool, error: Exception
) -> Decoded:
    """
    Split a page that msgspec refuses because of a lone surrogate somewhere.

    The standard library reads it, and says where each record ends.
    """
    text = str(body, "utf-8")
    if data.names is None:
        raise Unreadable("JSON", str(error)) from error
    try:
        document, end = SPELLER.raw_decode(text, skip_blank(text, 0))
        if skip_blank(text, end) != len(text):
            raise BadPage("a second document follows the first")
        at: int | None = skip_blank(text, 0)
        for name in data.names:
            at = member_at(text, at, name) if at is not None else None
        value: Any = MISSING
        if at is not None:
            value = items_at(text, at)
        places = {path.text: as_raw(path.get(document)) for path in wanted}
        return _pieces(value, places, data, optional)
    except (ValueError, RecursionError, EvaluationError, msgspec.MsgspecError) as e:
        raise Unreadable("JSON", str(e)) from e
