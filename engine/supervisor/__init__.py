"""Supervisor: the parent: forks, watches, restarts; opens nothing."""
