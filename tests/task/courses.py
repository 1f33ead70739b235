"""
Courses: the polls that a file's keys make, walked against a model of an API.

They are made as a run makes them; a state is what the one before has left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path

from msgspec.structs import replace

from engine.config import Api, Connector, load
from engine.records import Offset, Page, Shard
from engine.seams import Fetch
from engine.source.decode.decoder import compile_decoder
from engine.source.jobs import JobPoll
from engine.source.poll import Poll
from engine.task.build.jobs import job_decoder, keys_of, steps_of
from engine.task.build.polling import paginator_of
from tests.fakes.jobs import Jobs
from tests.fakes.walks import Never, bytes_of
from tests.task.configurations import (
    Changing,
    Sliced,
)
from tests.task.tokens import Synced


class At:
    """The clock of a model."""

    def __init__(self, model: Changing | Sliced | Synced):
        self._model = model

    def wall_ms(self) -> int:
        return int(self._model.now * 1000)

    def monotonic(self) -> float:
        return 0.0


class File:
    """A file of these keys, and polls made of it."""

    def __init__(self, folder: Path, keys: Mapping[str, str], limit: int = 4):
        file = folder / f"c{limit}.properties"
        lines = [f"{k}={v.replace('LIMIT', str(limit))}" for k, v in keys.items()]
        file.write_text(
            "\n".join(["bootstrap.servers=h:1", "kafka.topic=t", *lines]) + "\n"
        )
        loaded = load([file])
        assert not [f for f in loaded.findings if f.severity != "notice"]
        self.connector: Connector = loaded.connectors[0]
        self.api: Api = self.connector.apis[0]

    def jobs(self, api: Jobs) -> JobPoll:
        """A poll of the jobs of an API."""
        shard = Shard("c", self.api.name)
        paginator = paginator_of(self.connector, self.api, shard, zone=UTC, task=0)
        keys = keys_of(self.api)
        assert keys is not None
        data = str(self.api.values["http.response.data.json.pointer"])
        return JobPoll(
            paginator,
            fetch=api,
            decode=compile_decoder(data_path=data, wanted=paginator.paths),
            stopping=Never(),
            keys=replace(keys, interval=0.0),
            steps=steps_of(
                self.connector,
                self.api,
                shard,
                pages=paginator.shape,
                ask=api,
                look=api,
                decode=job_decoder(self.api),
                zone=UTC,
                task=0,
            ),
            note=lambda name: None,
        )

    def poll(
        self,
        model: Changing | Sliced | Synced,
        index: int = 0,
        count: int = 1,
        others: Sequence[tuple[int, int, Offset]] = (),
    ) -> Poll:
        paginator = paginator_of(
            self.connector,
            self.api,
            Shard("c", self.api.name, index=index, count=count),
            zone=UTC,
            task=0,
            others=others,
        )
        fetch: Fetch = model
        data = str(self.api.values["http.response.data.json.pointer"])
        return Poll(
            paginator,
            fetch=fetch,
            decode=compile_decoder(data_path=data, wanted=paginator.paths),
            stopping=Never(),
            clock=At(model),
        )


def stored(page: Page) -> Offset:
    found: Offset = json.loads(json.dumps(page.offset))
    return found


def of(pages: Sequence[Page]) -> list[tuple[int, int]]:
    found = [json.loads(record) for record in bytes_of(pages)]
    return [(record["id"], record["version"]) for record in found]


class Files:
    """The file of some keys with pages of any size."""

    def __init__(self, folder: Path, keys: Mapping[str, str]):
        self._folder, self._keys = folder, keys
        self._made: dict[int, File] = {}

    def __call__(self, limit: int) -> File:
        if limit not in self._made:
            self._made[limit] = File(self._folder, self._keys, limit)
        return self._made[limit]


class Course:
    """Polls in turn from a position, and what they brought."""

    def __init__(self, poll: Poll, offset: Offset | None = None):
        self.poll, self.offset = poll, offset
        self.got: list[tuple[int, int]] = []
        self.states: list[tuple[Offset, int]] = []

    def __call__(self, pages: int = 1 << 30) -> None:
        """A poll, or so many pages of it, and then a kill."""
        walk = self.poll.pages(self.offset)
        for page in walk:
            self.got += of([page])
            self.offset = stored(page)
            self.states.append((self.offset, len(self.got)))
            pages -= 1
            if not pages:
                break
        walk.close()
