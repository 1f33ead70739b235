"""A broker that does not answer: said once, each minute, and when it is over."""

from __future__ import annotations

import pytest

from engine.shared.link import BrokerWaiting, Message
from engine.sink.produce.producer import Wait
from engine.task.absence import MOST, Absence


class Reports(list[Message]):
    """What the supervisor was told."""

    def __call__(self, message: Message) -> bool:
        self.append(message)
        return True


def test_it_is_said_once_then_each_minute_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reports = Reports()
    absence = Absence("kafka:9092", reports)
    away = []

    for second in range(600):
        absence.look(second % 300, (), 1000.0 + second)
        away.append(bool(absence))

    said = [each.getMessage() for each in caplog.records]
    assert ["5", "65", "125", "185", "245"] == [
        text.split(" answered for ")[1].split(" s;")[0] for text in said[:5]
    ]
    assert "Kafka at kafka:9092 answers again after 300 s." == said[5]
    assert 11 == len(said)
    assert [1000.0, None, 1300.0] == [
        each.since for each in reports if isinstance(each, BrokerWaiting)
    ]
    assert [False] * 5 + [True] * 295 == away[:300]


def test_a_batch_that_lingers_is_not_unanswered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    absence = Absence("kafka:9092", Reports(), linger=30.0)

    for second in range(35):
        absence.look(second, (), float(second))
        assert not absence
    absence.look(35.0, (), 35.0)

    assert absence
    assert 1 == len(caplog.records)


def test_a_slow_answer_is_no_absence(caplog: pytest.LogCaptureFixture) -> None:
    absence = Absence("kafka:9092", Reports())

    for second in range(100):
        absence.look(second % 5, (), float(second))

    assert not absence
    assert not caplog.records


def test_each_partition_that_waits_is_named_with_its_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reports = Reports()
    absence = Absence("kafka:9092", reports)
    began = 1000.0

    for second in range(200):
        waits = [
            Wait("orders", at, float(second), "it has no leader")
            for at in (2, 5)
            if 5 <= second < (130 if at == 2 else 20)
        ]
        absence.look(0.0, waits, began + second)
        assert (5 <= second < 130) is bool(absence)

    said = [each.getMessage() for each in caplog.records]
    assert [
        "orders-2 has not been written to for 5 s: it has no leader",
        "orders-5 has not been written to for 5 s: it has no leader",
    ] == [text.split(";")[0] for text in said[:2]]
    assert "orders-5 is written to again after 20 s." == said[2]
    assert 2 == sum("orders-2 has not been written to for" in t for t in said[3:])
    assert "orders-2 is written to again after 130 s." == said[-1]
    assert [began, began, None] == [
        each.since for each in reports if isinstance(each, BrokerWaiting)
    ]


def test_a_thousand_partitions_do_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    absence = Absence("kafka:9092", Reports())
    waits = [Wait("t", at, 10.0, "it has no leader") for at in range(1000)]

    absence.look(0.0, waits, 1000.0)

    assert len(caplog.records) <= MOST + 1


def test_a_broker_that_is_away_is_one_line_and_not_one_for_each_partition(
    caplog: pytest.LogCaptureFixture,
) -> None:
    absence = Absence("kafka:9092", Reports())
    waits = [Wait("t", at, 10.0, "Connection refused") for at in range(5)]

    absence.look(10.0, waits, 1000.0)

    [said] = [each.getMessage() for each in caplog.records]
    assert "kafka:9092" in said
    assert "Connection refused" in said
