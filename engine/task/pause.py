"""
Pause: the gate that a paused connector's tasks stop at.

Owns one flag.  A task that is paused lives on with its connections: no poll begins,
no request leaves, no page that is still to come is handed over; what was handed over
before is delivered, acknowledged and saved.

Path: the supervisor's order -> ``task.run`` -> here -> ``task.shardloop``, ``task.path``
and the fetch of ``task.build.sources``
"""

from __future__ import annotations

from engine.errors import Unreachable
from engine.records import Request, Response
from engine.seams import Fetch, Stopping
from engine.source.fetch.limit import RateGate
from engine.source.wire.origin import host_of

#: Seconds between two looks of a loop that is held.
LOOK = 0.2


class Gate:
    """
    Open, or closed for as long as the connector is paused.

    Attributes:
        closed: True while nothing may pass.
    """

    __slots__ = ("closed",)

    def __init__(self) -> None:
        self.closed = False

    def wait(self, stopping: Stopping) -> bool:
        """
        Wait until the gate is open.

        Returns: True if the process is to stop instead.
        Blocks: for as long as the pause takes; looked at each 0.2 s.
        """
        while self.closed:
            if stopping.wait(LOOK):
                return True
        return False


class Pausing:
    """
    A fetch that leaves nothing while the gate is closed.

    Args:
        inner: One try.
        gate: The task's.
        stopping: The only way to wait.
        rate_gate: Paid again behind a pause: a token that was good before it would
            let all shards through at one moment.
    """

    def __init__(
        self,
        inner: Fetch,
        gate: Gate,
        *,
        stopping: Stopping,
        rate_gate: RateGate | None,
    ):
        self._inner = inner
        self._gate = gate
        self._stopping = stopping
        self._rate_gate = rate_gate

    def __call__(self, request: Request) -> Response:
        while self._gate.closed:
            if self._gate.wait(self._stopping):
                raise Unreachable("stopping", sent=False)
            if self._rate_gate is not None:
                self._rate_gate.admit(host_of(request.url))
        return self._inner(request)
