"""
Cache: what the API answered, in three tiers, and who leaves them.

Named before the fork, opened after it.  `task.build.cache` makes it; it knows nothing of
HTTP.
"""
