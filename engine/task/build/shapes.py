"""
Shapes: how records stand in the answers of an api, out of its configuration.

Path: ``task.build.sources`` -> here -> `source.decode`
"""

from __future__ import annotations

from engine.config import Values
from engine.config.sections.shapes import ShapesConfig
from engine.source.decode.decoder import Shapes
from engine.source.decode.formats import CsvFormat, Xml
from engine.source.decode.shapes import Exploding, Rows


def shapes_of(values: Values) -> Shapes:
    """How records stand in the answers of an api."""
    said = values.of(ShapesConfig)
    return Shapes(
        rows=Rows(
            how=said.rows,
            names=tuple(said.rows_names or ()),
            place=said.rows_names_pointer or "",
        ),
        member_field=said.member_field or "",
        csv=CsvFormat(
            delimiter=said.csv_delimiter,
            quote=said.csv_quote,
            names=tuple(said.csv_names or ()),
            header=said.csv_header == "FIRST",
        ),
        xml=Xml(
            lists=tuple(said.xml_lists or ()), strip=said.xml_namespaces == "STRIP"
        ),
    )


def exploding_of(values: Values) -> Exploding | None:
    """What makes records of the items of an array inside a record, or None."""
    said = values.of(ShapesConfig)
    if said.explode is None:
        return None
    return Exploding(said.explode, drop=said.explode_empty == "DROP")
