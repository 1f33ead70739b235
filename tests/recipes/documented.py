"""
Documented: what the model of an API has that answers as its documentation says.

A model holds records with ids and times, lets a test add and change them between
polls, refuses what the real one refuses, and knows which version of each record it has
given out.  Tests compare that with what arrived.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl

from tests.fakes.api import Answer, Api, Asked

#: A record as the API gives it.
Row = dict[str, Any]

#: Seconds a held request waits at most; a test that failed leaves it behind.
PATIENCE = 60.0


class Limit(NamedTuple):
    """What the documentation allows: so many calls in so many seconds."""

    calls: int
    seconds: float


class Refused(Exception):
    """An answer that is an error."""

    def __init__(
        self, status: int, body: object, headers: Sequence[tuple[str, str]] = ()
    ):
        super().__init__(status)
        self.answer = said(body, status, headers)


def variables(**values: str) -> Mapping[str, str]:
    """The environment that a recipe needs."""
    return values


def said(
    body: object, status: int = 200, headers: Sequence[tuple[str, str]] = ()
) -> Answer:
    """An answer in JSON, or in text that names its own type."""
    kind = [("Content-Type", "application/json; charset=utf-8")]
    if any(name.lower() == "content-type" for name, _ in headers):
        kind = []
    encoded = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return status, [*kind, *headers], encoded


def iso(at: float, digits: int = 0, zone: str = "Z") -> str:
    """Epoch seconds as ISO 8601."""
    moment = datetime.fromtimestamp(at, UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    if digits:
        text += "." + f"{moment.microsecond:06d}"[:digits]
    return text + zone


def epoch(text: str) -> float:
    """ISO 8601 as epoch seconds; without a zone it is UTC."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


class Documented(Api):
    """
    The model of one API; a context manager.

    Attributes:
        recipe: Name of the file in conf/recipes.
        environment: The variables that it names, and what is accepted for them.
        limit: What is documented, or None where nothing is.
        absent: That a record is gone is told by its absence.
        step: Seconds from one time to the next.
        ties: How many records there are of a time, 1 or 2.
        held: The request of a poll at which it is killed.
        key, version: Members that tell a record and its version; "" for none.
        aside: Paths of tokens and the like, which are no pages.
    """

    recipe: ClassVar[str] = ""
    environment: ClassVar[Mapping[str, str]] = {}
    limit: ClassVar[Limit | None] = None
    absent: ClassVar[bool] = False
    step: ClassVar[float] = 7.0
    ties: ClassVar[int] = 2
    held: ClassVar[int] = 2
    first: ClassVar[int] = 9
    later: ClassVar[int] = 7
    key: ClassVar[str] = "id"
    version: ClassVar[str] = ""
    aside: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.rows: list[Row] = []
        #: Identities that had to arrive, in order of their making.
        self.due: list[str] = []
        self.given: set[str] = set()
        #: Said once each, in place of an answer.
        self.troubles: list[Answer] = []
        self._made = 0
        #: What was answered with an error: status, target, body.
        self.refusals: list[tuple[int, str, bytes]] = []
        self.reached = threading.Event()
        self._free = threading.Event()
        self._left = 0
        self._model = threading.RLock()
        #: The API's own time: days ago, so that nothing is of the future.
        self.now = float(int(time.time()) - 5 * 86_400)
        super().__init__(pages=0)

    # What a model says of itself.

    def respond(self, asked: Asked) -> Answer:
        """
        The answer to a request.

        Raises: Refused.
        """
        raise NotImplementedError

    def make(self, number: int, at: float) -> Row:
        """The record of a number, made at a time."""
        raise NotImplementedError

    def trouble(self) -> Sequence[Answer]:
        """What the API says at bad times, each of which a poll has to survive."""
        return ()

    def settings(self) -> dict[str, object]:
        """What is laid over the recipe so that it asks this one."""
        return {"http.api.base.url": self.url}

    def identity(self, record: Any) -> str:
        """A record and its version, of what was given and of what arrived."""
        version = f"@{record[self.version]}" if self.version else ""
        return f"{record[self.key]}{version}"

    def arrival(self, key: bytes | None, value: Any) -> str:
        """As `identity`, of what arrived; a tombstone is its key, gone."""
        if value is None:
            return f"{(key or b'').decode()} is gone"
        return self.identity(value)

    def alter(self, row: Row, at: float) -> bool:
        """Change a record; False where the API tells nobody of changes."""
        return False

    def remove(self, row: Row, at: float) -> str:
        """Delete a record; the identity of what tells that, "" where nothing does."""
        return ""

    # What tests do.

    def add(self, count: int) -> None:
        """New records, none earlier than the one before."""
        with self._model:
            for _ in range(count):
                # Each other one is of the time of the one before.
                self.now += self.step * (1 - self._made % self.ties)
                row = self.make(self._made, self.now)
                self._made += 1
                self.rows.append(row)
                self.due.append(self.identity(row))

    def change(self) -> None:
        """Change the oldest record."""
        with self._model:
            self.now += self.step
            # What nobody has seen as it was would be missed as it was.
            if self.identity(self.rows[0]) not in self.given:
                return
            if self.alter(self.rows[0], self.now):
                self.due.append(self.identity(self.rows[0]))

    def delete(self) -> None:
        """Delete the second oldest record."""
        with self._model:
            self.now += self.step
            identity = self.remove(self.rows[1], self.now)
            if identity:
                self.rows.pop(1)
                self.due.append(identity)
                if self.absent:
                    self.given.add(identity)

    def upset(self) -> None:
        """Fail once in each way before the next answers."""
        with self._model:
            self.troubles = list(self.trouble())

    @property
    def settled(self) -> bool:
        """True once all was given out, and nothing is left to say first."""
        with self._model:
            return not self.troubles and self.given.issuperset(self.due)

    def hold(self) -> None:
        """Keep the `held`-th request from now on waiting."""
        self.reached.clear()
        self._free.clear()
        self._left = self.held

    def release(self) -> None:
        """Let go whoever was kept waiting."""
        self._left = 0
        self._free.set()

    # What models use.

    def give(self, rows: Iterable[Row]) -> list[Row]:
        """Rows that go out with this answer."""
        found = list(rows)
        with self._model:
            self.given.update(self.identity(row) for row in found)
        return found

    def answer(self, asked: Asked) -> Answer:
        page = asked.path not in self.aside
        if self._left and page:
            self._left -= 1
            if not self._left:
                self.reached.set()
                self._free.wait(PATIENCE)
        with self._model:
            if self.troubles and page:
                status, headers, body = self.troubles.pop(0)
            else:
                try:
                    status, headers, body = self.respond(asked)
                except Refused as refused:
                    status, headers, body = refused.answer
        if status >= 400:
            self.refusals.append((status, asked.target, body))
        dated = [("Date", formatdate(usegmt=True))]
        return status, [*dated, *headers], body


