"""Admin: one process that owns every HTTP endpoint."""
