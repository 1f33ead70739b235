"""
The invariants, by one function for every fault.

I1 no loss, I2 no duplicates beyond what was in flight, I3 no invention, I4 order,
I5 positions never move back nor ahead of records, I7 nothing is left behind and
nothing grows, I8 secrets stay inside and counts agree (both with `hygiene`).  (I6, that new records come afterwards, is waited for by
`field.Run.settle`; the seconds are measured here.)
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from tests.e2e.rig import until
from tests.faults import hygiene
from tests.faults.field import CANARY, Run
from tests.faults.readers import Read


@dataclass
class Verdict:
    """
    What a run has come to.

    Attributes:
        lost, duplicated: Records, as a read_committed reader counts.
        repeated: Records that a read_uncommitted reader saw more than once.
        seconds: From the end of the fault to the first record of the last source.
        wrong: Invariants that do not hold, in words.
        note: What a reader of the table should know.
    """

    lost: int = 0
    duplicated: int = 0
    repeated: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    note: str = ""


def judge(run: Run) -> Verdict:
    """What stands in the topics against what the API has and was asked for."""
    verdict = Verdict()
    records = run.oracle.records()
    committed = _sorted(run, run.topic, "read_committed")
    everything = _sorted(run, run.topic, "read_uncommitted")
    counts = Counter(each.value for each in committed)
    wrong = verdict.wrong
    # I1, I3
    verdict.lost = sum(1 for value in records if value not in counts)
    if verdict.lost:
        wrong.append(f"I1: {verdict.lost} records are lost")
    if invented := counts.keys() - records.keys():
        wrong.append(f"I3: {len(invented)} records that there never were")
    # I2
    verdict.duplicated = sum(n - 1 for n in counts.values())
    verdict.repeated = len(everything) - len({each.value for each in everything})
    _duplicates(run, verdict, counts)
    # I4
    _order(run, verdict, committed, records)
    _positions(run, verdict)
    _recovery(run, verdict, committed, records)
    _left_behind(run, verdict)
    verdict.wrong += hygiene.left(run)
    verdict.wrong += hygiene.sums(run, len(committed), len(everything))
    return verdict


def _sorted(run: Run, topic: str, isolation: str) -> Sequence[Read]:
    found = list(run.readers[topic, isolation].read)
    return sorted(found, key=lambda each: (each.partition, each.offset))


def _duplicates(run: Run, verdict: Verdict, counts: Counter[bytes]) -> None:
    if run.mode == "exactly once":
        if verdict.duplicated:
            verdict.wrong.append(f"I2: {verdict.duplicated} records come twice")
        return
    asked = Counter((source, page) for _, source, page in run.oracle.asked())
    records = run.oracle.records()
    beyond = 0
    for value, n in counts.items():
        source, number = records.get(value, (-1, -1))
        beyond += max(n - max(asked[source, number // run.oracle.page], 1), 0)
    if beyond:
        verdict.wrong.append(f"I2: {beyond} records beyond what was asked again")
    # The end of a list is asked for at each poll; only what is behind it is a rewind.
    last: dict[int, int] = defaultdict(lambda: -1)
    rewinds, pages = 0, 0
    for _, source, page in run.oracle.asked():
        if page < last[source]:
            rewinds += 1
            pages += last[source] - page + 1
        last[source] = page
    if verdict.duplicated > (pages + run.rewinds) * run.oracle.page:
        verdict.wrong.append(
            f"I2: {verdict.duplicated} duplicates, {pages} pages in flight"
        )
    if rewinds > run.rewinds:
        verdict.wrong.append(
            f"I2: {rewinds} shards began anew, {run.rewinds} were made to"
        )
    if not run.rewinds and verdict.duplicated:
        verdict.wrong.append(f"I2: {verdict.duplicated} duplicates without a crash")


def _order(
    run: Run,
    verdict: Verdict,
    committed: Sequence[Read],
    records: dict[bytes, tuple[int, int]],
) -> None:
    """Of each source in each partition, without what is there again."""
    seen: set[bytes] = set()
    last: dict[tuple[int, int], int] = {}
    steps = 0
    for each in committed:
        if each.value in seen or each.value not in records:
            continue
        seen.add(each.value)
        source, number = records[each.value]
        place = each.partition, source
        steps += number <= last.get(place, -1)
        last[place] = number
    # A page that was written in one partition and not acknowledged may go to another
    # when it is fetched again: what is left of it stands behind what came after.
    allowed = 0 if run.mode == "exactly once" else run.rewinds * 3
    if steps > allowed:
        verdict.wrong.append(f"I4: {steps} records out of order")


def _source(key: bytes) -> int:
    found = json.loads(key)
    name = found[1].get("api", "api1")
    return int(name.removeprefix("api")) - 1


def positions(reads: Sequence[Read]) -> dict[int, list[int]]:
    """The positions of each source, in the order in which they were saved."""
    found: dict[int, list[int]] = defaultdict(list)
    for each in reads:
        if each.key.startswith(b"[") and each.value:
            offset = json.loads(each.value).get("offset")
            if offset is not None:
                found[_source(each.key)].append(int(offset))
    return found


def _positions(run: Run, verdict: Verdict) -> None:
    saved = positions(_sorted(run, run.state, "read_committed"))
    for source, offsets in saved.items():
        back = sum(b < a for a, b in itertools.pairwise(offsets))
        # A task that died may have sent a position that arrives behind the next
        # one's, and takes it back to an older page, never to one not delivered.
        if back > (0 if run.mode == "exactly once" else run.rewinds):
            verdict.wrong.append(f"I5: source {source} moved back {back} times")
    for source, size in enumerate(run.oracle.sizes):
        at = saved.get(source, [-1])[-1]
        if at > size - 1:
            verdict.wrong.append(f"I5: source {source} stands at {at} of {size}")
        if run.mode == "exactly once" and at != size - 1:
            verdict.wrong.append(f"I5: source {source} stands at {at}, not {size - 1}")


def look(run: Run) -> None:
    """
    What a reader sees just now: no position is ahead of its records.

    Exactly once: no record is ahead of its position, either.

    Raises: AssertionError.  Blocks: for a reading of the positions, and until the
        reader that looks on has come as far.
    """
    reader = run.readers[run.topic, "read_committed"].read
    records = run.oracle.records()
    saved = _saved(_fresh(run, run.state))
    due = {
        value
        for value, (source, number) in records.items()
        if number <= saved.get(source, [-1])[-1]
    }

    def all_there() -> bool:
        due.difference_update([each.value for each in list(reader)])
        return not due

    try:
        until(all_there, "records behind their positions", 60)
    except AssertionError as late:
        raise AssertionError(f"I5: {len(due)} behind a position are missing") from late
    if run.mode == "exactly once":
        seen = {each.value for each in list(reader)}
        saved = _saved(_fresh(run, run.state))
        for value in seen:
            source, number = records.get(value, (-1, -1))
            assert number <= saved.get(source, [-1])[-1], (
                f"I5: record {number} of source {source} is seen without its position"
            )


def _fresh(run: Run, topic: str) -> list[tuple[bytes, bytes]]:
    found = run.field.direct.read(topic)
    return [(each.key or b"", each.value or b"") for each in found]


def _saved(pairs: Sequence[tuple[bytes, bytes]]) -> dict[int, list[int]]:
    return positions([Read(0.0, 0, 0, key, value) for key, value in pairs])


def _recovery(
    run: Run,
    verdict: Verdict,
    committed: Sequence[Read],
    records: dict[bytes, tuple[int, int]],
) -> None:
    first: dict[int, float] = {}
    seen: set[bytes] = set()
    for each in sorted(committed, key=lambda each: each.at):
        if each.value in seen or each.value not in records:
            continue
        seen.add(each.value)
        if each.at >= run.healed:
            first.setdefault(records[each.value][0], each.at - run.healed)
    verdict.seconds = max(first.values(), default=0.0)


def _left_behind(run: Run, verdict: Verdict) -> None:
    alive = [pid for pid in run.pids if _ours(pid, run)]
    if alive:
        verdict.wrong.append(f"I7: processes are left: {alive}")
    texts = [engine.err + engine.out for engine in run.engines]
    # A child that is killed may say nothing, one that says something says no more.
    if any(CANARY in text for text in texts):
        verdict.wrong.append("I8: a secret stands in the log")
    if any("Traceback" in text for text in texts):
        verdict.wrong.append("I8: a traceback stands in the log")
    for topic in (run.topic, run.state):
        for each in run.readers[topic, "read_uncommitted"].read:
            if CANARY.encode() in each.value:
                verdict.wrong.append(f"I8: a secret stands in {topic}")


def _ours(pid: int, run: Run) -> bool:
    try:
        found = psutil.Process(pid)
        return run.setup.file.name in " ".join(found.cmdline())
    except psutil.Error:
        return False