def allow(asked: Asked, names: str, body: object = None, status: int = 400) -> None:
    """
    Refuse parameters that the API does not know, and one that comes twice.

    Raises: Refused.
    """
    seen = [name for name, _ in parse_qsl(asked.target.partition("?")[2], True)]
    wrong = sorted({name for name in seen if name not in names.split()})
    if wrong or len(set(seen)) != len(seen):
        raise Refused(status, body or {"error": f"parameters {wrong or seen}"})


def need(asked: Asked, header: str, value: str, body: object = None) -> None:
    """
    Refuse who does not prove who he is.

    Raises: Refused.
    """
    if asked.headers.get(header.lower()) != value:
        raise Refused(401, body or {"error": f"{header} does not say who you are"})


def basic(user: str, password: str) -> str:
    """The header of Basic."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def token(
    asked: Asked, form: Mapping[str, str], answer: Mapping[str, object]
) -> Answer:
    """
    Hand out a token for a request of exactly this form.

    Raises: Refused.
    """
    given = dict(parse_qsl(asked.body.decode(), keep_blank_values=True))
    if given != form:
        raise Refused(400, {"error": "invalid_request", "error_description": given})
    return said(answer, headers=[("Cache-Control", "no-store")])


def path(asked: Asked, wanted: str) -> None:
    """
    Refuse every other path.

    Raises: Refused.
    """
    if asked.path != wanted:
        raise Refused(404, {"error": f"no {asked.path}"})


def size(text: str | None, default: int, most: int) -> int:
    """
    The page size; more than the API has is an error.

    Raises: Refused.
    """
    count = int(text) if text is not None else default
    if not 1 <= count <= most:
        raise Refused(400, {"error": f"a page has 1 to {most} records"})
    return count
