"""What is made later is the same as if it had been made at once."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from engine.later import pattern
from tests.test_floor_plan import ENGINE


def patterns() -> Iterator[tuple[str, str]]:
    """Module and name of each pattern of ours that is compiled later."""
    for path in sorted(ENGINE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            value = getattr(node, "value", None)
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            if isinstance(value, ast.Call) and ast.unparse(value.func) == "pattern":
                target = (
                    node.targets[0] if isinstance(node, ast.Assign) else node.target
                )
                module = ".".join(path.relative_to(ENGINE.parent).with_suffix("").parts)
                yield module.removesuffix(".__init__"), ast.unparse(target)


def test_each_pattern_can_be_compiled() -> None:
    found = list(patterns())

    assert len(found) > 100
    for module, name in found:
        later = getattr(importlib.import_module(module), name)
        assert isinstance(later.search.__self__, re.Pattern), f"{module}.{name}"


@pytest.mark.parametrize("text", ["a(b)?c", b"a(b)?c"])
def test_it_has_the_verbs_of_a_pattern(text: str | bytes) -> None:
    later, made = pattern(text, re.IGNORECASE), re.compile(text, re.IGNORECASE)
    subject = text[:1] + text[:1].upper() + text[2:3] + text[-1:] + text[:1] + text[-1:]

    assert made.pattern == later.pattern
    assert made.flags == later.flags
    assert made.groups == later.groups
    assert made.findall(subject) == later.findall(subject)
    assert made.split(subject) == later.split(subject)
    assert (made.search(subject) is None) == (later.search(subject) is None)
    assert made.sub(text[:0], subject) == later.sub(text[:0], subject)


def test_a_wrong_one_is_raised_at_its_first_use() -> None:
    wrong = pattern("(")

    with pytest.raises(re.error):
        wrong.match("")
    assert repr(wrong) == "pattern('(')"
