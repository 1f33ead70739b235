"""
Options of what is seen from outside: log, metrics, health, REST.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

import os
from typing import ClassVar

from engine.config.kinds import (
    Bool,
    Choice,
    CommaList,
    Int,
    InvalidValue,
    Listener,
    Password,
    Text,
    ms,
    ratio,
    size,
)
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.section import Section, duration, option, unset
from engine.observe.redact import Secret


def _long_enough(token: str) -> None:
    if len(token) < 16:
        raise InvalidValue("a token of less than 16 characters can be guessed")


def _log_format(get: Lookup) -> object:
    """Journal, if our stderr is the stream systemd says it gave us."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(2)
    except OSError:
        return "text"
    return "journal" if stream == f"{status.st_dev}:{status.st_ino}" else "text"


class LogConfig(Section, frozen=True, kw_only=True):
    """What is logged, and how."""

    TITLE: ClassVar[str] = "Metrics, health, logs"
    SCOPE: ClassVar[str] = "P"

    level: str = option(
        "log.level",
        Choice(("OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE")),
        "INFO",
        "What is logged; TRACE equals DEBUG. Kafka's own loggers stay at INFO.",
        "WARN",
    )
    format: str = option(
        "log.format",
        Choice(("text", "json", "logfmt", "journal")),
        Computed(_log_format, "journal under systemd's journal, else text"),
        "How a line looks, on stderr.",
        "json",
    )
    unsafe_wire: bool = option(
        "log.unsafe.wire",
        Bool(),
        "false",
        "Lets Kafka's loggers below INFO: they print passwords and records.",
    )


class MetricsConfig(Section, frozen=True, kw_only=True):
    """What is measured, and under which names it is told."""

    TITLE: ClassVar[str] = "Metrics, health, logs"
    SCOPE: ClassVar[str] = "C"

    detailed: bool = option(
        "performance.metrics.detailed",
        Bool(),
        "false",
        "Histograms by stage and api.",
        "true",
    )
    jmx: bool = option(
        "jmx.enabled",
        Bool(),
        "false",
        "This connector's beans over Jolokia's HTTP protocol at /jolokia/.",
        "true",
    )
    jmx_detailed: bool = option(
        "jmx.metrics.detailed",
        Bool(),
        "false",
        "Beans by api, host, cache tier, limiter and breaker, too.",
        "true",
    )


class HealthConfig(Section, frozen=True, kw_only=True):
    """When a connector counts as unwell."""

    TITLE: ClassVar[str] = "Metrics, health, logs"
    SCOPE: ClassVar[str] = "C"

    enabled: bool = option(
        "health.check.enabled",
        Bool(),
        "true",
        "Whether this connector counts in /health and its siblings.",
        "false",
    )
    response_time: float = duration(
        "health.check.response.time.threshold.ms",
        ms(1, 86400000),
        "5000",
        "A longer mean request makes the state degraded.",
    )
    hit_ratio: float = option(
        "health.check.cache.hit.ratio.threshold",
        ratio(),
        "0.7",
        "A lower hit ratio makes the state degraded.",
    )
    error_rate: float = option(
        "health.check.error.rate.threshold",
        ratio(),
        "0.05",
        "A higher share of errors makes the state degraded.",
    )
    no_records: float = duration(
        "health.check.no.records.threshold.ms",
        ms(0, 31536000000),
        "0",
        "A longer time without a delivered record makes the state degraded; 0: an "
        "API may have nothing new for as long as it likes.",
    )


class AdminConfig(Section, frozen=True, kw_only=True):
    """The HTTP endpoints of the admin process, and who may ask them what."""

    TITLE: ClassVar[str] = "Metrics, health, logs"
    SCOPE: ClassVar[str] = "P"

    metric_names: tuple[str, ...] = option(
        "metrics.names",
        CommaList(Choice(("NATIVE", "STRIMZI", "CONFLUENT"))),
        "NATIVE,STRIMZI",
        "Families of names on /metrics.",
    )
    listeners: tuple[str, ...] = option(
        "listeners",
        CommaList(Listener(), alone=("none",)),
        "http://127.0.0.1:8080,http://[::1]:8080",
        "Where health, metrics, Jolokia, REST and the status page are. Port 0: "
        "any; `none`: no admin process.",
    )
    token: Secret | None = unset(
        "admin.token",
        Password(check=_long_enough, allowed="secret of 16 characters or more"),
        None,
        "Bearer token, or Basic password, for calls that change something and, off "
        "loopback, that show a configuration; without it both work from loopback only.",
        "${env:ADMIN_TOKEN}",
    )
    allowed_hosts: tuple[str, ...] | None = unset(
        "admin.allowed.hosts",
        CommaList(Text(r"\*|(\*\.)?[A-Za-z0-9._-]+", "host name, *.name or *")),
        None,
        "Names that requests may have in Host, beside those in listeners, this "
        "machine's own, localhost, and, off loopback, any address. A browser led "
        "here by a DNS answer has another. `*`: any, behind a proxy that checks.",
        "monitor.example.com,*.svc.cluster.local",
    )
    max_loggers: int = option(
        "admin.max.loggers",
        Int(1, 10_000),
        "200",
        "Loggers whose level can be set at /admin/loggers; a further one is refused.",
    )
    jolokia_max_requests: int = option(
        "admin.jolokia.max.requests",
        Int(1, 10_000),
        "100",
        "Requests in one bulk request at /jolokia; more are a 400.",
    )
    jolokia_max_answer: int = option(
        "admin.jolokia.max.answer.bytes",
        size(1024, 1 << 30),
        "8388608",
        "Size of an answer at /jolokia; what goes beyond is a failure in its place.",
    )
