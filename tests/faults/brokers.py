"""Rows F20 to F39 and K1 to K11: a broker that is away, slow, cut off, or refuses."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    ResourcePatternType,
    ResourceType,
)
from kafka import KafkaAdminClient

from tests.e2e.rig import Setup, seeded, until
from tests.fakes.api import Answer, Api, Asked, record
from tests.faults import proxy
from tests.faults.field import MODES, Field, Oracle, Run
from tests.faults.processes import at_point, owner
from tests.faults.proxy import Link, Toxics
from tests.faults.rows import row, skipped
from tests.faults.verdict import Verdict, look

#: Shorter than the usual, so that rows show what happens after them.
SHORT = {
    "producer.request.timeout.ms": 3000,
    "producer.delivery.timeout.ms": 8000,
}

#: Deeds that may leave a transaction or a batch in doubt: a task may end for it.
DOUBT = 3


def doubtful(run: Run, times: int = DOUBT) -> None:
    """Exactly once: a task that cannot know what became of a commit begins anew."""
    if run.mode == "exactly once":
        run.rewinds += times * run.sources


def processor(run: Run, seconds: float) -> float:
    """Share of one processor that the engine takes."""
    family = [psutil.Process(run.engine.pid), *run.engine.children()]

    def used() -> float:
        total = 0.0
        for each in family:
            try:
                times = each.cpu_times()
                total += times.user + times.system
            except psutil.NoSuchProcess:
                pass
        return total

    before = used()
    time.sleep(seconds)
    return (used() - before) / seconds


@row("F20", "connections to the broker are refused for 8 s")
def refused(run: Run) -> None:
    doubtful(run)
    run.proxy.down()
    time.sleep(2.0)
    share = processor(run, 6.0)
    if run.mode == "at least once":
        assert share < 0.25, f"{share:.0%} of a processor while it waits"
    run.proxy.up()


@row("F22", "SIGSTOP of the broker for 8 s, beyond the time of a request", keys=SHORT)
def broker_frozen(run: Run) -> None:
    doubtful(run)
    with run.field.broker.frozen():
        time.sleep(8.0)


@row("F23", "a black hole both ways for 10 s", keys=SHORT)
def black_hole(run: Run) -> None:
    doubtful(run)
    run.proxy.toxics = Toxics(hole=True)
    time.sleep(10.0)


@row("F24", "connections that carry batches fall into a hole, others live", keys=SHORT)
def produce_hole(run: Run) -> None:
    doubtful(run)
    run.proxy.toxics = Toxics(hole_for=frozenset({proxy.PRODUCE}))
    # Longer than a delivery may take.
    time.sleep(12.0)
    look(run)


@row("F25", "all connections reset every 300 to 1200 ms for 15 s")
def resets(run: Run) -> None:
    doubtful(run, 20)
    dice = random.Random(run.topic)
    ends = time.monotonic() + 15.0
    while time.monotonic() < ends:
        time.sleep(dice.uniform(0.3, 1.2))
        run.proxy.reset()


@row("F26 a", "500 ms latency, 100 ms jitter")
def latency(run: Run) -> None:
    run.proxy.toxics = Toxics(latency=0.5, jitter=0.1)
    run.underway(2)
    look(run)


@row("F26 b", "100 kB/s")
def slow(run: Run) -> None:
    run.proxy.toxics = Toxics(rate=100_000)
    run.underway(2)


@row("F26 c", "pieces of 100 bytes, 1 ms apart")
def sliced(run: Run) -> None:
    run.proxy.toxics = Toxics(slice=100, pause=0.001)
    run.underway(2)


@row("F26 d", "connections that end after 2 kB of replies, in the middle of one")
def limited(run: Run) -> None:
    doubtful(run, 30)
    run.proxy.toxics = Toxics(limit=2000)
    time.sleep(6.0)


def lose_reply(run: Run, kind: int) -> None:
    """It is done, and the client never hears of it."""
    lost: list[int] = []

    def hook(link: Link) -> bool:
        if len(lost) < 3:
            lost.append(link.port)
            run.proxy.reset()
            return False
        return True

    run.proxy.replies[kind] = hook
    until(lambda: len(lost) >= 3, "three replies are lost", 90)


@row("F27 a", "three replies to Produce are lost, what they tell is done")
def produce_replies(run: Run) -> None:
    doubtful(run)
    lose_reply(run, proxy.PRODUCE)


@row(
    "F27 b",
    "three replies to EndTxn are lost, the commits are done",
    modes=("exactly once",),
)
def end_replies(run: Run) -> None:
    doubtful(run)
    lose_reply(run, proxy.END_TXN)
    look(run)


@row(
    "F28",
    "a commit is held for 5 s, its task is killed meanwhile",
    modes=("exactly once",),
)
def held_commit(run: Run) -> None:
    held: list[int] = []

    def hook(link: Link) -> bool:
        if not held and (pid := owner(run, link)):
            held.append(pid)
            time.sleep(5.0)
        return True

    run.proxy.requests[proxy.END_TXN] = hook
    until(lambda: held, "a commit", 60)
    run.kill_task(held[0])
    run.restarted(held)
    time.sleep(5.0)
    look(run)


@row(
    "F31",
    "a topic that is missing and may not be made",
    loaded=False,
    modes=("at least once",),
)
def no_topic(field: Field, folder: Path) -> None:
    setup = Setup(
        folder,
        "http://127.0.0.1:9/none",
        field.direct,
        {"topic.creation.enable": "false", "bootstrap.servers": field.address},
    )
    began = time.monotonic()
    done = setup.once()
    assert 0 != done.code
    assert setup.topic in done.err, done.err
    assert "Traceback" not in done.err
    assert time.monotonic() - began < 30


@row(
    "F32 a",
    "the data topic gets more partitions",
    keys={"producer.metadata.max.age.ms": 3000},
)
def more_partitions(run: Run) -> None:
    admin = AdminClient({"bootstrap.servers": run.field.direct.address})
    [made] = admin.create_partitions([NewPartitions(run.topic, 6)]).values()
    made.result(30)
    run.watch(range(6))
    reader = run.readers[run.topic, "read_committed"]

    def spread() -> bool:
        run.oracle.grow(1)
        time.sleep(0.5)
        return any(each.partition >= 3 for each in reader.read)

    until(spread, "records in the new ones", 60)


@row("F32 b", "the data topic is deleted, and made again")
def deleted_topic(run: Run) -> None:
    doubtful(run)
    # What it held is gone with it: from here on counts what comes.
    run.settle()
    seen = list(run.readers[run.topic, "read_committed"].read)
    run.field.direct.delete(run.topic)
    run.oracle.grow(5)
    time.sleep(3.0)
    run.field.direct.create(run.topic, 3)
    run.watch(range(3), seen)


@row(
    "F36 a", "the state topic is not compacted", loaded=False, modes=("at least once",)
)
def not_compacted(field: Field, folder: Path) -> None:
    field.direct.create(f"{folder.name}-s", 3, cleanup_policy="delete")
    setup = Setup(
        folder,
        "http://127.0.0.1:9/none",
        field.direct,
        {"offset.storage.topic": f"{folder.name}-s"},
    )
    done = setup.once()
    assert 0 != done.code
    assert f"{folder.name}-s" in done.err and "compact" in done.err, done.err


@row("F36 b", "garbage under a key of ours in the state topic", loaded=False)
def garbage(field: Field, folder: Path, mode: str) -> None:
    with Run(field, folder, mode) as run:
        run.start()
        run.underway()
        run.stop()
        reads = run.readers[run.state, "read_committed"].read
        key, partition = reads[-1].key, reads[-1].partition
        writer = Producer({"bootstrap.servers": field.direct.address})
        writer.produce(run.state, b"\xff{", key, partition)
        assert 0 == writer.flush(30)
        engine = run.start(task_restart_limit=1)
        until(lambda: engine.said("cannot be read"), "it is named", 60)
        assert f"{run.state}-{partition}" in engine.err, engine.err[-2000:]
        engine.end(30.0)


@row("F37", "a transaction of somebody else is open on the state topic at a start")
def open_transaction(run: Run) -> None:
    run.engine.end(30.0)
    other = Producer(
        {
            "bootstrap.servers": run.field.direct.address,
            "transactional.id": f"{run.topic}-other",
            "transaction.timeout.ms": 120_000,
        }
    )
    other.init_transactions(30)
    other.begin_transaction()
    for at in range(3):
        other.produce(run.state, b"{}", b"somebody-else", at)
    other.flush(30)
    engine = run.start()
    try:
        # Positions behind it are not shown: it waits, and never goes by older ones,
        # which would be a rewind.
        until(lambda: engine.said("reading state"), "it waits", 60)
        time.sleep(5.0)
    finally:
        other.abort_transaction(30)


@row("F39", "SIGTERM with the broker gone")
def stop_without(run: Run) -> None:
    run.proxy.down()
    time.sleep(1.0)
    began = time.monotonic()
    done = run.engine.end(60.0)
    took = time.monotonic() - began
    assert done.code in (0, 75), (done.code, done.err[-2000:])
    assert "Traceback" not in done.err
    assert took < 15, f"{took:.0f} s to end"
    # What was on its way may have been written.
    run.rewinds += run.sources
    run.proxy.up()
    run.start()


@row("F21", "the broker is not there at the start")
def away_at_start(run: Run) -> None:
    run.engine.end(30.0)
    run.proxy.down()
    engine = run.start()
    until(lambda: engine.said("Waiting for the broker"), "it is said", 60)
    assert str(run.proxy.port) in engine.err, "by its address"
    assert "Traceback" not in engine.err
    run.proxy.up()


# -- Apache Kafka itself --------------------------------------------------------------


@row("K1", "SIGKILL of the only broker, and a start on its log")
def broker_killed(run: Run) -> None:
    doubtful(run)
    run.field.broker.kill()
    time.sleep(1.0)
    run.field.restart()


@row("K2", "SIGTERM of the broker under load and a start, three times")
def broker_restarts(run: Run) -> None:
    doubtful(run, 9)
    for _ in range(3):
        run.field.broker.stop()
        run.field.restart()
        run.underway(1)
    assert "FAILED" not in run.engine.err


@row(
    "K5",
    "a transaction is left open and nobody starts again until it has timed out",
    modes=("exactly once",),
    keys={"producer.transaction.timeout.ms": 51000},
)
def left_open(run: Run) -> None:
    run.kill_engine()
    time.sleep(60.0)
    look(run)
    run.start()


@row(
    "K6",
    "transactional ids expire while tasks are idle",
    modes=("exactly once",),
    broker={
        "transactional.id.expiration.ms": "3000",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "1000",
        "producer.id.expiration.ms": "3000",
        "producer.id.expiration.check.interval.ms": "1000",
    },
)
def expired(run: Run) -> None:
    doubtful(run)
    run.settle()
    time.sleep(12.0)


@row(
    "K7",
    "the state topic is compacted for real, between a stop and a start",
    broker={
        "log.cleaner.backoff.ms": "500",
        "log.cleaner.min.cleanable.ratio": "0.01",
        "log.segment.bytes": "1048576",
        "log.roll.ms": "2000",
        "log.cleaner.delete.retention.ms": "100",
    },
)
def compacted(run: Run) -> None:
    run.settle()
    before = len(run.field.direct.read(run.state))

    def fewer() -> bool:
        run.oracle.grow(1)
        time.sleep(1.0)
        return len(run.field.direct.read(run.state)) < before

    until(fewer, "records are compacted away", 90)
    run.engine.end(30.0)
    run.start()


@row("K8", "records of the data topic are deleted while tasks are idle")
def deleted_records(run: Run) -> None:
    run.settle()
    admin = AdminClient({"bootstrap.servers": run.field.direct.address})
    places = [TopicPartition(run.topic, at, -1) for at in range(3)]
    for done in admin.delete_records(places).values():
        done.result(30)


def _older(field: Field) -> None:
    """The cluster's level of transactions before KIP-890."""
    admin = KafkaAdminClient(bootstrap_servers=field.direct.address)
    try:
        # 2: by a safe downgrade.
        told = admin.update_features({"transaction.version": (2, 1)})
        assert told == {"transaction.version": "OK"}, told
    finally:
        admin.close()


