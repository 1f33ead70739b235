"""
Bench: how fast a configuration goes against an API that never makes it wait.

Owns the command, the API that stands in for the real one, the records it makes up,
and the engine that is measured, each in a process of its own.

Path: ``cli.main`` -> ``bench.command`` -> ``bench.stand_in``, ``bench.benched``
"""
