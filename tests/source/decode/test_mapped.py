"""A mapped page is split window by window into what one go would give."""

from __future__ import annotations

import json
import mmap
import random
import tempfile
from typing import Any

import pytest

from engine import columnfile
from engine.errors import BadPage
from engine.records import CutSequence
from engine.source.decode import formats, mapped
from engine.source.decode.decoder import Shapes, compile_decoder
from tests.fakes.misbehaving import Misbehaving, Say
from tests.source.clients import Client
from tests.source.decode.test_decoder import response, texts


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "WINDOW", 2048)


def laid_out(body: bytes) -> memoryview:
    with tempfile.TemporaryFile() as file:
        file.write(body)
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def decoys(seed: int) -> Any:
    """Records whose insides look like the borders between records."""
    chance = random.Random(seed)
    for number in range(300):
        text = chance.choice(['},{"id":', "],[", '\\"},{\\"id\\":1', ",", "é,"])
        yield {
            "id": number,
            "text": text * chance.randrange(4),
            "list": [{"id": 1}, {"id": 2}] * chance.randrange(3),
            "deep": {"items": [{"id": 7}], "id": [[], [[]]]},
        }


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize(
    ("path", "wrap"),
    [
        ("", lambda items: items),
        ("items", lambda items: {"items": items, "next": "n"}),
        ("items", lambda items: {"next": "n", "x": {"items": [1]}, "items": items}),
        (
            "a.items",
            lambda items: {"b": {"items": [2]}, "a": {"items": items}, "next": "n"},
        ),
    ],
)
def test_windows_give_what_one_go_gives(
    path: str, wrap: Any, indent: int | None, ascii_only: bool
) -> None:
    for seed in range(3):
        items = list(decoys(seed))
        body = json.dumps(wrap(items), indent=indent, ensure_ascii=ascii_only).encode()
        run = compile_decoder(data_path=path, wanted=("next",) if path else ())
        at_once = run(response(body))
        kept = laid_out(body)
        in_windows = run(response(kept))

        assert isinstance(in_windows.records, CutSequence)
        assert items == [json.loads(text) for text in texts(in_windows)]
        assert texts(at_once) == texts(in_windows)
        assert at_once.found == in_windows.found
        assert body == bytes(kept)


@pytest.mark.parametrize("item", [1, "a,b", [1, 2], None])
def test_items_that_are_no_objects(item: Any) -> None:
    items = [item] * 3000
    body = json.dumps({"items": items}).encode()
    run = compile_decoder(data_path="items")

    assert items == [json.loads(t) for t in texts(run(response(laid_out(body))))]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body[:-2],
        lambda body: body[: len(body) // 2],
        lambda body: body.replace(b'"id": 150,', b'"id": 150;'),
        lambda body: body.replace(b'"id": 150,', b'"id": NaN,'),
        lambda body: body + b"{}",
    ],
)
def test_a_broken_page_is_as_bad_in_windows(spoil: Any) -> None:
    body = spoil(json.dumps({"items": list(decoys(0))}).encode())
    with pytest.raises(BadPage, match="not JSON"):
        compile_decoder(data_path="items")(response(laid_out(body)))


def lines(gap: bytes, end: bytes) -> bytes:
    return gap.join(json.dumps(item).encode() for item in decoys(1)) + end


@pytest.mark.parametrize("gap", [b"\n", b"\r\n", b"\n\n", b"\n \n"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n" * 3000])
def test_lines_in_windows_are_those_of_the_whole(gap: bytes, end: bytes) -> None:
    run = compile_decoder(format="ndjson")
    body = lines(gap, end)
    in_windows = run(response(laid_out(body)))

    assert isinstance(in_windows.records, CutSequence)
    assert texts(run(response(body))) == texts(in_windows)
    assert list(map(len, in_windows.records)) == list(in_windows.records.lengths)


@pytest.mark.parametrize(
    "line", [b"[1,2,3]", b'"x"', b'{"long":"' + b"y" * 9000 + b'"}']
)
def test_lines_longer_than_a_window_and_without_objects(line: bytes) -> None:
    run = compile_decoder(format="ndjson")
    body = b"\n".join([line, b'{"id":1}'] * 500)

    assert texts(run(response(body))) == texts(run(response(laid_out(body))))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body[:-3],
        lambda body: body.replace(b'"id": 150,', b'"id": 150;'),
        lambda body: body.replace(b'"id": 150,', b'"id":\n150,'),
        lambda body: body.replace(b'"id": 150,', b'"s": "\\ud800", "id": 150,'),
        lambda body: body + b"}",
        lambda body: body[:-1] + b"," + b"[" * 2000,
    ],
)
@pytest.mark.parametrize("format", ["ndjson", "json"])
def test_what_is_wrong_is_said_alike(spoil: Any, format: str) -> None:
    body = spoil(lines(b"\n", b""))
    if format == "json":
        body = spoil(json.dumps({"items": list(decoys(0))}).encode())
    run = compile_decoder(format=format, data_path="items" if format == "json" else "")

    def said(body: Any) -> Any:
        try:
            return texts(run(response(body)))
        except BadPage as error:
            return str(error)

    assert said(body) == said(laid_out(body))


TABLES = [
    {},
    {"quote": ""},
    {"delimiter": ";"},
    {"names": ("a", "b", "c")},
    {"names": ("a", "b", "c"), "header": False},
]


@pytest.mark.parametrize("shape", TABLES)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("spoil", ["", "\n1,2\n", '\n"x', "\n\n"])
def test_a_mapped_table_is_that_in_memory(
    shape: dict[str, Any], end: str, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnfile, "WINDOW", 500)
    monkeypatch.setattr(formats, "AT_ONCE", 7)
    monkeypatch.setattr(formats, "BUFFER", 11)
    comma = shape.get("delimiter", ",")
    rows = [["id", "é", "x"]]
    cell = f"a{end}b" if shape.get("quote") is None else "ab"
    rows += [
        [str(at), "é" * (at % 9), f'"{cell}"' * (at % 3 == 0)] for at in range(200)
    ]
    body = (end.join(comma.join(row) for row in rows) + spoil).encode()
    run = compile_decoder(format="csv", shapes=Shapes(csv=formats.CsvFormat(**shape)))

    def said(body: Any) -> Any:
        try:
            return texts(run(response(body)))
        except BadPage as error:
            return str(error)

    assert said(body) == said(laid_out(body))
    if not spoil:
        assert len(said(body)) >= 200


def test_a_page_without_the_usual_shape_is_split_in_one_go() -> None:
    body = json.dumps({"items": {"only": "x" * 9000}}).encode()
    run = compile_decoder(data_path="items")

    assert 1 == len(run(response(laid_out(body))).records)


@pytest.mark.slow
def test_a_page_of_100_mb_stays_within_96_mib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    record = b'{"id":1,"name":"' + b"x" * 250 + b'"}'
    body = b'{"items":[' + b",".join([record] * 370_000) + b'],"next":"n"}'
    with Misbehaving(Say(body=body)) as server:
        client = Client(server.url, max_response=200 << 20)
        run = compile_decoder(data_path="items", wanted=("next",))
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        idle = resident("VmRSS")
        decoded = run(client.get())
        peak = resident("VmHWM")

        assert (370_000, {"next": "n"}) == (len(decoded.records), decoded.found)
        assert record == bytes(decoded.records[-1])
        assert peak - idle < 96 << 10


def resident(field: str) -> int:
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    raise AssertionError(field)
