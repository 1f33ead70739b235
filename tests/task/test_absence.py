"""A broker that does not answer: said once, each minute, and when it is over."""

from __future__ import annotations

import pytest

from engine.shared.link import BrokerWaiting, Message
from engine.task.absence import Absence


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
        absence.look(second % 300, 1000.0 + second)
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
        absence.look(second, float(second))
        assert not absence
    absence.look(35.0, 35.0)

    assert absence
    assert 1 == len(caplog.records)


def test_a_slow_answer_is_no_absence(caplog: pytest.LogCaptureFixture) -> None:
    absence = Absence("kafka:9092", Reports())

    for second in range(100):
        absence.look(second % 5, float(second))

    assert not absence
    assert not caplog.records
