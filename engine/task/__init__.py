"""Task: one process: the wired path of a page."""
