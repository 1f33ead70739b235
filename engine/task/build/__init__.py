"""
Build: what a task is made of, made from its configuration.

Owns every translation from options to objects, and the order in which layers lie
around a request.  What is built here opens nothing by itself and runs elsewhere:
`task.session` and the loops never see a configuration.

Path: ``task.entry``, the commands that look at parts of a task -> here ->
``source``, ``transform``, ``sink``, ``shared``
"""
