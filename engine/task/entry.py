"""
Entry: a task process from its first step to its exit code.

Owns what lives as long as the process: meters, registries, the way to the brokers.
`task.build` makes the rest after the fork, and again after the broker was away.

Path: ``supervisor.child`` -> here -> `task.build.wiring`, `task.run`
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from engine.config import Connector, Values
from engine.config.sections.borders import CertificatesConfig
from engine.config.sections.observing import MetricsConfig
from engine.observe import log as logs
from engine.observe.meters import DIRECTORY, Meters
from engine.sink.kafka import wait_for_broker
from engine.task.build.kafka import KafkaBuilder, bootstrap_of
from engine.task.build.registry import Registries
from engine.task.build.wiring import Wiring
from engine.task.metering import Metering
from engine.task.run import (
    ONCE_PATIENCE,
    BuildContext,
    Task,
    TaskStopper,
    TimedStopping,
)

log = logging.getLogger("task")


def run(
    context: BuildContext,
    *,
    connector: Connector,
    process: Values,
    embedded: Callable[[], str],
    once: bool,
    siblings: Sequence[str] = (),
) -> int:
    """
    Run one task process, from its first line to its exit code.

    Args:
        siblings: The other connectors of the engine that keep their state in the
            same place.
        embedded: Address of the embedded broker, asked for after the fork.

    Returns: the exit code.  Blocks: for the life of the task.
    """
    logs.name_process(connector=connector.name, task=str(context.number))
    bootstrap = bootstrap_of(connector.values, embedded)
    brokers = KafkaBuilder(connector, bootstrap, context.number)
    meters = Meters(
        directory=context.runtime / DIRECTORY,
        connector=connector.name,
        task=context.number,
        detailed=connector.values.of(MetricsConfig).detailed,
    )
    registries = Registries(connector)
    metering = Metering(
        meters,
        letters="topic" if brokers.letters() else "log",
        insecure=not all(
            api.values.of(CertificatesConfig).verify for api in connector.apis
        ),
        schemas=registries.cache,
    )
    wiring = Wiring(
        context,
        connector,
        process,
        brokers,
        registries,
        metering,
        once,
        siblings=siblings,
    )

    def wait() -> bool:
        stopping: TaskStopper = context.stopping
        if once:
            stopping = TimedStopping(stopping, ONCE_PATIENCE)
        return wait_for_broker(brokers.admin, stopping, log.warning)

    try:
        return Task(context, wiring, wait, once=once).run()
    finally:
        wiring.close()
        registries.close()
        metering.close()
