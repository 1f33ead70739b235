from __future__ import annotations

from collections.abc import Sequence

import pytest
from msgspec import Raw, Struct

from engine.errors import StateError
from engine.records import DeadLetter, Page, Parcel, Request, Response
from engine.task import unchanged as module
from engine.task.unchanged import MOST_PAGES, Unchanged, pages_known
from tests.fakes.hands import Hands


class Topic(Struct):
    id: str = "cluster/topic"
    retention: float | None = None
    emptied_ms: int = 0


class Topics:
    """What is known of topics; a name that is not there is not known."""

    def __init__(self) -> None:
        self.known: dict[str, Topic] = {"t": Topic()}

    def of(self, name: str) -> Topic | None:
        return self.known.get(name)


@pytest.fixture
def topics() -> Topics:
    return Topics()


@pytest.fixture
def clock() -> Hands:
    return Hands()


def parcel(
    index: int = 0,
    values: Sequence[bytes | None] = (b"1", b"2"),
    *,
    url: str = "",
    asked: tuple[tuple[str, str], ...] = (),
    body: bytes | None = None,
    chained: bool = False,
    origin: str = "network",
    last: bool = False,
    window: tuple[int, int] | None = None,
    **columns: object,
) -> Parcel:
    request = Request("GET", url or f"http://h/?p={index}", asked, body, index, chained)
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=[],
        body=b"",
        sent_at=0.0,
        received_ms=0,
        origin=origin,
    )
    page = Page(
        response=response,
        index=index,
        records=[Raw(b"1"), Raw(b"2")],
        offset={"page": index},
        last=last,
        window=window,
    )
    columns.setdefault("topic", "t")
    return Parcel(page=page, values=list(values), **columns)


def made(topics: Topics, stored=None, **more) -> Unchanged:
    return Unchanged(stored, topic=topics.of, **more)


def poll(
    memory: Unchanged, parcels: Sequence[Parcel | bytes], *, seal: str | None = None
) -> list[bool]:
    """Which pages of a poll brought nothing new."""
    memory.begin(seal=memory._seal if seal is None else seal)
    pages = [
        parcel(index, [one]) if isinstance(one, bytes) else one
        for index, one in enumerate(parcels)
    ]
    found = [memory.judge(one) for one in pages]
    memory.finished(1)
    return found


def test_the_same_pages_bring_nothing_and_changed_ones_do(topics) -> None:
    memory = made(topics)

    assert [False, False] == poll(memory, [b"a", b"b"])
    assert [True, True] == poll(memory, [b"a", b"b"])
    assert [True, False, False] == poll(memory, [b"a", b"c", b"d"])
    assert [True, True, True] == poll(memory, [b"a", b"c", b"d"])


def test_a_page_is_compared_with_that_of_its_own_place(topics) -> None:
    memory = made(topics)
    poll(memory, [parcel(0, [b"a"], url="u"), parcel(1, [b"b"], url="u")])

    swapped = [parcel(0, [b"b"], url="u"), parcel(1, [b"a"], url="u")]
    assert [False, False] == poll(memory, swapped)


def test_it_survives_in_the_state(topics) -> None:
    memory = made(topics)
    memory.begin()
    for index in range(2):
        memory.judge(parcel(index))
    seal = memory.seal(7)
    state = memory.finished(7)

    assert 7 == state["poll"]
    assert 2 == pages_known(state)
    after = [parcel(0), parcel(1)]
    assert [True, True] == poll(made(topics, state), after, seal=seal)
    # Another position than the one it was stored with: somebody else wrote it.
    assert [False, False] == poll(made(topics, state), after, seal="")
    assert [False, False] == poll(made(topics, state), after, seal="0" * 16)


