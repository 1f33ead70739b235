"""
A second interpreter of the rules, slow and obvious, for tests.

It shares nothing with the engine but the JSON text it is given: its own
reader of JSON, of paths and of expressions, fractions for numbers, and one
function for each rule of the manual.  It knows the parts that the tests draw
from, and raises `Bad` where a record is bad and `Unknown` where it has no
opinion.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any


class Bad(Exception):
    """A bad record."""


class Unknown(Exception):
    """The interpreter has no opinion."""


class Num:
    """A number: its text, and its value as a fraction."""

    def __init__(self, text: str):
        self.text = text

    @property
    def value(self) -> Fraction:
        exponent = re.search("[eE]([+-]?[0-9]+)", self.text)
        if exponent and abs(int(exponent[1])) > 5000:
            raise Unknown
        return Fraction(self.text)

    @property
    def integer(self) -> bool:
        return re.fullmatch("-?[0-9]+", self.text) is not None


class Nothing:
    """Missing."""


MISSING = Nothing()


def read(text: str) -> Any:
    """JSON as dict, list, str, bool, None and Num."""
    return json.loads(text, parse_int=Num, parse_float=Num)


def write(value: Any) -> str:
    """Compact JSON, numbers as they are written."""
    if isinstance(value, Num):
        return value.text
    if isinstance(value, dict):
        members = (f"{write(name)}:{write(each)}" for name, each in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def text_of(value: Any) -> str | None:
    if value is None or value is MISSING:
        return None
    return value if isinstance(value, str) else write(value)


# -- paths


def steps_of(path: str) -> list[Any]:
    found: list[Any] = []
    for name, index in re.findall(r"([A-Za-z_]+)|\[([^\]]+)\]", path):
        found.append(name if name else ("*" if index == "*" else int(index)))
    return found


def flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [inner for item in value for inner in flat(item)]


def find(document: Any, path: str) -> Any:
    """What a path finds; the way through an array makes it a list."""
    nodes, many = [document], False
    for step in steps_of(path):
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, dict) and isinstance(step, str):
                if step in node and step != "*":
                    found.append(node[step])
            elif isinstance(node, list) and isinstance(step, int):
                if -len(node) <= step < len(node):
                    found.append(node[step])
            elif isinstance(node, list):
                many = True
                if step == "*":
                    found.extend(node)
                else:
                    found.extend(
                        item[step]
                        for item in flat(node)
                        if isinstance(item, dict) and step in item
                    )
        if not found:
            return MISSING
        nodes = found
    return flat(nodes) if many else nodes[0]


# -- casts


def cast(value: Any, kind: str) -> Any:
    if kind == "STRING":
        return text_of(value)
    if kind in ("INTEGER", "LONG"):
        size = 31 if kind == "INTEGER" else 63
        if isinstance(value, str):
            text = value.strip(" \t\r\n")
            if re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text) is None:
                raise Bad
            number = Fraction(text.rstrip("0").rstrip(".") if "." in text else text)
        elif isinstance(value, Num):
            number = value.value
        else:
            raise Bad
        if number.denominator != 1 or not -(2**size) <= number < 2**size:
            raise Bad
        return Num(str(number))
    if kind == "BOOLEAN":
        if isinstance(value, bool):
            return value
        if isinstance(value, Num) and value.integer and value.value in (0, 1):
            return value.value == 1
        words = {"true": True, "1": True, "false": False, "0": False}
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        raise Bad
    if kind == "DOUBLE":
        text = value.text if isinstance(value, Num) else value
        if not isinstance(text, str):
            raise Bad
        text = text.removeprefix("+")
        if (
            re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", text)
            is None
        ):
            raise Bad
        double = 0.0 if text == "-0" else float(text)
        if double in (float("inf"), float("-inf")):
            raise Bad
        return double
    raise Unknown


# -- comparisons


def as_number(value: Any) -> Fraction | None:
    if isinstance(value, Num):
        return value.value
    shape = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
    if isinstance(value, str) and re.fullmatch(shape, value):
        return Num(value).value
    return None


def equal(a: Any, b: Any) -> bool:
    a, b = (None if each is MISSING else each for each in (a, b))
    if isinstance(a, Num) or isinstance(b, Num):
        x, y = as_number(a), as_number(b)
        return x is not None and x == y
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    return type(a) is type(b) and bool(a == b)


def order(a: Any, b: Any) -> int | None:
    if isinstance(a, Num) and isinstance(b, Num):
        return (a.value > b.value) - (a.value < b.value)
    if isinstance(a, str) and isinstance(b, str):
        return (a > b) - (a < b)
    return None


def holds(rule: dict[str, Any], found: Any) -> bool:
    operator = rule["operator"]
    if operator.startswith("NOT_"):
        inner = {**rule, "operator": operator.removeprefix("NOT_")}
        return not holds(inner, found)
    if operator == "EXISTS":
        return found is not MISSING
    if operator in ("IS_NULL", "IS_NOT_NULL"):
        return (found is MISSING or found is None) is (operator == "IS_NULL")
    if found is MISSING:
        return False
    if operator == "EQUALS":
        return equal(found, rule["value"])
    if operator == "IN":
        return any(equal(found, each) for each in rule["values"])
    if operator == "CONTAINS":
        if isinstance(found, str):
            part = rule["value"]
            if isinstance(part, (dict, list)) or part is None:
                return False
            return str(text_of(part)) in found
        if isinstance(found, list):
            return any(equal(each, rule["value"]) for each in found)
        return False
    if operator == "BETWEEN":
        return order(found, rule["min"]) in (0, 1) and order(found, rule["max"]) in (
            0,
            -1,
        )
    wanted = {
        "GREATER_THAN": (1,),
        "GREATER_EQUAL": (0, 1),
        "LESS_THAN": (-1,),
        "LESS_EQUAL": (-1, 0),
    }[operator]
    return order(found, rule["value"]) in wanted


# -- expressions: nested tuples, written out for the engine by `spell`


def spell(node: Any) -> str:
    """An expression as the template language has it."""
    match node:
        case ("path", path):
            return str(path)
        case ("text", text):
            return "'" + text.replace("'", "''") + "'"
        case ("number", text):
            return str(text)
        case ("call", name, *items):
            return f"{name}({', '.join(map(spell, items))})"
        case (sign, left, right):
            return f"({spell(left)} {sign} {spell(right)})"
    raise AssertionError(node)


def shown(number: Fraction) -> Num:
    """A computed number: whole, or the shortest decimal."""
    if number.denominator == 1:
        return Num(str(number.numerator))
    rest, twos, fives = number.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        raise Unknown
    places = max(twos, fives)
    digits = str(abs(number.numerator) * 10**places // number.denominator)
    digits = digits.rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}"
    size = len(digits.lstrip("0")) - places - 1
    if not -7 <= size <= 40:
        raise Unknown
    return Num(("-" if number < 0 else "") + text)


def scalar(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise Bad
    return str(text_of(value))


def number(value: Any) -> Fraction:
    if not isinstance(value, Num):
        raise Bad
    return value.value


def evaluate(node: Any, look: Any) -> Any:
    match node:
        case ("path", path):
            found = look(path)
            return None if found is MISSING else found
        case ("text", text):
            return text
        case ("number", text):
            return Num(text)
        case ("call", "coalesce", *items):
            for item in items:
                value = evaluate(item, look)
                if value is not None:
                    return value
            return None
        case ("call", "if", condition, yes, no):
            value = evaluate(condition, look)
            if value is None:
                return None
            if not isinstance(value, bool):
                raise Bad
            return evaluate(yes if value else no, look)
        case ("call", name, *items):
            values = [evaluate(item, look) for item in items]
            if any(value is None for value in values):
                return None
            return called(name, values)
        case ("==", left, right):
            return equal(evaluate(left, look), evaluate(right, look))
        case (">", left, right):
            a, b = evaluate(left, look), evaluate(right, look)
            if a is None or b is None:
                return None
            found = order(a, b)
            if found is None:
                raise Bad
            return found > 0
        case (sign, left, right):
            a, b = evaluate(left, look), evaluate(right, look)
            if a is None or b is None:
                return None
            if sign == "+" and (isinstance(a, str) or isinstance(b, str)):
                return scalar(a) + scalar(b)
            x, y = number(a), number(b)
            return shown(x + y if sign == "+" else x - y if sign == "-" else x * y)
    raise AssertionError(node)


def called(name: str, values: list[Any]) -> Any:
    first = values[0]
    if name == "concat":
        return "".join(map(scalar, values))
    if name == "json":
        return write(first)
    if name == "upper":
        return scalar(first).upper()
    if name == "length":
        return Num(
            str(len(first if isinstance(first, (list, dict)) else scalar(first)))
        )
    if name == "mask":
        text = scalar(first)
        return "*" * (len(text) - 4 if len(text) > 4 else len(text)) + (
            text[-4:] if len(text) > 4 else ""
        )
    if name == "abs":
        return shown(abs(number(first)))
    if name in ("min", "max"):
        best = first
        for each in values[1:]:
            found = order(each, best)
            if found is None:
                raise Bad
            if found == (1 if name == "max" else -1):
                best = each
        if len(values) == 1:
            number(first)
        return best
    raise AssertionError(name)


def rendered(parts: list[Any], look: Any) -> Any:
    """A template: text and expressions; one expression alone keeps its type."""
    if len(parts) == 1 and not isinstance(parts[0], str):
        return evaluate(parts[0], look)
    text = ""
    for part in parts:
        piece = part if isinstance(part, str) else text_of(evaluate(part, look))
        if piece is None:
            return None
        text += piece
    return text


def template(parts: list[Any]) -> str:
    """The same, written out for the engine."""
    return "".join(
        part if isinstance(part, str) else "${" + spell(part) + "}" for part in parts
    )


# -- a record


def transformed(
    received: Any,
    *,
    mappings: list[dict[str, Any]],
    enrichment: list[tuple[str, list[Any]]],
    filters: list[dict[str, Any]],
    key: list[Any] | None,
) -> tuple[str, str | None] | None:
    """
    Value and key, or None for a record that is filtered.

    Raises: Bad; Unknown.
    """
    if not isinstance(received, dict):
        raise Unknown
    record: dict[str, Any] = dict(received)
    if mappings:
        record = {}
        for mapping in mappings:
            value = find(received, mapping["source"])
            outer, _, inner = mapping["target"].partition(".")
            if inner:
                record.setdefault(outer, {})
            if value is MISSING or value is None:
                if "default" not in mapping:
                    continue
                value = mapping["default"]
            elif "type" in mapping:
                value = cast(value, mapping["type"])
            if inner:
                record[outer][inner] = value
            else:
                record[outer] = value
        built = {m["target"].split(".")[0] for m in mappings if "." in m["target"]}
        record = {n: v for n, v in record.items() if n not in built or v != {}}

    def look(path: str) -> Any:
        found = find(record, path)
        return find(received, path) if found is MISSING else found

    for field, parts in enrichment:
        record[field] = rendered(parts, look)
    for rule in filters:
        if not holds(rule, look(rule["field"])):
            return None
    found = None if key is None else rendered(key, look)
    if isinstance(found, list):
        raise Bad
    return write(record), text_of(found)
