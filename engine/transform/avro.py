"""
Avro: values into Avro's binary encoding.

GATE fastavro.  It takes what it is given rather generously (a fraction
becomes a long, an unknown field nothing), so every value is looked at first:
what does not fit the schema exactly is a bad record.

Path: `registered` -> here -> fastavro
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DecimalException
from typing import Any, Final

import fastavro
from fastavro.schema import SchemaParseException, UnknownType
from msgspec import Raw

from engine.clock import SYSTEM, Clock
from engine.language import EvaluationError, plain
from engine.language.comparing import kind_of
from engine.language.values import as_integer
from engine.transform.registered import Registered, RegisteredWriter, Write
from engine.transform.registry import Schema, Schemas
from engine.transform.schemas import SchemaMismatch, Type, avro_schema, sanitized

#: A value as fastavro wants it; raises Unfit.
Fit = Callable[[Any], Any]

#: Members that are looked at, and how.
_Looks = list[tuple[str, Fit]]

#: Types of value that go in as they are, and what to do with all others.
_Fitting = tuple[frozenset[type], Fit]


def _none(kind: str) -> Fit:
    def refuse(value: Any) -> Any:
        raise SchemaMismatch(f"{_kind(value)} where {kind} belongs")

    return refuse


def _kind(value: Any) -> str:
    try:
        return kind_of(plain(value))
    except EvaluationError:
        return "something unreadable"


def _whole(kind: str, low: int, high: int) -> Fit:
    def fit(value: Any) -> int:
        number = plain(value) if isinstance(value, (Raw, float)) else value
        if isinstance(number, Decimal):
            number = as_integer(number)
        if not isinstance(number, int) or isinstance(number, bool):
            raise SchemaMismatch(f"{_kind(value)} where {kind} belongs")
        if not low <= number <= high:
            raise SchemaMismatch(f"out of the range of {kind}")
        return number

    return fit


_INT: Final = _whole("int", -(2**31), 2**31 - 1)


def _small(value: int) -> int:
    """An int of a record: in range, or not; its type is known already."""
    fitted: int = _INT(value)
    return fitted


#: Its stub asks for a file; it calls `write` and nothing else.
_write: Final[Callable[..., None]] = fastavro.schemaless_writer

_FLOAT_MAX: Final = 3.4028235677973366e38


def _real(kind: str) -> Fit:
    def fit(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, Raw)):
            raise SchemaMismatch(f"{_kind(value)} where {kind} belongs")
        try:
            number = float(bytes(value) if isinstance(value, Raw) else value)
        except (OverflowError, ValueError) as e:
            raise SchemaMismatch(f"out of the range of {kind}") from e
        most = _FLOAT_MAX if kind == "float" else float("inf")
        if not -most < number < most:
            raise SchemaMismatch(f"out of the range of {kind}")
        return number

    return fit


_DOUBLE: Final = _real("double")


def _exactly(value: Any) -> float:
    """A double nobody asked for: an integer that it would change needs a long."""
    number: float = _DOUBLE(value)
    if isinstance(value, int) and int(number) != value:
        raise SchemaMismatch("an integer that no double holds")
    return number


def _octets(size: int | None) -> Fit:
    """Avro's own JSON spelling: each character is one byte."""

    def fit(value: Any) -> bytes:
        if not isinstance(value, str):
            raise SchemaMismatch(f"{_kind(value)} where bytes belong")
        try:
            data = value.encode("latin-1")
        except UnicodeEncodeError as e:
            raise SchemaMismatch("a character that is no byte") from e
        if size is not None and len(data) != size:
            raise SchemaMismatch(f"{len(data)} bytes where {size} belong")
        return data

    return fit


def _decimal(schema: Mapping[str, Any]) -> Fit:
    scale = int(schema.get("scale", 0))
    precision = int(schema["precision"])
    quantum = Decimal((0, (1,), -scale))
    context = Context(prec=max(precision, 1) + 1, Emin=MIN_EMIN, Emax=MAX_EMAX)

    def fit(value: Any) -> Decimal:
        number = plain(value)
        if isinstance(number, bool) or not isinstance(number, (int, Decimal)):
            raise SchemaMismatch(f"{_kind(value)} where a decimal belongs")
        exact = Decimal(0) if number == 0 else Decimal(number)
        if exact.adjusted() >= precision:
            raise SchemaMismatch(f"more than {precision} digits")
        try:
            scaled = exact.quantize(quantum, context=context)
        except DecimalException as e:
            raise SchemaMismatch(f"not a decimal({precision}, {scale})") from e
        if scaled != exact or len(scaled.as_tuple().digits) > precision:
            raise SchemaMismatch(f"not a decimal({precision}, {scale})")
        return scaled

    return fit


