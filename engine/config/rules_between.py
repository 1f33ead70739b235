"""
Rules between: what connectors and their topics say to one another.

Owns the checks that look at all connectors of a process at once, and which
connector owns which endpoint.

Path: ``load`` -> here -> ``endpoints``
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from engine.config.endpoints import endpoints
from engine.config.entries import Findings
from engine.config.exposed import check_exposed
from engine.config.scope import Scope
from engine.config.sections.delivery import StateConfig, StateTopicConfig
from engine.config.sections.letters import DeadLetterQueueConfig
from engine.config.sections.observing import AdminConfig
from engine.config.sections.processes import ClusterConfig
from engine.config.sections.request import CatalogConfig
from engine.config.sections.response import RecordsConfig
from engine.config.values import Connector, Values


def check_all(
    connectors: Sequence[Connector], process: Values, findings: Findings
) -> None:
    """Errors and warnings between connectors."""
    names_differ(connectors, findings)
    topics_differ(connectors, process, findings)
    endpoints_have_one_owner(connectors, findings)
    check_exposed(connectors, findings)
    members_say_so_in_time(Scope(process, "", findings))
    listeners_are_guarded(Scope(process, "", findings))


def names_differ(connectors: Sequence[Connector], findings: Findings) -> None:
    seen = set()
    for connector in connectors:
        if connector.name in seen:
            Scope(connector.values, "", findings).error(
                "name", f"two connectors are called {connector.name!r}"
            )
        seen.add(connector.name)


def topics_differ(
    connectors: Sequence[Connector], process: Values, findings: Findings
) -> None:
    """Data, dead letters, state and group: no topic serves two purposes."""
    purposes: dict[str, tuple[str, str]] = {}
    group = process.of(ClusterConfig).tasks_topic
    if group is not None:
        purposes[group] = ("group", "group.tasks.topic")
    for connector in connectors:
        if connector.values.of(StateConfig).file is None:
            state = connector.values.of(StateTopicConfig).topic
            _claim(
                purposes, state, "state", "offsets.storage.topic", connector, findings
            )
    for connector in connectors:
        letters = connector.values.of(DeadLetterQueueConfig).topic
        if letters is not None:
            topic = letters.replace("${connector}", connector.name)
            key = "errors.deadletterqueue.topic.name"
            _claim(purposes, topic, "dead letter", key, connector, findings)
    for connector in connectors:
        for api in connector.apis:
            fixed = api.values.of(RecordsConfig).fixed_topic
            if fixed is None:
                continue
            other = purposes.get(fixed)
            if other is not None and other[0] != "data":
                prefix = f"api{api.index}." if len(connector.apis) > 1 else ""
                Scope(api.values, prefix, findings).error(
                    "kafka.topic", f"{fixed!r} is the {other[0]} topic ({other[1]})"
                )
            purposes.setdefault(fixed, ("data", "kafka.topic"))
    alike: dict[str, str] = {}
    for topic in purposes:
        plain = topic.replace(".", "_")
        if plain in alike:
            findings.add(
                "warning",
                f"topics {alike[plain]!r} and {topic!r} differ in '.' and '_' only: "
                "their metrics clash",
            )
        alike.setdefault(plain, topic)


def _claim(
    purposes: dict[str, tuple[str, str]],
    topic: str,
    purpose: str,
    key: str,
    connector: Connector,
    findings: Findings,
) -> None:
    other = purposes.get(topic)
    if other is not None and other[0] != purpose:
        Scope(connector.values, "", findings).error(
            key, f"{topic!r} is the {other[0]} topic ({other[1]})"
        )
    purposes.setdefault(topic, (purpose, key))


def endpoints_have_one_owner(
    connectors: Sequence[Connector], findings: Findings
) -> None:
    """A pattern selects something; none is left out, none is taken twice."""
    owners: dict[str, list[str]] = {}
    divided = False
    for connector in connectors:
        scope = Scope(connector.values, "", findings)
        pattern = connector.values.of(CatalogConfig).url_pattern
        found = endpoints(connector)
        if pattern is not None:
            divided = True
            owned = sum(endpoint.owned for endpoint in found)
            if not owned:
                scope.warn(
                    "http.source.url.pattern", f"selects none of {len(found)} endpoints"
                )
        for endpoint in found:
            names = owners.setdefault(endpoint.url, [])
            if endpoint.owned:
                names.append(connector.name)
    if not divided:
        return
    for url, names in sorted(owners.items()):
        if not names:
            findings.add("warning", f"no connector owns the endpoint {url}")
        elif len(names) > 1 and len(connectors) > 1:
            findings.add(
                "warning", f"{' and '.join(names)} both own the endpoint {url}"
            )


def members_say_so_in_time(p: Scope) -> None:
    session, beat = "session.timeout.ms", "heartbeat.interval.ms"
    if p.number(beat) >= p.number(session):
        p.error(beat, f"not below {session}={p[session]}")


def listeners_are_guarded(p: Scope) -> None:
    if p.of(AdminConfig).token is not None:
        return
    for listener in p.of(AdminConfig).listeners:
        host = urlsplit(listener).hostname
        if host not in (None, "127.0.0.1", "::1", "localhost"):
            p.note(
                "listeners",
                f"{listener} is read-only and shows no configuration without admin.token",
            )