OTHERS = {
    "a value": {"values": [b"1", b"3"]},
    "one value more": {"values": [b"1", b"2", b"3"]},
    "another cut": {"values": [b"12", b""]},
    "a tombstone": {"values": [b"1", None]},
    "keys": {"keys": [b"k", None]},
    "the cut of keys": {"keys": [b"", b"k"]},
    "a header": {"headers": (("a", b"1"),)},
    "headers by record": {"headers": [(("a", b"1"),), ()]},
    "topics by record": {"topic": ["t", "u"]},
    "a topic": {"topic": "u"},
    "a dead letter": {
        "letters": [
            DeadLetter(index=0, value=b"x", stage="map", cause="E", message="m")
        ]
    },
    "the URL": {"url": "http://h/?day=2"},
    "a request header": {"asked": (("X-Day", "2"),)},
    "the body of the request": {"body": b"{}"},
    "the window": {"window": (1, 2)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_would_be_another_record_is_produced(topics, name) -> None:
    topics.known["u"] = Topic()
    changed = parcel(0, **OTHERS[name])
    memory = made(topics)
    poll(memory, [parcel(0)])
    assert [True] == poll(memory, [parcel(0)])

    assert [False] == poll(memory, [changed])
    assert [False] == poll(memory, [parcel(0)])


def test_times_of_receipt_and_of_delivery_make_no_other_record(topics) -> None:
    memory = made(topics)
    poll(memory, [parcel(0, timestamps=1, headers=(("khttp-id", b"s/1/0"),))])

    assert [True] == poll(
        memory, [parcel(0, timestamps=2, headers=(("khttp-id", b"s/2/0"),))]
    )
    stamped = made(topics, stamped=True)
    poll(stamped, [parcel(0, timestamps=[1, 2])])
    assert [True, False] == [
        poll(stamped, [parcel(0, timestamps=stamps)])[0] for stamps in ([1, 2], [1, 3])
    ]


def test_a_header_that_is_only_a_number_tells_nothing(topics) -> None:
    memory = made(topics, unique=["x-request-id"])

    def one(number: str) -> Parcel:
        return parcel(0, asked=(("X-Request-Id", number),))

    poll(memory, [one("1")])
    assert [True] == poll(memory, [one("2")])


@pytest.mark.parametrize("change", ["other", "gone", "empty", "unknown"])
def test_it_belongs_to_the_topic_it_was_delivered_to(topics, clock, change) -> None:
    memory = made(topics, clock=clock)
    poll(memory, [b"a"])
    assert [True] == poll(memory, [b"a"])
    clock.turn(1)
    if change == "other":
        topics.known["t"] = Topic("cluster/recreated")
    elif change == "empty":
        topics.known["t"] = Topic(emptied_ms=clock.wall_ms())
    else:
        del topics.known["t"]

    assert [False] == poll(memory, [b"a"])
    # Delivered anew: but for the one that nothing is known of, that is enough.
    assert [change in ("other", "empty")] == poll(memory, [b"a"])


@pytest.mark.parametrize(
    ("max_age", "retention", "limit"),
    [(None, 60.0, 60), (None, None, None), (30.0, 60.0, 30), (0.0, 60.0, None)],
)
def test_what_may_be_gone_is_produced_again(
    topics, clock, max_age, retention, limit
) -> None:
    topics.known["t"].retention = retention
    memory = made(topics, max_age=max_age, clock=clock)
    poll(memory, [b"a"])
    state = memory.finished(1)
    memory = made(topics, state, max_age=max_age, clock=clock)
    found = []
    poll(memory, [b"a"], seal=module.seal_of(state))
    memory = made(topics, max_age=max_age, clock=clock)
    poll(memory, [b"a"])
    for _ in range(10):
        clock.turn(10)
        found.append(poll(memory, [b"a"])[0])

    produced = [10 * (n + 1) for n, same in enumerate(found) if not same]
    if limit is None:
        assert [] == produced
    else:
        # One step late at most: it is judged when it is polled.
        assert limit + 10 == produced[0]


def test_when_it_was_produced_survives_in_the_state(topics, clock) -> None:
    memory = made(topics, max_age=60.0, clock=clock)
    memory.begin()
    memory.judge(parcel(0, [b"a"]))
    clock.turn(7)
    memory.judge(parcel(1, [b"b"]))
    state = memory.finished(1)
    clock.turn(55)

    again = made(topics, state, max_age=60.0, clock=clock)
    assert [False, True] == poll(again, [b"a", b"b"], seal=module.seal_of(state))


def test_a_later_page_has_the_last_word_about_a_key(topics) -> None:
    memory = made(topics)
    first = [parcel(0, [b"1"], keys=[b"k"]), parcel(1, [b"2"], keys=[b"k"])]
    poll(memory, first)
    assert [True, True] == poll(memory, first)

    changed = [parcel(0, [b"3"], keys=[b"k"]), parcel(1, [b"2"], keys=[b"k"])]
    assert [False, False] == poll(memory, changed)
    others = [parcel(0, [b"4"], keys=[b"j"]), parcel(1, [b"2"], keys=[b"k"])]
    assert [False, True] == poll(memory, others)


def test_more_keys_than_are_remembered_leave_nothing_out(topics, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 1)
    memory = made(topics)
    pages = [
        parcel(0, [b"1", b"2"], keys=[b"a", b"b"]),
        parcel(1, [b"3"], keys=[b"c"]),
    ]
    poll(memory, pages)
    pages[0] = parcel(0, [b"1", b"9"], keys=[b"a", b"b"])

    assert [False, False] == poll(memory, pages)


def test_pages_of_a_chain_are_not_looked_at(topics) -> None:
    memory = made(topics)
    for _ in range(2):
        assert [False] == poll(memory, [parcel(1, chained=True)])


@pytest.mark.parametrize(
    ("origin", "last", "expected"),
    [
        ("network", False, False),
        ("network", True, True),
        ("fresh", False, True),
        ("revalidated", False, True),
    ],
)
def test_the_first_page_of_a_chain(topics, origin, last, expected) -> None:
    memory = made(topics, chain=True)
    for same in (False, expected):
        assert [same] == poll(memory, [parcel(0, origin=origin, last=last)])


def test_a_poll_that_was_taken_up_in_its_middle_leaves_nothing_out(topics) -> None:
    memory = made(topics)
    poll(memory, [b"a", b"b"])
    memory.begin(whole=False, seal=memory._seal)

    assert not memory.judge(parcel(1, [b"b"]))
    memory.finished(2)
    assert [False, False] == poll(memory, [b"a", b"b"])


def test_a_poll_that_was_given_up_is_no_poll_before(topics) -> None:
    memory = made(topics)
    poll(memory, [b"a"])
    memory.begin(seal=memory._seal)
    assert not memory.judge(parcel(0, [b"b"]))
    # Given up here.  The old page is not what was delivered last.

    assert [False] == poll(memory, [b"a"])


def test_what_changes_in_every_poll_is_not_stored(topics) -> None:
    memory = made(topics)
    states = []
    for n in range(6):
        memory.begin(seal=memory._seal)
        forgets = []
        for index, value in enumerate((b"same", b"%d" % n)):
            memory.judge(parcel(index, [value]))
            forgets.append(memory.forgets)
        states.append((forgets, pages_known(memory.finished(n))))

    # At first nothing is stored yet, then it must be forgotten before; in the end
    # it is no longer stored, and a poll costs no write.
    assert [
        ([False, False], 2),
        ([False, True], 2),
        ([False, True], 2),
        ([False, True], 1),
        ([False, False], 1),
        ([False, False], 1),
    ] == states
    # It is still known in memory.
    assert [True, True] == poll(memory, [b"same", b"5"])


def test_shards_know_their_own_pages_only(topics) -> None:
    memory = made(topics, count=2)
    memory.begin()
    for index in (1, 3):
        memory.judge(parcel(index))
    state = memory.finished(1)

    assert 2 == pages_known(state)


def test_pages_beyond_the_most_are_produced(topics) -> None:
    memory = made(topics)
    for _ in range(2):
        assert [False] == poll(memory, [parcel(MOST_PAGES)])
    assert 0 == pages_known(memory.finished(1))


@pytest.mark.parametrize(
    "stored",
    [
        {"since": 0},
        {"hashes": "=", "since": 0, "produced": ""},
        {"hashes": "AAAA", "since": 0, "produced": ""},
        {"hashes": "AAAAAAAAAAA=", "since": "x", "produced": "AAAAAA=="},
        {"hashes": 1, "since": 0, "produced": ""},
    ],
)
def test_what_it_did_not_write_is_an_error(topics, stored) -> None:
    with pytest.raises(StateError):
        made(topics, stored)
    assert 0 == pages_known(stored)


def test_what_an_older_version_stored_is_forgotten(topics) -> None:
    assert 0 == pages_known({"poll": 3, "hashes": "AAAAAAAAAAE="})
    memory = made(topics, {"poll": 3, "hashes": "AAAAAAAAAAE="})
    assert [False] == poll(memory, [b"a"])
