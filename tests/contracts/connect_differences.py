"""
Where the answers of Connect's worker and of ours may differ, and the reason of each.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tests.contracts.connect_calls import Call, Side
from tests.contracts.connect_worker import Told, neutral, shape, texts

#: Fields whose values are compared, words of a side's own aside.
WORDS = frozenset(
    [
        "error_code",
        "message",
        "name",
        "connector",
        "task",
        "id",
        "state",
        "type",
        "level",
        "visible",
        "error_count",
    ]
)

#: Headers that clients read.
HEADERS = ("content-type", "location", "allow")


class Difference(NamedTuple):
    """
    What may differ.

    Attributes:
        why: The reason.
        calls: Globs of calls.
        where: Globs of what is compared: `status`, a header, the path of a field, or that
            and ` =` for what stands in it.
        seldom: It depends on the moment.
    """

    why: str
    calls: tuple[str, ...]
    where: tuple[str, ...]
    seldom: bool = False


REFUSED = ("status", "$.error_code =", "$.message =")

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "what Jackson cannot read is a 500 there; it is its sender's mistake, and 400 here",
        (
            "* <- b'*",
            "* without config",
            "* with a further field",
            "* with no such state",
            "* with an object",
            "* wrapped",
            "*/config/validate <- {}",
            'PATCH /connectors/a/offsets <- {"offsets": "x"}',
            'PATCH /connectors/a/offsets <- {"offsets": {}}',
            "PATCH /connectors/a/offsets <- []",
            'PATCH /connectors/a/offsets <- {"offsets": [[]5]}',
            'PATCH /connectors/a/offsets <- {"offsets": [[]], "more": 1}',
            "PATCH /connectors/a/offsets that is a text",
        ),
        REFUSED,
    ),
    Difference(
        "an error that the server makes has its type here, too, and 405 says what is allowed",
        (
            "POST /",
            "TRACE *",
            "BREW *",
            "* of another method",
            "GET /nothing",
            "GET /admin",
            "OPTIONS /nothing",
            "* as HTML",
            "* as XML",
            "* as text",
            "* as a merge patch",
            "GET /connectors/a/tasks/0",
            "GET /connectors/a/tasks-config",
            "GET /connector-plugins/NoSuch",
        ),
        ("content-type", "allow"),
    ),
    Difference(
        "our own version stands beside Connect's", ("GET /",), ("$.kafka_http_*",)
    ),
    Difference(
        "health tells the connectors, too, and why",
        ("GET /health", "GET /health/"),
        ("$.connectors", "$.reasons", "$.message ="),
    ),
    Difference(
        "the key, its value and what is wrong with it are named in words of ours, one for "
        "each value",
        (
            "POST /connectors tasks.max=*",
            "* of an unknown class",
            "*/validate tasks.max=0",
        ),
        ("$.message =", "$.configs[[]].value.errors*"),
    ),
    Difference(
        "names are names of files and of metrics: A-Z a-z 0-9 . _ -",
        ("* with a blank in its name", "DELETE /connectors/p%20q"),
        ("*",),
    ),
    Difference(
        "an offset is what the connector makes of it",
        ("GET /connectors/a/offsets*",),
        ("$.offsets[[]].offset.[*]",),
    ),
    Difference(
        "what was forgotten is gone at once; there it may be listed for a while, as null",
        ("GET /connectors/a/offsets of none",),
        ("$.offsets[[]]*",),
        seldom=True,
    ),
    Difference(
        "a partition or a position that no task can go on from is its sender's mistake, and "
        "the empty partition is nobody's",
        (
            "PATCH /connectors/a/offsets of no partition",
            "PATCH /connectors/a/offsets of an empty partition",
            "PATCH /connectors/a/offsets refused by the connector",
        ),
        (*REFUSED, "$.error_code"),
    ),
    Difference(
        "what fails in an api stands in the connector's trace, as soon as it fails",
        ("* failed*", "* of one that fails"),
        ("*.connector.trace",),
    ),
    Difference(
        "of a stopped connector nothing runs; there its instance may live on",
        ("* stopped",),
        ("$.connector.version",),
    ),
    Difference(
        "a stopped connector has no tasks, and says so, as standalone mode does",
        ("POST /connectors/a/tasks/0/restart while stopped",),
        REFUSED,
    ),
    Difference(
        "there are sources only, and what transforms is no plugin",
        ("GET /connector-plugins*",),
        ("$[[]].type =",),
    ),
    Difference("another version of the plugin", ("*?version=9",), ("$.message =",)),
    Difference(
        "keys are the connector's own; each is in a group, and `order` is for clients of "
        "older contracts",
        ("GET /connector-plugins/*/config", "PUT /connector-plugins/*/validate*"),
        ("*.name =", "*.type =", "*.group", "*.order"),
    ),
)


def differences(
    call: Call, theirs: Told, ours: Told, sides: tuple[Side, Side]
) -> list[str]:
    """Where two answers differ and may not; what was used of `DIFFERENCES` is noted."""
    found: dict[str, tuple[object, object]] = {}
    if theirs.status != ours.status:
        found["status"] = theirs.status, ours.status
    for name in HEADERS:
        values = [
            _methods(neutral(told.headers.get(name, ""), side.words))
            for told, side in zip((theirs, ours), sides)
        ]
        if values[0] != values[1]:
            found[name] = values[0], values[1]
    documents = [_maps(call, told.document) for told in (theirs, ours)]
    shapes = [shape(document) for document in documents]
    for path in sorted(shapes[0].keys() | shapes[1].keys()):
        left, right = (each.get(path, set()) for each in shapes)
        if left != right:
            found[path] = sorted(left), sorted(right)
    words = [texts(document, WORDS) for document in documents]
    for path in sorted(words[0].keys() & words[1].keys()):
        pair = [
            {neutral(one, side.words) for one in each[path]}
            for each, side in zip(words, sides)
        ]
        if pair[0] != pair[1]:
            found[f"{path} ="] = pair[0], pair[1]
    return [
        f"{where}: Connect {left}, here {right}"
        for where, (left, right) in found.items()
        if not _allowed(call, where)
    ]


def _maps(call: Call, document: Any) -> Any:
    """A document whose own keys are somebody's names as one of its values."""
    if not isinstance(document, dict) or "error_code" in document:
        return document
    if call.name == "GET /admin/loggers":
        return list(document.values())
    if call.name.startswith("GET /connectors/") and call.name.endswith("/config"):
        return {"config": document}
    return document


#: What was found so far.
USED: set[Difference] = set()


def _allowed(call: Call, where: str) -> bool:
    for each in DIFFERENCES:
        if any(fnmatchcase(call.name, glob) for glob in each.calls) and any(
            fnmatchcase(where, glob) for glob in each.where
        ):
            USED.add(each)
            return True
    return False


def _methods(value: str) -> str:
    """A list of methods has no order."""
    return ",".join(sorted(part.strip() for part in value.split(",")))
