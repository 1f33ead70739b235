"""
Documents: files to documents, in either form.

Owns what a file may be (regular, at most 1 MiB, UTF-8) and the JSON form of
Kafka Connect.  A file that is no configuration is a finding like any other.

Path: ``load`` -> here -> ``properties`` or ``jsontext``
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from engine.config import jsontext
from engine.config.entries import Document, Entry, Findings
from engine.config.files import NotRegularError, read_regular
from engine.config.kinds import CommaList, Json, Kind
from engine.config.properties import Properties
from engine.errors import ConfigError, NoInput, NotReadable

#: A larger file is refused.
MOST_BYTES = 1 << 20

#: A longer line is refused.
MOST_LINE = 1 << 16

_STATES = ("RUNNING", "PAUSED", "STOPPED")


class Reader:
    """
    Reads files into documents.

    Args:
        kind_of: The kind of a key, `apiN.` included; None if it is unknown.
        findings: Where to write what is wrong.

    Attributes:
        failure: What a load fails with: a file that is not there, or may not
            be read, has an exit code of its own; the first such file's counts.
    """

    def __init__(self, kind_of: Callable[[str], Kind | None], findings: Findings):
        self.failure: type[ConfigError] = ConfigError
        self._kind_of = kind_of
        self._findings = findings

    def read(self, path: Path | str, stdin: BinaryIO | None) -> list[Document]:
        """
        The documents of one file; none if it cannot be read.

        Args:
            path: A file, or "-" for `stdin`.
        Blocks: on the disk only; a FIFO or device is refused unread.
        """
        if str(path) == "-":
            data = stdin.read(MOST_BYTES + 1) if stdin is not None else b""
            return self.parse(data, "-", Path.cwd(), public=False)
        path = Path(path)
        try:
            data, public = _read_regular(path)
        except _Unreadable as error:
            self._error(str(path), 0, str(error))
            if self.failure is ConfigError:
                self.failure = error.failure
            return []
        return self.parse(data, str(path), path.absolute().parent, public=public)

    def parse(
        self, data: bytes, file: str, near: Path, *, public: bool
    ) -> list[Document]:
        """The documents in `data`; none if it is no text."""
        text = self._decode(data, file)
        if text is None:
            return []
        if file.endswith(".json") or text.lstrip(" \t\r\n")[:1] in ("{", "["):
            return _Connect(
                text, file, near, public, self._kind_of, self._findings
            ).documents()
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > MOST_LINE // 4 and len(line.encode()) > MOST_LINE:
                self._error(file, number, f"a line longer than {MOST_LINE} bytes")
                return []
        return Properties(
            text,
            file=file,
            near=near,
            public=public,
            kind_of=self._kind_of,
            findings=self._findings,
        ).documents()

    def _decode(self, data: bytes, file: str) -> str | None:
        if len(data) > MOST_BYTES:
            self._error(file, 0, f"larger than {MOST_BYTES} bytes")
            return None
        if (at := data.find(b"\0")) >= 0:
            self._error(file, _line(data, at), f"a NUL at byte {at}")
            return None
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            at = error.start
            self._error(file, _line(data, at), f"not UTF-8 at byte {at}")
            return None
        text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        if (at := text.find("\r")) >= 0:
            offset = data.replace(b"\r\n", b"\n\n").find(b"\r")
            self._error(
                file,
                text.count("\n", 0, at) + 1,
                f"a CR without LF at byte {offset}",
            )
            return None
        return text

    def _error(self, file: str, line: int, message: str) -> None:
        self._findings.add("error", message, file=file, line=line)


def _line(data: bytes, at: int) -> int:
    return data.count(b"\n", 0, at) + 1


class _Unreadable(Exception):
    """A file that is none of ours to read; says why."""

    def __init__(self, message: str, failure: type[ConfigError] = ConfigError):
        super().__init__(message)
        self.failure = failure


def _read_regular(path: Path) -> tuple[bytes, bool]:
    """The bytes of a regular file, and whether others may read it."""
    try:
        data, before, after = read_regular(path, MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise _Unreadable("no such file", NoInput) from error
    except PermissionError as error:
        raise _Unreadable("not readable: permission denied", NotReadable) from error
    except IsADirectoryError as error:
        raise _Unreadable("a directory, allowed: a file") from error
    except NotRegularError as error:
        raise _Unreadable("not a regular file; for a pipe use '-'") from error
    except (OSError, ValueError) as error:
        raise _Unreadable(f"not readable: {error}") from error
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise _Unreadable("it changed while it was read: try again")
    return data, bool(before.st_mode & 0o044)


class _Connect:
    """Kafka Connect's JSON form: `{"name", "config"}`, a bare map, or a list."""

    def __init__(
        self,
        text: str,
        file: str,
        near: Path,
        public: bool,
        kind_of: Callable[[str], Kind | None],
        findings: Findings,
    ):
        self._text = text
        self._file = file
        self._near = near
        self._public = public
        self._kind_of = kind_of
        self._findings = findings
        self._breaks = [at for at, char in enumerate(text) if char == "\n"]

    def documents(self) -> list[Document]:
        try:
            root = jsontext.parse(self._text)
        except jsontext.JsonError as error:
            self._findings.add(
                "error", f"not JSON: {error}", file=self._file, line=error.line
            )
            return []
        nodes = root.value if isinstance(root.value, list) else [root]
        found: list[Document] = []
        for node in nodes:
            document = self._document(node)
            if document is None:
                continue
            if document.name and any(document.name == other.name for other in found):
                self._error(node, "name", "two connectors of one name in this file")
                continue
            found.append(document)
        if not nodes:
            self._error(root, "", "an empty list holds no connector")
        return found

    def _document(self, node: jsontext.JsonNode) -> Document | None:
        if not isinstance(node.value, dict):
            self._error(node, "", "allowed: an object, or a list of objects")
            return None
        config = node.value.get("config")
        if config is None or not isinstance(config.value, dict):
            entries = self._entries(node.value)
            return Document(_name(entries), entries, self._file)
        entries = self._entries(config.value)
        state = "RUNNING"
        for member, value in node.value.items():
            if member == "name":
                outer = self._entry("name", value)
                inner = entries.get("name")
                if outer and inner and outer.text != inner.text:
                    self._error(value, "name", "differs from the name in config")
                elif outer:
                    entries["name"] = outer
            elif member == "initial_state":
                state = str(value.value).upper()
                if state not in _STATES:
                    self._error(value, member, f"allowed: {', '.join(_STATES)}")
                    state = "RUNNING"
            elif member != "config":
                self._error(
                    value, member, "allowed beside config: name and initial_state"
                )
        return Document(_name(entries), entries, self._file, state)

    def _entries(self, members: dict[str, jsontext.JsonNode]) -> dict[str, Entry]:
        found = {}
        for key, node in members.items():
            entry = self._entry(key, node)
            if entry is not None:
                found[key] = entry
        return found

    def _entry(self, key: str, node: jsontext.JsonNode) -> Entry | None:
        value = node.value
        kind = self._kind_of(key)
        items = None
        if value is None:
            text = ""
        elif isinstance(value, str):
            text = value
            if "\0" in text:
                self._error(node, key, "a NUL character")
                return None
        elif isinstance(value, list | dict):
            text = node.text
            if isinstance(value, list) and _takes_items(kind):
                if not all(isinstance(item.value, str) for item in value):
                    self._error(node, key, "allowed: an array of strings")
                    return None
                items = tuple(str(item.value) for item in value)
                text = ",".join(items)
                if not items:
                    self._error(node, key, "an empty list")
                    return None
            elif not isinstance(kind, Json | None):
                self._error(node, key, "an array or object where text is expected")
                return None
        else:
            text = node.text
        line = self._line(node)
        return Entry(
            key, text, self._file, line, self._near, items=items, public=self._public
        )

    def _line(self, node: jsontext.JsonNode) -> int:
        return bisect.bisect_left(self._breaks, node.at) + 1

    def _error(self, node: jsontext.JsonNode, key: str, message: str) -> None:
        self._findings.add(
            "error", message, file=self._file, line=self._line(node), key=key
        )


def _takes_items(kind: Kind | None) -> bool:
    return isinstance(kind, CommaList) or hasattr(kind, "read_items")


def _name(entries: dict[str, Entry]) -> str | None:
    entry = entries.get("name")
    return entry.text if entry is not None and entry.text else None
