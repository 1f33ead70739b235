"""Schedules: six fields with seconds first, five mean second 0."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

import pytest
from cronsim import CronSim

from engine.language.cron import compile_cron
from engine.language.faults import LanguageError


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0 */5 * * * *", "0 */5 * * * *"),
        ("*/5 * * * *", "0 */5 * * * *"),
        ("0 0 12 ? * MON-FRI", "0 0 12 * * MON-FRI"),
        ("0 0 0 1 jan ?", "0 0 0 1 JAN *"),
        ("  15 30 8 * * 1,3,5 ", "15 30 8 * * 1,3,5"),
        ("@hourly", "0 0 * * * *"),
        ("@DAILY", "0 0 0 * * *"),
        ("@weekly", "0 0 0 * * 0"),
        ("@monthly", "0 0 0 1 * *"),
        ("@yearly", "0 0 0 1 1 *"),
        ("0 0 0 * JUL WED", "0 0 0 * JUL WED"),
    ],
)
def test_a_schedule_is_written_out(text: str, schedule: str) -> None:
    assert schedule == compile_cron(text)


def test_the_first_of_six_fields_is_the_second() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    ticks = islice(CronSim(compile_cron("0 */5 * * * *"), start), 3)

    assert [(0, 5), (0, 10), (0, 15)] == [(t.second, t.minute) for t in ticks]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * * *",
        "60 * * * * *",
        "* * * * * 9",
        "0 0 0 L * *",
        "0 0 0 15W * *",
        "0 0 0 * * 5#2",
        "0 0 0 * * 5L",
        "@reboot",
        "@every 5m",
        "a b c d e f",
        "0 0 0 30 2 *",
        "0 0 0 5-1 * *",
        "*/0 * * * * *",
        "\u0661 * * * * *",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(LanguageError):
        compile_cron(text)