@row(
    "K9",
    "transaction.version=1: F27 and a kill as a commit reaches the broker again",
    modes=("exactly once",),
    needs="own",
    prepare=_older,
)
def older_transactions(run: Run) -> None:
    doubtful(run)
    lose_reply(run, proxy.END_TXN)
    run.proxy.replies.clear()
    at_point(run, proxy.END_TXN, "with")


# -- both at once ---------------------------------------------------------------------


@row(
    "Z1",
    "a second engine for the same connector, from another runtime directory",
    modes=("exactly once",),
)
def second_engine(run: Run) -> None:
    first = run.engine
    run.rewinds += 2 * run.sources
    run.start(runtime_dir=run.folder / "run-2", state_dir=run.folder / "state-2")
    began = time.monotonic()
    until(lambda: first.process.poll() is not None, "the first one ends", 60)
    assert time.monotonic() - began < 45
    look(run)


@row(
    "Z2",
    "200,000 records, 20 SIGKILLs of tasks, 5 of the supervisor, the broker twice",
    loaded=False,
)
def all_of_it(field: Field, folder: Path, mode: str) -> Verdict:
    """At random moments."""
    from tests.faults.matrix import end

    dice, seed = seeded()
    oracle = Oracle(pages=500, latency=0.15, page=100)
    with Run(field, folder, mode, oracle=oracle) as run:
        run.start()
        run.underway()
        shots = ["task"] * 20 + ["engine"] * 5 + ["broker"] * 2
        dice.shuffle(shots)
        for at, shot in enumerate(shots):
            time.sleep(dice.uniform(0.5, 2.5))
            if shot == "task":
                victim = dice.choice(until(run.tasks, "tasks to shoot at", 90))
                run.kill_task(victim)
            elif shot == "engine":
                run.kill_engine()
                run.start()
            else:
                doubtful(run)
                field.broker.kill()
                time.sleep(dice.random())
                field.restart()
            # A reader of all that there is takes its time.
            if at % 5 == 4:
                look(run)
        verdict = end(run)
    verdict.note = f"SEED={seed}"
    return verdict


