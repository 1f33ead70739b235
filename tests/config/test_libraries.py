"""Optional libraries: `check` and the engine give one answer, whatever is missing."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import config
from engine.config import libraries
from engine.config.libraries import NEEDS, load, missing
from engine.errors import ConfigError, Misconfigured
from engine.sink.compress import packing


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Takes libraries away, as if they were not installed."""

    def hide(*names: str) -> None:
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        libraries._found.cache_clear()

    libraries._found.cache_clear()
    yield hide
    monkeypatch.undo()
    libraries._found.cache_clear()


ZSTD = ("compression.zstd", "backports.zstd", "zstandard")
PROTOBUF = {
    "value.converter": "ProtobufConverter",
    "value.schema.file": "order.desc",
    "value.schema.message": "Order",
}

#: Key and value -> what it needs -> the modules that all have to be away, severity.
TABLE: list[tuple[dict[str, str], str, tuple[str, ...], str]] = [
    ({"producer.compression.type": "zstd"}, "compression.type zstd", ZSTD, "error"),
    (
        {"producer.compression.type": "snappy"},
        "compression.type snappy",
        ("snappy",),
        "error",
    ),
    (
        {"http.client.compression.types": "gzip,br"},
        "Content-Encoding br",
        ("brotli", "brotlicffi"),
        "error",
    ),
    (
        {"http.client.compression.types": "zstd"},
        "Content-Encoding zstd",
        ZSTD,
        "error",
    ),
    (
        {"http.source.headers": "Accept-Encoding: br;q=0.5, gzip"},
        "Content-Encoding br",
        ("brotli", "brotlicffi"),
        "error",
    ),
    (
        {"http.source.headers": "Accept-Encoding: zstd"},
        "Content-Encoding zstd",
        ZSTD,
        "error",
    ),
    ({"value.converter": "AvroConverter"}, "AvroConverter", ("fastavro",), "error"),
    ({"key.converter": "AvroConverter"}, "AvroConverter", ("fastavro",), "error"),
    (
        PROTOBUF,
        "ProtobufConverter",
        ("google.protobuf.message_factory",),
        "error",
    ),
    (
        {"value.converter": "JsonSchemaConverter"},
        "JsonSchemaConverter",
        ("jsonschema_rs",),
        "error",
    ),
    (
        {"bootstrap.servers": "embedded"},
        "the embedded broker",
        ("noida_db",),
        "error",
    ),
    ({"http.client.http2.enabled": "true"}, "HTTP/2", ("pycurl",), "warning"),
]


def findings(tmp_path: Path, stated: dict[str, str]) -> list[config.Finding]:
    values = {
        "http.source.url": "http://127.0.0.1:1/",
        "bootstrap.servers": "127.0.0.1:1",
        "kafka.topic": "t",
        "key.converter.schema.registry.url": "http://127.0.0.1:1/",
        "value.converter.schema.registry.url": "http://127.0.0.1:1/",
        **stated,
    }
    file = tmp_path / "c.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    (tmp_path / "order.desc").write_bytes(b"")
    try:
        return list(config.load([str(file)]).findings)
    except ConfigError as failure:
        return list(failure.findings)


@pytest.mark.parametrize(("stated", "purpose", "names", "severity"), TABLE)
def test_a_key_whose_library_is_missing_is_found(
    stated: dict[str, str],
    purpose: str,
    names: tuple[str, ...],
    severity: str,
    without: Callable[..., None],
    tmp_path: Path,
) -> None:
    before = [str(each) for each in findings(tmp_path, stated)]
    without(*names)
    found = [f for f in findings(tmp_path, stated) if "needs a library" in f.message]

    assert not any("needs a library" in text for text in before)
    assert [severity] == [each.severity for each in found]
    [finding] = found
    assert finding.key in stated
    assert finding.line
    assert f"pip install 'kafka-http-source[{NEEDS[purpose].extra}]'" in finding.message


@pytest.mark.parametrize("purpose", NEEDS)
def test_any_one_of_its_libraries_will_do(
    purpose: str, without: Callable[..., None]
) -> None:
    found = load(purpose)
    assert found is not None, missing(purpose)
    others = [name for name in NEEDS[purpose].modules if name != found.__name__]

    without(*others)

    assert load(purpose) is not None


