"""
Entry: the admin process, from its fork to its end.

Owns the order of its steps: look, listen, serve, beat, leave.  It holds no
lock that a task could wait for; if it dies, tasks go on and the supervisor
starts it again.

Threads exist from the listening on, and only in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from engine.admin.answers import BOUNDS, RequestLimits
from engine.admin.commands import SupervisorClient
from engine.admin.guard import Guard
from engine.admin.page.buttons import Buttons
from engine.admin.page.pages import StatusPages
from engine.admin.page.sessions import Sessions
from engine.admin.positions import Place
from engine.admin.prometheus import NATIVE, STRIMZI, Measure
from engine.admin.routes import Router
from engine.admin.server import AdminServer, address
from engine.admin.view import EngineView
from engine.admin.watch import HealthWatch
from engine.clock import SYSTEM, Clock
from engine.config.served import Served
from engine.errors import Exit
from engine.seams import Stopping
from engine.shared.link import Message

#: Seconds between two turns of the loop when nobody asks anything.
TURN = 0.5


class AdminChildContext(Protocol):
    """What a forked child is given."""

    @property
    def stopping(self) -> Stopping:
        """
        Set when the process is to end.

        Its `wait` beats, and obeys what the supervisor orders.
        """

    def ready(self) -> None:
        """Say that the work begins."""

    def orders(self) -> list[Message]:
        """What the supervisor has said since the last call."""


def admin_entry(
    context: AdminChildContext,
    *,
    view: EngineView,
    commands: SupervisorClient,
    listeners: Sequence[str],
    served: Served | None = None,
    places: Callable[[str], Place | None] = lambda connector: None,
    measure: Measure,
    token: str = "",
    hosts: Sequence[str] = (),
    bounds: RequestLimits = BOUNDS,
    families: Sequence[str] = (NATIVE, STRIMZI),
    ports: str | Path | None = None,
    wake: int | None = None,
    clock: Clock = SYSTEM,
) -> int:
    """
    Serve until stopping; the whole life of the forked process.

    Args:
        context: Of the child.
        view: What is running.
        commands: What may be asked of the supervisor.
        listeners: Entries of `listeners`.
        served: What the files say, for those who change connectors.
        places: Connector -> where its offsets are kept.
        measure: Usage of a process by pid.
        token: `admin.token`, or "".
        hosts: `admin.allowed.hosts`.
        bounds: Of what one request may ask for.
        families: `metrics.names`.
        ports: File to write the addresses to.
        wake: Descriptor that is readable when the supervisor has said something.
        clock: Where time comes from.

    Returns: the exit code.
    Blocks: until stopping.
    """
    watch = HealthWatch(view, clock=clock)
    named = [address(listener).host for listener in listeners]
    guard = Guard(token=token, hosts=[*hosts, *filter(None, named)])
    pages = StatusPages(
        view,
        watch.look,
        began=watch.began,
        sessions=Sessions(token, clock=clock),
        act=Buttons(commands),
    )
    routes = Router(
        view,
        watch,
        commands,
        guard=guard,
        families=families,
        measure=measure,
        bounds=bounds,
        served=served,
        places=places,
        pages=pages,
    )
    server = AdminServer(listeners, routes, ports=ports, wake=wake, clock=clock)
    try:
        context.ready()
        # A turn is as long as the server has nothing to do, at most TURN.
        while not context.stopping.wait(0.0 if server.listening else TURN):
            commands.hear(context.orders())
            watch.tick()
            server.run_once(TURN)
    finally:
        server.close()
    return int(Exit.OK)
