"""Parents and children: each value once, the parent behind its children."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from msgspec import Raw

from engine.errors import SourceError, Unexpected, Unreachable
from engine.records import Offset, Page
from engine.source.children import ChildApi, Tree
from tests.fakes.api import Api, Asked
from tests.fakes.walks import Never, poll_of


class Book:
    """A `Delivery` that keeps everything, and can fail at the n-th page."""

    def __init__(self, fail_at: int | None = None):
        self.offsets: dict[tuple[str, str], Offset] = {}
        self.events: list[str] = []
        self.records: list[str] = []
        self.fail_at = fail_at
        self.thread = threading.get_ident()

    def offset(self, api: str, parent: str) -> Offset | None:
        assert self.thread == threading.get_ident()
        return self.offsets.get((api, parent))

    def hand_over(self, api: str, parent: str, page: Page) -> None:
        assert self.thread == threading.get_ident()
        if self.fail_at == len(self.events) - self.events.count("settle"):
            raise RuntimeError("killed")
        self.events.append(f"{api}/{parent}")
        self.records += [bytes(record).decode() for record in page.records]
        self.offsets[api, parent] = page.offset

    def settle(self) -> None:
        self.events.append("settle")


def answer(items: list[object], onward: str | None = None) -> bytes:
    return json.dumps({"items": items, "next": onward}).encode()


def said(body: bytes, status: int = 200) -> tuple[int, list[tuple[str, str]], bytes]:
    return status, [("Content-Type", "application/json")], body


@pytest.fixture
def api() -> Iterator[Api]:
    """Two pages of users; each user has two pages of orders."""
    with Api() as api:
        users = {
            None: answer(
                [{"id": 1, "tags": ["x", "y"]}, {"id": 2, "tags": ["y"]}], "p2"
            ),
            "p2": answer([{"id": 2}, {"id": 3, "tags": [None, {}]}, {"name": "none"}]),
        }
        api.route("/users", lambda asked: said(users[asked.query.get("cursor")]))
        for user in (1, 2, 3):
            api.route(f"/orders/{user}", orders)
        yield api


def orders(asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
    user = asked.path.rsplit("/", 1)[1]
    if "cursor" in asked.query:
        return said(answer([f"{user}-b"]))
    return said(answer([f"{user}-a"], "2"))


def tree_of(
    api: Api,
    book: Book,
    *,
    extract: str = "id",
    url: str = "/orders/${parent_value}",
    notes: list[str] | None = None,
    patient: bool = False,
    concurrent: int = 10,
) -> Tree:
    child = ChildApi(
        "orders",
        poll_of(api.url, "cursor", path=api.url + url),
        extract=extract,
        patient=patient,
        concurrent=concurrent,
    )
    return Tree(
        poll_of(api.url, "cursor", path=f"{api.url}/users"),
        [child],
        delivery=book,
        stopping=Never(),
        note=(lambda name: None) if notes is None else notes.append,
    )


def test_children_are_delivered_before_their_parent_moves(api: Api) -> None:
    book = Book()
    notes: list[str] = []
    seen: list[list[str]] = []

    for page in tree_of(api, book, notes=notes).pages(None):
        seen.append(sorted(book.events))
        assert page.received

    assert [
        ["orders/1", "orders/1", "orders/2", "orders/2", "settle"],
        ["orders/1"] * 2 + ["orders/2"] * 2 + ["orders/3"] * 2 + ["settle"] * 2,
    ] == seen
    assert [f'"{u}-{p}"' for u in (1, 2, 3) for p in "ab"] == sorted(book.records)
    assert ["children_without_value_total"] == notes


def test_the_same_value_is_polled_once_in_a_poll_and_again_in_the_next(
    api: Api,
) -> None:
    book = Book()
    tree = tree_of(api, book)

    *_, last = tree.pages(None)
    assert {2} == set(Counter(book.events[:-2]).values()) - {1}
    list(tree.pages(last.offset))

    assert {"orders/1": 4, "orders/2": 4, "orders/3": 4, "settle": 4} == Counter(
        book.events
    )


def test_a_value_of_the_parents_answer_is_handed_on(api: Api) -> None:
    asked: list[str | None] = []

    def search(each: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        asked.append(each.query.get("pit"))
        return said(answer([each.query["u"]]))

    api.route("/search", search)
    tree = tree_of(
        api, Book(), url="/search?u=${parent_value}&pit=${parent_response.next}"
    )
    list(tree.pages(None))

    # The users of the first page have what that page brought, the last one nothing.
    assert {"p2", None} == set(asked)
    assert [2, 1] == [asked.count("p2"), asked.count(None)]


def test_an_array_names_a_child_for_each_item(api: Api) -> None:
    book = Book()
    notes: list[str] = []
    api.route("/tag", lambda asked: said(answer([asked.query["t"]])))

    list(
        tree_of(
            api, book, extract="tags", url="/tag?t=${parent_value}", notes=notes
        ).pages(None)
    )

    assert ['"x"', '"y"'] == sorted(book.records)
    # User 2 again and the last record have no tags; user 3 names null and an object.
    assert ["children_without_value_total"] * 4 == notes


def test_fields_of_the_parent_go_into_the_request(api: Api) -> None:
    book = Book()
    api.route("/who", lambda asked: said(answer([asked.query])))

    list(tree_of(api, book, url="/who?a=${parent.id}&b=${parent.tags[0]}").pages(None))

    assert ['{"a": "1", "b": "x"}', '{"a": "2", "b": "y"}', '{"a": "3"}'] == sorted(
        book.records
    )


@pytest.mark.parametrize("fail_at", range(6))
def test_a_kill_at_any_page_loses_and_repeats_nothing(api: Api, fail_at: int) -> None:
    book = Book(fail_at=fail_at)
    offset: Offset | None = None

    with pytest.raises(RuntimeError):
        for page in tree_of(api, book).pages(None):
            offset = page.offset
    book.fail_at = None
    list(tree_of(api, book).pages(offset))

    assert [f'"{u}-{p}"' for u in (1, 2, 3) for p in "ab"] == sorted(book.records)


def test_a_child_that_fails_holds_its_parent(api: Api) -> None:
    api.route("/orders/2", lambda asked: said(b"{}", 403))
    with pytest.raises(Unexpected):
        next(tree_of(api, Book()).pages(None))


def test_a_patient_tree_skips_a_child_that_fails_for_good(api: Api) -> None:
    book = Book()
    notes: list[str] = []
    api.route("/orders/2", lambda asked: said(b"{}", 403))

    list(tree_of(api, book, patient=True, notes=notes).pages(None))

    assert {"1", "3"} == {record[1] for record in book.records}
    assert 1 == notes.count("child_polls_skipped_total")


def test_a_patient_tree_waits_for_a_server_that_is_away(api: Api) -> None:
    away = poll_of("http://127.0.0.1:9", "cursor", path="http://127.0.0.1:9/x")
    tree = Tree(
        poll_of(api.url, "cursor", path=f"{api.url}/users"),
        [ChildApi("away", away, extract="id", patient=True)],
        delivery=Book(),
        stopping=Never(),
    )

    with pytest.raises(Unreachable):
        list(tree.pages(None))


@pytest.mark.parametrize("concurrent", [1, 3])
def test_so_many_children_are_under_way_at_once(concurrent: int) -> None:
    with Api(latency=0.03) as api:
        items: list[object] = [{"id": number} for number in range(9)]
        api.route("/users", lambda asked: said(answer(items)))
        for number in range(9):
            api.route(f"/orders/{number}", lambda asked: said(answer([1])))

        list(tree_of(api, Book(), concurrent=concurrent).pages(None))

        assert concurrent == api.counts.most_busy


def nested(api: Api, book: Book, depth: int) -> Tree:
    """Levels /0, /1?of=, /2?of=, ...; each record names two below it."""

    def level(
        number: int,
    ) -> Callable[[Asked], tuple[int, list[tuple[str, str]], bytes]]:
        def serve(asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
            of = asked.query.get("of", "r")
            return said(answer([{"id": f"{of}{item}"} for item in "ab"]))

        return serve

    below: list[ChildApi] = []
    for number in range(depth - 1, -1, -1):
        api.route(f"/{number}", level(number))
        if number:
            poll = poll_of(
                api.url, "cursor", path=f"{api.url}/{number}?of=${{parent_value}}"
            )
            below = [ChildApi(f"api{number}", poll, extract="id", children=below)]
    top = poll_of(api.url, "cursor", path=f"{api.url}/0")
    return Tree(top, below, delivery=book, stopping=Never())


def test_five_levels(api: Api) -> None:
    book = Book()

    list(nested(api, book, 5).pages(None))

    names = sorted(json.loads(record)["id"] for record in book.records)
    assert 2**2 + 2**3 + 2**4 + 2**5 == len(names) == len(set(names))
    for place, event in enumerate(book.events):
        # Everything below a child is handed over before it.
        if event.startswith("api3/"):
            assert f"api4/{event[5:]}a" in book.events[:place]
            assert "settle" in book.events[:place]


@pytest.mark.parametrize("fail_at", range(14))
def test_a_kill_in_a_deep_tree_loses_nothing(api: Api, fail_at: int) -> None:
    book = Book(fail_at=fail_at)
    offset: Offset | None = None

    with pytest.raises(RuntimeError):
        for page in nested(api, book, 4).pages(None):
            offset = page.offset
    book.fail_at = None
    list(nested(api, book, 4).pages(offset))

    names = [json.loads(record)["id"] for record in book.records]
    assert 2**2 + 2**3 + 2**4 == len(names) == len(set(names))


def test_closing_a_tree_ends_its_threads(api: Api) -> None:
    pages = tree_of(api, Book()).pages(None)
    next(pages)

    pages.close()

    gone("child-orders")


def test_a_tree_that_fails_ends_the_threads_that_wait_for_what_has_not_begun(
    api: Api,
) -> None:
    all_named, may_answer = threading.Event(), threading.Event()
    named: list[Raw] = []

    def middle(ask: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        of = ask.query["of"]
        if of == "fails":
            all_named.wait(30)
            return said(b"", 404)
        return said(answer([{"id": f"{of}{each}"} for each in range(9)]))

    def leaf(_: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        may_answer.wait(30)
        return said(answer([]))

    def naming(record: Raw) -> list[object]:
        named.append(record)
        if len(named) == 18:
            all_named.set()
        return [len(named)]

    def upper(_: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        return said(answer([{"id": each} for each in ("fails", "a", "b")]))

    api.route("/top", lambda _: said(answer([{"id": "one"}])))
    api.route("/upper", upper)
    api.route("/middle", middle)
    api.route("/leaf", leaf)
    below: list[ChildApi] = []
    for name in ("leaf", "middle", "upper"):
        poll = poll_of(api.url, "cursor", path=f"{api.url}/{name}?of=${{parent_value}}")
        below = [ChildApi(name, poll, extract="id", concurrent=3, children=below)]
    # One leaf is asked for; of a or b none has begun.
    lowest = below[0].children[0].children[0]
    lowest.concurrent = 1
    lowest.values = naming
    tree = Tree(
        poll_of(api.url, "cursor", path=f"{api.url}/top"),
        below,
        delivery=Book(),
        stopping=Never(),
    )

    with pytest.raises(SourceError):
        list(tree.pages(None))
    may_answer.set()

    gone("child-upper", "child-middle", "child-leaf")


def gone(*names: str) -> None:
    """Wait until no thread has a name that begins like one of these."""
    until = time.monotonic() + 30
    while left := [
        each.name for each in threading.enumerate() if each.name.startswith(names)
    ]:
        assert time.monotonic() < until, left
        time.sleep(0.01)


def test_pages_of_one_parent_are_no_repetition_of_another_s(api: Api) -> None:
    shelves = {"1": ["a"], "2": ["b", "a", "c"], "3": ["c", "b", "a"]}

    def shelf(asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        at = int(asked.query["page"]) - 1
        found = shelves[asked.path.rsplit("/", 1)[1]]
        return said(answer(found[at : at + 1]))

    for name in shelves:
        api.route(f"/shelf/{name}", shelf)
    book = Book()
    child = poll_of(api.url, "page", path=f"{api.url}/shelf/${{parent_value}}", limit=1)
    parent = poll_of(api.url, "cursor", path=f"{api.url}/users")
    tree = Tree(
        parent,
        [ChildApi("shelf", child, extract="id", concurrent=2)],
        delivery=book,
        stopping=Never(),
        note=lambda name: None,
    )

    for page in tree.pages(None):
        book.hand_over("users", "", page)

    got = Counter(record for record in book.records if record[0] == '"')
    assert Counter({'"a"': 3, '"b"': 2, '"c"': 2}) == got
