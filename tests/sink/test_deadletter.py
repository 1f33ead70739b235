"""A dead letter carries what is needed to understand it and to try it again."""

from __future__ import annotations

from engine.records import DeadLetter
from engine.sink.batch import Batch, HeadStore
from engine.sink.deadletter import HEADERS_ROOM, DeadLetters
from tests.sink.rig import parcel
from tests.sink.test_batch import read


def letters(**settings: object) -> DeadLetters:
    given = {
        "connector": "orders",
        "task": 2,
        "headers": True,
        "limit": 1 << 20,
        "redacted": str,
        **settings,
    }
    return DeadLetters("dead", **given)  # type: ignore[arg-type]


def written(
    made: DeadLetters, *found: DeadLetter
) -> list[tuple[bytes, dict[str, str]]]:
    batch = Batch(HeadStore())
    batch.append(made.column(parcel(4, [], "wanted", letters=found), "api1"))
    return [
        (value or b"", {name: text.decode() for name, text in headers})
        for _, _, _, value, headers in read(batch.seal())
    ]


def test_the_headers_are_those_of_connect_and_the_http_context() -> None:
    letter = DeadLetter(
        index=7,
        value=b'{"id": 1e400}',
        stage="decode",
        cause="ValidationError",
        message="not finite",
    )

    [(value, headers)] = written(letters(), letter)

    assert b'{"id": 1e400}' == value
    assert {
        "__connect.errors.topic": "wanted",
        "__connect.errors.connector.name": "orders",
        "__connect.errors.task.id": "2",
        "__connect.errors.stage": "TASK_POLL",
        "__connect.errors.class.name": "engine.transform.decode",
        "__connect.errors.exception.class.name": "ValidationError",
        "__connect.errors.exception.message": "not finite",
        "http.url": "http://127.0.0.1/orders?page=1",
        "http.status": "200",
        "http.attempt": "1",
        "http.api": "api1",
        "http.page": "4",
        "http.index": "7",
    } == headers


def test_a_value_over_the_limit_is_cut_and_says_so() -> None:
    letter = DeadLetter(
        index=0,
        value=b"x" * 50_000,
        stage="size",
        cause="TooLarge",
        message="too large",
    )

    [(value, headers)] = written(letters(limit=HEADERS_ROOM + 1000), letter)

    assert 1000 == len(value)
    assert "50000" == headers["http.value.bytes"]
    assert "KAFKA_PRODUCE" == headers["__connect.errors.stage"]


def test_secrets_are_cut_out_of_url_and_message() -> None:
    letter = DeadLetter(
        index=0, value=b"x", stage="map", cause="MapError", message="key s3cret refused"
    )
    hide = letters(redacted=lambda text: text.replace("s3cret", "****"))

    [(_, headers)] = written(hide, letter)

    assert "key **** refused" == headers["__connect.errors.exception.message"]


def test_headers_can_be_left_out() -> None:
    letter = DeadLetter(
        index=0, value=b"x", stage="map", cause="MapError", message="why"
    )

    assert [(b"x", {})] == written(letters(headers=False), letter)


def test_the_time_is_the_pages_receipt() -> None:
    column = letters().column(
        parcel(
            0,
            [],
            letters=[
                DeadLetter(index=0, value=b"x", stage="map", cause="E", message="")
            ],
        ),
        "api1",
    )

    assert 1_700_000_000_123 == column.timestamps
