"""Files on disk and what they load to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import ConfigError, Finding, Loaded, load

#: What a document needs besides what a test is about.
BASE = (
    "http.source.url=https://api.example.com/v1/things\n"
    "kafka.topic=things\n"
    "bootstrap.servers=127.0.0.1:9092\n"
)


class Files:
    """Writes documents into a directory and loads them."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._count = 0

    def write(self, text: str | bytes, name: str | None = None) -> Path:
        self._count += 1
        path = self.directory / (name or f"file{self._count}.properties")
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(0o600)
        return path

    def load(self, text: str | bytes, *overrides: str, **options: Any) -> Loaded:
        """`text` over the base."""
        base = self.write(BASE, "base.properties")
        return load([base, self.write(text)], overrides, **options)

    def alone(self, text: str | bytes, *overrides: str, **options: Any) -> Loaded:
        return load([self.write(text)], overrides, **options)

    def errors(self, text: str | bytes, *overrides: str) -> tuple[Finding, ...]:
        with pytest.raises(ConfigError) as caught:
            self.load(text, *overrides)
        return tuple(caught.value.findings)

    def value(self, text: str, key: str, *overrides: str) -> Any:
        """One key's value, wherever it belongs."""
        loaded = self.load(text, *overrides)
        connector = loaded.connectors[0]
        for values in (connector.apis[0].values, connector.values, loaded.process):
            if key in values:
                return values[key]
        raise KeyError(key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)
