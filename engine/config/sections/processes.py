"""
Options of the processes: tasks, directories, providers, the group.

Owns the declarations and nothing else.

Path: here -> ``config.keys``
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import ClassVar

from engine.config.kinds import (
    Bool,
    Choice,
    ClassName,
    CommaList,
    Directory,
    Int,
    Number,
    RegexText,
    Text,
    TopicName,
    ms,
    size,
)
from engine.config.sections.key import Computed, Lookup
from engine.config.sections.section import Section, duration, option, unset

#: The name of our directories below the system's.
PRODUCT = "kafka-http-source"


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


class ScalingConfig(Section, frozen=True, kw_only=True):
    """How many tasks there are, by what they do."""

    TITLE: ClassVar[str] = "Auto-scaling"
    SCOPE: ClassVar[str] = "C"

    enabled: bool = option(
        "auto.scaling.enabled",
        Bool(),
        "false",
        "Changes the number of tasks while running, one at a time.",
        "true",
    )
    min_tasks: int = option(
        "auto.scaling.min.tasks", Int(1, 256), "1", "Fewest tasks.", "2"
    )
    max_tasks: int = option(
        "auto.scaling.max.tasks",
        Int(1, 256),
        Computed(lambda get: get("tasks.max"), "tasks.max"),
        "Most tasks, never more than shards.",
        "16",
    )
    up: float = option(
        "auto.scaling.scale.up.threshold.throughput",
        Number(),
        "1000",
        "Records/s of a task above which one more is started.",
    )
    down: float = option(
        "auto.scaling.scale.down.threshold.throughput",
        Number(),
        "100",
        "Records/s of a task below which one is ended; at most half of the other.",
    )
    interval_minutes: float = option(
        "auto.scaling.evaluation.interval.minutes",
        Number(0.05, 1440, "minutes"),
        "5",
        "Pause between judgements.",
    )


class TasksConfig(Section, frozen=True, kw_only=True):
    """How tasks are watched, stopped and started again."""

    TITLE: ClassVar[str] = "Processes"
    SCOPE: ClassVar[str] = "P"

    grace: float = duration(
        "task.shutdown.graceful.timeout.ms",
        ms(),
        "10000",
        "How long tasks have to finish the page in hand when we are stopped.",
    )
    heartbeat_timeout: float = duration(
        "task.heartbeat.timeout.ms",
        ms(1000),
        "30000",
        "Silence after which a task is ended and started again.",
    )
    restart_backoff: float = duration(
        "task.restart.backoff.ms",
        ms(),
        "200",
        "First pause before a task is started again; it doubles.",
    )
    restart_backoff_max: float = duration(
        "task.restart.backoff.max.ms", ms(), "30000", "Longest such pause."
    )
    restart_limit: int = option(
        "task.restart.limit",
        Int(),
        "10",
        "More exits in 5 minutes and the task is FAILED.",
    )


class MemoryConfig(Section, frozen=True, kw_only=True):
    """What a task may hold."""

    TITLE: ClassVar[str] = "Processes"
    SCOPE: ClassVar[str] = "T"

    max_bytes: int = option(
        "process.memory.max.bytes",
        size(),
        "0",
        "A task larger than this drains and starts again, which is no failure of "
        "it. 0: no limit.",
        "536870912",
    )


class DirectoriesConfig(Section, frozen=True, kw_only=True):
    """Where the engine keeps its files."""

    TITLE: ClassVar[str] = "Processes"
    SCOPE: ClassVar[str] = "P"

    state: Path = option(
        "state.dir",
        Directory(),
        Computed(_state, "$STATE_DIRECTORY, else XDG's state home"),
        "What must survive a reboot.",
        "/var/lib/kafka-http-source",
    )
    cache: Path = option(
        "cache.dir",
        Directory(),
        Computed(_cache, "$CACHE_DIRECTORY, else XDG's cache home"),
        "The cache on disk.",
        "/var/cache/kafka-http-source",
    )
    runtime: Path = option(
        "runtime.dir",
        Directory(),
        Computed(
            _runtime,
            "$RUNTIME_DIRECTORY, else XDG's runtime directory, else /dev/shm",
        ),
        "What lives as long as the supervisor; should be memory.",
        "/run/kafka-http-source",
    )


class ProviderRulesConfig(Section, frozen=True, kw_only=True):
    """What `${provider:...}` may read."""

    TITLE: ClassVar[str] = "Providers"
    SCOPE: ClassVar[str] = "P"

    allowed: tuple[str, ...] = option(
        "config.providers",
        CommaList(
            Choice(
                ("env", "file", "dir", "cred"),
                also={"directory": "dir", "env_var": "env"},
            )
        ),
        "env,file,dir,cred",
        "Which providers may be used in values.",
    )
    env_pattern: str | None = unset(
        "config.providers.env.param.allowlist.pattern",
        RegexText(),
        None,
        "Which environment variables may be read.",
        "KHS_.*",
    )


class ProviderConfig(Section, frozen=True, kw_only=True):
    """One provider that Kafka Connect has a class for."""

    TITLE: ClassVar[str] = "Providers"
    SCOPE: ClassVar[str] = "P"

    provider_class: str | None = unset(
        "config.providers.{provider}.class",
        ClassName({}),
        None,
        "Connect's class line for `{provider}`; it must name the built-in one.",
    )


class ProviderPathsConfig(Section, frozen=True, kw_only=True):
    """Where a provider of files may read."""

    TITLE: ClassVar[str] = "Providers"
    SCOPE: ClassVar[str] = "P"

    allowed: tuple[str, ...] | None = unset(
        "config.providers.{provider}.param.allowed.paths",
        CommaList(Text(r"/.*", "absolute path")),
        None,
        "Directories that `{provider}` may read in.",
        "/etc/kafka-http-source",
    )


PROVIDERS = {
    "env": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    "file": "org.apache.kafka.common.config.provider.FileConfigProvider",
    "dir": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
    "directory": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
}

PROVIDER_KEYS = [
    *ProviderRulesConfig.entries(),
    *(
        key
        for provider, name in PROVIDERS.items()
        for key in ProviderConfig.entries(
            {"provider_class": {"kind": ClassName({name: name}), "example": name}},
            provider=provider,
        )
    ),
    *(
        key
        for provider in ("file", "dir", "directory")
        for key in ProviderPathsConfig.entries(provider=provider)
    ),
]


class ClusterConfig(Section, frozen=True, kw_only=True):
    """Several machines that share the work."""

    TITLE: ClassVar[str] = "Cluster"
    SCOPE: ClassVar[str] = "P"

    group_id: str | None = unset(
        "group.id",
        Text(r"[\x21-\x7e]{1,249}", "up to 249 printable characters"),
        None,
        "Supervisors with the same group.id share the work.",
        "http-sources",
    )
    instance_id: str = option(
        "group.instance.id",
        Text(r"[A-Za-z0-9._-]{1,249}", "1 to 249 of A-Z a-z 0-9 . _ -"),
        Computed(
            lambda get: f"{socket.gethostname()}-{get('name')}",
            "host name and name",
        ),
        "This machine in the group; two alike: the later one stays.",
        "machine-1",
    )
    session_timeout: float = duration(
        "session.timeout.ms",
        ms(1),
        "10000",
        "Silence after which a machine's work moves.",
    )
    heartbeat_interval: float = duration(
        "heartbeat.interval.ms",
        ms(1),
        "3000",
        "How often a machine says that it lives.",
    )
    tasks_topic: str | None = unset(
        "group.tasks.topic",
        TopicName(),
        Computed(
            lambda get: f"{get('group.id')}-tasks" if get("group.id") else None,
            "<group.id>-tasks",
        ),
        "The topic whose partitions stand for shards.",
        "http-sources-tasks",
    )