def _symbol(symbols: frozenset[str]) -> Fit:
    def fit(value: Any) -> str:
        if not isinstance(value, str) or value not in symbols:
            raise SchemaMismatch("none of the enum's symbols")
        return value

    return fit


def _array(items: _Fitting) -> Fit:
    kinds, deep = items

    def fit(value: Any) -> list[Any]:
        if type(value) is not list:
            raise SchemaMismatch(f"{_kind(value)} where an array belongs")
        return [each if type(each) in kinds else deep(each) for each in value]

    return fit


def _map(values: _Fitting) -> Fit:
    kinds, deep = values

    def fit(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise SchemaMismatch(f"{_kind(value)} where a map belongs")
        return {
            name: each if type(each) in kinds else deep(each)
            for name, each in value.items()
        }

    return fit


#: Shapes of records a schema remembers.
_SHAPES: Final = 1000


class _Record:
    """
    Fits an object to a record; itself where nothing is to be changed.

    Records of one shape (the same members with the same types in the same
    order) need the same looks: the shape is found in a few steps of C, and
    only the members whose value decides are looked at again.
    """

    def __init__(self, sanitize: bool) -> None:
        self.sanitize = sanitize
        self.fields: list[tuple[str, frozenset[type], Fit, bool]] = []
        self._names: tuple[str, ...] = ()
        self._shapes: dict[tuple[type, ...], _Looks] = {}

    def __call__(self, value: Any) -> Any:
        if type(value) is not dict:
            raise SchemaMismatch(f"{_kind(value)} where an object belongs")
        if self.sanitize:
            value = sanitized(value)
        # Hot path: the names of one page's records are the same objects, so
        # that comparing them costs nothing and hashing them is not needed.
        names = tuple(value)
        kinds = tuple(map(type, value.values()))
        if names != self._names:
            self._names = names
            self._shapes = {}
        looks = self._shapes.get(kinds)
        if looks is None:
            looks = self.looks(value)
            if len(self._shapes) < _SHAPES:
                self._shapes[kinds] = looks
        return looked(value, looks)

    def looks(self, value: dict[str, Any]) -> _Looks:
        """
        The members of such an object that have to be looked at each time.

        Raises: Unfit: none such has a place in the schema.
        """
        looks = []
        names = set()
        for name, kinds, deep, has_default in self.fields:
            names.add(name)
            if name not in value:
                if not has_default:
                    raise SchemaMismatch(f"{name} is missing")
            elif type(value[name]) not in kinds:
                small = deep is _INT and type(value[name]) is int
                looks.append((name, _small if small else deep))
        for name in value:
            if name not in names:
                raise SchemaMismatch(f"{name} is not in the schema")
        return looks


def looked(value: dict[str, Any], looks: _Looks) -> dict[str, Any]:
    """
    The object with these members fitted; itself where nothing is changed.

    Raises: Unfit.
    """
    changed = None
    for name, deep in looks:
        each = value[name]
        if deep is _small and -(2**31) <= each < 2**31:
            continue
        try:
            fitted = deep(each)
        except SchemaMismatch as e:
            raise SchemaMismatch(f"{name}: {e}") from e
        if fitted is not each:
            if changed is None:
                changed = dict(value)
            changed[name] = fitted
    return value if changed is None else changed


def _union(branches: list[tuple[_Fitting, Any]]) -> _Fitting:
    """The kinds of all branches; the rest goes to the first that takes it."""
    kinds = frozenset().union(*(each[0][0] for each in branches))

    def fit(value: Any) -> Any:
        reason: SchemaMismatch | None = None
        for (own, deep), _ in branches:
            if type(value) in own:
                return value
            try:
                return deep(value)
            except SchemaMismatch as e:
                # The branch of the value's own kind knows best what is wrong.
                if reason is None or isinstance(deep, _Record):
                    reason = e
        assert reason is not None
        raise reason

    return kinds, fit


class _Fitter:
    """Compiles a schema into what looks at its values."""

    def __init__(self, inferred: bool, sanitize: bool) -> None:
        self._named: dict[str, _Fitting] = {}
        self._inferred = inferred
        self._sanitize = sanitize
        self.exact = False

    def fitting(self, schema: Any) -> _Fitting:
        if isinstance(schema, str):
            return self._simple(schema, {})
        if isinstance(schema, list):
            return _union([(self.fitting(each), each) for each in schema])
        kind = schema["type"]
        if isinstance(kind, (dict, list)):
            return self.fitting(kind)
        if kind in ("record", "error"):
            record = _Record(self._sanitize)
            found: _Fitting = (frozenset(), record)
            self._named[schema["name"]] = found
            for field in schema["fields"]:
                own, deep = self.fitting(field["type"])
                record.fields.append((field["name"], own, deep, "default" in field))
            return found
        if kind == "array":
            return frozenset(), _array(self.fitting(schema["items"]))
        if kind == "map":
            return frozenset(), _map(self.fitting(schema["values"]))
        if kind == "enum":
            found = (frozenset(), _symbol(frozenset(schema["symbols"])))
            self._named[schema["name"]] = found
            return found
        if kind == "fixed":
            found = self._simple("fixed", schema)
            self._named[schema["name"]] = found
            return found
        return self._simple(kind, schema)

    def _simple(self, kind: str, schema: Mapping[str, Any]) -> _Fitting:
        if schema.get("logicalType") == "decimal":
            self.exact = True
            return frozenset(), _decimal(schema)
        match kind:
            case "null":
                return frozenset({type(None)}), _none("null")
            case "boolean":
                return frozenset({bool}), _none("a boolean")
            case "int":
                return frozenset(), _INT
            case "long":
                return frozenset({int}), _whole("long", -(2**63), 2**63 - 1)
            case "float":
                return frozenset(), _real("float")
            case "double":
                if self._inferred:
                    return frozenset({float}), _exactly
                return frozenset({float, int}), _real("double")
            case "string":
                return frozenset({str}), _none("a string")
            case "bytes":
                return frozenset(), _octets(None)
            case "fixed":
                return frozenset(), _octets(schema["size"])
        return self._named[kind]


class _Sink:
    """What fastavro writes to: it writes each record once, whole."""

    __slots__ = ("chunks", "write")

    def __init__(self) -> None:
        self.chunks: list[bytearray] = []
        self.write = self.chunks.append


class AvroWriter:
    """Encodes with one schema."""

    prefix = b""

    def __init__(self, text: str, *, inferred: bool = False, sanitize: bool = False):
        try:
            schema = json.loads(text)
            self._schema = fastavro.parse_schema(schema)
        except (
            SchemaParseException,
            UnknownType,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as e:
            raise SchemaMismatch(f"no Avro schema: {type(e).__name__}: {e}") from e
        parsed: Any = self._schema
        self.name = (
            parsed["name"] if isinstance(parsed, dict) and "name" in parsed else ""
        )
        fitter = _Fitter(inferred, sanitize)
        self._kinds, self._fit = fitter.fitting(parsed)
        self.exact = fitter.exact
        self._sink = _Sink()

    def write(self, item: Any) -> bytearray:
        return self._put(item if type(item) in self._kinds else self._fit(item))

    def like(self, item: dict[str, Any]) -> Write:
        if not isinstance(self._fit, _Record) or self._fit.sanitize:
            return self.write
        try:
            looks = self._fit.looks(item)
        except SchemaMismatch:
            return self.write
        put = self._put
        return lambda item: put(looked(item, looks) if looks else item)

    def _put(self, item: Any) -> bytearray:
        try:
            _write(self._sink, self._schema, item)
        except (ValueError, TypeError, OverflowError, AttributeError, KeyError) as e:
            raise SchemaMismatch(f"not encodable: {e}") from e
        return self._sink.chunks.pop()


class Avro:
    """
    Avro, as a schema language of the registry.

    Args:
        exact: Numbers with a fraction are handed over unread (decimals).
        sanitize: `schema.names.sanitize`.
    """

    kind = "AVRO"
    values = True

    def __init__(self, exact: bool = False, sanitize: bool = False):
        self.exact = exact
        self._sanitize = sanitize
        self._spelled: dict[tuple[Type, str], str] = {}

    def spell(self, seen: Type, name: str) -> str:
        text = self._spelled.get((seen, name))
        if text is None:
            schema = avro_schema(seen, name, self._sanitize)
            text = json.dumps(schema, separators=(",", ":"))
            if len(self._spelled) >= _SHAPES:
                self._spelled.pop(next(iter(self._spelled)))
            self._spelled[seen, name] = text
        return text

    def writer(self, text: str, *, inferred: bool = False) -> RegisteredWriter:
        return AvroWriter(text, inferred=inferred, sanitize=self._sanitize)

    def decoded(self, item: Any) -> Any:
        return item

    def schema(self, text: str, schemas: Schemas) -> Schema:
        return Schema(self.kind, text)


def avro_converter(
    registry: Schemas,
    *,
    side: str,
    strategy: str = "TopicName",
    given: str | None = None,
    latest: bool = False,
    sanitize: bool = False,
    clock: Clock = SYSTEM,
) -> Registered:
    """
    AvroConverter.

    Args:
        given: The text of an .avsc, or None: inferred.
        sanitize: Fields are named as Avro allows it, `schema.names.sanitize`.

    Raises: Unfit: no Avro schema.
    """
    # The registry's schema is not known yet: it may hold decimals.
    exact = latest or (given is not None and AvroWriter(given).exact)
    return Registered(
        Avro(exact, sanitize),
        registry,
        side=side,
        strategy=strategy,
        given=given,
        latest=latest,
        clock=clock,
    )
