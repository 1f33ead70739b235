"""
What an API may answer, against what follows: each row a real server, a real
configuration, a real poll.

A row is (answers in order, the last one stays; further keys) to (records, requests,
exit code, words of the error).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from engine.errors import EngineError
from engine.source.wire.http2 import installed
from tests.fakes.misbehaving import Misbehaving, MisbehavingH2, Say
from tests.fakes.source import Source

JSON = (("Content-Type", "application/json"),)


def say(body: object, status: int = 200, kind: str | None = "application/json",
        **headers: str) -> Say:  # fmt: skip
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = [] if kind is None else [("Content-Type", kind)]
    found += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Say(status=status, body=data, headers=found)


def items(*ids: int, **more: object) -> dict[str, object]:
    return {"items": [{"id": each} for each in ids], **more}


GOOD = say(items(1, 2))
ONE_TWO = [1, 2]


class Row(Struct):
    """As the module says; `code` 0 is a poll that ended well."""

    answers: Sequence[Say]
    keys: Mapping[str, object] = {}
    records: Sequence[object] = ()
    requests: int = 1
    code: int = 0
    words: Sequence[str] = ()
    never: Sequence[str] = ()


def rules(*listed: Mapping[str, object]) -> dict[str, object]:
    return {"http.response.error.rules": json.dumps(listed)}


def run(folder: Path, row: Row, http2: bool = False) -> None:
    keys = {
        "http.client.http2.enabled": str(http2).lower(),
        "retry.backoff.ms": 1,
        "retry.backoff.max.ms": 2,
        "circuit.breaker.enabled": "false",
        **row.keys,
    }
    server: Any = (MisbehavingH2 if http2 else Misbehaving)(*row.answers)
    with server:
        url = f"{server.url}/v1/things?api_key=hush-hush"
        with Source(folder, url, keys) as source:
            code, words, records = 0, "", []
            try:
                records = [
                    json.loads(bytes(each)) for page in source.poll()
                    for each in page.records
                ]  # fmt: skip
            except EngineError as failure:
                code, words = int(failure.code), str(failure)
        requests = len(server.asked)
    ids = [each["id"] if isinstance(each, dict) and "id" in each else each
           for each in records]  # fmt: skip

    assert (list(row.records), row.requests, row.code) == (ids, requests, code), words
    for word in row.words:
        assert word in words
    for word in ("hush-hush", *row.never):
        assert word not in words


# -- errors inside answers ------------------------------------------------------

THROTTLED = {
    "data": None,
    "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
}
GRAPHQL = {
    "http.source.method": "POST",
    "http.source.body": '{"query": "{ things { id } }"}',
    "http.response.data.json.pointer": "data.things",
}
PARTIAL = {
    "data": {"things": [{"id": 1}]},
    "errors": [{"message": "no access to owner", "path": ["things", 0, "owner"]}],
}
SLACK = {"ok": False, "error": "ratelimited"}
HTML = b"<!DOCTYPE html><html><head><title>Down for maintenance</title></head></html>"


def soon(seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


ERRORS: dict[str, Row] = {
    # GraphQL, without a key
    "errors in place of data": Row(
        [say({"errors": [{"message": "Cannot query field x"}]})], GRAPHQL,
        code=65, words=["POST http://", "answers 200", "Cannot query field x"],
    ),
    "errors beside null": Row(
        [say({"data": None, "errors": [{"message": "boom"}]})], GRAPHQL,
        code=65, words=["boom"],
    ),
    "errors beside data": Row(
        [say(PARTIAL)], GRAPHQL, requests=3, code=65, words=["no access to owner"]
    ),
    "errors beside data, once": Row(
        [say(PARTIAL), say({"data": {"things": [{"id": 1}, {"id": 2}]}})], GRAPHQL,
        ONE_TWO, 2,
    ),
    "errors beside data, allowed": Row(
        [say(PARTIAL)], {**GRAPHQL, "http.response.graphql.partial": "ALLOW"}, [1]
    ),
    "errors in place of data are never allowed": Row(
        [say({"data": None, "errors": [{"message": "boom"}]})],
        {**GRAPHQL, "http.response.graphql.partial": "ALLOW"}, code=65, words=["boom"],
    ),
    "records right under data": Row(
        [say({"data": [{"id": 1}], "errors": [{"message": "half of it"}]})],
        {"http.response.data.json.pointer": "data"}, code=65, words=["half of it"],
    ),
    "an empty list of errors is none": Row(
        [say({"data": {"things": [{"id": 1}, {"id": 2}]}, "errors": []})], GRAPHQL,
        ONE_TWO,
    ),
    "errors of another kind are data": Row(
        [say(items(1, 2, errors=[{"message": "a warning"}]))], {}, ONE_TWO
    ),
    "the whole document": Row(
        [say({"data": {"x": 1}, "errors": [{"message": "boom"}]})],
        {"http.response.data.json.pointer": None}, code=65, words=["boom"],
    ),
    "a document of its own with such a member": Row(
        [say({"id": 7, "errors": [{"message": "of the thing"}]})],
        {"http.response.data.json.pointer": None}, [7],
    ),
    "Shopify's THROTTLED is a rate limit": Row(
        [say(THROTTLED), say({"data": {"things": [{"id": 1}, {"id": 2}]}})], GRAPHQL,
        ONE_TWO, 2,
    ),
    "GitHub's RATE_LIMITED, for ever": Row(
        [say({"errors": [{"type": "RATE_LIMITED", "message": "API rate limit"}]})],
        {**GRAPHQL, "max.retries": 1}, requests=2, code=75, words=["API rate limit"],
    ),
    "an internal error of a resolver": Row(
        [say({"data": None, "errors": [{"message": "oops", "extensions":
              {"code": "INTERNAL_SERVER_ERROR"}}]}),
         say({"data": {"things": [{"id": 1}, {"id": 2}]}})], GRAPHQL, ONE_TWO, 2,
    ),
    "UNAUTHENTICATED": Row(
        [say({"errors": [{"message": "log in", "extensions":
              {"code": "UNAUTHENTICATED"}}]})], GRAPHQL, code=65, words=["log in"],
    ),
    # rules
    "RETRY by a field": Row(
        [say({"ok": False, "error": "busy"}), GOOD],
        rules({"field": "ok", "equals": False, "action": "RETRY"}), ONE_TWO, 2,
    ),
    "RETRY for ever": Row(
        [say(items(1, 2, state="busy"))],
        rules({"field": "state", "matches": "bu.*", "action": "retry"}),
        requests=3, code=69, words=["error rule 1 says RETRY"],
    ),
    "RATE_LIMITED": Row(
        [say(SLACK, Retry_After="0.05"), GOOD],
        rules({"field": "error", "equals": "ratelimited", "action": "RATE_LIMITED"}),
        ONE_TWO, 2,
    ),
    "RATE_LIMITED for ever": Row(
        [say(SLACK)],
        {**rules({"field": "error", "matches": ".*limit.*", "action": "RATE_LIMITED"}),
         "max.retries": 1}, requests=2, code=75, words=["ratelimited"],
    ),
    "EMPTY of a page": Row(
        [say({"error": {"code": "NoData"}})],
        rules({"field": "error.code", "equals": ["Nothing", "NoData"],
               "action": "EMPTY"}),
    ),
    "EMPTY of a status and a text": Row(
        [say({"message": "no results found"}, 404)],
        rules({"status": "4xx", "field": "message", "matches": "no results.*",
               "action": "EMPTY"}),
    ),
    "a status and another text": Row(
        [say({"message": "no such route"}, 404)],
        rules({"status": [404, 410], "field": "message", "matches": "no results.*",
               "action": "EMPTY"}), code=65, words=["answers 404", "no such route"],
    ),
    "FAIL by a header": Row(
        [say(items(1), X_Error_Code="E17")],
        rules({"header": "x-error-code", "exists": True, "action": "FAIL"}),
        code=65, words=["error rule 1 says FAIL"],
    ),
    "a header that is not there": Row(
        [GOOD], rules({"header": "X-Error", "exists": True, "action": "FAIL"}), ONE_TWO
    ),
    "FAIL where it is missing": Row(
        [say(items(1))],
        rules({"field": "meta.ok", "exists": False, "action": "FAIL"}),
        code=65, words=["says FAIL"],
    ),
    "null and empty are no errors": Row(
        [say(items(1, 2, error=None, errors=[]))],
        rules({"field": "error", "action": "FAIL"},
              {"field": "errors", "exists": True, "action": "FAIL"}), ONE_TWO,
    ),
    "the first rule that fits": Row(
        [say({"code": 17}, 500), GOOD],
        rules({"status": 500, "field": "code", "equals": 18, "action": "EMPTY"},
              {"status": "500-599", "field": "code", "equals": 17, "action": "RETRY"},
              {"status": "500-", "action": "FAIL"}), ONE_TWO, 2,
    ),
    "a status alone": Row(
        [say(b"", 500)], rules({"status": 500, "action": "FAIL"}), code=65
    ),
    "a status that would be an end": Row(
        [say({"message": "warming up"}, 404), GOOD],
        rules({"status": 404, "action": "RETRY"}), ONE_TWO, 2,
    ),
    "in a list of errors": Row(
        [say([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "Total exceeded"}],
             400), GOOD],
        rules({"status": 400, "field": "[*].errorCode",
               "equals": "REQUEST_LIMIT_EXCEEDED", "action": "RETRY"}), ONE_TWO, 2,
    ),
    "AWS' __type": Row(
        [say({"__type": "ThrottlingException", "message": "Rate exceeded"}, 400), GOOD],
        rules({"field": "__type", "matches": ".*Throttling.*",
               "action": "RATE_LIMITED"}), ONE_TWO, 2,
    ),
    "RESTART": Row(
        [say({"error": "expired"}), GOOD],
        rules({"field": "error", "equals": "expired", "action": "RESTART"}),
        ONE_TWO, 2,
    ),
    "REFRESH_TOKEN with nothing to refresh": Row(
        [say({"ok": False, "error": "token_expired"})],
        rules({"field": "error", "equals": "token_expired",
               "action": "REFRESH_TOKEN"}), code=65, words=["token_expired"],
    ),
    "the API's own field": Row(
        [say({"outcome": {"why": "quota of the month"}, "message": "x"}, 400)],
        {"http.response.error.message.field": "outcome.why"},
        code=65, words=["quota of the month"],
    ),
    # statuses
    "403 with Retry-After": Row([say({}, 403, Retry_After="0.05"), GOOD], {}, ONE_TWO, 2),
    "403 with nothing left": Row(
        [say({"message": "API rate limit exceeded"}, 403, X_RateLimit_Remaining="0",
             X_RateLimit_Reset="1"), GOOD], {}, ONE_TWO, 2,
    ),
    "403 with something left": Row(
        [say({"message": "no"}, 403, X_RateLimit_Remaining="5", X_RateLimit_Reset="1")],
        {"auth.type": "BEARER", "bearer.token": "hush-hush"}, code=65,
        words=["answers 403", "no", "credentials are refused"],
    ),
    "401 without credentials": Row(
        [say({"message": "Requires authentication"}, 401)], {}, code=65,
        words=["GET http://", "/v1/things?api_key=****", "answers 401",
               "application/json", "Requires authentication", "auth.type"],
    ),
    "401 with credentials": Row(
        [say({}, 401)], {"auth.type": "BEARER", "bearer.token": "hush-hush"}, code=65,
        words=["refused"], never=["auth.type"],
    ),
    "401 in retry.on.status.codes": Row(
        [say({}, 401), GOOD], {"retry.on.status.codes": "401"}, ONE_TWO, 2
    ),
    "403 in retry.on.status.codes, for ever": Row(
        [say({}, 403)], {"retry.on.status.codes": "403"}, requests=3, code=69
    ),
    "413 for now": Row([say({}, 413, Retry_After="0.05"), GOOD], {}, ONE_TWO, 2),
    "500 with Retry-After": Row([say({}, 500, Retry_After="50ms"), GOOD], {}, ONE_TWO, 2),
    "413 for ever": Row([say({}, 413)], {}, code=65),
    "304 to a header of the user's": Row(
        [Say(status=304, body=b"", length="")],
        {"http.source.headers": 'If-None-Match:"abc"'},
    ),
    "304 to a date of the user's, by pages": Row(
        [Say(status=304, body=b"", length="")],
        {"http.source.headers": "If-Modified-Since:Tue, 15 Nov 2044 08:12:31 GMT",
         "pagination.type": "cursor", "pagination.cursor.field": "next",
         "pagination.has.more.field": "more"},
    ),
    "204": Row([Say(status=204, body=b"", length="")]),
    "205": Row([Say(status=205, body=b"")]),
    "RFC 9457": Row(
        [say({"type": "https://e.example/credit", "title": "You do not have enough "
              "credit.", "detail": "Your balance is 30", "status": 400}, 400,
             "application/problem+json")], code=65,
        words=["application/problem+json", "Your balance is 30"],
    ),
    "JSON:API": Row(
        [say({"errors": [{"status": "422", "title": "Invalid", "detail": "too short"}]},
             422, "application/vnd.api+json")], code=65, words=["too short"],
    ),
    "Google": Row(
        [say({"error": {"code": 400, "message": "Invalid page token",
              "status": "INVALID_ARGUMENT"}}, 400)], code=65,
        words=["INVALID_ARGUMENT", "Invalid page token"],
    ),
    "S3's XML": Row(
        [say(b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code><Message>The key does "
             b"not exist.</Message></Error>", 404, "application/xml")], code=65,
        words=["application/xml", "The key does not exist."],
    ),
    "an error's body with a secret": Row(
        [say({"message": "bad key hush-hush"}, 400)],
        {"auth.type": "BEARER", "bearer.token": "hush-hush"}, code=65, words=["****"],
    ),
    # pages that are none
    "a maintenance page": Row(
        [say(HTML, kind="text/html; charset=utf-8")], requests=3, code=65,
        words=["GET http://", "answers 200: not JSON (text/html): <!DOCTYPE html>"],
        never=["byte 0"],
    ),
    "a maintenance page that says it is JSON": Row(
        [say(HTML)], requests=3, code=65,
        words=["not JSON (application/json): <!DOCTYPE html>"], never=["byte 0"],
    ),
    "a maintenance page that goes by": Row(
        [say(HTML, kind="text/html"), GOOD], {}, ONE_TWO, 2
    ),
    "a maintenance page with 503": Row(
        [say(HTML, 503, "text/html", Retry_After="0.05"), GOOD], {}, ONE_TWO, 2
    ),
    "a changed shape": Row(
        [say({"results": [1], "count": 1})], requests=3, code=65,
        words=["nothing stands at 'items'", "results, count", "application/json"],
    ),
    "Slack's ok=false": Row(
        [say({"ok": False, "error": "invalid_auth"})], requests=3, code=65,
        words=["ok, error", "invalid_auth"],
    ),
    "a cut page": Row(
        [say(b'{"items": [1, 2')], requests=3, code=65,
        words=['not JSON (application/json): {"items": [1, 2'],
    ),
    "an empty body": Row([say(b"")], requests=3, code=65, words=["the body is empty"]),
    "an empty body that means it": Row(
        [say(b"")], {"http.response.empty.body": "EMPTY"}
    ),
    "blanks that mean it": Row(
        [say(b" \r\n ")], {"http.response.empty.body": "EMPTY"}
    ),
    "null that means it": Row([say(b"null")], {"http.response.empty.body": "EMPTY"}),
    "null": Row([say(b"null")], requests=3, code=65, words=["items"]),
}  # fmt: skip


@pytest.mark.parametrize("what", ERRORS)
def test_what_an_error_leads_to(tmp_path: Path, what: str) -> None:
    run(tmp_path, ERRORS[what])


#: How a wait is spelt, and by whom it is asked for.
WAITS = [
    "0.05",
    "0.3",
    "50ms",
    "0.05s",
    "0, 0.05",
    "0m0.05s",
    "PT0.05S",
    "0.05 seconds",
]
ASKERS = [408, 425, 429, 500, 502, 503, 504, 403, 413]


@pytest.mark.parametrize(
    ("status", "value"),
    [
        *((status, value) for status in (429, 503) for value in WAITS),
        *((status, "0.05") for status in ASKERS if status not in (429, 503)),
    ],
)
def test_a_retry_after_is_kept_whatever_the_status(
    tmp_path: Path, status: int, value: str
) -> None:
    row = Row([say({}, status, Retry_After=value), GOOD], {"retry.backoff.ms": 60000,
              "retry.backoff.max.ms": 60000}, ONE_TWO, 2)  # fmt: skip
    keys = {**row.keys, "circuit.breaker.enabled": "false"}
    with Misbehaving(*row.answers) as server, Source(tmp_path, server.url, keys) as s:
        assert 2 == len(s.records())
        gap = server.asked[1].at - server.asked[0].at

    assert gap >= (0.3 if value == "0.3" else 0.045)
    # The pause is the host's: nothing of a minute is waited beside it.
    assert not [each for each in s.stopping.waits if each > 1.0]


# -- bytes ------------------------------------------------------------------------

TEXT = '{"items": [{"id": "\u00e9\u20ac"}]}'
LATIN = '{"items": [{"id": "\u00e9"}]}'
EURO = ["\u00e9\u20ac"]
CSV = {"http.response.format": "csv", "http.response.data.json.pointer": None}
TWO_LINES = b'{"id": 1}\n{"id": 2}\n'
NDJSON = {"http.response.format": "ndjson", "http.response.data.json.pointer": None}
PLAIN = json.dumps(items(1, 2)).encode()


def zipped(*files: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def kind(charset: str) -> str:
    return f"application/json; charset={charset}"


BYTES: dict[str, Row] = {
    **{
        f"UTF-8 that says {label}": Row([say(TEXT.encode(), kind=kind(label))], {}, EURO)
        for label in ("utf-8", "UTF-8", '"utf-8"', "'utf-8'", "utf8", "iso-8859-1",
                      "us-ascii", "klingon", "unicode_escape", "", "utf-16",
                      "windows-1252", "x-user-defined", "binary", "utf-8,utf-8")
    },
    **{
        f"{codec} that says {label}": Row(
            [say(text.encode(codec), kind=kind(label))], {}, [json.loads(text)["items"][0]["id"]]
        )
        for codec, label, text in (
            ("latin-1", "ISO-8859-1", LATIN), ("latin-1", '"latin1"', LATIN),
            ("cp1252", "windows-1252", TEXT), ("cp1252", "iso-8859-1", TEXT),
            ("utf-16", "utf-16", TEXT), ("utf-16-le", "utf-16", TEXT),
            ("utf-16-be", "klingon", TEXT), ("utf-16", "utf-8", TEXT),
            ("utf-32", "utf-8", TEXT), ("utf-32-le", "", TEXT),
            ("utf-8-sig", "iso-8859-1", TEXT),
            ("shift_jis", "Shift_JIS", '{"items": [{"id": "\u65e5\u672c"}]}'),
            ("gb18030", "gb2312", '{"items": [{"id": "\u4e2d\u20ac"}]}'),
            ("iso2022_jp", "ISO-2022-JP", '{"items": [{"id": "\u65e5"}]}'),
        )
    },
    "latin-1 without a label": Row(
        [say(LATIN.encode("latin-1"))], requests=3, code=65,
        words=["not UTF-8 at byte 19", "http.response.charset"],
    ),
    "latin-1 that somebody states": Row(
        [say(LATIN.encode("latin-1"), kind=kind("utf-8"))],
        {"http.response.charset": "ISO-8859-1"}, ["\u00e9"],
    ),
    "a stated charset that is not it": Row(
        [say(TEXT.encode("cp1252"))], {"http.response.charset": "utf-8"},
        requests=3, code=65, words=["not UTF-8"],
    ),
    "CSV by its label": Row(
        [say("id,n\n\u00e9,1\n".encode("latin-1"), kind="text/csv; charset=latin1")],
        CSV, ["\u00e9"],
    ),
    **{
        f"Content-Encoding: {name}": Row([say(PLAIN, Content_Encoding=name)], {}, ONE_TWO)
        for name in ("identity", "none", "utf-8", "UTF-8", "aws-chunked", "binary", "8bit",
                     "", "text/plain", "aws-chunked, identity")
    },
    **{
        f"gzip as {name}": Row(
            [say(gzip.compress(PLAIN), Content_Encoding=name)], {}, ONE_TWO
        )
        for name in ("gzip", "x-gzip", "GZIP", "gzip, identity", "aws-chunked,gzip",
                     "gzip, gzip", "utf-8, gzip")
    },
    "gzip twice": Row(
        [say(gzip.compress(gzip.compress(PLAIN)), Content_Encoding="gzip, gzip")], {},
        ONE_TWO,
    ),
    "deflate in gzip": Row(
        [say(gzip.compress(zlib.compress(PLAIN)), Content_Encoding="deflate, gzip")],
        {}, ONE_TWO,
    ),
    "gzip that is none": Row([say(PLAIN, Content_Encoding="gzip")], {}, ONE_TWO),
    "deflate, wrapped": Row(
        [say(zlib.compress(PLAIN), Content_Encoding="deflate")], {}, ONE_TWO
    ),
    "deflate, raw": Row(
        [say(zlib.compress(PLAIN)[2:-4], Content_Encoding="deflate")], {}, ONE_TWO
    ),
    "a coding nobody asked for": Row(
        [say(PLAIN, Content_Encoding="compress")], requests=3, code=65,
        words=["not asked for"],
    ),
    "six codings": Row(
        [say(PLAIN, Content_Encoding=", ".join(["gzip"] * 6))], requests=3, code=65,
        words=["stacked"],
    ),
    "a coding that is none, strictly": Row(
        [say(PLAIN, Content_Encoding="utf-8")], {"http.client.parser": "STRICT"},
        requests=3, code=65, words=["not asked for"],
    ),
    # files
    "a gzip file": Row([say(gzip.compress(PLAIN), kind="application/gzip")], {}, ONE_TWO),
    "a gzip file of two members": Row(
        [say(gzip.compress(TWO_LINES[:10]) + gzip.compress(TWO_LINES[10:]),
             kind="application/octet-stream")], NDJSON, ONE_TWO,
    ),
    "a gzip file within gzip": Row(
        [say(gzip.compress(gzip.compress(PLAIN)), Content_Encoding="gzip")], {}, ONE_TWO
    ),
    "a cut gzip file": Row(
        [say(gzip.compress(PLAIN)[:-9], kind="application/gzip")], requests=3, code=65,
        words=["gzip file"],
    ),
    "a zip file": Row([say(zipped(("page.json", PLAIN)), kind="application/zip")], {}, ONE_TWO),
    "a zip file of several": Row(
        [say(zipped(("a.json", TWO_LINES[:10]), ("dir/b.json", TWO_LINES[10:]),
                    ("__MACOSX/x", b"junk"), ("dir/.DS_Store", b"junk")))], NDJSON, ONE_TWO,
    ),
    "a gzip file in a zip file": Row(
        [say(zipped(("a.json.gz", gzip.compress(PLAIN))))], {}, ONE_TWO
    ),
    "CSV in a zip file": Row(
        [say(zipped(("a.csv", b"id,n\n1,x\n2,y\n")), kind="application/x-zip-compressed")],
        CSV, ["1", "2"],
    ),
    "a cut zip file": Row(
        [say(zipped(("a.json", PLAIN))[:-30])], requests=3, code=65, words=["zip file"]
    ),
    "a zip file with a broken checksum": Row(
        [say(zipped(("a.json", PLAIN)).replace(PLAIN[:1], PLAIN[:1]).replace(
            zlib.crc32(PLAIN).to_bytes(4, "little"), b"\0\0\0\0"))],
        requests=3, code=65, words=["zip file"],
    ),
    "an empty zip file": Row(
        [say(zipped())], requests=3, code=65, words=["holds no file"]
    ),
    "a zip bomb": Row(
        [say(zipped(("a.json", b" " * 4_000_000 + PLAIN)))], code=65, words=["inflates over"]
    ),
    "a gzip file that is a bomb": Row(
        [say(gzip.compress(b" " * 4_000_000 + PLAIN))], code=65, words=["inflates over"]
    ),
    "a zip file over the limit": Row(
        [say(zipped(("a.json", PLAIN + b" " * 3000)))],
        {"http.client.max.response.size.bytes": 2048}, code=65, words=["over 2048"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BYTES)
def test_what_bytes_are_read_as(tmp_path: Path, what: str) -> None:
    run(tmp_path, BYTES[what])


OVER_H2 = (
    "errors beside data", "RATE_LIMITED", "EMPTY of a page", "403 with Retry-After",
    "403 with nothing left", "401 with credentials", "a maintenance page",
    "a changed shape", "an empty body", "304 to a date of the user's, by pages",
    "500 with Retry-After", "latin-1 that says ISO-8859-1", "gzip that is none",
    "Content-Encoding: none", "Content-Encoding: aws-chunked", "gzip as gzip, gzip",
    "deflate, raw", "a coding nobody asked for", "a gzip file", "a zip bomb",
)  # fmt: skip


@pytest.mark.skipif(
    not installed() and "CI" not in os.environ, reason="the extra [http2] is missing"
)
@pytest.mark.parametrize("what", OVER_H2)
def test_over_http_2_it_is_the_same(tmp_path: Path, what: str) -> None:
    row = {**ERRORS, **BYTES}[what]
    words = [word.replace("http://", "https://") for word in row.words]
    run(tmp_path, replace(row, words=words), http2=True)


# -- bodies of requests -------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "body", "null", "sent"),
    [
        (
            None,
            '{"after": ${cursor}, "n": ${limit}}',
            "KEEP",
            b'{"after": null, "n": 2}',
        ),
        (None, '{"after": ${cursor}, "n": ${limit}}', "OMIT", b'{"n": 2}'),
        (None, '{"n": ${limit}, "after": "${cursor}"}', "OMIT", b'{"n": 2}'),
        (None, '{"v": {"after": ${cursor}}}', "OMIT", b'{"v": {}}'),
        (
            None,
            '{"l": [${cursor}], "t": "a${cursor}"}',
            "OMIT",
            b'{"l": [null], "t": "a"}',
        ),
        (
            "application/x-www-form-urlencoded",
            "after=${cursor}&n=${limit}",
            "OMIT",
            b"n=2",
        ),
    ],
)
def test_what_is_sent(
    tmp_path: Path, header: str | None, body: str, null: str, sent: bytes
) -> None:
    keys = {
        "http.source.method": "POST",
        "http.source.body": body,
        "http.source.body.null": null,
        "http.source.headers": header and f"Content-Type:{header}",
        "pagination.type": "cursor",
        "pagination.limit.value": 2,
        "pagination.cursor.field": "next",
    }
    with Misbehaving(GOOD) as server, Source(tmp_path, server.url, keys) as source:
        source.poll()

        assert sent == server.asked[0].body


@pytest.mark.parametrize(
    "header",
    [
        "application/json",
        "application/x-amz-json-1.1",
        "application/vnd.api+json; charset=utf-8",
        "application/graphql-response+json",
        "application/x-ndjson",
    ],
)
def test_the_cursor_takes_its_place_once_there_is_one(
    tmp_path: Path, header: str
) -> None:
    keys: dict[str, Any] = {
        "http.source.method": "POST",
        "http.source.headers": f"Content-Type:{header}",
        "http.source.body": '{"after": ${cursor}, "text": "<${cursor}>"}',
        "http.source.body.null": "OMIT",
        "pagination.type": "cursor",
        "pagination.cursor.field": "next",
    }
    answers = [say(items(1, next='a"b')), say(items(2))]
    with Misbehaving(*answers) as server, Source(tmp_path, server.url, keys) as source:
        source.poll()

        assert [
            b'{"text": "<>"}',
            b'{"after": "a\\"b", "text": "<a\\"b>"}',
        ] == [asked.body for asked in server.asked]
