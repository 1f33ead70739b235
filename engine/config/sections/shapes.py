"""
Options of answers that are no array of JSON objects.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from engine.config.kinds import Choice, CommaList, Delimiter, RecordPath, Text
from engine.config.sections.section import Section, option, unset


class ShapesConfig(Section, frozen=True, kw_only=True):
    """How values become records where an answer is no array of objects."""

    TITLE: ClassVar[str] = "Response to records"
    SCOPE: ClassVar[str] = "A"

    rows: str = option(
        "http.response.rows",
        Choice(("OBJECTS", "HEADER", "NAMED", "COLUMNS")),
        "OBJECTS",
        "What stands where the records are. HEADER: rows of values, the first of them "
        "with the names of the fields; NAMED: rows of values, the names elsewhere; "
        "COLUMNS: an object of columns. A short row lacks its last fields.",
        "HEADER",
    )
    rows_names: Sequence[str] | None = unset(
        "http.response.rows.names",
        CommaList(Text()),
        None,
        "Names of the fields of rows (NAMED), in order.",
        "time,open,high,low,close",
    )
    rows_names_pointer: str | None = unset(
        "http.response.rows.names.pointer",
        RecordPath(),
        None,
        "Where in the response the names stand instead: an array of texts, or of "
        "objects with a member name.",
        "meta.columns",
    )
    member_field: str | None = unset(
        "http.response.member.name.field",
        Text(),
        None,
        "Field that tells a record the name of the member it came from, where "
        "http.response.data.json.pointer ends with .* (the values of an object are the "
        "records). A field of that name in the record wins.",
        "date",
    )
    explode: str | None = unset(
        "http.response.explode",
        RecordPath(),
        None,
        "An array inside a record (names only): a record for each of its items, with "
        "all the fields of the record and the item in the array's place.",
        "order.lines",
    )
    explode_empty: str = option(
        "http.response.explode.empty",
        Choice(("KEEP", "DROP")),
        "KEEP",
        "A record whose array is empty or missing. KEEP: it stays, with null for an "
        "empty array; DROP: it is none.",
        "DROP",
    )
    csv_delimiter: str = option(
        "http.response.csv.delimiter",
        Delimiter(),
        ",",
        "What stands between the values of CSV.",
        "TAB",
    )
    csv_quote: str = option(
        "http.response.csv.quote",
        Delimiter(none=True),
        '"',
        "What a value with delimiters or line ends stands between. NONE: nothing is "
        "quoted.",
        "'",
    )
    csv_header: str = option(
        "http.response.csv.header",
        Choice(("FIRST", "NONE")),
        "FIRST",
        "Whether the first line of CSV names the fields. With names of one's own it is "
        "passed over; NONE needs them.",
        "NONE",
    )
    csv_names: Sequence[str] | None = unset(
        "http.response.csv.names",
        CommaList(Text()),
        None,
        "Names of the fields of CSV, in order.",
        "id,name,price",
    )
    xml_lists: Sequence[str] | None = unset(
        "http.response.xml.lists",
        CommaList(Text()),
        None,
        "Elements of XML that are arrays also where only one came (names without "
        "prefix).",
        "item,tag",
    )
    xml_namespaces: str = option(
        "http.response.xml.namespaces",
        Choice(("KEEP", "STRIP")),
        "KEEP",
        "Whether the prefixes of names in XML stay (ns:item) or are cut off.",
        "STRIP",
    )
