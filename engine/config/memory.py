"""
Memory: what a connector will need, and what it can never pass.

Owns the sum that `check` prints.  The bases are resident sizes measured with
each release; everything else follows from the configuration.

Path: ``values`` -> here -> ``cli.check``, ``cli.plan``
"""

from __future__ import annotations

from engine.config.values import Connector

#: Resident bytes of a task that does nothing yet, shared pages included.
TASK_BASE = 48 << 20

#: Resident bytes of the supervisor and of the admin process.
SUPERVISOR_BASE = 40 << 20
ADMIN_BASE = 40 << 20

#: A record of which nothing is known, in bytes.
MEAN_RECORD = 1024


def memory(connector: Connector, mean_record: int = MEAN_RECORD) -> tuple[int, int]:
    """
    Bytes of all processes of a connector: expected, and bound.

    Args:
        mean_record: Bytes of a record, where that is known.

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
    usual = min(
        largest, max(api["pagination.limit.value"] for api in apis) * mean_record
    )
    record = max(api["transformation.max.record.size.bytes"] for api in apis)
    batch = values["transformation.batch.size"]
    buffer = values["producer.buffer.memory"]
    others = SUPERVISOR_BASE + ADMIN_BASE + cache

    def total(response: int, size: int) -> int:
        # The records of a batch all come out of one response.
        decoded = 2 * min(batch * size, response)
        each: int = TASK_BASE + buffer + threads * response + decoded
        return int(tasks * each + others)

    return total(usual, mean_record), total(largest, record)
