"""
What does a record cost in the transform, and do two tasks do twice as much?

    python -m perf.bench_transform [--pages 4] [--runs 40] [--quick]

Pages of 500 records of about 300 bytes, in memory, nothing fetched, nothing
sent: the part of a task between the split page and the encoded columns.  The
hand loop decodes the page with msgspec to dicts, applies the same rules in
Python and encodes each record with msgspec (or fastavro); the plain loop does
it with json.  Each contestant runs in turn, several times; the figure is the
median CPU of one process.  Then one and two processes transform the twelve
fields into a null sink for the same seconds, in turn; the loop by hand and one
that only counts say how much of a second core the machine has.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from engine.records import Page, Request, Response, Shard
from engine.transform import TransformOptions, compile_transform
from engine.transform.avro import avro_converter
from engine.transform.registry import KnownSchema, Reference, Schema
from perf.baselines.rules import HAND, PER_PAGE, PLAIN, RULES, SCHEMA, Loop, record
from perf.rig import ROOT, machine

#: Seconds of a run of one or two tasks.
SPAN = 2.0

#: Turns of each whose medians `scaled` compares.
ROUNDS = 5

#: Seconds for a task to become warm.
PATIENCE = 60.0

Work = Callable[[Page], Any]


class Envelope(Struct):
    records: list[Raw]


SPLIT = msgspec.json.Decoder(Envelope).decode
DECODE = msgspec.json.Decoder().decode


def page(number: int) -> Page:
    rows = [record(number * PER_PAGE + at) for at in range(PER_PAGE)]
    body = b'{"records":[' + b",".join(rows) + b"]}"
    request = Request("GET", "http://127.0.0.1/orders")
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=[],
        body=body,
        sent_at=0.0,
        received_ms=1_767_225_600_000,
    )
    return Page(
        response=response,
        index=number,
        records=SPLIT(body).records,
        offset={"page": number},
        last=False,
    )


class OneSchema:
    """A registry in which every schema has the id 1."""

    def id_of(self, subject: str, schema: Schema) -> int:
        return 1

    def latest(self, subject: str) -> KnownSchema | None:
        return None

    def referred(self, name: str, schema: Schema) -> Reference:
        return Reference(name, name, 1)


def ours(**keys: Any) -> Work:
    """The split of the page belongs to the figure: the hand loop decodes it."""
    compiled = compile_transform(
        TransformOptions(shard=Shard("bench", "orders"), topic="t", **keys)
    )

    def work(given: Page) -> Any:
        records = SPLIT(given.response.body).records
        return compiled(replace(given, records=records))

    return work


def by_hand(loop: Loop) -> Work:
    return lambda given: loop(DECODE(given.response.body)["records"])


def hand_keyless(given: Page) -> list[Raw]:
    return SPLIT(given.response.body).records


def hand_keyed(given: Page) -> list[tuple[bytes, bytes]]:
    """Key and value as `produce()` wants them."""
    return [
        (str(DECODE(raw)["id"]).encode(), bytes(raw))
        for raw in SPLIT(given.response.body).records
    ]


def contestants() -> dict[str, dict[str, Work]]:
    avro = avro_converter(OneSchema(), side="value", given=json.dumps(SCHEMA))
    made = {"avro": {"value_converter": avro}}
    found = {
        rules: {
            "ours": ours(**keys, **made.get(rules, {})),
            "hand": by_hand(HAND[rules]),
            **({"json": by_hand(PLAIN[rules])} if rules in PLAIN else {}),
        }
        for rules, keys in RULES.items()
    }
    found["pass-through"] = {"ours": ours(), "hand": hand_keyless}
    found["pass-through, keyed"] = {"ours": ours(key="${id}"), "hand": hand_keyed}
    return found


def measure(pages: list[Page], runs: int) -> dict[str, dict[str, list[float]]]:
    """CPU us a record of each contestant, run by run, in turn."""
    records = len(pages) * PER_PAGE
    found: dict[str, dict[str, list[float]]] = {}
    for name, loops in contestants().items():
        times: dict[str, list[float]] = {who: [] for who in loops}
        for loop in loops.values():
            loop(pages[0])
        for _ in range(runs):
            for who, loop in loops.items():
                gc.collect()
                gc.disable()
                begin = time.process_time()
                for each in pages:
                    loop(each)
                spent = (time.process_time() - begin) / records * 1e6
                times[who].append(round(spent, 3))
                gc.enable()
        found[name] = times
    return found


def together(
    pages: list[Page], tasks: int, seconds: float, made: Callable[[], Work]
) -> float:
    """
    Records/s of so many forked tasks, all of them within the same span.

    The span begins once all of them are warm.  To be called by a process without
    other threads: a child that collects what was another thread's may die of it.

    Raises: RuntimeError where a task did not answer.
    """
    started, go, answers = os.pipe(), os.pipe(), []
    for _ in range(tasks):
        reading, writing = os.pipe()
        if os.fork() == 0:
            try:
                os.close(go[1])
                work = made()
                for each in pages:
                    work(each)
                os.write(started[1], b".")
                os.read(go[0], 1)
                end, done = time.monotonic() + seconds, 0
                while time.monotonic() < end:
                    work(pages[done % len(pages)])
                    done += 1
                os.write(writing, b"%d" % (done * PER_PAGE))
                os._exit(0)
            except BaseException:  # noqa: BLE001 - the parent's code is not a child's
                traceback.print_exc()
                os._exit(1)
        os.close(writing)
        answers.append(reading)
    os.close(started[1])
    warm = 0
    # One that dies before it is warm says nothing.
    while warm < tasks and select.select([started[0]], [], [], PATIENCE)[0]:
        warm += len(os.read(started[0], tasks)) or tasks
    for each in (started[0], go[0], go[1]):
        # The end of this pipe is what they wait for.
        os.close(each)
    found = []
    for reading in answers:
        with os.fdopen(reading, "rb") as answer:
            found.append(answer.read())
    ended = [os.wait()[1] for _ in answers]
    if any(ended) or not all(found):
        raise RuntimeError(f"of {tasks} tasks one ended with {max(ended)}")
    return sum(map(int, found)) / seconds


def count(_: Page) -> int:
    """As much of a core as it can get, and next to no memory."""
    return sum(range(100_000))


def scale(pages: list[Page], runs: int, seconds: float) -> dict[str, list[float]]:
    """
    Records/s of one and of two tasks, in turn, and how they compare.

    The loop by hand and a loop that only counts say what the machine has of
    its second core.
    """
    contest: dict[str, Callable[[], Work]] = {
        "ours": lambda: ours(**RULES["twelve"]),
        "hand": lambda: by_hand(HAND["twelve"]),
        "counting": lambda: count,
    }
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        for who, made in contest.items():
            one, two = (together(pages, tasks, seconds, made) for tasks in (1, 2))
            found.setdefault(f"{who}: one", []).append(round(one))
            found.setdefault(f"{who}: two", []).append(round(two))
            found.setdefault(f"{who}: two / one", []).append(round(two / one, 3))
    return found


def scaled(seconds: float) -> tuple[float, float]:
    """
    What two tasks get of one, and what two loops that only count get.

    In a process of its own, whatever threads this one has; raises RuntimeError.
    """
    words = [sys.executable, "-m", "perf.bench_transform", "--scaled", str(seconds)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    ours_two, count_two = map(float, done.stdout.split())
    return ours_two, count_two


def print_scaled(seconds: float) -> None:
    """For `scaled`: both figures on a line."""
    pages = [page(number) for number in range(2)]
    contest: list[Callable[[], Work]] = [lambda: ours(**RULES["twelve"]), lambda: count]
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in contest]
    # In turns: a loop that counts has told of 2.2 cores on a machine with two, where the
    # second that one task had was a slow one.
    for _ in range(ROUNDS):
        for made, (ones, twos) in zip(contest, times, strict=True):
            ones.append(together(pages, 1, seconds, made))
            twos.append(together(pages, 2, seconds, made))
    print(*(statistics.median(two) / statistics.median(one) for one, two in times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=4)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="one page, two runs")
    parser.add_argument(
        "--scaled", type=float, metavar="SECONDS", help="only one task against two"
    )
    options = parser.parse_args()
    if options.scaled:
        print_scaled(options.scaled)
        return
    span = SPAN
    if options.quick:
        options.pages, options.runs, span = 1, 2, 0.2
    pages = [page(number) for number in range(options.pages)]
    found = measure(pages, options.runs)
    print(f"{'':32} {'ours':>10} {'hand':>10} {'json':>10} {'ours / hand':>12}")
    for name, times in found.items():
        middle = {who: statistics.median(each) for who, each in times.items()}
        cells = [
            f"{middle[who]:10.3f}" if who in middle else " " * 10
            for who in ("ours", "hand", "json")
        ]
        print(f"{name:32} {' '.join(cells)} {middle['ours'] / middle['hand']:12.2f}")
    print("CPU us a record, median; the split of the page is in every figure")
    scaled = scale(pages, max(1, options.runs // 10), span)
    for name, figures in scaled.items():
        if name.endswith("two / one"):
            print(f"{name} into a null sink: {figures}")
    if not options.quick:
        document = {
            "machine": machine(),
            "cpu_us_per_record": found,
            "records_per_second": scaled,
        }
        path = ROOT / "perf" / "results" / "transform.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
