"""
What the clients of Kafka Connect read out of its answers.

Owns, for each client, the calls that it makes and the types that it reads each answer into:
read from the clients' own sources, written down as what `msgspec` can hold an answer against.
A field that is named here has to be there, with this type; any further one is passed over, as
these clients do.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct, field

Texts = dict[str, str]
ConnectorWord = Literal[
    "RUNNING", "FAILED", "PAUSED", "UNASSIGNED", "RESTARTING", "STOPPED"
]
TaskWord = Literal["RUNNING", "FAILED", "PAUSED", "RESTARTING", "UNASSIGNED"]


class TaskId(Struct):
    connector: str
    task: int


class Info(Struct):
    """A connector as it is configured."""

    name: str
    config: Texts
    tasks: list[TaskId]
    type: Literal["source", "sink", "unknown"]


class Head(Struct):
    state: ConnectorWord
    worker_id: str
    trace: str = ""


class TaskLine(Struct):
    id: int
    state: TaskWord
    worker_id: str
    trace: str | None = None

    def __post_init__(self) -> None:
        # kcctl takes the lines of a failed task's trace apart.
        if self.state == "FAILED" and self.trace is None:
            raise ValueError("a failed task without a trace")


class StatusLines(Struct):
    name: str
    connector: Head
    tasks: list[TaskLine]
    type: Literal["source", "sink", "unknown"]


class Expanded(Struct):
    status: StatusLines
    info: Info


class Task(Struct):
    id: TaskId
    config: Texts


class Topics(Struct):
    topics: list[str]


class Stored(Struct):
    partition: dict[str, Any]
    offset: dict[str, Any] | None


class Offsets(Struct):
    offsets: list[Stored]


class Message(Struct):
    message: str


class Root(Struct):
    version: str
    commit: str
    kafka_cluster_id: str


class Plugin(Struct):
    class_: str = field(name="class")
    type: str = ""
    version: str | None = None


class Definition(Struct):
    """
    As Kafka UI reads it.

    Attributes:
        order: In its contract, which is older than `order_in_group`.
    """

    name: str
    type: Literal[
        "BOOLEAN",
        "CLASS",
        "DOUBLE",
        "INT",
        "LIST",
        "LONG",
        "PASSWORD",
        "SHORT",
        "STRING",
    ]
    required: bool
    importance: Literal["LOW", "MEDIUM", "HIGH"]
    documentation: str
    width: Literal["SHORT", "MEDIUM", "LONG", "NONE"]
    display_name: str
    dependents: list[str]
    default_value: str | None = None
    group: str | None = None
    order: int | None = None


class Value(Struct):
    name: str
    value: str | None
    recommended_values: list[str]
    errors: list[str]
    visible: bool


class Configured(Struct):
    definition: Definition
    value: Value


class Validated(Struct):
    name: str
    error_count: int
    groups: list[str]
    configs: list[Configured]


class Level(Struct):
    level: str
    last_modified: int | None


class Refusal(Struct):
    error_code: int
    message: str


class Read(NamedTuple):
    """
    A call of a client's.

    Attributes:
        clients: Who makes it.
        call: Method and path, `*` for a name.
        type: What it reads the answer into; None: it reads nothing.
    """

    clients: str
    call: str
    type: Any


KCCTL, UI, CONSOLE = "kcctl", "Kafka UI", "Redpanda Console"
ALL = f"{KCCTL}, {UI}, {CONSOLE}"

#: The longest match comes first.
READS = (
    Read(ALL, "GET /", Root),
    Read(KCCTL, "GET /connectors/", list[str]),
    Read(CONSOLE, "GET /connectors", list[str]),
    Read(ALL, "GET /connectors?expand=*&expand=*", dict[str, Expanded]),
    Read(ALL, "POST /connectors", Info),
    Read(ALL, "GET /connectors/*/config", Texts),
    Read(ALL, "PUT /connectors/*/config", Info),
    Read(ALL, "GET /connectors/*/tasks/*/status", TaskLine),
    Read(ALL, "GET /connectors/*/tasks", list[Task]),
    Read(ALL, "GET /connectors/*/status", StatusLines),
    Read(ALL, "GET /connectors/*/topics", dict[str, Topics]),
    Read(ALL, "GET /connectors/*/offsets", Offsets),
    Read(f"{KCCTL}, {UI}", "DELETE /connectors/*/offsets", Message),
    Read(KCCTL, "PATCH /connectors/*/offsets", Message),
    Read(KCCTL, "POST /connectors/*/restart?includeTasks=true*", StatusLines),
    Read(ALL, "GET /connector-plugins", list[Plugin]),
    Read(KCCTL, "GET /connector-plugins?connectorsOnly=*", list[Plugin]),
    Read(KCCTL, "GET /connector-plugins/*/config", list[Definition]),
    Read(ALL, "PUT /connector-plugins/*/config/validate", Validated),
    Read(KCCTL, "GET /admin/loggers", dict[str, Level]),
    Read(KCCTL, "GET /admin/loggers/*", Level),
    Read(KCCTL, "PUT /admin/loggers/*", list[str]),
    Read(ALL, "GET /connectors/*", Info),
)


def findings(call: str, status: int, body: bytes) -> Iterator[str]:
    """
    What a client would stumble over in an answer.

    Args:
        call: Method and path.
    """
    if not body:
        # Their success is the status.
        if status not in (202, 204):
            yield f"{call} -> {status} without a body"
        return
    read = read_of(call)
    wanted = Refusal if status >= 400 else read.type if read is not None else None
    if wanted is None:
        return
    try:
        msgspec.json.decode(body, type=wanted)
    except msgspec.DecodeError as problem:
        yield f"{call} -> {status}: {problem}"


def read_of(call: str) -> Read | None:
    """What clients make of a call, or None: nobody reads it."""
    return next((read for read in READS if same(read.call, call)), None)


def same(glob: str, call: str) -> bool:
    """As a path: `*` is one part of it."""
    left, right = (each.partition("?") for each in (glob, call))
    if left[1] != right[1] or not fnmatchcase(right[2], left[2]):
        return False
    wanted, given = left[0].split("/"), right[0].split("/")
    return len(wanted) == len(given) and all(
        one == other or (one == "*" and other) for one, other in zip(wanted, given)
    )
