"""
Rules: what keys say to one another within a connector.

Owns every check that needs more than one key, each a function named as a
sentence.  A rule reads values and notes findings; it changes nothing.

Path: ``load`` -> here, and ``rules_between`` for several connectors
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from engine.config.entries import Findings
from engine.config.kinds import cores
from engine.config.memory import memory
from engine.config.pagination import TYPES
from engine.config.rules_http import (
    auth_is_whole,
    connections_fit,
    deadlines_are_ordered,
    freshness_is_noticed,
    proxies_are_whole,
    rates_have_a_limiter,
    tls_is_sound,
)
from engine.config.rules_kafka import (
    batches_fit,
    brokers_are_named,
    delivery_outlasts_a_request,
    exactly_once_is_possible,
    kafka_login_is_whole,
    kafka_stores_are_pem,
    kafka_tls_is_used,
    times_outlast_retention,
    topics_are_created_as_said,
    transactions_have_time,
)
from engine.config.rules_libraries import (
    codecs_are_installed,
    converters_are_installed,
    encodings_can_be_read,
    http2_is_installed,
)
from engine.config.rules_names import first_words_are_meant
from engine.config.rules_offsets import bookmarks_are_whole
from engine.config.rules_paging import (
    chains_know_their_next,
    hyphens_are_meant,
    jobs_are_whole,
    names_have_values,
    paging_has_a_type,
    parameters_stand_once,
    pointers_are_unquoted,
    snapshots_know_their_keys,
    tombstones_have_keys,
    windows_are_whole,
)
from engine.config.rules_shapes import shapes_fit_the_format
from engine.config.scope import Scope
from engine.config.sections.cache import TiersConfig
from engine.config.sections.client import BalancingConfig
from engine.config.sections.converters import ConverterConfig
from engine.config.sections.engine import ApiConfig
from engine.config.sections.kafka import (
    ProducerConfig,
)
from engine.config.sections.letters import DeadLetterQueueConfig, ErrorsConfig
from engine.config.sections.observing import MetricsConfig
from engine.config.sections.offsets import OffsetsConfig, WindowsConfig
from engine.config.sections.paging import PaginationConfig
from engine.config.sections.processes import MemoryConfig, ScalingConfig
from engine.config.sections.request import RequestConfig
from engine.config.sections.response import RecordsConfig
from engine.config.values import Api, Connector

#: Levels of parents above a child.
MOST_LEVELS = 5


def check_connector(connector: Connector, findings: Findings) -> None:
    """All rules of one connector and its apis."""
    file = _file(connector)
    scope = Scope(connector.values, "", findings, file)
    for rule in _CONNECTOR_RULES:
        rule(scope)
    several = len(connector.apis) > 1
    for api in connector.apis:
        prefix = f"api{api.index}." if several else ""
        api_scope = Scope(api.values, prefix, findings, file)
        for api_rule in _API_RULES:
            api_rule(api_scope, api, connector)
    parents_form_a_tree(connector, findings, several)
    tasks_have_shards(scope, connector)


def memory_is_enough(connector: Connector, findings: Findings) -> None:
    """
    Complain if a task is expected to hold more than its limit; for a connector without errors.
    """
    scope = Scope(connector.values, "", findings, _file(connector))
    tasks_fit_their_limit(scope, memory(connector)[0].resident)


def tasks_fit_their_limit(c: Scope, expected: int) -> None:
    """
    Whether a task may hold what it is expected to.

    Args:
        expected: Bytes, as the configuration says or as they were measured.
    """
    if 0 < c.of(MemoryConfig).max_bytes < expected:
        c.warn(
            "process.memory.max.bytes",
            f"a task is expected to hold {expected:,} bytes: it would be started anew "
            "again and again. Raise the limit, or lower producer.buffer.memory, "
            "pagination.limit.value or cache.max.memory.bytes",
        )


def _file(connector: Connector) -> str:
    """The file that names the connector, else one that says anything of it."""
    for values in (connector.values, *(api.values for api in connector.apis)):
        for key in values:
            if (entry := values.entry(key)) is not None and entry.file != "--set":
                return entry.file
    return ""


def scaling_has_room(c: Scope) -> None:
    auto = "auto.scaling."
    if c.number(f"{auto}max.tasks") < c.number(f"{auto}min.tasks"):
        c.error(
            f"{auto}max.tasks", f"below {auto}min.tasks={c.of(ScalingConfig).min_tasks}"
        )
    down = f"{auto}scale.down.threshold.throughput"
    up = f"{auto}scale.up.threshold.throughput"
    if c.number(down) > c.number(up) / 2:
        c.error(down, f"above half of {up}={c.number(up):.10g}: steps would undo steps")


def tuning_has_statistics(c: Scope) -> None:
    if c.of(TiersConfig).statistics is False:
        off = "cache.statistics.enabled is false"
        if c.of(TiersConfig).tuning is True:
            c.error("cache.auto.tuning.enabled", f"{off}: there is nothing to go by")
        ratio = "health.check.cache.hit.ratio.threshold"
        if c.values.stated(ratio):
            c.warn(ratio, f"{off}: it is not judged")


def beans_have_a_door(c: Scope) -> None:
    if c.of(MetricsConfig).jmx_detailed is True and c.of(MetricsConfig).jmx is False:
        c.warn("jmx.metrics.detailed", "needs jmx.enabled=true")


def what_is_required_is_there(s: Scope, api: Api, connector: Connector) -> None:
    if s.of(RequestConfig).url is None:
        s.error("http.source.url", "required: what to ask")
    if s.of(RecordsConfig).topic is None and not connector.children(api):
        s.error("kafka.topic", "required: where records go")


def urls_have_a_base(s: Scope, api: Api, connector: Connector) -> None:
    url = s.of(RequestConfig).url
    if url is None or re.match("https?://", str(url), re.IGNORECASE):
        return
    if s.of(RequestConfig).base_url is None and s.of(BalancingConfig).endpoints is None:
        s.error(
            "http.source.url",
            "a reference needs http.api.base.url or http.source.endpoints",
        )


#: Offset modes whose next poll begins where the one before ended.
GOING_ON = frozenset(
    {
        "SIMPLE_INCREMENTING",
        "CHAINING",
        "CURSOR_PAGINATION",
        "INCREMENTAL",
        "ODATA_PAGINATION",
    }
)


def ticks_have_one_source(s: Scope, api: Api, connector: Connector) -> None:
    schedule, interval = "http.source.poll.schedule", "http.source.poll.interval.ms"
    if s.values.stated(schedule) and s.values.stated(interval):
        s.error(schedule, f"{interval} says something else: leave one of them out")


def catching_up_leads_on(s: Scope, api: Api, connector: Connector) -> None:
    """A poll that reads everything, or all windows that are due, has caught up."""
    key, schedule = "http.source.poll.catchup.interval.ms", "http.source.poll.schedule"
    if not s.values.stated(key):
        return
    if s.values.stated(schedule):
        s.error(schedule, f"{key} says something else: leave one of them out")
    elif s.of(WindowsConfig).size is not None:
        s.error(key, "a poll asks for all windows that are due: nothing is left behind")
    elif s.of(OffsetsConfig).mode not in GOING_ON:
        mode = s.of(OffsetsConfig).mode
        s.error(
            key, f"http.offset.mode={mode} reads everything: nothing is left behind"
        )


def bodies_have_a_method(s: Scope, api: Api, connector: Connector) -> None:
    method = str(s.of(RequestConfig).method)
    if s.of(RequestConfig).body is not None and method in ("GET", "DELETE"):
        s.error("http.source.body", f"http.source.method={method} sends no body")


def entities_are_told_apart(s: Scope, api: Api, connector: Connector) -> None:
    names: Sequence[str] = s.values.of(ApiConfig).entities or ()
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        # Each is a shard with a place of its own in the state.
        s.error("entity.names", f"{', '.join(twice)}: named more than once")


def parents_are_named(s: Scope, api: Api, connector: Connector) -> None:
    parent = s.of(ApiConfig).parent
    if parent is None:
        return
    if connector.parent(api) is None:
        s.error("api.chaining.parent", f"there is no api {parent!r}")
    if s.of(ApiConfig).extract is None:
        s.error("api.chaining.extract.field", "required with api.chaining.parent")
    if s.of(ApiConfig).state == "NONE":
        mode = s.of(OffsetsConfig).mode
        if mode != "FULL":
            s.error(
                "api.chaining.state",
                f"NONE keeps no position, and http.offset.mode={mode} is one: each poll "
                "would produce everything again",
            )
        if s.values.own("api.chaining.state.polls"):
            s.warn("api.chaining.state.polls", "not used: api.chaining.state=NONE")


def bad_records_have_a_place(s: Scope, api: Api, connector: Connector) -> None:
    letters = connector.values.of(DeadLetterQueueConfig).topic
    if s.of(ErrorsConfig).tolerance == "all" and letters is None:
        s.warn(
            "errors.tolerance",
            "all without errors.deadletterqueue.topic.name: bad records go to the log "
            "only",
        )


def records_fit(s: Scope, api: Api, connector: Connector) -> None:
    limit = "transformation.max.record.size.bytes"
    memory = connector.values.of(ProducerConfig).buffer_memory
    if s.number(limit) > memory:
        s.error(limit, f"above producer.buffer.memory={memory}")
    request = "producer.max.request.size"
    most = connector.values.of(ProducerConfig).max_request_size
    if s.values.stated(limit) and s.number(limit) > most:
        s.note(limit, f"{request}={most} binds: the smaller one applies")


def converters_are_whole(s: Scope, api: Api, connector: Connector) -> None:
    for side in ("key", "value"):
        name = f"{side}.converter"
        kind = str(s[name])
        if kind in ("AvroConverter", "JsonSchemaConverter", "ProtobufConverter"):
            if s[f"{name}.schema.registry.url"] is None:
                s.error(f"{name}.schema.registry.url", f"required by {kind}")
            if kind == "ProtobufConverter":
                for key in (f"{side}.schema.file", f"{side}.schema.message"):
                    if s[key] is None:
                        s.error(key, f"required by {kind}: it needs a descriptor")
    enable = "value.converter.schemas.enable"
    json = s.of(
        ConverterConfig, side="value"
    ).converter == "JsonConverter" and s.values.stated("value.converter")
    if json and not s.values.stated(enable):
        s.note("value.converter", f"{enable} is false here, true in Kafka Connect")


def parents_form_a_tree(
    connector: Connector, findings: Findings, several: bool
) -> None:
    """No cycle, at most five levels, no name twice."""
    names: dict[str, Api] = {}
    for api in connector.apis:
        scope = Scope(api.values, f"api{api.index}." if several else "", findings)
        if api.name in names:
            other = names[api.name].index
            scope.error("api.name", f"{api.name!r} is the name of api{other}, too")
        names[api.name] = api
        chain = [api.index]
        above = connector.parent(api)
        while above is not None:
            if above.index in chain:
                path = " -> ".join(f"api{n}" for n in [*chain, above.index])
                scope.error("api.chaining.parent", f"a cycle: {path}")
                break
            chain.append(above.index)
            if len(chain) > MOST_LEVELS:
                scope.error("api.chaining.parent", f"more than {MOST_LEVELS} levels")
                break
            above = connector.parent(above)


def tasks_have_shards(c: Scope, connector: Connector) -> None:
    tops = [api for api in connector.apis if api.values.of(ApiConfig).parent is None]
    shards = sum(len(api.values.of(ApiConfig).entities or (None,)) for api in tops)
    divisible = any(
        api.values.of(OffsetsConfig).mode == "FULL"
        and (
            TYPES[api.values.of(PaginationConfig).type].addressable
            or api.values.of(WindowsConfig).size is not None
        )
        and not connector.children(api)
        for api in tops
    )
    tasks = c.number("tasks.max")
    if (
        not c.values.stated("tasks.max")
        or (c.values.text("tasks.max") or "").lower() == "auto"
    ):
        return
    if tasks > shards and not divisible:
        c.warn("tasks.max", f"more tasks than shards: {shards} will be started")
        tasks = shards
    if tasks > 2 * cores():
        c.note(
            "tasks.max",
            f"{tasks:.0f} tasks for {cores()} cores: where they have more to do than "
            "to wait for the API, those beyond two a core only cost (eight on two cores "
            "1.1 to 2.6 times the CPU of one, docs/tuning.md); auto starts "
            f"{2 * cores()} at most",
        )


_CONNECTOR_RULES: tuple[Callable[[Scope], None], ...] = (
    brokers_are_named,
    kafka_login_is_whole,
    kafka_tls_is_used,
    kafka_stores_are_pem,
    batches_fit,
    delivery_outlasts_a_request,
    transactions_have_time,
    exactly_once_is_possible,
    codecs_are_installed,
    scaling_has_room,
    tuning_has_statistics,
    beans_have_a_door,
    connections_fit,
    topics_are_created_as_said,
)


_API_RULES: tuple[Callable[[Scope, Api, Connector], None], ...] = (
    what_is_required_is_there,
    urls_have_a_base,
    ticks_have_one_source,
    catching_up_leads_on,
    bodies_have_a_method,
    chains_know_their_next,
    snapshots_know_their_keys,
    jobs_are_whole,
    tombstones_have_keys,
    paging_has_a_type,
    parameters_stand_once,
    windows_are_whole,
    bookmarks_are_whole,
    names_have_values,
    hyphens_are_meant,
    pointers_are_unquoted,
    entities_are_told_apart,
    parents_are_named,
    auth_is_whole,
    tls_is_sound,
    proxies_are_whole,
    encodings_can_be_read,
    http2_is_installed,
    shapes_fit_the_format,
    deadlines_are_ordered,
    rates_have_a_limiter,
    freshness_is_noticed,
    bad_records_have_a_place,
    records_fit,
    times_outlast_retention,
    converters_are_whole,
    converters_are_installed,
    first_words_are_meant,
)
