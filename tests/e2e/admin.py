"""The admin process of an engine that runs, asked as anybody asks it: over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.rig import Running, Setup, until

#: Beside the setup's own keys: any free port, written to the runtime directory.
LISTENING = {"listeners": "http://127.0.0.1:0"}

#: A scrape: (sample, its labels in alphabetical order) -> value.
Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Told(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Admin:
    """
    Args:
        url: Where it listens.
    """

    #: Seconds an answer may take.
    patience = 10.0

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> Told:
        """One request, whatever the status of its answer."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=_bytes(body),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=self.patience) as answer:
                return Told(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as refused:
            return Told(refused.code, dict(refused.headers), refused.read())

    def get(self, path: str) -> Any:
        """The JSON that a path answers with."""
        return self.ask(path).document

    def health(self, connector: str) -> tuple[str, str]:
        """Status and reasons of one connector."""
        told = self.get("/health")["connectors"][connector]
        return told["status"], " ".join(told["reasons"])

    def scrape(self) -> Scrape:
        """`/metrics`, read by the library that Prometheus publishes for it."""
        return scraped(self.ask("/metrics").body.decode())


def scraped(text: str) -> Scrape:
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(scrape: Scrape, name: str, **labels: str) -> float:
    """The sum of a sample over the series that have these labels."""
    wanted = set(labels.items())
    return sum(
        value
        for (sample, given), value in scrape.items()
        if sample == name and wanted <= set(given)
    )


def admin_of(setup: Setup, running: Running) -> Admin:
    """The admin process of an engine that was just started."""
    return Admin(listening(Path(str(setup.keys["runtime.dir"])), running)[0])


def listening(runtime: Path, running: Running) -> list[str]:
    """Every address it listens on, once it does."""

    def urls() -> list[str]:
        assert running.process.poll() is None, running.err
        return [url for file in _files(runtime) for url in file.read_text().split()]

    found: list[str] = until(urls, "the listeners are written down")
    return found


def _files(runtime: Path) -> Iterable[Path]:
    return runtime.glob("**/listeners")


def _bytes(body: object) -> bytes | None:
    """A body as it is sent: bytes as they are, anything else as JSON."""
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body).encode()
