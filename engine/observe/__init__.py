"""Observe: what is counted and logged, and what never leaves the process."""
