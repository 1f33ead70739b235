"""
Asking: what an incremental poll asks for, made of a bookmark.

Owns `http.offset.lookback`, `http.offset.granularity.seconds`, `http.offset.format` and
from where on the answer has all records.  Pure.

Path: `source.paging.bookmark` -> here -> `language.instants`
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from msgspec import Raw, Struct

from engine.clock import SYSTEM
from engine.language.datepatterns import Pattern
from engine.language.faults import EvaluationError
from engine.language.instants import SECOND, Form, Patterned, form_named, instant
from engine.language.paths import compile_path
from engine.later import later, pattern
from engine.records import Request, Response
from engine.source.paging.pager import PollRequests
from engine.source.paging.position import plain_value
from engine.source.paging.values import NUMBER, TIMESTAMP, Key, Scale

if TYPE_CHECKING:
    from email import utils as dates
else:
    dates = later("email.utils")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400


class BookmarkKeys(Struct, frozen=True, kw_only=True):
    """
    The keys `http.offset.*` of an incremental api.

    Attributes:
        pointer: Where the offset value stands in a record, or None.
        value_type: "auto", "number", "timestamp" or "string".
        value_pattern: Of times in no usual form, or None.
        order: "ASC", "DESC" or "NONE".
        lookback: Taken off the bookmark: seconds for times.
        granularity: Seconds to which the API's filter is coarse; 0: exact.
        format: Of `${offset}`; None: as the records have it.
        zone: Of times without an offset, read and written.
        next_field: Where the next poll's position stands in an answer, or None.
        next_record: "FIRST", "LAST" or None: the record that has it.
        filtered: A request has `${offset}` in it.
        whole: Each poll reads everything, from `http.initial.offset` on
            (`SNAPSHOT_PAGINATION`).
    """

    pointer: str | None = None
    value_type: str = "auto"
    value_pattern: Pattern | None = None
    order: str = "NONE"
    lookback: Decimal = Decimal(0)
    granularity: int = 0
    format: str | None = None
    zone: tzinfo = UTC
    next_field: str | None = None
    next_record: str | None = None
    filtered: bool = True
    whole: bool = False

    @property
    def opaque(self) -> bool:
        """The position is the API's, and is not compared."""
        return self.next_field is not None or self.next_record is not None


class Asking:
    """
    What `${offset}` is for a bookmark, and what an answer to it begins with.

    Args:
        scale: How values compare; its kind may be known later.
    """

    def __init__(self, keys: BookmarkKeys, scale: Scale):
        self._keys = keys
        self._scale = scale
        self._named: Form | None = None
        if keys.format is not None:
            self._named = form_named(keys.format, keys.zone)

    def offset(self, value: object, key: Key | None) -> object:
        """What is sent for a bookmark: str, int or `Raw`."""
        return self.asked(value, key)[0]

    def floor(self, value: object, key: Key | None) -> Key | None:
        """The smallest value that an answer to it has to have, or None: not known."""
        return self.asked(value, key)[1]

    def first(self, value: object) -> object:
        """What is sent for `http.initial.offset`: in the form asked for."""
        if self._named is None or value is None or value == "":
            return value
        try:
            return self._named.write(instant(value, self._keys.zone))
        except EvaluationError:
            return value

    def sent(self, value: object) -> object:
        """What is sent for a record's value: as coarse as the API's filter is."""
        size = self._keys.granularity
        if value is None or (self._named is None and not size):
            return value
        key = self._scale.key(value)
        if self._scale.kind != TIMESTAMP or not isinstance(key, int):
            return value
        ns = floored(key, size, self._keys.zone) if size else key
        return (self._named or self._scale.form(value)).write(ns)

    def written(self, key: int, like: object) -> object:
        """An instant as a value, in the form of another one."""
        return self._scale.form(like).write(key)

    def asked(self, value: object, key: Key | None) -> tuple[object, Key | None]:
        """Both of `offset` and `floor`."""
        keys = self._keys
        if self._scale.kind == TIMESTAMP and isinstance(key, int):
            ns = key - int(keys.lookback * SECOND)
            if keys.granularity:
                ns = floored(ns, keys.granularity, keys.zone)
            if ns == key and self._named is None:
                return value, key
            form = self._named or self._scale.form(value)
            sent = form.write(ns)
            return sent, min(ns, _read_back(form, sent, keys.zone, ns))
        if self._scale.kind == NUMBER and isinstance(key, int | Decimal):
            if not keys.lookback:
                return value, key
            less = key - keys.lookback
            lower = int(less) if less == int(less) else less
            text = str(lower) if isinstance(lower, int) else f"{lower:f}"
            if isinstance(value, str):
                return text, lower
            return lower if isinstance(lower, int) else Raw(text.encode()), lower
        return value, key


