"""What a topic would not take is a bad record before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import Raw

from engine.errors import RecordError, Refused, Unavailable
from engine.records import Page, Parcel, Request, Response
from engine.sink.kafka import TopicDescription
from engine.task.admission import Admission
from tests.fakes.hands import Hands
from tests.sink.rig import Flag

HOUR = 3_600_000


class Rules:
    """Topics as a test says they are."""

    def __init__(self, limit: int = 1000, **topics: TopicDescription) -> None:
        self.topics = topics
        self.limit = limit
        self.failures: list[Exception] = []

    def known(self, topic: str) -> TopicDescription:
        if self.failures:
            raise self.failures.pop()
        return self.topics[topic]

    def record_limit(self, topic: str) -> int:
        return self.limit


def described(**more: Any) -> TopicDescription:
    return TopicDescription(1, more.pop("cleanup", "delete"), None, **more)


def page(count: int) -> Page:
    request = Request("GET", "http://127.0.0.1/x")
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=[],
        body=b"",
        sent_at=0.0,
        received_ms=0,
    )
    return Page(
        response=response,
        index=0,
        records=[Raw(b"%d" % at) for at in range(count)],
        offset={},
        last=True,
    )


def through(
    rules: Rules,
    make: Callable[[Page], Parcel],
    count: int,
    clock: Hands,
    *,
    tolerant: bool = True,
    fixed: str | None = "t",
) -> Parcel:
    admission = Admission(
        make, rules, tolerant=tolerant, fixed=fixed, stopping=Flag(), clock=clock
    )
    return admission(page(count))


def parcel(page: Page, **columns: Any) -> Parcel:
    columns.setdefault("topic", "t")
    return Parcel(page=page, values=list(page.records), **columns)


@pytest.mark.parametrize("one", [True, False])
@pytest.mark.parametrize(
    ("bounds", "shifts", "bad"),
    [
        ({"latest": HOUR}, [0, HOUR - 5, HOUR + 5, 2 * HOUR], [2, 3]),
        ({"earliest": HOUR}, [0, -HOUR + 5, -HOUR - 5, 2 * HOUR], [2]),
        ({"earliest": HOUR, "latest": HOUR}, [-2 * HOUR, 0, 2 * HOUR], [0, 2]),
        ({}, [-(10**12), 0, 10**12], []),
    ],
)
def test_time_stamps(
    bounds: dict[str, int], shifts: Sequence[int], bad: Sequence[int], one: bool
) -> None:
    clock = Hands()
    now = clock.wall_ms()
    rules = Rules(t=described(**bounds))
    if one:
        for at, shift in enumerate(shifts):
            made = through(
                rules, lambda page, s=shift: parcel(page, timestamps=now + s), 3, clock
            )
            assert (3 if at in bad else 0) == len(made.letters)
            assert made.balanced
        return
    made = through(
        rules,
        lambda page: parcel(page, timestamps=[now + shift for shift in shifts]),
        len(shifts),
        clock,
    )

    assert list(bad) == [letter.index for letter in made.letters]
    assert made.balanced
    assert len(shifts) - len(bad) == len(made.values) == len(made.timestamps)  # type: ignore[arg-type]
    for letter in made.letters:
        assert "kafka.timestamp" in letter.message
        assert "message.timestamp." in letter.message
        assert "produce" == letter.stage


def test_keys_of_a_compacted_topic() -> None:
    rules = Rules(t=described(cleanup="compact,delete"))
    made = through(
        rules, lambda page: parcel(page, keys=[b"a", None, b"b", None]), 4, Hands()
    )

    assert [1, 3] == [letter.index for letter in made.letters]
    assert [b"a", b"b"] == made.keys
    assert "kafka.key" in made.letters[0].message
    assert "cleanup.policy" in made.letters[0].message


def test_each_topic_is_judged_by_its_own_rules() -> None:
    clock = Hands()
    now = clock.wall_ms()
    rules = Rules(limit=1, a=described(latest=HOUR), b=described(cleanup="compact"))
    made = through(
        rules,
        lambda page: parcel(
            page,
            topic=["a", "b", "a", "b", "a"],
            keys=[None, None, None, b"k", None],
            timestamps=[now, now, now + 2 * HOUR, now, now],
        ),
        5,
        clock,
        fixed=None,
    )

    # Of the last, key and value are larger than the limit.
    assert [1, 2, 3] == [letter.index for letter in made.letters]
    assert ["a", "a"] == made.topic
    assert "size" == made.letters[2].stage


def test_without_tolerance_the_first_is_raised_and_named() -> None:
    rules = Rules(t=described(cleanup="compact"))

    with pytest.raises(RecordError, match="kafka.key.*topic t has cleanup.policy"):
        through(rules, parcel, 2, Hands(), tolerant=False)


def test_letters_carry_what_was_received_whatever_was_left_out_before() -> None:
    def filtered(page: Page) -> Parcel:
        return Parcel(
            page=page,
            topic="t",
            values=[b"x3", b"x7"],
            filtered=6,
            keys=[None, b"k"],
            indexes=[3, 7],
        )

    made = through(Rules(t=described(cleanup="compact")), filtered, 8, Hands())

    [letter] = made.letters
    assert (3, b"3") == (letter.index, letter.value)
    assert [7] == made.indexes
    assert made.balanced


def test_a_topic_that_may_not_be_made_is_a_bad_record() -> None:
    rules = Rules(t=described())
    rules.failures = [Refused("topic t is not made: 100 topics")]

    made = through(rules, parcel, 2, Hands())

    assert ["route", "route"] == [letter.stage for letter in made.letters]


def test_a_broker_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.task.admission.AGAIN", 0.0)
    rules = Rules(t=described())
    rules.failures = [Unavailable("away")] * 3

    assert 2 == len(through(rules, parcel, 2, Hands()).values)
