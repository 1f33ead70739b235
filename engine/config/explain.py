"""
Explain: what a key means, out of the one table.

Owns the text of `explain` for our keys, for foreign ones and for typing
errors.  It reads no file.

Path: ``keys`` and ``foreign`` -> here -> ``cli.check``
"""

from __future__ import annotations

from engine.config import foreign, keys
from engine.config.built import standing
from engine.config.foreign.rows import ROWS, Row
from engine.config.keys.key import Computed, Key
from engine.config.kinds import nearest

SCOPES = {
    "A": "an api; without prefix the default of all, apiN. before it for one",
    "C": "one value for a connector",
    "T": "one value for a connector, counted in each task",
    "P": "one value for the whole process",
}


def explain(name: str) -> str:
    """
    What a key means, its type, default, range and scope, with an example.

    A foreign key says what of ours it is; an unknown one gives the nearest
    known name.
    """
    number, plain = keys.split_api(name.strip())
    key = keys.find(plain) or keys.TABLE.get(plain)
    if key is not None:
        return _ours(plain, key, number)
    row = foreign.row(plain)
    if row is not None:
        return _foreign(plain, row)
    guess = nearest(plain, [*keys.TABLE, *foreign.names()])
    hint = f"; did you mean {guess}?" if guess else ""
    return f"{plain}: unknown key{hint}"


def known(name: str) -> bool:
    """Whether `explain` has something to say about a key."""
    plain = keys.split_api(name.strip())[1]
    return (
        keys.find(plain) is not None
        or plain in keys.TABLE
        or foreign.row(plain) is not None
    )


def default_text(key: Key) -> str:
    """The default in words; `-` for none."""
    if isinstance(key.default, Computed):
        return key.default.words
    if key.default is None:
        return "-"
    return key.default or "(empty)"


def _ours(name: str, key: Key, number: int | None) -> str:
    example = name if number is None else f"api{number}.{name}"
    lines = [
        name,
        f"  {key.meaning}",
        "",
        f"  type      {key.kind.allowed}",
        f"  default   {default_text(key)}",
        f"  scope     {SCOPES[key.scope]}",
        f"  example   {example}={key.example}",
    ]
    if key.required:
        lines.append(f"  required  by {key.required}")
    if key.folds:
        lines.append(f"  wins over {key.folds}")
    others = [row.theirs for row in ROWS if row.ours == name]
    if others:
        lines.append(f"  also      {', '.join(others)}")
    if note := standing(name):
        lines.append(f"  note      {note}")
    return "\n".join(lines)


def _foreign(name: str, row: Row) -> str:
    note = f": {row.note}" if row.note else ""
    if row.action == "void":
        return f"{name}\n  accepted without effect{note}"
    if row.action == "refused" or not row.ours:
        return f"{name}\n  refused{note}" + (
            f"\n  ours: {row.ours}" if row.ours else ""
        )
    how = "taken as" if row.action == "alias" else "converted to"
    text = f"{name}\n  {how} {row.ours}{note}"
    ours = keys.find(row.ours)
    return f"{text}\n\n{_ours(row.ours, ours, None)}" if ours is not None else text