def _read_back(form: Form, sent: object, zone: tzinfo, ns: int) -> int:
    """The instant that the API reads out of what is sent."""
    try:
        if isinstance(form, Patterned):
            return instant(str(sent), form.zone, form.pattern)
        return instant(sent, zone)
    except EvaluationError:
        return ns


def floored(ns: int, seconds: int, zone: tzinfo) -> int:
    """The last multiple of so many seconds of a zone's clock, at or before an instant."""
    size = seconds * SECOND
    low = _floored(ns, size, _gap(ns, zone))
    # On the other side of a change of the clock the offset is another one.
    return min(low, _floored(ns, size, _gap(low, zone))) if seconds >= _DAY else low


def _floored(ns: int, size: int, gap: int) -> int:
    return (ns + gap) // size * size - gap


def _gap(ns: int, zone: tzinfo) -> int:
    if zone is UTC:
        return 0
    moment = (_EPOCH + timedelta(seconds=ns // SECOND)).astimezone(zone)
    return ((moment.utcoffset() or timedelta()) // timedelta(seconds=1)) * SECOND


class BookmarkedRequests:
    """
    The requests of one poll, each with the bookmark in `${offset}`.

    Args:
        requests: Makes them.
        offset: What `${offset}` is.
        asking: Writes a record's value where pages are asked for by it (keyset).
        by_record: They are.
        last: What `${last.<path>}` is in all requests of the poll, by path, where pages
            do not follow from it.

    Attributes:
        initial: Where a walk by a record's value begins.
    """

    def __init__(
        self,
        requests: PollRequests,
        offset: object,
        *,
        asking: Asking,
        by_record: bool,
        last: Mapping[str, object],
    ):
        self._requests = requests
        self._last = last
        self._offset = offset
        self._asking = asking
        self._by_record = by_record
        self.initial: object = offset if by_record else None

    @property
    def home(self) -> str:
        return self._requests.home

    def __call__(
        self,
        index: int,
        *,
        offset: object = None,
        cursor: object = None,
        page: int | None = None,
        last: Mapping[str, object] | None = None,
        tie: int | None = None,
        skip: object = None,
    ) -> Request:
        if self._by_record:
            value = offset
            if value is not self._offset:
                value = self._asking.sent(offset)
            return self._requests(
                index, offset=value, cursor=value, page=page, last=last, tie=tie
            )
        return self._requests(
            index,
            offset=self._offset,
            cursor=cursor,
            page=page,
            last=self._last,
            tie=tie,
            skip=offset,
        )

    def follow(self, index: int, url: str, *, offset: object = None) -> Request:
        return self._requests.follow(index, url, offset=self._offset)


def epoch_unit(keys: BookmarkKeys, value: Key) -> int:
    """
    How many units a number counts in a second, where it must be taken for a time; or 0.

    With `http.offset.value.type=auto` numbers compare as numbers, but one in a field
    that is named as a time is, and as large as one of our days, must not run ahead of
    the server's clock any more than a written time.
    """
    if keys.value_type != "auto" or keys.pointer is None:
        return 0
    if not isinstance(value, int | Decimal):
        return 0
    for step in compile_path(keys.pointer).steps[-1:]:
        # A step of a JSON pointer may be a name or an index.
        if _NAMES_A_TIME.search(str(getattr(step, "text", step))):
            break
    else:
        return 0
    for unit in (1, 1000, 1_000_000, SECOND):
        if _FIRST_DAY * unit <= value < _LAST_DAY * unit:
            return unit
    return 0


#: 1990 and 2100, in seconds since 1970.
_FIRST_DAY: Final = 631_152_000
_LAST_DAY: Final = 4_102_444_800
_NAMES_A_TIME: Final = pattern(
    r"((?i:time|date|stamp|created|updated|modified|changed|epoch)|At"
    r"|(?i:(^|_)(at|ts|on)))(?i:_?(utc|unix|epoch|s|ms|us|ns|sec|seconds|millis))?$"
)


def plain_initial(value: object) -> object:
    """A template's value as the state can keep it."""
    if value is None or value == "":
        return None
    found = plain_value(value) if isinstance(value, Raw) else value
    return found if isinstance(found, str | int | Raw) else str(found)


def known_until(response: Response, now_ms: int) -> int:
    """
    Epoch milliseconds up to which an answer has all that had happened.

    By the server's clock: its Date, less the time that the answer took, since nobody
    knows when in it the Date was written.  Without one, our own clock at the start.
    """
    header = response.header("date")
    if header is None:
        return now_ms
    try:
        at = int(dates.parsedate_to_datetime(header).timestamp()) * 1000
    except (TypeError, ValueError, OverflowError):
        return now_ms
    took = max(SYSTEM.monotonic() - response.sent_at, 0.0) if response.sent_at else 0.0
    return max(at - int(min(took, 3600.0) * 1000), 0)
