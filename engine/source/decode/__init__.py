"""Decode: the body of an answer becomes records, or a failure that says why."""