# -- records that are refused -----------------------------------------------------------

#: Bytes of the one record that is too large.
HUGE = 300_000


def _one_huge(asked: Asked) -> Answer:
    """500 records on one page, the 250th of them too large."""
    if "cursor" in asked.query:
        return 200, [], b'{"items":[]}'
    rows = [record(0, at, 50) for at in range(500)]
    rows[250] = record(0, 250, HUGE)
    return 200, [], b'{"items":[' + b",".join(rows) + b"]}"


def _huge(field: Field, folder: Path, mode: str, where: str) -> Verdict:
    with Api(sources=2, pages=3, records=20, size=50) as api:
        api.route("/keyset/huge", _one_huge)
        setup = Setup(
            folder,
            "",
            field.direct,
            {
                "http.source.url": None,
                "bootstrap.servers": field.address,
                "exactly.once.support": MODES[mode],
                "apis.num": 2,
                "api1.http.source.url": f"{api.url}/keyset/huge",
                "api2.http.source.url": f"{api.url}/keyset/1",
                "pagination.type": "keyset",
                "pagination.limit.value": 500,
                "http.offset.mode": "CHAINING",
                "http.offset.json.pointer": "n",
                "errors.tolerance": "all",
                "errors.deadletterqueue.topic.name": f"{folder.name}-dlq",
                "errors.deadletterqueue.topic.replication.factor": 1,
                "producer.batch.size": 100_000,
                **({"producer.max.request.size": 200_000} if where == "us" else {}),
            },
        )
        limit = {"max_message_bytes": "200000"} if where == "broker" else {}
        field.direct.create(setup.topic, 1, **limit)
        field.direct.create(f"{folder.name}-dlq", 1)
        done = setup.once()
        assert 0 == done.code, done.err[-2000:]
        again = setup.once()
        assert 0 == again.code, again.err[-2000:]
        of_huge = [
            value
            for value in setup.values()
            if value in {record(0, at, 50) for at in range(500)} and len(value) < 60
        ]
        wanted = [record(0, at, 50) for at in range(500) if at != 250]
        assert wanted == sorted(set(of_huge)), "499 are delivered"
        dead = field.direct.read(f"{folder.name}-dlq")
        assert 1 == len(dead), "and one is a dead letter"
        total = done.total
        assert total["received"] == total["produced"] + 1
        return Verdict(duplicated=len(setup.values()) - len(set(setup.values())))


