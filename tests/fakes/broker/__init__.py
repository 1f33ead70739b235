"""Kafka brokers in memory that do what a test tells them; see `cluster`."""

from tests.fakes.broker.cluster import Cluster, cluster
from tests.fakes.broker.log import Batch
from tests.fakes.broker.producing import part
from tests.fakes.broker.script import (
    Garbled,
    Late,
    Lost,
    Refuse,
    Say,
    Torn,
)
from tests.fakes.broker.spoken import SPOKEN

__all__ = [
    "SPOKEN",
    "Batch",
    "Cluster",
    "Garbled",
    "Late",
    "Lost",
    "Refuse",
    "Say",
    "Torn",
    "cluster",
    "part",
]
