"""
Memory: what a connector will need, and what it can never pass.

Owns the sum that `check` and `plan` print.  The bases are measured with each
release (perf/bench_memory.py); everything else follows from the configuration.

Path: ``values`` -> here -> ``cli.check``, ``cli.sizing``
"""

from __future__ import annotations

from msgspec import Struct

from engine.config.values import Connector

#: Resident bytes of a task that does nothing yet, shared pages included.
TASK_BASE = 48 << 20

#: Resident bytes of the supervisor and of the admin process.
SUPERVISOR_BASE = 40 << 20
ADMIN_BASE = 40 << 20

#: A record of which nothing is known, in bytes.
MEAN_RECORD = 1024


class Memory(Struct, frozen=True):
    """
    Bytes of all processes of a connector.

    Attributes:
        task: Of one task.
        tasks: How many there may be.
        cache: Of the response cache, which they share.
        others: Of the supervisor and the admin process.
    """

    task: int
    tasks: int
    cache: int
    others: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.tasks * self.task + self.cache + self.others


def memory(
    connector: Connector, *, record: float = MEAN_RECORD, page: float | None = None
) -> tuple[Memory, Memory]:
    """
    What a connector will need: expected, and bound.

    Args:
        record: Bytes of a record, where that is known.
        page: Bytes of a response, likewise.

    Expected: buffers full, pages and records of the usual size.  Bound:
    every response and record as large as it may be; never passed.

    Source: tasks x (base + producer.buffer.memory + requests in flight x
    response + batch x record x 2) + cache.max.memory.bytes + the others.
    """
    values = connector.values
    apis = [api.values for api in connector.apis]
    tasks = values["tasks.max"]
    if values["auto.scaling.enabled"]:
        tasks = max(tasks, values["auto.scaling.max.tasks"])
    cached = any(api["cache.enabled"] for api in apis)
    cache = values["cache.max.memory.bytes"] if cached else 0
    threads = max(
        values["pagination.concurrent.max.threads"]
        if api["pagination.concurrent.enabled"]
        else 1
        for api in apis
    )
    largest = max(api["http.client.max.response.size.bytes"] for api in apis)
    if page is None:
        page = max(api["pagination.limit.value"] for api in apis) * record
    most = max(api["transformation.max.record.size.bytes"] for api in apis)
    batch = values["transformation.batch.size"]
    buffer = values["producer.buffer.memory"]

    def total(response: float, size: float) -> Memory:
        # The records of a batch all come out of one response.
        decoded = 2 * min(batch * size, response)
        each = TASK_BASE + buffer + threads * response + decoded
        return Memory(int(each), tasks, cache, SUPERVISOR_BASE + ADMIN_BASE)

    return total(min(largest, page), record), total(largest, most)
