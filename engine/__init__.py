"""Records out of HTTP APIs into Kafka: a multiprocess source connector."""

__version__ = "0.1.0"

#: The distribution this package belongs to: the command tells it from another
#: package of the same name by it.
DISTRIBUTION = "kafka-http-source"
