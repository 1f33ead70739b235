"""A mapped page is split window by window into what one go would give."""

from __future__ import annotations

import json
import mmap
import random
import tempfile
from typing import Any

import pytest

from engine.errors import BadPage
from engine.records import CutSequence
from engine.source.decode import mapped
from engine.source.decode.decoder import compile_decoder
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
