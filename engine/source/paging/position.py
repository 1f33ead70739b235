"""
Position: where a shard stands, as its offset says.

Owns the reading and writing of positions: which fields an offset may have,
and how a cursor or a record's value becomes a primitive and comes back.
Never guesses: what cannot be read is a StateError.

Path: `source.paging.by_cursor`, `by_value`, `by_number` -> here
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Raw

from engine.config.pagination import TYPES
from engine.errors import BadPage, StateError
from engine.language.faults import EvaluationError
from engine.language.paths import compile_path
from engine.language.values import MISSING, decode, encode
from engine.records import Offset, Primitive, joined_pieces

#: Longest cursor, in bytes of its text.
MAX_CURSOR: Final = 65536


#: Bytes of a hash that is kept in the state.
DIGEST: Final = 8


#: Of the offset of a finished poll: names what is remembered of its pages.
SEAL: Final = "seal"


#: Of any offset in mode SNAPSHOT_DIFF: up to which segment what is remembered of its
#: keys was delivered.
SEGMENT: Final = "segment"


#: What says that something remembered beside an offset is what was delivered last.
VOUCHING: Final = frozenset({SEAL, SEGMENT})


#: Of the offset of a child: digest of the api and the field that name its parent.
UNDER: Final = "under"


#: Of the offset of an unfinished poll: the job whose data it fetches (`source.jobstate`).
JOB: Final = frozenset(
    {"job", "job.url", "job.at", "job.from", "job.begun", "job.file"}
)


#: What is added to any offset that is written.
STAMPS: Final = frozenset({"v", "seq", "at", "once", UNDER})


#: What is added to an offset that is no position.
_WRITERS: Final = STAMPS | VOUCHING | JOB


#: What the positions of all pagers around a type's pager have beside their own.
COMMON: Final = STAMPS | {"poll", "done", SEAL}


#: An offset without the field that says where, as one of another mode may be.
NOWHERE: Final = (
    "the stored offset has no {}, and may be of another http.offset.mode or "
    "pagination.type; reset the offset to start over"
)


_COMMON: Final = frozenset({"poll", "done"})
#: Sums over one poll: the next one begins them anew.
_SUMS: Final = frozenset({"received", "pages"})


def number_of(text: bytes) -> int | Raw:
    """A JSON number: int where it is written as one, else its text."""
    if text.lstrip(b"-").isdigit() and len(text) <= 4300:
        return int(text)
    return Raw(text)


def reader(path: str) -> Callable[[Raw], object]:
    """
    What reads one value out of a record: str, int, bool, `Raw` for any other
    number, an array or an object; None where it is missing or null.

    Raises (when it reads): BadPage for a record that cannot be read.
    """
    get = compile_path(path).get

    def read(record: Raw) -> object:
        try:
            found = plain_value(get(record))
        except EvaluationError as e:
            raise BadPage(f"a record cannot be read at {path!r}: {e}") from e
        return found

    return read


#: What stands before the path of a field that is kept as its JSON: no path begins so.
AS_JSON: Final = "[json]."
#: Characters of such a field at most.
MOST_JSON: Final = 65_536


def plain_value(found: object) -> object:
    """What a path found, without its wrapping."""
    if found is MISSING:
        return None
    if not isinstance(found, Raw):
        return Raw(encode(found)) if isinstance(found, list | dict | float) else found
    text = bytes(found).strip()
    first = text[:1]
    if first == b'"':
        return decode(text)
    if first == b"n":
        return None
    if first in b"tf":
        return first == b"t"
    return Raw(text) if first in b"[{" else number_of(text)


def single(value: object) -> object:
    """A value that can be compared and sent as one, else None."""
    if isinstance(value, bool) or value == "":
        return None
    if isinstance(value, Raw) and bytes(value)[:1] in (b"[", b"{"):
        return None
    return value


def primitive(value: object, what: str) -> Primitive:
    """
    A value as the state keeps it; numbers keep every digit.

    Raises:
        BadPage: An array, an object, null or a bool where one value is needed.
    """
    if isinstance(value, Raw):
        text = bytes(value).decode()
        if text[:1] in ("[", "{"):
            raise BadPage(f"{what} is not one value")
        number = float(text)
        return number if repr(number) == text else text
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return value
    raise BadPage(f"{what} is missing or not one value")


def put_fields(
    position: dict[str, Primitive], prefix: str, fields: Mapping[str, object]
) -> None:
    """
    Put fields of a record into a position, under a prefix; an array or an object, as
    several sort values are, as its JSON.

    Raises: BadPage: one is longer than a position may hold, or a bool.
    """
    for path, value in fields.items():
        if value is None:
            continue
        if not (isinstance(value, Raw) and bytes(value)[:1] in (b"[", b"{")):
            position[prefix + path] = primitive(value, f"the record's {path}")
            continue
        text = bytes(value).decode()
        if len(text) > MOST_JSON:
            raise BadPage(f"the record's {path} is longer than {MOST_JSON} characters")
        position[prefix + AS_JSON + path] = text


def fields_under(prefix: str, position: Mapping[str, Primitive]) -> dict[str, object]:
    """
    The fields that stand under a prefix, by path.

    Raises: StateError: one that was JSON is none.
    """
    found: dict[str, object] = {}
    for name, value in position.items():
        if not name.startswith(prefix):
            continue
        path = name.removeprefix(prefix)
        if not path.startswith(AS_JSON):
            found[path] = value
            continue
        try:
            decode(str(value).encode())
        except ValueError as e:
            raise StateError(f"the stored offset's {name} is no JSON") from e
        found[path.removeprefix(AS_JSON)] = Raw(str(value).encode())
    return found


def digest(data: bytes | Raw) -> bytes:
    """The eight bytes by which a record is known again."""
    return hashlib.blake2b(data, digest_size=DIGEST).digest()


def records_hash(records: Sequence[Raw]) -> str:
    """The hash of some records of a page, as the state keeps it."""
    whole = hashlib.blake2b(digest_size=DIGEST)
    # A page too large for memory is not joined whole.
    for text in joined_pieces(records, b"\n", max(len(records), 1)):
        whole.update(text)
    return whole.hexdigest()


class Position:
    """
    A stored offset, read.

    Attributes:
        poll: Number of the poll that is to be walked, from 1.
        fresh: True if it starts at the beginning.
        later: True if it goes on from where a finished poll ended: what is
            there in total is more than it will bring.
        position: The fields that say where; empty if fresh.
    """

    def __init__(self, offset: Offset | None, *, type: str, mode: str):
        self.poll = 1
        self.fresh = offset is None
        self.later = False
        self.position: dict[str, Primitive] = {}
        if offset is None:
            return
        self.poll = whole(offset, "poll", 1, least=1)
        done = offset.get("done", False)
        if not isinstance(done, bool):
            raise StateError(f"the stored offset's done is {done!r}: not a bool")
        if done:
            self.poll += 1
            if mode == "FULL" or (mode == "ODATA_PAGINATION" and "delta" not in offset):
                self.fresh = True
                return
            self.later = True
            if mode == "SIMPLE_INCREMENTING" and "size" in offset:
                # Behind its last page, however short that was.
                raise StateError(
                    "the stored offset is of a poll that read everything "
                    "(http.offset.mode=FULL), and says of no record whether it was the "
                    "last; reset the offset to start over, or set it to how many there "
                    "were"
                )
        allowed = TYPES[type].position
        for key, value in offset.items():
            if key in allowed or key.startswith("last."):
                if not isinstance(value, str | int | float | bool):
                    raise StateError(f"the stored offset's {key} is no primitive")
                if not (self.later and key in _SUMS):
                    self.position[key] = value
            elif key not in _COMMON and key not in _WRITERS:
                raise StateError(
                    f"the stored offset has {key!r}, which pagination.type={type} "
                    "does not know; reset the offset to start over"
                )

    def last(self) -> dict[str, object]:
        """The fields `last.<path>`, by path."""
        return fields_under("last.", self.position)


def whole(
    offset: Mapping[str, Primitive],
    name: str,
    default: int | None = None,
    *,
    least: int = 0,
) -> int:
    """
    An integer out of an offset.

    Raises:
        StateError: It is not one, below `least`, or missing without default.
    """
    value = offset.get(name, default)
    if value is None:
        raise StateError(NOWHERE.format(name))
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise StateError(f"the stored offset's {name} is {value!r}")
    return value


def text_in(offset: Mapping[str, Primitive], name: str) -> str:
    value = offset.get(name, "")
    if not isinstance(value, str):
        raise StateError(f"the stored offset's {name} is {value!r}: not text")
    return value


def local_part(url: str, home: str) -> str:
    """
    A URL as the state keeps it: path and query; whole where it leads to
    another origin than ours.
    """
    origin = "/".join(home.split("/", 3)[:3])
    if url.startswith(f"{origin}/") and not url.startswith(f"{origin}//"):
        return url[len(origin) :]
    return url


def told(mine: Offset | None) -> tuple[int, int] | None:
    """
    What a stored offset lets the other shards of its api know.

    A shard that had its part of a poll asks for no page again, and yet the others
    need what its first page has shown.

    Returns: its poll and the size of a page in it, or None.
    """
    if mine is None or "size" not in mine:
        return None
    return whole(mine, "poll", 1, least=1), whole(mine, "size", least=1)


def done_once(
    mine: Offset | None, siblings: Sequence[Offset], count: int, *, once: bool = False
) -> bool:
    """
    Under `run --once`: whether a shard has nothing to do.

    A run goes on with a poll that an earlier run left unfinished and ends with
    it: a shard that had its part of it waits for no next poll.

    Args:
        mine: Its own stored offset.
        siblings: Those of all shards of the same api.
        count: How many shards there are; one without an offset has not begun.
        once: Its own was stored by a `run --once`, in which all begin with the
            same number: who is behind has not begun its part. In a run that
            goes on each shard counts its own polls, and a number tells nothing.
    """
    if mine is None or mine.get("done") is not True:
        return False
    if len(siblings) < count:
        return True
    poll = whole(mine, "poll", 1, least=1)
    for each in siblings:
        theirs = whole(each, "poll", 1, least=1)
        if theirs < poll and once:
            return True
        if theirs <= poll and each.get("done") is not True:
            return True
    return False
