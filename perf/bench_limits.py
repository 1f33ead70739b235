"""
How much of what this machine can do at all does the engine leave over?

    python -m perf.bench_limits [--runs 5] [--records 300000]

CPU a record of the three things that no engine can leave out, each alone in one
thread and with nothing around it: bytes received from nginx and counted; received and
split into records (one call of msgspec for a page); batches that were made beforehand
sent to Apache Kafka, acks=all, and answered.  The second and the third together are
the machine's limit.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import struct
import time
from collections import deque
from collections.abc import Callable

import msgspec

from perf import rig, serving

#: Bytes of a ready-made batch, as the engine's default, and batches on their way.
BATCH, FLIGHT = 262144, 5

Speed = tuple[float, float]


class Envelope(msgspec.Struct):
    records: list[msgspec.Raw]
    next: str | None = None


def receiving(url: str, count: int, seen: Callable[[memoryview], object]) -> Speed:
    """
    Get `count` pages by one connection; CPU seconds and seconds.

    Args:
        seen: Is shown each body, in a buffer that is used again.
    """
    host, _, port = url.partition("//")[2].partition(":")
    buffer = memoryview(bytearray(4 << 20))
    with socket.create_connection((host, int(port))) as connection:
        began, cpu = time.perf_counter(), time.process_time()
        for page in range(count):
            query = f"?cursor={page}" if page else ""
            request = f"GET /cursor{query} HTTP/1.1\r\nHost: {host}\r\n\r\n"
            connection.sendall(request.encode())
            have = connection.recv_into(buffer)
            head = bytes(buffer[: min(have, 1024)])
            body = head.index(b"\r\n\r\n") + 4
            length = head.lower().partition(b"content-length:")[2]
            end = body + int(length.split(b"\r\n")[0])
            while have < end:
                have += connection.recv_into(buffer[have:])
            seen(buffer[body:end])
        return time.process_time() - cpu, time.perf_counter() - began


def ready_made(size: int) -> tuple[bytes, int]:
    """A record batch of about so many bytes of the pages' records, and how many."""
    from kafka.record.default_records import DefaultRecordBatchBuilder

    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=2 * size,
    )
    now, count = time.time_ns() // 1_000_000, 0
    while builder.size() < size - 400:
        builder.append(count, now, None, serving.record(count), [])
        count += 1
    return bytes(builder.build()), count


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def sending(bootstrap: str, topic: str, records: int) -> tuple[Speed, int]:
    """
    Send ready-made batches to partition 0, five on their way, until all are answered.

    Returns: CPU seconds and seconds, and records sent.  A transport alone: without a
        producer id, as the same bytes go again and again.
    """
    batch, each = ready_made(BATCH)
    head = struct.pack(">hhi", 0, 8, 1) + text("limit")  # Produce v8, correlation
    head += struct.pack(">hhi", -1, -1, 30_000)  # no transaction, acks=all, time-out
    head += struct.pack(">i", 1) + text(topic) + struct.pack(">iii", 1, 0, len(batch))
    frame = [struct.pack(">i", len(head) + len(batch)) + head, batch]
    host, _, port = bootstrap.partition(":")
    count, flight = -(-records // each), deque[int]()
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began, cpu = time.perf_counter(), time.process_time()
        for number in range(count):
            if len(flight) == FLIGHT:
                answered(connection, topic)
                flight.popleft()
            sent = connection.sendmsg(frame)
            if sent < len(frame[0]) + len(batch):
                connection.sendall(b"".join(frame)[sent:])
            flight.append(number)
        for _ in flight:
            answered(connection, topic)
        taken = time.process_time() - cpu, time.perf_counter() - began
    return taken, count * each


def answered(connection: socket.socket, topic: str) -> None:
    """One answer of Produce v8 read; SystemExit if it is an error."""
    size = struct.unpack(">i", exactly(connection, 4))[0]
    frame = exactly(connection, size)
    # correlation, topics, name, partitions, index, code
    code = struct.unpack_from(">h", frame, 4 + 4 + 2 + len(topic) + 4 + 4)[0]
    if code:
        raise SystemExit(f"the broker refused a ready-made batch: error code {code}")


def exactly(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size, socket.MSG_WAITALL)
    if len(data) < size:
        raise SystemExit("the broker has closed the connection")
    return data


def limits(
    bootstrap: str, url: str, pages: int, per_page: int = 500
) -> dict[str, tuple[float, float]]:
    """One run of each: CPU microseconds a record, records/s."""
    split = msgspec.json.Decoder(Envelope).decode
    records = pages * per_page
    found = {}
    for name, seen in (("received", len), ("received and split", split)):
        cpu, seconds = receiving(url, pages, seen)
        found[name] = cpu / records * 1e6, records / seconds
    topic = f"limit-{time.time_ns()}"
    serving.create_topic(bootstrap, topic)
    try:
        (cpu, seconds), sent = sending(bootstrap, topic, records)
        counted = rig.Topic(bootstrap, topic)
        assert sent == counted.await_count(sent), "batches are missing"
        counted.close()
    finally:
        serving.delete_topics(bootstrap, topic)
    found["batches accepted"] = cpu / sent * 1e6, sent / seconds
    split_cpu, split_rate = found["received and split"]
    sent_cpu, sent_rate = found["batches accepted"]
    found["limit"] = split_cpu + sent_cpu, 1 / (1 / split_rate + 1 / sent_rate)
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--records", type=int, default=300_000)
    given = words.parse_args()
    pages = given.records // 500
    runs = []
    with serving.apache_kafka() as bootstrap, serving.pages(pages) as url:
        for _ in range(given.runs):
            runs.append(limits(bootstrap, url, pages))
    print(f"{'':22} {'CPU us a record':>24} {'records/s':>14}")
    for name in runs[0]:
        rate = statistics.median(run[name][1] for run in runs)
        cpu = rig.spread([run[name][0] for run in runs])
        print(f"{name:22} {cpu:>24} {rate:>14,.0f}")


if __name__ == "__main__":
    main()
