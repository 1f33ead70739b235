"""
Sample: what the first few pages of each api were like.

Owns the measuring of live pages for `plan`: sizes, times, how many there are in
a poll, what the server says of its own limits.  It asks one request after the
other, produces nothing, registers no schema and moves no state.

Path: ``cli.plan`` -> here -> ``task.probe``, ``task.build.transform``
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from msgspec import Raw, Struct
from msgspec.structs import replace

from engine.clock import SYSTEM
from engine.config import Api, Connector
from engine.config.sections.converters import ConverterConfig
from engine.config.sections.engine import ApiConfig
from engine.config.sections.limits import RateLimitConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.response import RecordsConfig
from engine.config.sections.section import needed
from engine.records import Page, Parcel
from engine.shared.demands import HostReading
from engine.source.children import naming
from engine.source.paging.envelope import Fields
from engine.source.wire.origin import host_of
from engine.task.build.registry import MODULES, Registries
from engine.task.build.transform import transform_of
from engine.task.probe import pages

#: Seconds that a sample may have to wait for the configured rate.
PATIENCE = 10.0


class Sample(Struct, kw_only=True):
    """
    The pages of one api, added up.

    Attributes:
        api: Its `api.name`.
        host: That answered.
        pages, requests: How many; a try that failed is a request, too.
        records: On all of them.
        first_records: On the first of them.
        record_bytes, largest_record: Of the records as they came, all and one.
        body_bytes, largest_body: Of the bodies, inflated.
        wire_bytes: Of the bodies as they came over the network.
        seconds, slowest: From a request sent to its page split, all and one.
        transform_seconds: In the rules and the converter.
        produced, produced_bytes: Records they made, with keys and values.
        filtered, letters: Records left out, and those that failed.
        transformed: False where no rule ran: an api without a topic, or one
            whose converter registers schemas.
        poll_pages: Pages of a whole poll where that is known, or None.
        poll_records: Records of it, likewise.
        truncated: The poll ended at `pagination.max.pages`.
        demands: What hosts said of their limits.
        parent_values: Of a child: polls for each record of its parent.
    """

    api: str
    host: str = ""
    pages: int = 0
    requests: int = 0
    records: int = 0
    first_records: int = 0
    record_bytes: int = 0
    largest_record: int = 0
    body_bytes: int = 0
    largest_body: int = 0
    wire_bytes: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    transform_seconds: float = 0.0
    produced: int = 0
    produced_bytes: int = 0
    filtered: int = 0
    letters: int = 0
    transformed: bool = False
    poll_pages: int | None = None
    poll_records: int | None = None
    truncated: bool = False
    demands: Sequence[HostReading] = ()
    parent_values: float = 0.0

    def take(self, page: Page, seconds: float) -> None:
        """One more page, and how long it took to have it."""
        response, sizes = page.response, [len(record) for record in page.records]
        if not self.pages:
            self.first_records = page.received
            self.host = host_of(response.url)
        self.pages += 1
        self.records += page.received
        self.record_bytes += sum(sizes)
        self.largest_record = max(self.largest_record, *sizes, 0)
        self.body_bytes += len(response.body)
        self.largest_body = max(self.largest_body, len(response.body))
        self.wire_bytes += response.wire_bytes
        self.seconds += seconds
        self.slowest = max(self.slowest, seconds)

    def made(self, parcel: Parcel, seconds: float) -> None:
        """What the last page became, and how long that took."""
        self.transformed = True
        self.transform_seconds += seconds
        self.produced += len(parcel.values)
        self.produced_bytes += sum(len(value or b"") for value in parcel.values)
        self.produced_bytes += sum(len(key or b"") for key in parcel.keys or ())
        self.filtered += parcel.filtered
        self.letters += len(parcel.letters)

    @property
    def mean_record(self) -> float:
        """Bytes of a record as it comes, 0.0 without any."""
        return self.record_bytes / self.records if self.records else 0.0


def samples(
    connector: Connector,
    root: Api,
    zone: str,
    most: int,
    entities: Sequence[str] = (),
) -> Iterator[tuple[Api, Sample]]:
    """
    A sample of a top-level api and of those below it, parents first.

    Children are asked for the first value that a sampled parent record names;
    where there is none they are left out.

    Args:
        zone: `schedule.timezone`.
        most: Pages of each api; fewer where the rate limit would make it wait
            for more than `PATIENCE`.
        entities: Those of `entity.names` that are polled; the first is asked for.

    Raises: SourceError; RecordError under tolerance none; ConfigError of the
    rules.  Blocks: for the requests.
    """
    if entities:
        chosen = root.values.replaced({"entity.names": entities[:1]})
        root = replace(root, values=chosen)
    with closing(Registries(connector)) as registries:
        yield from _tree(connector, root, zone, most, registries, None)


def _tree(
    connector: Connector,
    api: Api,
    zone: str,
    most: int,
    registries: Registries,
    scope: Mapping[str, object] | None,
) -> Iterator[tuple[Api, Sample]]:
    sample, records, answer = _sample(connector, api, zone, most, registries, scope)
    yield api, sample
    for child in connector.children(api):
        values = naming(needed(child.values.of(ApiConfig).extract))
        named = [
            (record, value)
            for record in records
            for value in values(record)
            if value is not None
        ]
        if not named:
            continue
        record, value = named[0]
        below = {
            "parent": record,
            "parent_value": value,
            "parent_response": answer,
        }
        for each, found in _tree(connector, child, zone, most, registries, below):
            if each is child:
                found.parent_values = len(named) / len(records)
            yield each, found


def _sample(
    connector: Connector,
    api: Api,
    zone: str,
    most: int,
    registries: Registries,
    scope: Mapping[str, object] | None,
) -> tuple[Sample, list[Raw], Raw]:
    # One request at a time: what is fetched ahead would be asked for nothing.
    alone = api.values.replaced({"pagination.concurrent.enabled": False})
    api = replace(api, values=alone)
    walk = pages(connector, api, zone, scope=scope)
    transform = None
    if _has_rules(api):
        transform = transform_of(
            connector, api, walk.shard, zone=zone, registries=registries
        )
    sample, records, answer = Sample(api=api.name), list[Raw](), Raw(b"null")
    monotonic = SYSTEM.monotonic
    with walk as found:
        for page in found:
            if scope is not None:
                page = replace(
                    page,
                    parent=scope["parent"],
                    parent_value=scope["parent_value"],
                )
            sample.take(page, monotonic() - page.response.sent_at)
            if not records:
                answer = Raw(page.response.body)
            records += page.records
            if transform is not None:
                began = monotonic()
                parcel = transform(page)
                sample.made(parcel, monotonic() - began)
            _reckon(sample, api, page)
            if page.last or sample.pages >= affordable(api, most):
                break
        sample.requests, sample.demands = walk.requests, walk.demands
    return sample, records, answer


def _has_rules(api: Api) -> bool:
    """Whether its transformation runs without asking or changing anything else."""
    values = api.values
    converters = {
        values.of(ConverterConfig, side="value").converter,
        values.of(ConverterConfig, side="key").converter,
    }
    return (
        values.of(RecordsConfig).topic is not None and not converters & MODULES.keys()
    )


def affordable(api: Api, most: int) -> int:
    """Pages, at most so many, that the rate limit lets through in `PATIENCE`."""
    values = api.values
    if not values.of(RateLimitConfig).enabled:
        return most
    rate = values.of(RateLimitConfig).per_second
    return max(1, min(most, 1 + int(PATIENCE * rate)))


def _reckon(sample: Sample, api: Api, page: Page) -> None:
    """How many pages a poll has, from its end or from what the server promises."""
    if page.last:
        sample.truncated = page.truncated
        sample.poll_pages = sample.pages
        sample.poll_records = sample.records
        return
    if page.response.decoded is None:
        return
    values, found = api.values, page.response.decoded.found
    places = Fields(
        {
            "total": values.of(PaginationConfig).total_field,
            "total_pages": values.of(PaginationConfig).total_pages_field,
        }
    )
    records = places.count("total", found) if "total" in places else None
    promised = places.count("total_pages", found) if "total_pages" in places else None
    if promised is None and records is not None and sample.first_records:
        promised = -(-records // sample.first_records)
    if promised is None:
        return
    most = values.of(PaginationConfig).max_pages
    sample.truncated = promised > most
    sample.poll_pages = min(promised, most)
    if records is None:
        records = promised * sample.first_records
    sample.poll_records = min(records, sample.poll_pages * sample.first_records)
