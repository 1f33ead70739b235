"""
Keys of the processes: metrics, health, logs, scaling, admin, cluster.

Owns their entries in the table and nothing else.

Path: here -> ``keys.TABLE``
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from engine.config.keys.key import Computed, Key, Lookup, section
from engine.config.kinds import (
    Bool,
    Choice,
    ClassName,
    Csv,
    Directory,
    Int,
    Listener,
    Number,
    Password,
    Regex,
    Text,
    Topic,
    Unfit,
    ms,
    ratio,
    size,
)

#: The name of our directories below the system's.
PRODUCT = "kafka-http-source"

#: Provider -> Connect's class for it.
PROVIDERS = {
    "env": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    "file": "org.apache.kafka.common.config.provider.FileConfigProvider",
    "dir": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
    "directory": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
}


def _long_enough(token: str) -> None:
    if len(token) < 16:
        raise Unfit("a token of less than 16 characters can be guessed")


def _home(systemd: str, xdg: str, below: str) -> Path:
    given = os.environ.get(systemd, "").partition(":")[0]
    if given:
        return Path(given)
    base = os.environ.get(xdg, "")
    return (Path(base) if base else Path.home() / below) / PRODUCT


def _state(get: Lookup) -> object:
    return _home("STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state")


def _cache(get: Lookup) -> object:
    return _home("CACHE_DIRECTORY", "XDG_CACHE_HOME", ".cache")


def _runtime(get: Lookup) -> object:
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(base) / PRODUCT
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        return memory / f"{PRODUCT}-{os.getuid()}"
    return Path(str(get("state.dir"))) / "run"


def _log_format(get: Lookup) -> object:
    """Journal, if our stderr is the stream systemd says it gave us."""
    stream = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(2)
    except OSError:
        return "text"
    return "journal" if stream == f"{status.st_dev}:{status.st_ino}" else "text"


def _observing() -> list[Key]:
    key = section("Metrics, health, logs")
    return [
        key(
            "log.level",
            Choice(("OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE")),
            "INFO",
            "P",
            "What is logged; TRACE equals DEBUG. Kafka's own loggers stay at INFO.",
            "WARN",
        ),
        key(
            "log.format",
            Choice(("text", "json", "logfmt", "journal")),
            Computed(_log_format, "journal under systemd's journal, else text"),
            "P",
            "How a line looks, on stderr.",
            "json",
        ),
        key(
            "log.unsafe.wire",
            Bool(),
            "false",
            "P",
            "Lets Kafka's loggers below INFO: they print passwords and records.",
        ),
        key(
            "performance.metrics.detailed",
            Bool(),
            "false",
            "C",
            "Histograms by stage and api.",
            "true",
        ),
        key(
            "metrics.names",
            Csv(Choice(("NATIVE", "STRIMZI", "CONFLUENT"))),
            "NATIVE,STRIMZI",
            "P",
            "Families of names on /metrics.",
        ),
        key(
            "jmx.enabled",
            Bool(),
            "false",
            "C",
            "This connector's beans over Jolokia's HTTP protocol at /jolokia/.",
            "true",
        ),
        key(
            "jmx.metrics.detailed",
            Bool(),
            "false",
            "C",
            "Beans by api, host, cache tier, limiter and breaker, too.",
            "true",
        ),
        key(
            "health.check.enabled",
            Bool(),
            "true",
            "C",
            "Whether this connector counts in /health and its siblings.",
            "false",
        ),
        key(
            "health.check.response.time.threshold.ms",
            ms(1, 86400000),
            "5000",
            "C",
            "A longer mean request makes the state degraded.",
        ),
        key(
            "health.check.cache.hit.ratio.threshold",
            ratio(),
            "0.7",
            "C",
            "A lower hit ratio makes the state degraded.",
        ),
        key(
            "health.check.error.rate.threshold",
            ratio(),
            "0.05",
            "C",
            "A higher share of errors makes the state degraded.",
        ),
        key(
            "health.check.no.records.threshold.ms",
            ms(0, 31536000000),
            "0",
            "C",
            "A longer time without a delivered record makes the state degraded; 0: an "
            "API may have nothing new for as long as it likes.",
        ),
        key(
            "listeners",
            Csv(Listener(), alone=("none",)),
            "http://127.0.0.1:8080,http://[::1]:8080",
            "P",
            "Where health, metrics, Jolokia, REST and the status page are. Port 0: "
            "any; `none`: no admin process.",
        ),
        key(
            "admin.token",
            Password(check=_long_enough, allowed="secret of 16 characters or more"),
            None,
            "P",
            "Bearer token for calls that change something and, off loopback, for those "
            "that show a configuration; without it both work from loopback only.",
            "${env:ADMIN_TOKEN}",
        ),
        key(
            "admin.allowed.hosts",
            Csv(Text(r"\*|(\*\.)?[A-Za-z0-9._-]+", "host name, *.name or *")),
            None,
            "P",
            "Names that requests may have in Host, beside those in listeners, this "
            "machine's own, localhost, and, off loopback, any address. A browser led "
            "here by a DNS answer has another. `*`: any, behind a proxy that checks.",
            "monitor.example.com,*.svc.cluster.local",
        ),
        key(
            "admin.max.loggers",
            Int(1, 10_000),
            "200",
            "P",
            "Loggers whose level can be set at /admin/loggers; a further one is "
            "refused.",
        ),
        key(
            "admin.jolokia.max.requests",
            Int(1, 10_000),
            "100",
            "P",
            "Requests in one bulk request at /jolokia; more are a 400.",
        ),
        key(
            "admin.jolokia.max.answer.bytes",
            size(1024, 1 << 30),
            "8388608",
            "P",
            "Size of an answer at /jolokia; what goes beyond is a failure in its place.",
        ),
    ]


def _scaling() -> list[Key]:
    key = section("Auto-scaling")
    auto = "auto.scaling."
    return [
        key(
            f"{auto}enabled",
            Bool(),
            "false",
            "C",
            "Changes the number of tasks while running, one at a time.",
            "true",
        ),
        key(f"{auto}min.tasks", Int(1, 256), "1", "C", "Fewest tasks.", "2"),
        key(
            f"{auto}max.tasks",
            Int(1, 256),
            Computed(lambda get: get("tasks.max"), "tasks.max"),
            "C",
            "Most tasks, never more than shards.",
            "16",
        ),
        key(
            f"{auto}scale.up.threshold.throughput",
            Number(),
            "1000",
            "C",
            "Records/s of a task above which one more is started.",
        ),
        key(
            f"{auto}scale.down.threshold.throughput",
            Number(),
            "100",
            "C",
            "Records/s of a task below which one is ended; at most half of the other.",
        ),
        key(
            f"{auto}evaluation.interval.minutes",
            Number(0.05, 1440, "minutes"),
            "5",
            "C",
            "Pause between judgements.",
        ),
    ]


def _processes() -> list[Key]:
    key = section("Processes")
    return [
        key(
            "task.shutdown.graceful.timeout.ms",
            ms(),
            "10000",
            "P",
            "How long tasks have to finish the page in hand when we are stopped.",
        ),
        key(
            "task.heartbeat.timeout.ms",
            ms(1000),
            "30000",
            "P",
            "Silence after which a task is ended and started again.",
        ),
        key(
            "task.restart.backoff.ms",
            ms(),
            "200",
            "P",
            "First pause before a task is started again; it doubles.",
        ),
        key(
            "task.restart.backoff.max.ms",
            ms(),
            "30000",
            "P",
            "Longest such pause.",
        ),
        key(
            "task.restart.limit",
            Int(),
            "10",
            "P",
            "More exits in 5 minutes and the task is FAILED.",
        ),
        key(
            "process.memory.max.bytes",
            size(),
            "0",
            "T",
            "A task larger than this drains and starts again, which is no failure of "
            "it. 0: no limit.",
            "536870912",
        ),
        key(
            "state.dir",
            Directory(),
            Computed(_state, "$STATE_DIRECTORY, else XDG's state home"),
            "P",
            "What must survive a reboot.",
            "/var/lib/kafka-http-source",
        ),
        key(
            "cache.dir",
            Directory(),
            Computed(_cache, "$CACHE_DIRECTORY, else XDG's cache home"),
            "P",
            "The cache on disk.",
            "/var/cache/kafka-http-source",
        ),
        key(
            "runtime.dir",
            Directory(),
            Computed(
                _runtime,
                "$RUNTIME_DIRECTORY, else XDG's runtime directory, else /dev/shm",
            ),
            "P",
            "What lives as long as the supervisor; should be memory.",
            "/run/kafka-http-source",
        ),
    ]


def _providers() -> list[Key]:
    key = section("Providers")
    names = Choice(
        ("env", "file", "dir", "cred"), also={"directory": "dir", "env_var": "env"}
    )
    keys = [
        key(
            "config.providers",
            Csv(names),
            "env,file,dir,cred",
            "P",
            "Which providers may be used in values.",
        ),
        key(
            "config.providers.env.param.allowlist.pattern",
            Regex(),
            None,
            "P",
            "Which environment variables may be read.",
            "KHS_.*",
        ),
    ]
    for provider, name in PROVIDERS.items():
        keys.append(
            key(
                f"config.providers.{provider}.class",
                ClassName({name: name}),
                None,
                "P",
                f"Connect's class line for `{provider}`; it must name the built-in "
                "one.",
                name,
            )
        )
    for provider in ("file", "dir", "directory"):
        keys.append(
            key(
                f"config.providers.{provider}.param.allowed.paths",
                Csv(Text(r"/.*", "absolute path")),
                None,
                "P",
                f"Directories that `{provider}` may read in.",
                "/etc/kafka-http-source",
            )
        )
    return keys


def _cluster() -> list[Key]:
    key = section("Cluster")
    return [
        key(
            "group.id",
            Text(r"[\x21-\x7e]{1,249}", "up to 249 printable characters"),
            None,
            "P",
            "Supervisors with the same group.id share the work.",
            "http-sources",
        ),
        key(
            "group.instance.id",
            Text(r"[A-Za-z0-9._-]{1,249}", "1 to 249 of A-Z a-z 0-9 . _ -"),
            Computed(
                lambda get: f"{socket.gethostname()}-{get('name')}",
                "host name and name",
            ),
            "P",
            "This machine in the group; two alike: the later one stays.",
            "machine-1",
        ),
        key(
            "session.timeout.ms",
            ms(1),
            "10000",
            "P",
            "Silence after which a machine's work moves.",
        ),
        key(
            "heartbeat.interval.ms",
            ms(1),
            "3000",
            "P",
            "How often a machine says that it lives.",
        ),
        key(
            "group.tasks.topic",
            Topic(),
            Computed(
                lambda get: f"{get('group.id')}-tasks" if get("group.id") else None,
                "<group.id>-tasks",
            ),
            "P",
            "The topic whose partitions stand for shards.",
            "http-sources-tasks",
        ),
    ]


KEYS = [
    *_observing(),
    *_scaling(),
    *_processes(),
    *_providers(),
    *_cluster(),
]