def test_zstd_needs_no_snappy_and_snappy_no_zstd(without: Callable[..., None]) -> None:
    without("snappy")
    assert "zstd" == packing("zstd").kind
    with pytest.raises(Misconfigured, match="snappy is not installed"):
        packing("snappy")


def test_snappy_needs_no_zstd(without: Callable[..., None]) -> None:
    without(*ZSTD)
    assert "snappy" == packing("snappy").kind
    with pytest.raises(Misconfigured, match="zstandard is not installed"):
        packing("zstd")


@pytest.mark.parametrize("library", ["zstandard", "backports.zstd"])
def test_zstd_is_written_by_either(library: str, without: Callable[..., None]) -> None:
    zstandard = pytest.importorskip("zstandard")
    pytest.importorskip(library)
    without(*(name for name in ZSTD if name != library))

    codec = packing("zstd").codec
    assert codec is not None
    packed = codec(b"records" * 1000)

    reader = zstandard.ZstdDecompressor().stream_reader(packed)
    assert b"records" * 1000 == reader.read()


def test_a_library_that_cannot_be_loaded_says_why(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pycurl.py").write_text(
        "raise ImportError('libcurl.so.4: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pycurl", raising=False)
    libraries._found.cache_clear()

    assert "pycurl cannot be loaded: libcurl.so.4" in missing("HTTP/2")


def test_a_brotli_that_cannot_bound_its_output_will_not_do(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    old: Any = types.ModuleType("brotli")
    old.Decompressor = type("Decompressor", (), {"process": None})
    without("brotlicffi")
    monkeypatch.setitem(sys.modules, "brotli", old)

    assert "brotli is too old: it cannot bound its output" in missing(
        "Content-Encoding br"
    )


def test_a_libcurl_without_http2_will_not_do(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    old: Any = types.ModuleType("pycurl")
    old.version_info = lambda: (0, "7", 0, "x", 0)
    monkeypatch.setitem(sys.modules, "pycurl", old)
    libraries._found.cache_clear()

    assert "its libcurl has no HTTP/2" in missing("HTTP/2")


def test_an_encoding_that_is_switched_off_needs_no_library(
    without: Callable[..., None], tmp_path: Path
) -> None:
    without("brotli", "brotlicffi")
    stated = {
        "http.client.compression.enabled": "false",
        "http.client.compression.types": "br",
    }
    refused = {"http.source.headers": "Accept-Encoding: gzip, br;q=0"}

    assert not any(f.severity == "error" for f in findings(tmp_path, stated))
    assert not any(f.severity == "error" for f in findings(tmp_path, refused))


@pytest.mark.parametrize("library", ["zstandard", "backports.zstd"])
@pytest.mark.parametrize("step", [1, 100, 1 << 20])
def test_zstd_is_read_by_either(
    library: str,
    step: int,
    without: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from engine.source.wire import inflate

    zstandard = pytest.importorskip("zstandard")
    pytest.importorskip(library)
    without(*(name for name in ZSTD if name != library))
    monkeypatch.setattr(inflate, "zstd", load("Content-Encoding zstd"))
    text = bytes(range(256)) * 300
    pack = zstandard.ZstdCompressor().compress
    wire = pack(text) + pack(b"more")
    inflater = inflate._zstd(4096)
    found = b""
    for at in range(0, len(wire), step):
        found += b"".join(inflater.feed(wire[at : at + step]))

    assert text + b"more" == found
    assert inflater.ended()


def test_zstandard_bounds_what_comes_out(
    without: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.source.wire import inflate

    zstandard = pytest.importorskip("zstandard")
    without("compression.zstd", "backports.zstd")
    monkeypatch.setattr(inflate, "zstd", load("Content-Encoding zstd"))
    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))

    largest = max(len(piece) for piece in inflate._zstd(1 << 16).feed(bomb))

    assert largest <= (1 << 16) + (inflate.SLICE // 4 + 1) * (128 << 10)
