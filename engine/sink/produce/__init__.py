"""Produce: the way of encoded batches into Kafka, from queue to acknowledgement."""
