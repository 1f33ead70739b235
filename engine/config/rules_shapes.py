"""
Rules of shapes: what is said of an answer's shape fits its format.

Owns the findings about `http.response.rows`, `.explode`, `.member`, `.csv` and `.xml`.

Path: ``rules`` -> here
"""

from __future__ import annotations

from engine.config.scope import Scope
from engine.config.sections.response import AnswersConfig
from engine.config.sections.shapes import ShapesConfig
from engine.config.values import Api, Connector
from engine.language.paths import compile_path

_FORMATS = {
    "csv": (
        "http.response.csv.delimiter",
        "http.response.csv.quote",
        "http.response.csv.header",
        "http.response.csv.names",
    ),
    "xml": ("http.response.xml.lists", "http.response.xml.namespaces"),
}


def shapes_fit_the_format(s: Scope, api: Api, connector: Connector) -> None:
    format = s.of(AnswersConfig).format
    for needed, keys in _FORMATS.items():
        for key in keys:
            if format != needed and s.values.stated(key):
                s.error(key, f"needs http.response.format={needed}")
    if format not in ("json", "xml") and s.of(AnswersConfig).data_pointer:
        s.error(
            "http.response.data.json.pointer",
            "needs http.response.format=json or xml: in the others the whole body is "
            "records",
        )
    if format == "csv":
        _csv(s)
    _rows(s)
    shapes, pointer = s.of(ShapesConfig), s.of(AnswersConfig).data_pointer or ""
    by_member = pointer == "*" or (pointer.endswith(".*") and pointer[:1] != "/")
    if shapes.member_field is not None and not by_member:
        s.error(
            "http.response.member.name.field",
            "needs http.response.data.json.pointer with .* at its end: the values of "
            "an object as records",
        )
    if shapes.explode is None:
        if s.values.stated("http.response.explode.empty"):
            s.error("http.response.explode.empty", "needs http.response.explode")
    elif not compile_path(shapes.explode).names:
        s.error(
            "http.response.explode", "a path of names alone, as items or order.lines"
        )


def _csv(s: Scope) -> None:
    shapes = s.of(ShapesConfig)
    names = shapes.csv_names or ()
    if shapes.csv_header == "NONE" and not names:
        s.error("http.response.csv.header", "NONE needs http.response.csv.names")
    if len(set(names)) != len(names):
        s.error("http.response.csv.names", "a name stands twice")
    if shapes.csv_quote == shapes.csv_delimiter:
        s.error(
            "http.response.csv.quote",
            "the same as http.response.csv.delimiter: one "
            "of the two has to be another character",
        )


def _rows(s: Scope) -> None:
    shapes = s.of(ShapesConfig)
    names, pointer = "http.response.rows.names", "http.response.rows.names.pointer"
    given = [key for key in (names, pointer) if s.values.stated(key)]
    if shapes.rows == "NAMED" and not given:
        s.error("http.response.rows", f"NAMED needs {names} or {pointer}")
    elif shapes.rows != "NAMED":
        for key in given:
            s.error(key, "needs http.response.rows=NAMED")
    elif len(given) == 2:
        s.error(pointer, f"the names stand in {names} already: one of the two")
    if len(set(shapes.rows_names or ())) != len(shapes.rows_names or ()):
        s.error(names, "a name stands twice")
