"""
The calls that are put to Connect's worker and to ours, one after the other.

Owns the list and what is waited for after each of them; how the answers are compared stands
in `connect_differences`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.contracts.connect_worker import Told, send, until


class Side(NamedTuple):
    """
    A worker that is asked.

    Attributes:
        url: Where it listens.
        config: Of a connector that works.
        broken: Of one whose task fails for good.
        required: A key that `config` cannot do without.
        full: The class in full.
        odd: An offset that its connector refuses.
        words: Its own words -> what they stand for.
        failures: How often what is broken has failed.
    """

    url: str
    config: Mapping[str, str]
    broken: Mapping[str, str]
    required: str
    full: str
    odd: Mapping[str, Any]
    words: Mapping[str, str]
    failures: Callable[[], int]

    @property
    def short(self) -> str:
        """The class as most people write it."""
        return self.config["connector.class"]

    def status(self, name: str) -> tuple[str, list[str]]:
        """State of a connector, and of each task."""
        told = send(self.url, "GET", f"/connectors/{name}/status")
        if told.status != 200:
            return "", []
        tasks = [each["state"] for each in told.document["tasks"]]
        return told.document["connector"]["state"], tasks

    def offsets(self) -> list[dict[str, Any]]:
        """The offsets of `a`."""
        told = send(self.url, "GET", "/connectors/a/offsets").document
        found: list[dict[str, Any]] = told["offsets"]
        return found


class Call(NamedTuple):
    """
    A call.

    Attributes:
        name: Method and path, and what is special about it.
        body: JSON, bytes as they are, or what makes it for a side; None: none.
        headers: Beside those of every call.
        then: What is waited for after it.
    """

    name: str
    body: Any = None
    headers: Mapping[str, str] = {}
    then: Callable[[Side], bool] | None = None

    @property
    def line(self) -> tuple[str, str]:
        """Method and path."""
        method, _, rest = self.name.partition(" ")
        return method, rest.partition(" ")[0]


def is_(name: str, state: str, *tasks: str) -> Callable[[Side], bool]:
    return lambda side: side.status(name) == (state, list(tasks))


def fails_again(side: Side) -> bool:
    """A resume tries anew what has failed, here: it is FAILED until then, and again."""
    return side.failures() > 1 and side.status("f") == ("RUNNING", ["FAILED"])


def gone(name: str) -> Callable[[Side], bool]:
    def check(side: Side) -> bool:
        told = send(side.url, "GET", f"/connectors/{name}/status")
        return told.status == 404

    return check


def has_written(side: Side) -> bool:
    told = send(side.url, "GET", "/connectors/a/topics").document
    return bool(told["a"]["topics"]) and bool(side.offsets())


def has_forgotten(side: Side) -> bool:
    told = send(side.url, "GET", "/connectors/a/topics").document
    return not told["a"]["topics"]


RUNS = is_("a", "RUNNING", "RUNNING")
TEXT = {"Content-Type": "text/plain"}
HTML = {"Accept": "text/html"}
BROWSER = {"Accept": "text/html,application/xml;q=0.9,*/*;q=0.8"}
NULL_BODIES: tuple[Any, ...] = (b"{", b"[]", b"null", b'"x"', b"", b'{"a":"\xff"}')


def named(**more: Any) -> Callable[[Side], Any]:
    return lambda side: {"name": "a", "config": side.config, **more}


def config(drop: str = "", **more: Any) -> Callable[[Side], Any]:
    def made(side: Side) -> Any:
        keys = {k.replace("__", "."): v for k, v in more.items()}
        found = {**side.config, **keys}
        if drop == "required":
            del found[side.required]
        return found

    return made


def odd_ones(method: str, path: str) -> list[Call]:
    """Bodies that are no JSON object."""
    return [Call(f"{method} {path} <- {body!r}", body) for body in NULL_BODIES]


CALLS: list[Call] = [
    # --- the worker itself
    Call("GET /"),
    Call("HEAD /"),
    Call("POST /", b"{}"),
    Call("GET /health"),
    Call("GET /health/"),
    Call("GET /nothing"),
    Call("GET /admin"),
    Call("OPTIONS /connectors"),
    Call("OPTIONS /connectors/a/config"),
    Call("OPTIONS /nothing"),
    Call("TRACE /connectors"),
    Call("BREW /connectors"),
    Call("GET /connectors as a browser", headers=BROWSER),
    Call("GET /connectors as HTML", headers=HTML),
    Call("GET /connectors/gone as XML", headers={"Accept": "application/xml"}),
    Call(
        "GET /connectors rather HTML",
        headers={"Accept": "text/html,application/json;q=0.5"},
    ),
    # --- nothing there yet
    Call("GET /connectors none"),
    Call("GET /connectors?expand=status&expand=info none"),
    *(
        Call(f"GET /connectors/gone{path}")
        for path in ("", "/config", "/status", "/tasks", "/tasks/0/status", "/topics")
    ),
    Call("GET /connectors/gone/offsets"),
    Call("HEAD /connectors/gone"),
    *(Call(f"PUT /connectors/gone/{verb}") for verb in ("pause", "resume", "stop")),
    Call("POST /connectors/gone/restart"),
    Call("POST /connectors/gone/restart?includeTasks=true"),
    Call("POST /connectors/gone/tasks/0/restart"),
    Call("PUT /connectors/gone/topics/reset"),
    Call("PATCH /connectors/gone/config", {"tasks.max": "1"}),
    Call(
        "PATCH /connectors/gone/offsets", {"offsets": [{"partition": {}, "offset": {}}]}
    ),
    Call("DELETE /connectors/gone/offsets"),
    Call("DELETE /connectors/gone"),
    # --- create
    *odd_ones("POST", "/connectors"),
    Call("POST /connectors as text", b"{}", TEXT),
    Call("POST /connectors without config", {"name": "a"}),
    Call("POST /connectors with an empty config", {"name": "a", "config": {}}),
    Call("POST /connectors with a further field", named(more=1)),
    Call("POST /connectors with no such state", named(initial_state="NO")),
    Call("POST /connectors without a name", lambda side: {"config": side.config}),
    Call("POST /connectors with a blank name", named(name=" ")),
    Call("POST /connectors with a line in its name", named(name="x\ny")),
    Call(
        "POST /connectors with two names",
        named(config={"name": "y", "connector.class": "x"}),
    ),
    Call(
        "POST /connectors of an unknown class",
        {"name": "a", "config": {"connector.class": "No.Such"}},
    ),
    Call(
        "POST /connectors with null",
        lambda s: {"name": "a", "config": {**s.config, "x": None}},
    ),
    Call(
        "POST /connectors with an object",
        lambda s: {"name": "a", "config": {**s.config, "x": {}}},
    ),
    Call(
        "POST /connectors without what is required",
        lambda side: {"name": "a", "config": config("required")(side)},
    ),
    Call(
        "POST /connectors tasks.max=several",
        lambda side: {"name": "a", "config": config(tasks__max="several")(side)},
    ),
    Call(
        "POST /connectors tasks.max=0",
        lambda side: {"name": "a", "config": config(tasks__max="0")(side)},
    ),
    Call("POST /connectors", named(), then=RUNS),
    Call("POST /connectors again", named()),
    Call(
        "POST /connectors paused",
        lambda side: {"name": "p.q", "config": side.config, "initial_state": "paused"},
        then=is_("p.q", "PAUSED"),
    ),
    Call("GET /connectors/p.q/status"),
    Call("GET /connectors/p.q"),
    Call("DELETE /connectors/p.q", then=gone("p.q")),
    Call("POST /connectors with a blank in its name", named(name="p q")),
    Call("DELETE /connectors/p%20q", then=gone("p%20q")),
    # --- read
    Call("GET /connectors", then=has_written),
    Call("GET /connectors/"),
    Call("HEAD /connectors"),
    Call("GET /connectors?expand=status"),
    Call("GET /connectors?expand=info"),
    Call("GET /connectors?expand=status&expand=info"),
    Call("GET /connectors?expand=x"),
    Call("GET /connectors?expand="),
    Call("GET /connectors?expand=status,info"),
    Call("GET /connectors/a"),
    Call("GET /connectors/a?unknown=1"),
    Call("GET /connectors/a as a browser", headers=BROWSER),
    Call("GET /connectors/%61/config"),
    Call("GET /connectors/A"),
    Call("GET /connectors/a/config"),
    Call("GET /connectors/a/status"),
    Call("GET /connectors/a/tasks"),
    Call("GET /connectors/a/tasks/0"),
    Call("GET /connectors/a/tasks/0/status"),
    Call("GET /connectors/a/tasks/7/status"),
    Call("GET /connectors/a/tasks/-1/status"),
    Call("GET /connectors/a/tasks/x/status"),
    Call("GET /connectors/a/tasks-config"),
    Call("GET /connectors/a/topics"),
    Call("GET /connectors/a/offsets"),
    *(
        Call(f"{call} of another method")
        for call in (
            "GET /connectors/a/pause",
            "POST /connectors/a/pause",
            "PUT /connectors/a/restart",
            "PUT /connectors/a",
            "POST /connectors/a",
            "PUT /connectors",
            "DELETE /connectors",
            "PUT /connectors/a/offsets",
            "DELETE /connectors/a/config",
            "GET /connectors/a/topics/reset",
        )
    ),
    Call("POST /connectors/a/tasks between workers", []),
    Call("PUT /connectors/a/fence between workers", b""),
    # --- change
    *odd_ones("PUT", "/connectors/a/config"),
    Call("PUT /connectors/a/config wrapped", named()),
    Call("PUT /connectors/a/config of another name", config(name="other")),
    Call("PUT /connectors/a/config empty", {}),
    Call("PUT /connectors/a/config", config(), then=RUNS),
    Call("PUT /connectors/a/config with a number", config(tasks__max=1), then=RUNS),
    Call("PUT /connectors/new/config", config(), then=is_("new", "RUNNING", "RUNNING")),
    Call("DELETE /connectors/new", then=gone("new")),
    Call("GET /connectors/new"),
    *odd_ones("PATCH", "/connectors/a/config"),
    Call("PATCH /connectors/a/config", {"tasks.max": 1, "not.there": None}, then=RUNS),
    Call("PATCH /connectors/a/config with nothing", {}, then=RUNS),
    Call("PATCH /connectors/a/config that takes the name out", {"name": None}),
    Call(
        "PATCH /connectors/a/config as a merge patch",
        b"{}",
        {"Content-Type": "application/merge-patch+json"},
    ),
    # --- run states
    Call("PUT /connectors/a/pause", then=is_("a", "PAUSED", "PAUSED")),
    Call("PUT /connectors/a/pause again"),
    Call("GET /connectors/a/status paused"),
    Call("GET /connectors/a/tasks paused"),
    Call(
        "PATCH /connectors/a/offsets while paused", lambda s: {"offsets": s.offsets()}
    ),
    Call("POST /connectors/a/restart while paused"),
    Call("PUT /connectors/a/resume/", then=RUNS),
    Call("PUT /connectors/a/resume again"),
    Call("PUT /connectors/a/resume as text", b"", TEXT),
    Call(
        "PUT /connectors/a/pause with a body it does not need",
        {"x": 1},
        then=is_("a", "PAUSED", "PAUSED"),
    ),
    Call("PUT /connectors/a/resume", then=RUNS),
    Call("POST /connectors/a/restart", then=RUNS),
    Call("POST /connectors/a/restart?includeTasks=false", then=RUNS),
    Call("POST /connectors/a/restart?includeTasks", then=RUNS),
    Call("POST /connectors/a/restart?includeTasks=true", then=RUNS),
    Call("POST /connectors/a/restart?onlyFailed=true", then=RUNS),
    Call("POST /connectors/a/restart?includeTasks=true&onlyFailed=true", then=RUNS),
    Call("POST /connectors/a/tasks/0/restart", then=RUNS),
    Call("POST /connectors/a/tasks/9/restart"),
    Call("POST /connectors/a/tasks/-1/restart"),
    Call("POST /connectors/a/tasks/x/restart"),
    # --- one that fails
    Call(
        "POST /connectors of one that fails",
        lambda side: {"name": "f", "config": side.broken},
        then=is_("f", "RUNNING", "FAILED"),
    ),
    Call("GET /connectors/f/status failed"),
    Call("GET /connectors/f/tasks/0/status failed"),
    Call("GET /connectors?expand=status failed"),
    Call("PUT /connectors/f/pause", then=is_("f", "PAUSED", "FAILED")),
    Call("GET /connectors/f/status failed and paused"),
    Call("PUT /connectors/f/resume", then=fails_again),
    Call(
        "POST /connectors/f/restart?includeTasks=true&onlyFailed=true of one that fails"
    ),
    Call("DELETE /connectors/f", then=gone("f")),
    # --- offsets
    *(
        Call(f"PATCH /connectors/a/offsets <- {json.dumps(body)}", body)
        for body in (
            {},
            {"offsets": None},
            {"offsets": []},
            {"offsets": "x"},
            {"offsets": {}},
            [],
            {"offsets": [5]},
            {"offsets": [], "more": 1},
        )
    ),
    Call(
        "PATCH /connectors/a/offsets while it runs", lambda s: {"offsets": s.offsets()}
    ),
    Call("DELETE /connectors/a/offsets while it runs"),
    Call("PUT /connectors/a/stop", then=is_("a", "STOPPED")),
    Call("PUT /connectors/a/stop again"),
    Call("GET /connectors/a stopped"),
    Call("GET /connectors/a/status stopped"),
    Call("GET /connectors/a/tasks stopped"),
    Call("GET /connectors/a/tasks/0/status stopped"),
    Call("POST /connectors/a/restart while stopped"),
    Call("POST /connectors/a/restart?includeTasks=true while stopped"),
    Call("POST /connectors/a/tasks/0/restart while stopped"),
    Call("PUT /connectors/a/config while stopped", config()),
    Call("GET /connectors/a/offsets stopped"),
    Call("PATCH /connectors/a/offsets", lambda side: {"offsets": side.offsets()}),
    *(
        Call(f"PATCH /connectors/a/offsets {what}", body)
        for what, body in (
            ("of no partition", {"offsets": [{"partition": None, "offset": {}}]}),
            ("of an empty partition", {"offsets": [{"partition": {}, "offset": None}]}),
            (
                "refused by the connector",
                lambda s: {"offsets": [{**s.offsets()[0], "offset": s.odd}]},
            ),
            (
                "that is a text",
                lambda s: {"offsets": [{**s.offsets()[0], "offset": "x"}]},
            ),
        )
    ),
    Call(
        "PATCH /connectors/a/offsets to forget one",
        lambda side: {"offsets": [{**side.offsets()[0], "offset": None}]},
    ),
    Call("GET /connectors/a/offsets of none"),
    Call("DELETE /connectors/a/offsets"),
    Call("DELETE /connectors/a/offsets again"),
    Call("PUT /connectors/a/topics/reset", then=has_forgotten),
    Call("GET /connectors/a/topics after a reset"),
    # --- plugins
    Call("GET /connector-plugins"),
    Call("GET /connector-plugins?connectorsOnly=false"),
    Call("GET /connector-plugins/NoSuch/config"),
    Call("GET /connector-plugins/NoSuch"),
    Call("GET /connector-plugins/{short}/config"),
    Call("GET /connector-plugins/{short}Connector/config"),
    Call("GET /connector-plugins/{full}/config"),
    Call("GET /connector-plugins/{full}/config?version=9"),
    Call("PUT /connector-plugins/{short}/config/validate", config(name="a")),
    Call("PUT /connector-plugins/{short}/config/validate without a name", config()),
    Call(
        "PUT /connector-plugins/{short}/config/validate without what is required",
        config("required", name="a"),
    ),
    Call(
        "PUT /connector-plugins/{short}/config/validate tasks.max=0",
        config(name="a", tasks__max="0"),
    ),
    Call("PUT /connector-plugins/{full}/config/validate in short", config(name="a")),
    Call(
        "PUT /connector-plugins/{full}/config/validate in full",
        lambda side: {**side.config, "name": "a", "connector.class": side.full},
    ),
    Call("PUT /connector-plugins/{short}/config/validate <- {}", {}),
    *odd_ones("PUT", "/connector-plugins/{short}/config/validate"),
    Call("POST /connector-plugins/{short}/config/validate of another method", {}),
    # --- loggers
    Call("GET /admin/loggers"),
    Call("GET /admin/loggers/root"),
    Call("GET /admin/loggers/no.such.logger"),
    Call("PUT /admin/loggers/never.seen", {"level": "debug"}),
    Call("PUT /admin/loggers/never.seen again", {"level": "DEBUG"}),
    Call("GET /admin/loggers/never.seen"),
    Call("PUT /admin/loggers/never.seen?scope=cluster", {"level": "INFO"}),
    Call("PUT /admin/loggers/never.seen?scope=x", {"level": "FATAL"}),
    Call("PUT /admin/loggers/never.seen to a level there is not", {"level": "NO"}),
    Call("PUT /admin/loggers/never.seen to 5", {"level": 5}),
    Call("PUT /admin/loggers/never.seen to nothing", {"level": None}),
    Call("PUT /admin/loggers/never.seen to {}", {}),
    *odd_ones("PUT", "/admin/loggers/never.seen"),
    Call("POST /admin/loggers of another method", {}),
    Call("DELETE /admin/loggers/root of another method"),
    # --- delete
    Call("DELETE /connectors/a", then=gone("a")),
    Call("DELETE /connectors/a again"),
    Call("GET /connectors/a deleted"),
]

assert len({call.name for call in CALLS}) == len(CALLS)


def put_all(side: Side, told: dict[str, Told]) -> None:
    """Every call in turn; its answer by its name."""
    for call in CALLS:
        told[call.name] = answer = _put(side, call)
        if call.then is not None:
            _await(side, call.then, f"after {call.name}: {answer}")


def _put(side: Side, call: Call) -> Told:
    method, path = call.line
    path = path.format(short=side.short, full=side.full)
    body = call.body(side) if callable(call.body) else call.body
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    found: list[Told] = []

    def answered() -> bool:
        found[:] = [send(side.url, method, path, body, call.headers)]
        # It rebalances after each change, and says so; of a stopped task for ever.
        busy = found[0].status == 409 and b"rebalance" in found[0].body
        return not busy or "stopped" in call.name

    until(answered, call.name)
    return found[0]


def _await(side: Side, then: Callable[[Side], bool], what: str) -> None:
    until(lambda: then(side), what)
