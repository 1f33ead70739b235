"""Rules of shapes: what is said of an answer fits its format, and is read."""

from __future__ import annotations

import pytest

from tests.config.conftest import Files

CSV = "http.response.format=csv\n"
NAMED = "http.response.rows=NAMED\n"


@pytest.mark.parametrize(
    ("text", "key", "word"),
    [
        ("http.response.csv.delimiter=;", "csv.delimiter", "format=csv"),
        ("http.response.csv.names=a,b", "csv.names", "format=csv"),
        ("http.response.xml.lists=a", "xml.lists", "format=xml"),
        (CSV + "http.response.xml.namespaces=STRIP", "xml.namespaces", "format=xml"),
        (CSV + "http.response.csv.header=NONE", "csv.header", "csv.names"),
        (CSV + "http.response.csv.names=a,a", "csv.names", "twice"),
        (CSV + "http.response.csv.delimiter='\nhttp.response.csv.quote='", "csv.quote", "the same"),
        (CSV + "http.response.csv.delimiter=ab", "csv.delimiter", "one character"),
        (CSV + "http.response.csv.delimiter=a", "csv.delimiter", "one character"),
        (CSV + "http.response.csv.delimiter=NONE", "csv.delimiter", "one character"),
        (NAMED, "rows", "rows.names"),
        ("http.response.rows.names=a", "rows.names", "rows=NAMED"),
        ("http.response.rows=HEADER\nhttp.response.rows.names.pointer=a", "rows.names.pointer", "rows=NAMED"),
        (NAMED + "http.response.rows.names=a\nhttp.response.rows.names.pointer=a", "rows.names.pointer", "one of the two"),
        (NAMED + "http.response.rows.names=a,a", "rows.names", "twice"),
        ("http.response.member.name.field=a", "member.name.field", ".*"),
        (CSV + "http.response.data.json.pointer=a", "data.json.pointer", "json or xml"),
        ("http.response.explode.empty=DROP", "explode.empty", "http.response.explode"),
        ("http.response.explode=a[*].b", "explode", "names"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(
    files: Files, text: str, key: str, word: str
) -> None:
    findings = files.errors(text)

    found = [one for one in findings if one.key == f"http.response.{key}"]
    assert found and word in found[0].message, findings


@pytest.mark.parametrize(
    "text",
    [
        CSV + "http.response.csv.delimiter=TAB\nhttp.response.csv.quote=NONE",
        CSV + "http.response.csv.header=NONE\nhttp.response.csv.names=a,b",
        NAMED + "http.response.rows.names=a,b",
        "http.response.data.json.pointer=a.*\nhttp.response.member.name.field=day",
        "http.response.explode=a.b\nhttp.response.explode.empty=DROP",
        "http.response.format=xml\nhttp.response.xml.lists=i,j",
        "http.response.format=json-seq",
    ],
)
def test_what_fits_is_none(files: Files, text: str) -> None:
    files.load(text)
