"""
Tuning: how batches are sent, as the configuration says.
"""

from __future__ import annotations

from msgspec import Struct

#: Bytes, where requests are answered: of those the brokers' pace says enough.
BACKLOG = 64 * 1024


class Tuning(Struct, frozen=True):
    """
    How batches are sent; seconds and bytes.

    Attributes:
        acks: 0, 1 or -1 for all.
        in_flight: Requests to one broker that are not answered.
        linger: How long a batch may wait for more.
        most: Bytes of a request.
    """

    acks: int
    in_flight: int
    linger: float
    most: int
    retry_backoff: float
    metadata_max_age: float

    @property
    def backlog(self) -> int:
        """Bytes that a socket has not taken, beyond which nothing more is sent on it."""
        return self.most if self.acks == 0 else BACKLOG
