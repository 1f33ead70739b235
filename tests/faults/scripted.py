"""
Rows F34, F35, F38: what only a broker that obeys can be made to answer.

The whole engine against the tests' own broker: each error code to each kind of
request, and replies that are late, lost or torn.  Whatever is answered, the next run
finds the truth: nothing is lost, and exactly once nothing comes twice.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafka.errors import for_code
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest
from kafka.protocol.metadata import (
    ApiVersionsRequest,
    FindCoordinatorRequest,
    MetadataRequest,
)
from kafka.protocol.producer import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
)

from tests.e2e.rig import Setup
from tests.fakes.api import Api
from tests.fakes.broker import Cluster, Late, Lost, Refuse, Say, Torn, cluster
from tests.faults.field import MODES
from tests.faults.rows import row
from tests.faults.verdict import Verdict

PAGES, RECORDS = 30, 20

# fmt: off
#: Errors that a broker may give to each kind of request, by their meaning in the
#: protocol's guide.
CODES: dict[Any, list[int]] = {
    ApiVersionsRequest: [],
    MetadataRequest: [3, 5, 14],
    FindCoordinatorRequest: [14, 15, 16],
    InitProducerIdRequest: [14, 15, 16, 51],
    AddPartitionsToTxnRequest: [14, 15, 16, 47, 48, 49, 51, 90],
    ProduceRequest: [2, 3, 5, 6, 7, 9, 13, 14, 15, 16, 19, 20, 45, 46, 47, 48, 49,
                     56, 59, 74, 80, 87, 90],
    EndTxnRequest: [14, 15, 16, 47, 48, 49, 51, 90],
    ListOffsetsRequest: [3, 5, 6],
    FetchRequest: [3, 5, 6],
}
# fmt: on

#: Requests that only a transaction has.
TRANSACTIONAL = (FindCoordinatorRequest, AddPartitionsToTxnRequest, EndTxnRequest)

#: Replies that do not come as they should.
REPLIES: dict[str, Any] = {
    "lost though done": Lost(),
    "lost and not done": Lost(done=False),
    "2 s late": Late(2.0, done=True),
    "done 2 s late": Late(2.0),
    "torn": Torn(0.5),
}


#: What is said of a deed that no request has met.
MISSED = "not asked for"


class Short:
    """A short run of the whole engine against a broker of the tests' own."""

    def __init__(
        self, fake: Cluster, api: Api, folder: Path, mode: str, **keys: Any
    ) -> None:
        self.fake, self.api = fake, api
        self.setup = Setup(
            folder,
            f"{api.url}/keyset/0",
            fake.bootstrap[0],
            {
                "pagination.type": "keyset",
                "pagination.limit.value": RECORDS,
                "http.offset.mode": "CHAINING",
                "http.offset.json.pointer": "n",
                "cache.enabled": "false",
                "exactly.once.support": MODES[mode],
                "task.restart.limit": 5,
                "task.restart.backoff.max.ms": 500,
                "producer.retry.backoff.ms": 50,
                "producer.request.timeout.ms": 4000,
                "producer.delivery.timeout.ms": 12000,
                **{key.replace("_", "."): value for key, value in keys.items()},
            },
        )
        fake.create(self.setup.topic)

    def of_task(self, request: Any) -> bool:
        """Whether a request is a task's own: no start's, and about its records."""
        id_ = getattr(request, "v3_and_below_transactional_id", None)
        id_ = id_ or getattr(request, "transactional_id", None)
        if id_ and not id_.endswith("-0"):
            return False
        topics = getattr(request, "topic_data", None)
        if topics is None:
            return True
        known = {self.fake.ids[self.setup.topic], self.setup.topic}
        return any(each.topic_id in known or each.name in known for each in topics)

    def counts(self) -> Counter[bytes]:
        return Counter(self.fake.committed(self.setup.topic))


def scripted(
    folder: Path, mode: str, kind: Any, deeds: Mapping[str, Any], times: int = 1
) -> tuple[str, int, int, list[str]]:
    """
    One run with deeds, each some requests after the one before; then one without.

    Returns: what became of the first, records lost, records twice, deeds not met.
    """
    # A transaction takes about 15 pages.
    pages = PAGES * (3 + len(deeds))
    with (
        cluster() as fake,
        Api(pages=pages, records=RECORDS, size=100, latency=0.02) as api,
    ):
        if kind is AddPartitionsToTxnRequest:
            fake.transaction_version = 1
        short = Short(fake, api, folder, mode)
        if kind is FetchRequest:
            # Only a state topic that holds something is read.
            before = short.setup.once(within=120)
            assert 0 == before.code, before.err[-2000:]
            api.grow(PAGES * RECORDS)
        # The first ones of what there are many of pass, so that it is on its way.
        steady = kind in (ProduceRequest, EndTxnRequest, AddPartitionsToTxnRequest)
        seen = [0]

        def counted(request: Any) -> bool:
            seen[0] += short.of_task(request)
            return False

        fake.script(kind, Refuse(0), when=counted)
        lines = {}
        for at, (name, deed) in enumerate(deeds.items()):

            def turn(request: Any, at: int = at) -> bool:
                due = 2 + 2 * at if steady else 0
                return seen[0] > due and short.of_task(request)

            lines[name] = fake.script(kind, deed, times, when=turn)
        first = short.setup.once(within=120)
        fake.unscript()
        second = short.setup.once(within=120)
        starts = first.err.count("started as process")
        assert 0 == second.code, second.err[-2000:]
        assert "Traceback" not in first.err, first.err[-3000:]
        counts = short.counts()
        wanted = set(api.all_records())
        assert not counts.keys() - wanted, "invented"
        how = "stops" if first.code else "begins anew" if starts > 1 else "goes on"
        missed = [name for name, line in lines.items() if not line.met.is_set()]
        twice = sum(counts.values()) - len(counts)
        return how, len(wanted - counts.keys()), twice, missed


