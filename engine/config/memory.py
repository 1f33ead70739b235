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


class Memory(Struct, frozen=True):
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
        """All of it."""
        return self.tasks * self.task + self.cache + self.others

    @property
    def resident(self) -> int:
        """Of one task as the system shows it, what it shares included."""
        return self.task + self.cache // self.tasks + SHARED


def memory(
    connector: Connector,
    *,
    admin: bool = True,
    record: float = MEAN_RECORD,
    page: float | None = None,
) -> tuple[Memory, Memory]:
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
    largest = max(
        api.values["http.client.max.response.size.bytes"] for api in connector.apis
    )
    if page is None:
        limits = [api.values["pagination.limit.value"] for api in connector.apis]
        page = max(limits) * record
    page = min(page, largest)
    one = max(
        api.values["transformation.max.record.size.bytes"] for api in connector.apis
    )
    ruled = any(map(has_rules, connector.apis))
    others = SHARED + SUPERVISOR + (ADMIN if admin else 0)

    def task(response: float, size: float, batched: float) -> int:
        # The records of a batch all come out of one response.
        batch = 2 * min(values["transformation.batch.size"] * batched, response)
        each = RECORD + (RULED if ruled else 0)
        copies = COPIES + (1 if ruled else 0)
        in_hand = held * response * (copies + each / size)
        return int(TASK + values["producer.buffer.memory"] + in_hand + batch)

    expected = Memory(
        task(page, record, record), tasks, cache_of(connector, page, tasks), others
    )
    cached = any(api.values["cache.enabled"] for api in connector.apis)
    bound = Memory(
        int(OVERHEAD * task(largest, SMALLEST_RECORD, one)),
        tasks,
        values["cache.max.memory.bytes"] if cached else 0,
        int(OVERHEAD * others),
    )
    return expected, bound


def tasks_and_pages(connector: Connector) -> tuple[int, int]:
    """How many tasks there may be, and pages in the hands of one of them."""
    values = connector.values
    most: int = values["tasks.max"]
    if values["auto.scaling.enabled"]:
        most = max(most, values["auto.scaling.max.tasks"])
    units = [endpoint.api for endpoint in endpoints(connector) if endpoint.owned]
    shards = len(units)
    if any(splittable(connector, api) for api in units):
        shards = max(shards, most)
    tasks = max(1, min(most, shards))
    # Each shard has a page in hand, and what is fetched ahead comes on top.
    pages = -(-shards // tasks)
    if any(api.values["pagination.concurrent.enabled"] for api in connector.apis):
        pages += values["pagination.concurrent.max.threads"]
    for api in connector.apis:
        if connector.parent(api) is not None:
            pages += api.values["api.chaining.max.concurrent"]
    return tasks, max(1, pages)


def has_rules(api: Api) -> bool:
    """Whether records are made anew on their way."""
    values = api.values
    if not values["transformation.enabled"]:
        return False
    converted = values["value.converter"] in (
        "AvroConverter",
        "JsonSchemaConverter",
        "ProtobufConverter",
    )
    return converted or any(
        values[key]
        for key in (
            "transformation.field.mappings",
            "transformation.enrichment.rules",
            "transformation.function",
            "kafka.key",
        )
    )


def cache_of(connector: Connector, page: float, tasks: int) -> int:
    """What the response cache will hold in memory with pages of a size."""
    values = connector.values
    if not any(map(_stores, (api.values for api in connector.apis))):
        return 0
    half = values["cache.max.memory.bytes"] // 2
    first = min(half // tasks, values["cache.l1.max.size"] * page) * tasks
    entries = min(values["cache.l2.max.size"], values["cache.response.max.size"])
    full = values["cache.eviction.threshold"] if values["cache.eviction.enabled"] else 1
    return int(full * (first + min(half, entries * page)))


def _stores(values: Values) -> bool:
    enabled: bool = values["cache.enabled"]
    return enabled and values["http.offset.mode"] == "FULL"
