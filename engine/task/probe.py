"""
Probe: one call to each API and each broker of a configuration.

Owns what `check --connect` asks: the first page of every top-level api, and
whether the brokers answer; and how others come by a few pages.  Produces
nothing and moves no state.

Path: `check --connect`, `preview`, ``sample`` -> here -> ``task.build.sources``,
``task.build.kafka``
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from msgspec import Raw
from msgspec import json as msgjson
from msgspec.structs import replace

from engine.clock import SYSTEM
from engine.config import Api, Connector
from engine.config.sections.cache import ResponseCacheConfig
from engine.config.sections.delivery import StateTopicConfig
from engine.config.sections.engine import ApiConfig
from engine.config.sections.kafka import BootstrapConfig
from engine.config.sections.offsets import OffsetsConfig
from engine.config.sections.response import RecordsConfig
from engine.config.sections.section import needed
from engine.errors import Misconfigured, SinkError, SourceError, Unavailable
from engine.language.paths import compile_path, placed
from engine.later import later
from engine.records import Offset, Page, Request, Response, Shard
from engine.shared.demands import HostReading
from engine.sink.kafka import TopicDescription, admin, describe, reachable
from engine.sink.state import Saved
from engine.sink.statetopic import TopicState
from engine.source.children import naming
from engine.source.jobstate import job_in, without_job
from engine.source.paging.paginator import Paginator
from engine.source.paging.position import whole
from engine.source.paging.request import Shape
from engine.source.wire.origin import shown
from engine.task.build.jobs import job_decoder, keys_of, steps_of
from engine.task.build.kafka import KafkaBuilder, bootstrap_of, unfit
from engine.task.build.places import Places
from engine.task.build.polling import paginator_of
from engine.task.build.sources import Sources
from engine.task.pulse import LoopStopping, Pulse
from engine.task.stored import cut_of

if TYPE_CHECKING:
    import tempfile
else:
    tempfile = later("tempfile")


#: Pages of a parent that are looked through for a child's value.
PARENT_PAGES: Final = 5


def questions(
    connector: Connector, zone: str
) -> Iterator[tuple[Api | None, str, Callable[[], object]]]:
    """
    What to ask: whose, the key that answers for it, and the call.

    Each call raises an EngineError if it gets no usable answer.
    """
    for api in connector.apis:
        if api.values.of(ApiConfig).parent is None:
            yield api, "http.source.url", partial(first_page, connector, api, zone)
    yield None, "bootstrap.servers", partial(brokers, connector)


def brokers(connector: Connector) -> None:
    """Raises: Unavailable, Misconfigured."""

    def embedded() -> str:
        raise Misconfigured("the embedded broker runs only while `run` does")

    servers = bootstrap_of(connector.values, embedded)
    reachable(KafkaBuilder(connector, servers).admin)


def state_topic(connector: Connector) -> str:
    """
    What the state topic lacks to stay small, and the command that mends it; or "".

    Raises: Unavailable, Misconfigured.
    """

    def embedded() -> str:
        raise Unavailable("the embedded broker runs only while `run` does")

    brokers = KafkaBuilder(connector, bootstrap_of(connector.values, embedded))
    state = brokers.state()
    lacking = state.lacks() if isinstance(state, TopicState) else {}
    if not lacking:
        return ""
    topic = connector.values.of(StateTopicConfig).topic
    found = ", ".join(f"{name}={has}" for name, (has, _) in lacking.items())
    wanted = ",".join(f"{name}={wants}" for name, (_, wants) in lacking.items())
    login = " --command-config client.properties"
    if brokers.admin.protocol == "PLAINTEXT":
        login = ""
    return (
        f"the state topic {topic} has {found}: it is compacted late and grows, and "
        "every start reads it. This mends it: kafka-configs.sh --bootstrap-server "
        f"{brokers.admin.address}{login} --alter --entity-type topics --entity-name "
        f"{topic} --add-config {wanted}"
    )


def transactions(connector: Connector) -> None:
    """
    Ask for a transactional id of the connector's that no task uses.

    Nobody is asked for a configuration that allows none: its keys are told of.

    Raises: Misconfigured without the right to it, or where the broker knows no
    transactions; Unavailable.
    """
    if unfit(connector.values):
        return

    def embedded() -> str:
        raise Unavailable("the embedded broker runs only while `run` does")

    brokers = KafkaBuilder(connector, bootstrap_of(connector.values, embedded))
    brokers.transactional(brokers.transactional_id("probe")).close(1.0)


def topics(connector: Connector) -> Iterator[tuple[Api | None, str, str, str]]:
    """
    The topics of a connector that are not there.

    Yields: whose, the key that names it, the topic, and why `run` would not create
    it: "" if it would.
    Raises: Unavailable, Misconfigured.
    """

    def embedded() -> str:
        raise Unavailable("the embedded broker runs only while `run` does")

    brokers = KafkaBuilder(connector, bootstrap_of(connector.values, embedded))
    named: dict[str, tuple[Api | None, str]] = {}
    for api in connector.apis:
        name = api.values.of(RecordsConfig).topic
        if name is not None and "${" not in name:
            named.setdefault(str(name), (api, "kafka.topic"))
    letters = brokers.letters()
    if letters is not None:
        named.setdefault(letters, (None, "errors.deadletterqueue.topic.name"))
    told = brokers.topics(lambda text: None).absent(named)
    for name, why in told.items():
        yield *named[name], name, why


def partitions(connector: Connector) -> dict[str, int]:
    """
    Partitions of the topics of its apis that exist, by name.

    Topics that are named by their records are not asked for.

    Raises: Unavailable, Misconfigured.
    """

    def embedded() -> str:
        raise Unavailable("the embedded broker runs only while `run` does")

    names = {api.values.of(RecordsConfig).fixed_topic for api in connector.apis}
    fixed = sorted(name for name in names if name)
    servers = bootstrap_of(connector.values, embedded)
    with admin(KafkaBuilder(connector, servers).admin) as client:
        found = describe(client, fixed)
    return {name: topic.partitions for name, topic in found.items()}


def outlived(connector: Connector) -> Iterator[tuple[Api, str, str, str]]:
    """
    (api, key, severity, words) where what is unchanged may be gone from its topic.

    Says nothing where the brokers may not be asked.
    """
    key = "cache.unchanged.max.age.seconds"
    remembering = [
        (api, str(api.values.of(RecordsConfig).topic))
        for api in connector.apis
        if api.values.of(ResponseCacheConfig).enabled
        and api.values.of(OffsetsConfig).mode == "FULL"
        and api.values.of(RecordsConfig).fixed_topic
    ]
    servers = connector.values.of(BootstrapConfig).servers
    if not remembering or not servers or tuple(servers) == ("embedded",):
        return
    found: Mapping[str, TopicDescription] = {}
    with (
        suppress(SinkError),
        admin(KafkaBuilder(connector, tuple(servers)).admin) as client,
    ):
        found = describe(client, sorted({name for _, name in remembering}))
    for api, name in remembering:
        topic = found.get(name)
        said = (
            None
            if topic is None
            else _outlived(
                name, topic, api.values.of(ResponseCacheConfig).unchanged_max_age
            )
        )
        if said is not None:
            yield api, key, *said


def _outlived(
    name: str, topic: TopicDescription, age: int | None
) -> tuple[str, str] | None:
    """What is to be said of a topic; `age` as it is configured."""
    kept = topic.retention
    if age is None and topic.sized:
        return "warning", (
            f"topic {name} deletes records by size (retention.bytes): those of "
            "pages that are unchanged may be missing; say after how many seconds they "
            "are to be produced again"
        )
    if kept is None:
        return None
    if age is None:
        return "notice", (
            f"pages that are unchanged are produced again after {kept:,.0f} s, when "
            f"topic {name} has deleted their records (retention.ms)"
        )
    if 0 < age <= kept:
        return None
    again = f"after {age:,} s" if age else "never"
    return "warning", (
        f"topic {name} deletes records after {kept:,.0f} s (retention.ms), and pages "
        f"that are unchanged are produced again {again}: their records will be missing"
    )


def first_page(connector: Connector, api: Api, zone: str) -> Page | None:
    """
    The first page of an api, asked once and not again.

    Raises: SourceError.
    """
    # Who checks wants to know now, and not whether it mends itself.
    once = replace(api, values=api.values.replaced({"max.retries": 0}))
    # A source takes its apis from the connector, which reads secrets anew.
    apis = tuple(once if each is api else each for each in connector.apis)
    with pages(replace(connector, apis=apis), once, zone) as found:
        return next(found, None)


class pages:
    """
    The pages of one shard from the initial offset on, outside of any task.

    A context: its connections are closed at the end of it.

    Args:
        scope: `parent` and `parent_value`, of a child.

    Attributes:
        shard: Whose pages they are.
    """

    def __init__(
        self,
        connector: Connector,
        api: Api,
        zone: str,
        *,
        scope: Mapping[str, object] | None = None,
    ):
        self._folder = tempfile.TemporaryDirectory(prefix="kafka-http-source-")
        place = Path(self._folder.name)
        entity = next(iter(api.values.of(ApiConfig).entities or ()), None)
        self.shard = Shard(connector.name, api.name, entity)
        stop = LoopStopping(threading.Event(), Pulse(fetch=0.0, work=0.0))
        self._sources = Sources(
            connector,
            zone=zone,
            task=0,
            places=Places(place / "run", place / "state"),
            budget=None,
            stop=stop,
        )
        poll = self._sources.poll(api, self.shard, stopping=stop)
        self._scope = scope
        self._pages = poll.pages(None, scope=scope)

    @property
    def requests(self) -> int:
        """Requests so far, each try counted."""
        return self._sources.counters.requests

    @property
    def demands(self) -> list[HostReading]:
        """What the hosts said of their own limits so far."""
        return self._sources.limiter.host_readings()

    def __enter__(self) -> Iterator[Page]:
        return self._pages if self._scope is None else self._of_parent(self._scope)

    def _of_parent(self, scope: Mapping[str, object]) -> Iterator[Page]:
        """Its pages, as those of a child."""
        for page in self._pages:
            yield replace(
                page, parent=scope["parent"], parent_value=scope["parent_value"]
            )

    def __exit__(self, *_: object) -> None:
        self._pages.close()
        self._sources.close()
        self._folder.cleanup()


def scope_of(connector: Connector, api: Api, zone: str) -> dict[str, object] | None:
    """
    What a child is polled with, of the first record above it that names a value.

    Returns: None if none of the first `PARENT_PAGES` pages does.
    Raises: SourceError, BadPage.  Blocks: for as many requests of each api above.
    """
    parent = connector.parent(api)
    assert parent is not None
    above = None
    if connector.parent(parent) is not None:
        above = scope_of(connector, parent, zone)
        if above is None:
            return None
    values = naming(needed(api.values.of(ApiConfig).extract))
    with pages(connector, parent, zone, scope=above) as found:
        for page in islice(found, PARENT_PAGES):
            for record in page.records:
                for value in values(record):
                    if value is not None:
                        return {
                            "parent": record,
                            "parent_value": value,
                            "parent_response": Raw(page.response.body),
                        }
    return None


def next_request(connector: Connector, api: Api, saved: Saved, zone: str) -> str | None:
    """
    What the shard would ask next, as `METHOD URL`, secrets cut; or None.

    A child's is known where its requests name nothing of its parent but the value
    that the partition has.

    Raises: StateError for an offset that the api's pagination does not know.
    """
    return _asked(connector, api, saved.partition, saved.offset, zone)


def first_request(
    connector: Connector, api: Api, partition: Mapping[str, str], zone: str
) -> str | None:
    """What the shard would ask without a stored offset; as `next_request`."""
    return _asked(connector, api, partition, None, zone)


def _nobody(request: Request) -> Response:
    """Nothing is asked: it is shown only."""
    raise NotImplementedError


def _asked(
    connector: Connector,
    api: Api,
    partition: Mapping[str, str],
    offset: Offset | None,
    zone: str,
) -> str | None:
    index, count = cut_of(partition)
    shard = Shard(connector.name, api.name, partition.get("entity"), index, count)
    if "parent" in partition:
        return _asked_below(connector, api, shard, partition["parent"], offset, zone)
    paginator = paginator_of(connector, api, shard, zone=ZoneInfo(zone), task=0)
    now = SYSTEM.wall_ms()
    if keys_of(api) is not None:
        pages = paginator.shape
        assert isinstance(pages, Shape)
        steps = steps_of(
            connector,
            api,
            shard,
            pages=pages,
            ask=_nobody,
            look=_nobody,
            decode=job_decoder(api),
            zone=ZoneInfo(zone),
            task=0,
        )
        scope = None
        if paginator.windows is not None:
            bare = None if offset is None else without_job(offset)
            scope = paginator.windows.start(paginator, bare, now).due()
            if scope is None:
                return None
        first = steps.next(job_in(offset), now, scope)
        return f"{first.method} {shown(first.url)}"
    request = paginator.start(offset, now).ask()
    return None if request is None else f"{request.method} {shown(request.url)}"


class _Below:
    """The paginator of the children that were asked for last: there may be thousands."""

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._made: Paginator | None = None

    def paginator(
        self, connector: Connector, api: Api, shard: Shard, zone: str
    ) -> Paginator:
        of = (id(connector), id(api), shard, zone)
        if self._made is None or self._of[:-1] != of:
            made = paginator_of(connector, api, shard, zone=ZoneInfo(zone), task=0)
            # The last is kept so that its number is nobody else's.
            self._of, self._made = (*of, (connector, api)), made
        return self._made


_BELOW: Final = _Below()


def _asked_below(
    connector: Connector,
    api: Api,
    shard: Shard,
    parent: str,
    offset: Offset | None,
    zone: str,
) -> str | None:
    """As `_asked`, for the child of a parent's value."""
    paginator = _BELOW.paginator(connector, api, shard, zone)
    shape = paginator.shape
    assert isinstance(shape, Shape)
    named = {*shape.paths("parent"), *shape.paths("parent_response")}
    extract = api.values.of(ApiConfig).extract
    known = named <= {extract}
    record = Raw(b"{}")
    if known and extract in named:
        steps = compile_path(str(extract)).steps
        record = Raw(msgjson.encode(placed(None, steps, parent)))
    scope = {"parent": record, "parent_value": parent, "parent_response": Raw(b"{}")}
    number = 1 if offset is None else whole(offset, "poll", 1, least=1)
    try:
        course = paginator.start(offset, SYSTEM.wall_ms(), scope, number)
        request = course.ask()
    except SourceError:
        # A template has no value without the parent's record.
        return None
    if request is None or not known:
        return None
    return f"{request.method} {shown(request.url)}"
