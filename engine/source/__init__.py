"""Source: request -> page."""
