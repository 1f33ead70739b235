"""Paging: which request comes next, and where a poll may resume."""
