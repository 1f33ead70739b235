"""
Whether delivery is exactly once, by what a broker can do and what was asked for.

The brokers are the tests' own.  A default is never a reason not to start: where nobody
had transactions before, `requested` goes on at least once and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from kafka.protocol.metadata import FindCoordinatorRequest
from kafka.protocol.producer import (
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
)

from engine import config
from engine.config.sections.delivery import TransactionsConfig
from engine.errors import Doubtful, EngineError, Misconfigured, NoTransactions
from engine.sink import fencing
from engine.sink.statetopic import TopicState
from engine.task import owning
from engine.task.build import kafka
from engine.task.build.kafka import KafkaBuilder, unfit
from engine.task.owning import Decided, Owning
from tests.fakes.broker import Cluster, Lost, Refuse, cluster

STATE = "offsets"

#: For ever.
ALWAYS = 1 << 30


@pytest.fixture
def fake() -> Iterator[Cluster]:
    with cluster() as found:
        found.create(STATE, **{"cleanup.policy": "compact"})
        yield found


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "INITIALISING", 0.5)
    monkeypatch.setattr(owning, "AGAIN", 0.01)
    monkeypatch.setattr(fencing, "READABLE", 0.3)


def connector(folder: Path, *lines: str) -> config.Connector:
    file = folder / "c.properties"
    text = (
        "http.source.url=http://127.0.0.1:1/x",
        "kafka.topic=orders",
        "bootstrap.servers=127.0.0.1:1",
        f"offset.storage.topic={STATE}",
        *lines,
    )
    if not any(line.startswith("name=") for line in lines):
        text = ("name=orders", *text)
    file.write_text("\n".join(text) + "\n")
    [found] = config.load([str(file)], []).connectors
    return found


def decide(fake: Cluster, folder: Path, *lines: str) -> Decided:
    """What the first task of a fresh engine finds."""
    found = connector(folder, *lines)
    made = KafkaBuilder(found, fake.bootstrap)
    state = made.state()
    assert isinstance(state, TopicState)
    runtime = folder / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    for left in runtime.iterdir():
        left.unlink()
    return Owning(
        made,
        state,
        runtime=runtime,
        connector=found.name,
        task=0,
        tasks=1,
        support=found.values.of(TransactionsConfig).support,
    ).decide(lambda done, total: None)


def no_log(fake: Cluster) -> None:
    """One broker, and transaction.state.log.replication.factor=3."""
    fake.script(FindCoordinatorRequest, Refuse(15), ALWAYS)


def too_few_in_sync(fake: Cluster) -> None:
    """One broker, and transaction.state.log.min.isr=2."""
    fake.script(InitProducerIdRequest, Refuse(15), ALWAYS)


def no_right(fake: Cluster) -> None:
    fake.script(InitProducerIdRequest, Refuse(53), ALWAYS)


def no_right_to_look(fake: Cluster) -> None:
    fake.script(FindCoordinatorRequest, Refuse(53), ALWAYS)


def not_so_long(fake: Cluster) -> None:
    """transaction.max.timeout.ms is below what we ask for."""
    fake.script(InitProducerIdRequest, Refuse(50), ALWAYS)


def not_spoken(fake: Cluster) -> None:
    fake.script(InitProducerIdRequest, Refuse(35), ALWAYS)


def cuts_off(fake: Cluster) -> None:
    """A service that knows no transactions and hangs up on who asks."""
    fake.script(InitProducerIdRequest, Lost(done=False), ALWAYS)


def shows_all(fake: Cluster) -> None:
    fake.isolates = False


def half_built(fake: Cluster) -> None:
    fake.transaction_version = 1
    fake.script(AddPartitionsToTxnRequest, Refuse(48), ALWAYS)


def never_ends(fake: Cluster) -> None:
    fake.script(EndTxnRequest, Refuse(-1), ALWAYS)


#: A broker, a word of the reason, what `required` ends with.
WITHOUT: list[tuple[Callable[[Cluster], None], str, type[EngineError]]] = [
    (no_log, "COORDINATOR_NOT_AVAILABLE", NoTransactions),
    (too_few_in_sync, "COORDINATOR_NOT_AVAILABLE", NoTransactions),
    (no_right, "kafka-http-source-orders-fence", Misconfigured),
    (no_right_to_look, "kafka-http-source-orders-fence", Misconfigured),
    (not_so_long, "INVALID_TRANSACTION_TIMEOUT", Misconfigured),
    (not_spoken, "UNSUPPORTED_VERSION", Misconfigured),
    (cuts_off, "ends each connection", NoTransactions),
    (shows_all, "do not isolate", Misconfigured),
    (half_built, "INVALID_TXN_STATE", Doubtful),
    (never_ends, "UNKNOWN", Doubtful),
]


def test_where_it_is_possible_it_is_so_by_default(
    fake: Cluster, tmp_path: Path
) -> None:
    decided = decide(fake, tmp_path)

    assert decided.exactly
    assert "" == decided.why
    assert 1 == decided.owner.tasks


@pytest.mark.parametrize(("lacks", "word", "_"), WITHOUT)
def test_where_it_is_not_delivery_is_at_least_once_and_says_why(
    fake: Cluster,
    tmp_path: Path,
    lacks: Callable[[Cluster], None],
    word: str,
    _: object,
) -> None:
    lacks(fake)
    decided = decide(fake, tmp_path)

    assert not decided.exactly
    assert word in decided.why


@pytest.mark.parametrize(("lacks", "word", "failure"), WITHOUT)
def test_where_it_is_required_nothing_starts(
    fake: Cluster,
    tmp_path: Path,
    lacks: Callable[[Cluster], None],
    word: str,
    failure: type[EngineError],
) -> None:
    lacks(fake)
    with pytest.raises(failure, match=word):
        decide(fake, tmp_path, "exactly.once.support=required")


@pytest.mark.parametrize("lacks", [no_log, too_few_in_sync, cuts_off])
def test_who_had_transactions_waits_for_its_coordinator(
    fake: Cluster, tmp_path: Path, lacks: Callable[[Cluster], None]
) -> None:
    """One of them may be open: only once it is fenced is that known to be over."""
    assert decide(fake, tmp_path).exactly
    lacks(fake)
    with pytest.raises(NoTransactions):
        decide(fake, tmp_path)
    fake.unscript()

    assert decide(fake, tmp_path).owner.gen == 2


@pytest.mark.parametrize("lacks", [lacks for lacks, _, _ in WITHOUT])
def test_who_wants_none_asks_for_none(
    fake: Cluster, tmp_path: Path, lacks: Callable[[Cluster], None]
) -> None:
    lacks(fake)
    decided = decide(fake, tmp_path, "exactly.once.support=disabled")

    assert Decided(fencing.TaskCountRecord()) == decided


def test_a_coordinator_that_comes_up_is_waited_for(
    fake: Cluster, tmp_path: Path
) -> None:
    """As a cluster's first one does: its topic is only being made."""
    fake.script(FindCoordinatorRequest, Refuse(15), 3)

    assert decide(fake, tmp_path).exactly


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("producer.acks=1", "producer.acks"),
        ("producer.acks=0", "producer.acks"),
        ("producer.enable.idempotence=false", "producer.enable.idempotence"),
        ("producer.max.in.flight.requests.per.connection=6", "in.flight"),
        ("offset.storage.file.filename=offsets", "offset.storage.file.filename"),
    ],
)
def test_keys_that_leave_no_room_for_transactions_win(
    tmp_path: Path, line: str, word: str
) -> None:
    assert word in unfit(connector(tmp_path, line).values)
    assert "" == unfit(connector(tmp_path).values)


def test_connectors_that_start_together_do_not_disturb_each_other(
    fake: Cluster, tmp_path: Path
) -> None:
    """Each has the broker show that it isolates, in the same partition."""
    names = [f"c{at}" for at in range(6)]
    for name in names:
        (tmp_path / name).mkdir()
    with ThreadPoolExecutor(len(names)) as pool:
        found = list(
            pool.map(lambda name: decide(fake, tmp_path / name, f"name={name}"), names)
        )

    assert [""] * len(names) == [each.why for each in found]
    assert all(each.exactly for each in found)
