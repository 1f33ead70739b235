"""Sink: parcel -> batch -> broker -> state."""
