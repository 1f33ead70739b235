"""Records out of HTTP APIs into Kafka: a multiprocess source connector."""

__version__ = "0.1.0"
