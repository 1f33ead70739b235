"""
Config: text to frozen values; one table decides what a key means.

Owns the syntax, the layers, the providers, the foreign spellings, every
default and every check.  It raises ConfigError only, with all findings at
once, and imports nothing heavy: `check`, `explain` and `--help` start here.

Above ``language`` and ``observe``; used by ``supervisor``, ``task.build``,
``admin`` and ``cli``.  Nothing below a task ever sees a configuration.
"""

from engine.config.endpoints import Endpoint, endpoints
from engine.config.kinds import Codes
from engine.config.load import load
from engine.config.memory import memory
from engine.config.show import show
from engine.config.values import Api, Connector, Loaded, Values
from engine.errors import ConfigError, Finding
from engine.observe.redact import Secret

__all__ = [
    "Api",
    "Codes",
    "ConfigError",
    "Connector",
    "Endpoint",
    "Finding",
    "Loaded",
    "Secret",
    "Values",
    "endpoints",
    "load",
    "memory",
    "show",
]
