"""
Printable: text of strangers, safe to show.

Owns the list of characters that a terminal, a pager or a reader of logs may take for
more than text: controls (C0, DEL, C1), marks that turn the direction of writing,
separators of lines and paragraphs, tags, and halves of surrogate pairs.  They are
shown as escapes and never sent.

Source: ECMA-48 (controls), UAX 9 (direction), CVE-2021-42574.

Below everything that prints or logs.
"""

from __future__ import annotations

import re

from engine.later import pattern

#: All but tab and line feed, which lay text out.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff"
)
_DANGER = pattern(f"[{_HIDDEN}]")
_DANGER_IN_A_LINE = pattern(f"[{_HIDDEN}\t\n]")

_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(text: str) -> str:
    """
    Several lines of text, dangerous characters as `\\u001b`.

    JSON stays the same JSON: there they stand inside strings only.
    """
    return _DANGER.sub(_escaped, text)


def printable_line(text: str) -> str:
    """The same for one line: tabs, carriage returns and line feeds escaped, too."""
    return _DANGER_IN_A_LINE.sub(_short, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _short(found: re.Match[str]) -> str:
    character = found[0]
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{ord(character):02x}" if character < "\x80" else _escaped(found)
