from __future__ import annotations

import pytest
from msgspec import Raw

from engine.errors import StateError
from engine.records import Page, Request, Response
from engine.source.unchanged import MOST_PAGES, Unchanged


def page(index: int, body: bytes, *, chained: bool = False) -> Page:
    request = Request("GET", f"http://h/?p={index}", page=index, chained=chained)
    response = Response(
        request=request,
        url=request.url,
        status=200,
        headers=[],
        body=body,
        sent_at=0.0,
        received_ms=0,
    )
    return Page(response, index, [Raw(b"1"), Raw(b"2")], {"page": index}, False)


def poll(memory: Unchanged, bodies: list[bytes], *, finish: bool = True) -> list[bool]:
    """Which pages of a poll were saved."""
    memory.begin()
    saved = []
    for index, body in enumerate(bodies):
        one = page(index, body)
        memory.judge(one)
        assert (0 if one.saved else 2) == one.received
        saved.append(one.saved)
    if finish:
        memory.finished(1)
    return saved


def test_the_same_pages_are_saved_and_changed_ones_produced() -> None:
    memory = Unchanged(b"rules")

    assert [False, False] == poll(memory, [b"a", b"b"])
    assert [True, True] == poll(memory, [b"a", b"b"])
    assert [True, False, False] == poll(memory, [b"a", b"c", b"d"])
    assert [True, True, True] == poll(memory, [b"a", b"c", b"d"])


def test_a_page_is_compared_with_that_of_its_own_place() -> None:
    memory = Unchanged(b"rules")
    poll(memory, [b"a", b"b"])

    assert [False, False] == poll(memory, [b"b", b"a"])


def test_it_survives_in_the_state() -> None:
    memory = Unchanged(b"rules")
    memory.begin()
    for index, body in enumerate([b"a", b"b"]):
        memory.judge(page(index, body))
    state = memory.finished(7)

    assert 7 == state["poll"]
    assert [True, True] == poll(Unchanged(b"rules", state), [b"a", b"b"])


def test_other_rules_produce_everything_again() -> None:
    memory = Unchanged(b"rules")
    memory.begin()
    memory.judge(page(0, b"a"))
    state = memory.finished(1)

    assert [False] == poll(Unchanged(b"other rules", state), [b"a"])


def test_pages_of_a_chain_are_not_looked_at() -> None:
    memory = Unchanged(b"rules")
    for _ in range(2):
        memory.begin()
        one = page(1, b"a", chained=True)
        memory.judge(one)
        memory.finished(1)

        assert not one.saved


def test_an_unfinished_poll_is_no_measure() -> None:
    memory = Unchanged(b"rules")
    poll(memory, [b"a", b"b"], finish=False)

    assert [False, False] == poll(memory, [b"a", b"b"])


def test_a_page_that_changed_in_an_unfinished_poll_is_produced_when_it_is_back() -> (
    None
):
    """The records of the change were delivered: the old ones are news now."""
    memory = Unchanged(b"rules")
    poll(memory, [b"a", b"b"])
    assert [True, False] == poll(memory, [b"a", b"x"], finish=False)

    assert [True, False] == poll(memory, [b"a", b"b"])


def test_a_poll_taken_up_in_its_middle_takes_nothing_off() -> None:
    """Its first page may be any page: it has the first one's place and words."""
    memory = Unchanged(b"rules")
    poll(memory, [b"a", b"b"])
    memory.begin(whole=False)
    again = page(0, b"a")
    memory.judge(again)

    assert not again.saved
    assert "" == memory.finished(2)["hashes"]
    assert [False, False] == poll(memory, [b"a", b"b"])
    assert [True, True] == poll(memory, [b"a", b"b"])


def test_a_chain_is_taken_off_whole_or_where_the_api_says_so() -> None:
    memory = Unchanged(b"rules", chain=True)

    def first(body: bytes, *, last: bool = False, origin: str = "network") -> bool:
        memory.begin()
        one = page(0, body)
        one.last, one.response.origin = last, origin
        memory.judge(one)
        memory.finished(1)
        return one.saved

    assert [False, False] == [first(b"a"), first(b"a")]
    assert first(b"a", origin="revalidated")
    assert first(b"a", origin="fresh")
    assert first(b"a", last=True)
    assert not first(b"b", last=True)


def test_a_childs_records_are_news_where_its_parent_has_changed() -> None:
    memory = Unchanged(b"rules")
    saved = []
    for parent in (b'{"n":1}', b'{"n":1}', b'{"n":2}'):
        memory.begin()
        one = page(0, b"a")
        one.parent = Raw(parent)
        memory.judge(one)
        memory.finished(1)
        saved.append(one.saved)

    assert [False, True, False] == saved


def test_pages_dealt_over_shards_have_places_of_their_own() -> None:
    memory = Unchanged(b"rules", count=3)
    for expected in (False, True):
        memory.begin()
        for index in (1, 4, 7):
            one = page(index, b"%d" % index)
            memory.judge(one)
            assert expected is one.saved
        state = memory.finished(1)
    assert 3 * 8 * 4 // 3 == len(state["hashes"])


def test_pages_beyond_the_most_are_simply_produced() -> None:
    memory = Unchanged(b"rules")
    for _ in range(2):
        memory.begin()
        last, beyond = page(MOST_PAGES - 1, b"a"), page(MOST_PAGES, b"a")
        memory.judge(last)
        memory.judge(beyond)
        memory.finished(1)
    assert (True, False) == (last.saved, beyond.saved)


@pytest.mark.parametrize(
    "stored", [{}, {"hashes": 5}, {"hashes": "***"}, {"hashes": "AAAA"}]
)
def test_a_state_it_did_not_write_is_an_error(stored) -> None:
    with pytest.raises(StateError):
        Unchanged(b"rules", stored)


def test_an_empty_poll_is_a_measure_too() -> None:
    memory = Unchanged(b"rules")
    memory.begin()
    assert {"poll": 3, "hashes": ""} == memory.finished(3)