@row(
    "F29",
    "500 records, one beyond producer.max.request.size: a dead letter",
    loaded=False,
)
def huge_for_us(field: Field, folder: Path, mode: str) -> Verdict:
    return _huge(field, folder, mode, "us")


@row(
    "F30",
    "500 records, one beyond the topic's max.message.bytes: a dead letter",
    loaded=False,
)
def huge_for_broker(field: Field, folder: Path, mode: str) -> Verdict:
    return _huge(field, folder, mode, "broker")


# -- rights, logins and disks -----------------------------------------------------------

LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required "

#: The proxy's listener asks for a login; readers are let in behind it.
GUARDED = {
    "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,DIRECT:PLAINTEXT,"
    "CONTROLLER:PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.plaintext.plain.sasl.jaas.config": LOGIN + 'user_bob="b";',
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}

BOB = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.jaas.config": LOGIN + 'username="bob" password="b";',
}


def _acl(kind: Any, name: str, allowed: bool) -> AclBinding:
    return AclBinding(
        kind,
        name,
        ResourcePatternType.LITERAL,
        "User:bob",
        "*",
        AclOperation.ALL if allowed else AclOperation.WRITE,
        AclPermissionType.ALLOW if allowed else AclPermissionType.DENY,
    )


def _let_in(field: Field) -> None:
    """Bob may do all; what a row forbids him goes before that."""
    kinds = (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
    admin = AdminClient({"bootstrap.servers": field.direct.address})
    for done in admin.create_acls([_acl(kind, "*", True) for kind in kinds]).values():
        done.result(30)


def _denied(run: Run, kind: Any, name: str, resource: str) -> None:
    """Forbidden for some seconds while it runs, and allowed again."""
    admin = AdminClient({"bootstrap.servers": run.field.direct.address})
    doubtful(run, 20)
    if run.mode == "at least once":
        # Of the pages in flight some batches are written and others are refused.
        run.rewinds += run.sources
    rule = _acl(kind, name, False)
    [made] = admin.create_acls([rule]).values()
    made.result(30)
    try:
        until(
            lambda: run.engine.said(f"{resource}.*AUTHORIZATION_FAILED"),
            f"{resource} is named",
            60,
        )
        assert run.engine.process.poll() is None
    finally:
        wanted = AclBindingFilter(
            kind,
            name,
            ResourcePatternType.LITERAL,
            "User:bob",
            "*",
            AclOperation.WRITE,
            AclPermissionType.DENY,
        )
        [gone] = admin.delete_acls([wanted]).values()
        gone.result(30)
    # Rights are not asked for again by a task that has FAILED: it is started anew.
    if run.engine.said("FAILED"):
        run.engine.end(60.0)
        run.start()


@row(
    "F33 a",
    "no right to write the data topic, for a while",
    keys=BOB,
    broker=GUARDED,
    prepare=_let_in,
)
def denied_data(run: Run) -> None:
    _denied(run, ResourceType.TOPIC, run.topic, run.topic)


@row(
    "F33 b",
    "no right to write the state topic, for a while",
    keys=BOB,
    broker=GUARDED,
    prepare=_let_in,
)
def denied_state(run: Run) -> None:
    _denied(run, ResourceType.TOPIC, run.state, run.state)


@row(
    "F33 c",
    "no right to the transactional ids, for a while",
    keys=BOB,
    broker=GUARDED,
    prepare=_let_in,
    modes=("exactly once",),
)
def denied_ids(run: Run) -> None:
    _denied(run, ResourceType.TRANSACTIONAL_ID, "*", "transactional")


@row(
    "K11",
    "a listener with SASL, and a SIGKILL of a task",
    keys=BOB,
    broker=GUARDED,
    prepare=_let_in,
)
def with_login(run: Run) -> None:
    [victim, *_] = run.tasks()
    run.kill_task(victim)
    run.restarted([victim])


skipped(
    "K10",
    "the broker's disk is full or read-only",
    "not run: Kafka ends itself when its only log directory fails, which is K1; a "
    "full disk needs a file system of its own, and root",
)
