"""
Source: one api's HTTP side as its configuration file makes it.

Everything is real but Kafka: the file is loaded, the pool, limiter, breaker and
layers are the task's own, pages are what a flow would get.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from engine.config import load
from engine.records import Offset, Page, Shard
from engine.source.poll import Poll
from engine.task.build.places import Places
from engine.task.build.sources import Sources
from tests.fakes.misbehaving import authority_pem


class Stopping:
    """A flag that nobody sets; what is waited for is noted and takes no time."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.flag = threading.Event()

    def is_set(self) -> bool:
        return self.flag.is_set()

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return self.flag.is_set()


class Source:
    """
    Args:
        folder: Where the configuration and what processes share lie.
        url: `http.source.url`.
        keys: As they stand in the file; None leaves one out.
        task: Number of the task.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        keys: Mapping[str, object] | None = None,
        *,
        task: int = 0,
    ):
        ca = folder / "ca.pem"
        ca.write_text(authority_pem())
        lines: dict[str, object] = {
            "name": "survivor",
            "http.source.url": url,
            "http.response.data.json.pointer": "items",
            "kafka.topic": "things",
            "bootstrap.servers": "127.0.0.1:9092",
            "https.ssl.truststore.location": ca,
            "max.retries": 2,
            **(keys or {}),
        }
        file = folder / f"survivor-{task}.properties"
        file.write_text(
            "".join(f"{k}={v}\n" for k, v in lines.items() if v is not None)
        )
        file.chmod(0o600)
        self.connector = load([file]).connectors[0]
        self.stopping = Stopping()
        self.sources = Sources(
            self.connector,
            zone="UTC",
            task=task,
            places=Places(folder / "run", folder / "state"),
            budget=None,
            stop=self.stopping,
        )
        self.notes: list[str] = []
        self._polls: dict[int, Poll] = {}

    @property
    def counters(self) -> Any:
        return self.sources.counters

    def walk(self, offset: Offset | None = None, api: int = 0) -> Any:
        """The pages of one poll as they come."""
        made = self._polls.get(api)
        if made is None:
            chosen = self.connector.apis[api]
            made = self._polls[api] = self.sources.poll(
                chosen,
                Shard(self.connector.name, chosen.name),
                stopping=self.stopping,
                note=self.notes.append,
            )
        return made.pages(offset)

    def poll(self, offset: Offset | None = None, api: int = 0) -> list[Page]:
        """One poll, first page to last."""
        return list(self.walk(offset, api))

    def records(self) -> list[bytes]:
        """The records of one poll, as the API wrote them."""
        return [bytes(record) for page in self.poll() for record in page.records]

    def turn(self, until: Callable[[], bool], seconds: float = 5.0) -> None:
        """Let the task's loop go round until something holds."""
        end = time.monotonic() + seconds
        while not until():
            now = time.monotonic()
            assert now < end, "the condition never held"
            time.sleep(min(0.01, max(0.0, self.sources.tick(now))))

    def close(self) -> None:
        self.sources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
