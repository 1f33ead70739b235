"""
Function: a user's own Python for a record or a page.

Owns finding it and the contract it is called by.  It runs inside the task
process; whatever it raises is a bad record, never a dead engine.

Path: `compile` -> here
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw, Struct

from engine.errors import ConfigError, RecordError
from engine.language.values import UNENCODABLE
from engine.later import later

if TYPE_CHECKING:
    import inspect
else:
    inspect = later("inspect")

KEY = "transformation.function"

#: What a user's code may raise; `sys.exit` there must not end the task.
_RAISED = (Exception, SystemExit)


class Written(float):
    """
    A number with its text, so that it leaves a function that only handed it on
    as it came.

    Attributes:
        text: As the API wrote it; beyond a double's range the number is an
            infinity.
    """

    __slots__ = ("text",)

    text: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _written, (self.text,)


def _written(text: str) -> Written:
    number = Written(text)
    number.text = text
    return number


def for_function(data: bytes) -> Any:
    """
    A record as a function gets it: numbers with a fraction are floats that
    remember their text.

    Raises: RecordError: an integer of more than 4,300 digits.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError) as e:
        raise RecordError(f"{KEY}: not decodable: {e}", stage="function") from e


_DECODER: Final = msgspec.json.Decoder(float_hook=_written)


def from_function(output: Any) -> Raw:
    """
    What a function gave, as JSON.

    Raises: RecordError: a number that is not finite, or no JSON.
    """
    inspect_numbers(output)
    try:
        return Raw(_ENCODER.encode(output))
    except UNENCODABLE as e:
        raise RecordError(f"not encodable as JSON: {e}", stage="map") from e


def _unknown(value: Any) -> Any:
    if type(value) is Written:
        return Raw(value.text.encode())
    raise TypeError(f"no JSON for {type(value).__name__}")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_unknown)


class Context(Struct, frozen=True):
    """
    What a function is told beside its record.

    Attributes:
        connector, api: Names of the connector and the api.
        task: The task's number.
        entity: One of `entity.names`, or None.
        page: Place of the page in its poll, from 0.
        url: Where the page was answered, without its query.
        status: The response's status code.
        received_ms: When the page was complete, epoch milliseconds.
    """

    connector: str
    api: str
    task: int
    entity: str | None
    page: int
    url: str
    status: int
    received_ms: int


def load_function(name: str, directory: Path | None) -> Callable[..., Any]:
    """
    Find `module:name`, beside the configuration file or installed.

    A module beside the file wins, and only that one directory is looked at:
    nothing is added to `sys.path`.

    Raises: ConfigError: no such module or function, the module fails, or the
    function does not take a record (or records) and a context.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        raise ConfigError(f"{KEY}: module:name, not {name}")
    try:
        module = _beside(module_name, directory) or importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        raise ConfigError(f"{KEY}: no module {e.name}") from e
    except _RAISED as e:
        # The module is the user's code: it may fail in any way.
        raise ConfigError(
            f"{KEY}: module {module_name} failed: {type(e).__name__}: {e}"
        ) from e
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ConfigError(f"{KEY}: module {module_name} has no function {attribute}")
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError) as e:
        raise ConfigError(
            f"{KEY}: {name} has to take two arguments, the record and a context"
        ) from e
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{KEY}: {name} is no plain function")
    return function  # type: ignore[no-any-return]


def _beside(module_name: str, directory: Path | None) -> Any:
    if directory is None:
        return None
    place = directory.joinpath(*module_name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if not path.is_file():
            continue
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        # Under its own name only where that is free: a user's `json.py` must
        # not become everybody's json.
        free = module_name not in sys.modules
        if free:
            sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            if free:
                del sys.modules[module_name]
            raise
        return module
    return None


def call_record(
    function: Callable[..., Any], record: Any, context: Context
) -> list[Any]:
    """
    The records a function makes of one: none, one or several.

    Raises: RecordError: it raised, or gave something else.
    """
    try:
        given = function(record, context)
    except _RAISED as e:
        raise _failed(e) from e
    if given is None:
        return []
    return _records([given] if isinstance(given, dict) else given)


def call_page(
    function: Callable[..., Any], records: list[Any], context: Context
) -> list[Any]:
    """
    The records a function makes of a page's.

    Raises: RecordError: it raised, or gave something else.
    """
    try:
        given = function(records, context)
    except _RAISED as e:
        raise _failed(e) from e
    return _records(given)


def _failed(error: BaseException) -> RecordError:
    return RecordError(
        f"{KEY}: {type(error).__name__}: {error}", stage="function", rule=KEY
    )


def _records(given: Any) -> list[Any]:
    if not isinstance(given, list) or not all(isinstance(e, dict) for e in given):
        raise RecordError(
            f"{KEY}: gave {type(given).__name__}, not records",
            stage="function",
            rule=KEY,
        )
    return given


def inspect_numbers(record: Any) -> None:
    """Raises: RecordError: a NaN or an infinity, which JSON would make null."""
    rest = [record]
    while rest:
        value = rest.pop()
        if isinstance(value, float):
            if not math.isfinite(value) and type(value) is not Written:
                raise RecordError(
                    f"{KEY}: gave a number that is not finite",
                    stage="function",
                    rule=KEY,
                )
        elif isinstance(value, dict):
            rest.extend(value.values())
        elif isinstance(value, (list, tuple)):
            rest.extend(value)