def together(kind: Any, deeds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a client is to live through goes into one run, the rest each into its own."""
    mild, other = {}, []
    for name, deed in deeds.items():
        code = getattr(deed, "code", None)
        if code is None or for_code(code).retriable:
            mild[name] = deed
        else:
            other.append({name: deed})
    return [mild, *other]


def codes(folder: Path, mode: str, kind: Any) -> Verdict:
    """Each code of a kind once, and each way in which a reply fails."""
    verdict = Verdict()
    told: dict[str, list[str]] = defaultdict(list)
    deeds: dict[str, Any] = {str(code): Refuse(code) for code in CODES[kind]}
    deeds |= REPLIES
    if kind is ProduceRequest:
        # It is written, and said to be not; DUPLICATE_SEQUENCE_NUMBER is never said
        # of what is not there.
        deeds |= {"7 though written": Say(7), "20 though written": Say(20)}
        deeds["46"] = Say(46)
    left = together(kind, deeds)
    while left:
        group = left.pop(0)
        place = Path(tempfile.mkdtemp(dir=folder))
        how, lost, twice, missed = scripted(place, mode, kind, group)
        if how != "goes on" and len(group) > 1:
            # Which of them it was is found by halving.
            names = list(group)
            half = len(names) // 2
            left += [
                {n: group[n] for n in part} for part in (names[:half], names[half:])
            ]
        for name in group:
            if name in missed:
                told[MISSED].append(name)
            elif how == "goes on" or len(group) == 1:
                told[how].append(name)
        verdict.lost += lost
        verdict.duplicated += twice
        if lost:
            verdict.wrong.append(f"{', '.join(group)}: {lost} lost")
        if twice and (mode == "exactly once" or how == "goes on"):
            verdict.wrong.append(f"{', '.join(group)}: {twice} twice, and it {how}")
    known = {name for how, names in told.items() if how != MISSED for name in names}
    told[MISSED] = sorted(set(told[MISSED]) - known)
    verdict.note = "; ".join(
        f"{how}: {', '.join(names)}" for how, names in sorted(told.items()) if names
    )
    return verdict


def _each(kind: Any) -> None:
    name = kind.__name__.removesuffix("Request")
    once = kind in TRANSACTIONAL
    row(
        f"F34 {name}",
        f"error codes and failing replies to {name}, one by one",
        loaded=False,
        needs="script",
        modes=("exactly once",) if once else ("at least once", "exactly once"),
    )(lambda folder, mode: codes(folder, mode, kind))


for _kind in CODES:
    _each(_kind)


@row(
    "F35",
    "an epoch that is bumped, a batch that is refused, while a commit is out",
    loaded=False,
    needs="script",
    modes=("exactly once",),
)
def bumped(folder: Path, mode: str) -> Verdict:
    verdict = Verdict()
    for name, deed in (
        ("out of order", Refuse(45)),
        ("unknown producer", Refuse(59)),
        ("silent", Lost(cut=False, done=False)),
        ("written, silent", Lost(cut=False)),
    ):
        place = folder / name.replace(" ", "-").replace(",", "")
        place.mkdir()
        how, lost, twice, _ = scripted(place, mode, ProduceRequest, {name: deed}, 3)
        verdict.lost += lost
        verdict.duplicated += twice
        verdict.note += f"{name}: {how}; "
        if lost or twice:
            verdict.wrong.append(f"{name}: {lost} lost, {twice} twice")
    return verdict


@row(
    "F38",
    "a broker that shows aborted records",
    loaded=False,
    needs="script",
    modes=("exactly once",),
)
def no_isolation(folder: Path, mode: str) -> Verdict:
    with (
        cluster() as fake,
        Api(pages=4, records=RECORDS, size=100) as api,
    ):
        fake.isolates = False
        short = Short(fake, api, folder, mode, task_restart_limit=1)
        refused = short.setup.once(within=90)
        assert 0 != refused.code, "required refuses"
        assert not short.counts(), "and writes nothing"
        assert "exactly.once.support" in refused.err, refused.err[-2000:]
        short.setup.write(**{"exactly.once.support": "requested"})
        fell = short.setup.once(within=90)
        assert 0 == fell.code, fell.err[-2000:]
        assert "at least once" in fell.err, fell.err[-2000:]
        assert set(api.all_records()) == short.counts().keys()
    return Verdict(note="required refuses, requested says so and goes on")
