"""
Memory: what a connector will need, and what it can never pass.

Owns the sum that `check` and `plan` print.  Its measure is what all processes of
the engine hold together, what they share by the fork counted once; the trial
broker is none of them.  The bases are measured with each release
(perf/bench_memory.py); everything else follows from the configuration.

Path: ``values`` -> here -> ``cli.check``, ``cli.plan``
"""

from __future__ import annotations

from msgspec import Struct

from engine.config.endpoints import endpoints, splittable
from engine.config.sections.cache import ResponseCacheConfig, TierConfig, TiersConfig
from engine.config.sections.client import ClientConfig
from engine.config.sections.converters import ConverterConfig
from engine.config.sections.engine import ApiConfig, IdentityConfig
from engine.config.sections.kafka import ProducerConfig
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.paging import PaginationConfig, PrefetchConfig
from engine.config.sections.processes import ScalingConfig
from engine.config.sections.response import RecordsConfig
from engine.config.sections.transformation import BatchingConfig, TransformationConfig
from engine.config.values import Api, Connector, Values

_MIB = 1 << 20

#: What a task has of its own before it holds anything, in bytes.
TASK = 21 * _MIB

#: Code and libraries, which all processes share.
SHARED = 48 * _MIB

#: What supervisor and admin process have of their own.
SUPERVISOR = 15 * _MIB
ADMIN = 13 * _MIB

#: A record of which nothing is known, in bytes.
MEAN_RECORD = 1024

#: The smallest record the bound reckons with: an object of one short field.
SMALLEST_RECORD = 8

#: What a record costs beside its bytes while its page is in hand: the object that
#: names it, its place in the columns; and more where rules make a new one of it.
RECORD = 230
RULED = 150

#: Copies of a page in hand: its body, and the buffer of its connection.
COPIES = 2

#: The guide's overhead, for the bound.
OVERHEAD = 1.25


class MemoryNeed(Struct, frozen=True):
    """
    Bytes of all processes of a connector.

    Attributes:
        task: Of one task, what it shares not included.
        tasks: How many there may be.
        cache: Of the response cache, over all tasks.
        others: Of the supervisor, the admin process and what all share.
    """

    task: int
    tasks: int
    cache: int
    others: int

    @property
    def total(self) -> int:
        """Bytes of all processes of a connector together."""
        return self.tasks * self.task + self.cache + self.others

    @property
    def resident(self) -> int:
        """Bytes of one task as the system shows them, with what it shares with others."""
        return self.task + self.cache // self.tasks + SHARED


def memory(
    connector: Connector,
    *,
    admin: bool = True,
    record: float = MEAN_RECORD,
    page: float | None = None,
) -> tuple[MemoryNeed, MemoryNeed]:
    """
    What a connector will need: expected, and bound.

    Args:
        admin: Whether there is an admin process.
        record: Bytes of a record, where that is known.
        page: Bytes of a response, likewise.

    Expected: every buffer full, pages and records of the usual size.  Bound:
    every response as large as it may be, nothing but the smallest records or a
    largest one in it, and a quarter on top; never passed.

    Source: tasks x (base + producer.buffer.memory + responses in hand + batch x
    record x 2) + cache.max.memory.bytes + the others.
    """
    values = connector.values
    tasks, held = tasks_and_pages(connector)
    largest = max(api.values.of(ClientConfig).max_response for api in connector.apis)
    if page is None:
        limits = [api.values.of(PaginationConfig).limit for api in connector.apis]
        page = max(limits) * record
    page = min(page, largest)
    one = max(
        api.values.of(TransformationConfig).max_record_bytes for api in connector.apis
    )
    ruled = any(map(has_rules, connector.apis))
    others = SHARED + SUPERVISOR + (ADMIN if admin else 0)

    def task(response: float, size: float, batched: float) -> int:
        # The records of a batch all come out of one response.
        batch = 2 * min(values.of(BatchingConfig).batch_size * batched, response)
        each = RECORD + (RULED if ruled else 0)
        copies = COPIES + (1 if ruled else 0)
        in_hand = held * response * (copies + each / size)
        return int(TASK + values.of(ProducerConfig).buffer_memory + in_hand + batch)

    expected = MemoryNeed(
        task(page, record, record), tasks, cache_of(connector, page, tasks), others
    )
    cached = any(api.values.of(ResponseCacheConfig).enabled for api in connector.apis)
    bound = MemoryNeed(
        int(OVERHEAD * task(largest, SMALLEST_RECORD, one)),
        tasks,
        values.of(TiersConfig).max_memory if cached else 0,
        int(OVERHEAD * others),
    )
    return expected, bound


def tasks_and_pages(connector: Connector) -> tuple[int, int]:
    """How many tasks there may be, and pages in the hands of one of them."""
    values = connector.values
    most: int = values.of(IdentityConfig).tasks_max
    if values.of(ScalingConfig).enabled:
        most = max(most, values.of(ScalingConfig).max_tasks)
    units = [endpoint.api for endpoint in endpoints(connector) if endpoint.owned]
    shards = len(units)
    if any(splittable(connector, api) for api in units):
        shards = max(shards, most)
    tasks = max(1, min(most, shards))
    # Each shard has a page in hand, and what is fetched ahead comes on top.
    pages = -(-shards // tasks)
    if any(api.values.of(PaginationConfig).concurrent for api in connector.apis):
        pages += values.of(PrefetchConfig).max_threads
    for api in connector.apis:
        if connector.parent(api) is not None:
            pages += api.values.of(ApiConfig).max_concurrent
    return tasks, max(1, pages)


def has_rules(api: Api) -> bool:
    """Whether records are made anew on their way."""
    values = api.values
    if not values.of(TransformationConfig).enabled:
        return False
    converted = values.of(ConverterConfig, side="value").converter in (
        "AvroConverter",
        "JsonSchemaConverter",
        "ProtobufConverter",
    )
    rules = values.of(TransformationConfig)
    return converted or bool(
        rules.mappings
        or rules.enrichment
        or rules.function
        or values.of(RecordsConfig).key
    )


def cache_of(connector: Connector, page: float, tasks: int) -> int:
    """What the response cache will hold in memory with pages of a size."""
    values = connector.values
    if not any(map(_stores, (api.values for api in connector.apis))):
        return 0
    half = values.of(TiersConfig).max_memory // 2
    first = min(half // tasks, values.of(TierConfig, level="1").max_size * page) * tasks
    entries = min(
        values.of(TierConfig, level="2").max_size, values.of(TiersConfig).max_size
    )
    full = (
        values.of(TiersConfig).eviction_threshold
        if values.of(TiersConfig).eviction
        else 1
    )
    return int(full * (first + min(half, entries * page)))


def _stores(values: Values) -> bool:
    enabled: bool = values.of(ResponseCacheConfig).enabled
    return enabled and values.of(OffsetsConfig).rereads
