"""
Supervisor: the one process that lives as long as the engine.

Owns the children and nothing they work on: it forks them, watches them, ends
them and starts them again.  It stays single-threaded for life and opens no
connection to an API or a broker; what a child does is given to it as a value.

Above `task`, whose loop it starts through an entry function; below `admin` and
`cli`.
"""
