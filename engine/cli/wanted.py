"""
Wanted: what the files say there is to run, and who runs what of it.

Owns the wanted state made from the files and from what is served over HTTP, the entry
function of each child, and the directories that keys ask for.

Path: ``cli.run`` -> here -> ``config``, ``supervisor.orders``
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine import config
from engine.config import Connector, Loaded, Values
from engine.config.endpoints import most_shards, splittable
from engine.config.sections.auth import AuthConfig
from engine.config.sections.cache import ResponseCacheConfig, TierConfig
from engine.config.sections.delivery import StateConfig
from engine.config.sections.engine import IdentityConfig
from engine.config.sections.kafka import BootstrapConfig
from engine.config.sections.observing import AdminConfig, LogConfig
from engine.config.sections.processes import (
    DirectoriesConfig,
    MemoryConfig,
    ScalingConfig,
    TasksConfig,
)
from engine.config.served import Served, file_of
from engine.errors import ConfigError, EngineError
from engine.observe.redact import REDACTOR
from engine.supervisor import assign, orders
from engine.supervisor.broker import EmbeddedBroker
from engine.supervisor.child import ChildContext, ChildSpec
from engine.supervisor.restart import RestartPolicy
from engine.supervisor.runtime import (
    NoRuntime,
    make_private,
    make_usable,
)
from engine.supervisor.scale import Scaling
from engine.task import entry as task_entry
from engine.task.build.http import url_of
from engine.task.build.kafka import state_place
from engine.task.build.limits import limits_of

log = logging.getLogger("run")


@contextmanager
def named(key: str) -> Iterator[None]:
    """Say which key asks for a directory that cannot be had."""
    try:
        yield
    except NoRuntime as failure:
        raise NoRuntime(f"{key}: {failure}") from failure


def refuse_unbuilt(loaded: Loaded) -> None:
    """
    Raises: ConfigError for every value whose behaviour is not available yet.
    """
    if loaded.unbuilt:
        raise ConfigError(loaded.unbuilt)


def make_directories(connector: Connector, process: Values) -> None:
    """
    Make what a connector's keys ask for, before anything is started.

    A cache that cannot be kept on disk is said, and is no reason to stay away.

    Raises: NoRuntime, naming the key.
    """
    values = connector.values
    file = values.of(StateConfig).file
    if file is not None:
        with named("offset.storage.file.filename"):
            make_usable(file)
    kept = any(api.values.of(ResponseCacheConfig).enabled for api in connector.apis)
    if kept and values.of(TierConfig, level="3").max_size:
        try:
            make_usable(Path(process.of(DirectoriesConfig).cache))
        except NoRuntime as failure:
            log.warning("cache.dir: %s; answers are not kept on disk.", failure)


def load_shared(connector: Connector) -> None:
    """
    Import before the fork what each of several tasks would import for itself behind it.

    One task has it with its first request, and a start without.
    """
    if connector.values.of(IdentityConfig).tasks_max == 1:
        return
    apis = [api.values for api in connector.apis]
    if any(url_of(values).startswith("https:") for values in apis):
        importlib.import_module("engine.source.wire.dialled")
    if any(values.of(AuthConfig).type != "NONE" for values in apis):
        importlib.import_module("requests")
    if any(
        api.values.of(ResponseCacheConfig).enabled and splittable(connector, api)
        for api in connector.apis
    ):
        # Pages that several tasks ask for by number are all kept, and stored by each.
        importlib.import_module("engine.shared.cache.store")


def run_task(
    context: ChildContext,
    *,
    connector: Connector,
    process: Values,
    broker: EmbeddedBroker,
    once: bool,
    siblings: Sequence[str] = (),
) -> int:
    """The entry of a task process."""
    return task_entry.run(
        context,
        connector=connector,
        process=process,
        embedded=lambda: broker.address,
        once=once,
        siblings=siblings,
    )


def run_admin(
    context: ChildContext,
    *,
    loaded: Loaded,
    again: Callable[[], Loaded],
    served: Served | None,
) -> int:
    """The entry of the admin process, which alone imports its room."""
    admin = importlib.import_module("engine.admin.running")
    return int(admin.run(context, loaded=loaded, again=again, served=served))


class Plan:
    """
    The wanted state, read afresh at each reload.

    Args:
        loaded: What the first call gives without reading again.
        again: Reads it anew.
    """

    def __init__(
        self,
        loaded: Loaded,
        again: Callable[[], Loaded],
        *,
        once: bool,
        state: Path,
        broker: EmbeddedBroker,
        served: Served | None = None,
    ):
        self._served = served
        self._next: Loaded | None = loaded
        self._again = again
        self._once = once
        self._state = state
        self._broker = broker

    def __call__(self) -> orders.DesiredState:
        """Raises: ConfigError; a reload then changes nothing."""
        loaded, self._next = self._next, None
        if loaded is None:
            loaded = self._again()
            refuse_unbuilt(loaded)
        return self._wanted(loaded)

    # As `supervisor.commands.Files`.

    def put(self, connector: str, draft: str) -> orders.DesiredState:
        """
        Make or change a connector of the directory.

        Raises: EngineError.
        """
        assert self._served is not None
        return self._wanted(self._served.put(connector, draft), of=connector)

    def drop(self, connector: str) -> orders.DesiredState:
        """
        Delete a connector of the directory.

        Raises: KeyError.
        """
        assert self._served is not None
        return self._wanted(self._served.drop(connector))

    def keep(self) -> None:
        """Raises: OSError."""
        assert self._served is not None
        self._served.keep()

    def changed(self) -> bool:
        """True if somebody has changed the files of the directory."""
        return self._served is not None and self._served.changed()

    def _wanted(self, loaded: Loaded, *, of: str = "") -> orders.DesiredState:
        process = loaded.process
        return orders.DesiredState(
            connectors=tuple(self._connectors(loaded, of)),
            patience=orders.ChildTimeouts(
                silence=process.of(TasksConfig).heartbeat_timeout,
                grace=process.of(TasksConfig).grace,
                restarts=RestartPolicy(
                    backoff=process.of(TasksConfig).restart_backoff,
                    backoff_max=process.of(TasksConfig).restart_backoff_max,
                    most=process.of(TasksConfig).restart_limit,
                ),
            ),
            others=self._others(loaded),
            secrets=loaded.variables,
            embedded=any(
                connector.values.of(BootstrapConfig).servers == ("embedded",)
                for connector in loaded.connectors
            ),
            level=process.of(LogConfig).level,
        )

    def _connectors(
        self, loaded: Loaded, of: str
    ) -> Iterator[orders.SupervisedConnector]:
        """
        Each that can be run.

        Args:
            of: Whose failure is the caller's; others of the directory are left out.

        Raises: EngineError.
        """
        for connector in loaded.connectors:
            owner = self._owner(connector)
            try:
                REDACTOR.names(connector.name, *(api.name for api in connector.apis))
                make_directories(connector, loaded.process)
                made = self._connector(connector, loaded.process, loaded.connectors)
            except EngineError as failure:
                if owner or connector.name == of:
                    raise
                log.error("Connector %s is left out: %s", connector.name, failure)
                continue
            yield msgspec.structs.replace(
                made, owner=owner, initial_state=connector.initial_state
            )

    def _owner(self, connector: Connector) -> str:
        """The file of the command line that it stands in; "" in the directory."""
        if self._served is None or self._served.directory is None:
            return file_of(connector) or "the command line"
        return self._served.owner(connector.name) or ""

    def _others(self, loaded: Loaded) -> tuple[ChildSpec, ...]:
        """
        The admin process, unless `listeners=none`.

        A run that ends by itself has one only where it was asked for: beside a
        service it would find the port taken.
        """
        process = loaded.process
        if process.of(AdminConfig).listeners == ("none",):
            return ()
        if self._once and not process.stated("listeners"):
            return ()
        return (
            ChildSpec(
                key="admin",
                # It takes up other connectors while it serves.
                fingerprint=process.fingerprint,
                entry=functools.partial(
                    run_admin, loaded=loaded, again=self._again, served=self._served
                ),
                auxiliary=True,
            ),
        )

    def _connector(
        self, connector: Connector, process: Values, connectors: Sequence[Connector]
    ) -> orders.SupervisedConnector:
        values = connector.values
        load_shared(connector)
        claims = self._state / "locks" / state_place(values)
        for directory in (claims.parent, claims):
            make_private(directory)
        scaling = None
        if values.of(ScalingConfig).enabled:
            scaling = Scaling(
                least=values.of(ScalingConfig).min_tasks,
                most=values.of(ScalingConfig).max_tasks,
                up=values.of(ScalingConfig).up,
                down=values.of(ScalingConfig).down,
                interval=values.of(ScalingConfig).interval_minutes * 60,
            )
        return orders.SupervisedConnector(
            name=connector.name,
            entry=functools.partial(
                run_task,
                connector=connector,
                process=process,
                broker=self._broker,
                once=self._once,
                siblings=tuple(
                    each.name
                    for each in connectors
                    if each is not connector
                    and state_place(each.values) == state_place(values)
                ),
            ),
            apis=tuple(owned(connector)),
            claims=claims,
            fingerprint=f"{connector.fingerprint}{process.fingerprint}",
            tasks=values.of(IdentityConfig).tasks_max,
            scaling=scaling,
            limits=limits_of(connector),
            memory_max=values.of(MemoryConfig).max_bytes,
        )


def owned(connector: Connector) -> Iterator[assign.AssignableApi]:
    """
    What a connector polls: its top-level apis, each with its tree.

    Source: `http.source.url.pattern`, which leaves out apis and partitions.
    """
    found: dict[str, list[str | None]] = {}
    for endpoint in config.endpoints(connector):
        if endpoint.owned:
            found.setdefault(endpoint.api.name, []).append(endpoint.entity)
    for api in connector.apis:
        if api.name in found:
            below = tuple(connector.descendants(api))
            prints = [each.fingerprint for each in (api, *below)]
            yield assign.AssignableApi(
                name=api.name,
                fingerprint="/".join(prints),
                entities=tuple(e for e in found[api.name] if e is not None),
                splittable=splittable(connector, api),
                most=most_shards(api),
                below=tuple(each.name for each in below),
            )
