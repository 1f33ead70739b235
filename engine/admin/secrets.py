"""
Secrets: what was sent as a literal secret, kept beside the connectors' files.

Owns one small file for each, 0600, in a directory that no connector stands in.  In the
connector's file, and in all that REST tells, a reference stands in its place.

Path: ``admin.configuring`` -> here
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from engine.config.entries import Entry
from engine.config.load import kind_of
from engine.config.masking import shown

#: Within the connectors' directory; what begins with a dot is no connector.
DIRECTORY = ".secrets"


class Secrets:
    """
    Args:
        directory: Of the connectors.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def referred(
        self, connector: str, texts: Mapping[str, str]
    ) -> tuple[dict[str, str], list[Path]]:
        """
        The keys with references in the place of literal secrets, and the new files.

        A text that holds references of its own stays as it is: what comes out of a
        reference is not looked at again.

        Raises: OSError; no file is left then.
        """
        kept, made = dict(texts), []
        try:
            for key, text in texts.items():
                entry = Entry(key, text, connector, 0, self._directory)
                if "${" in text or not text or shown(entry, kind_of(key)) == text:
                    continue
                home = self._directory / DIRECTORY
                home.mkdir(mode=0o700, exist_ok=True)
                name = f"{_prefix(connector)}{secrets.token_hex(6)}"
                path = home / name
                _write(path, text)
                made.append(path)
                kept[key] = f"${{file:{DIRECTORY}/{name}}}"
        except BaseException:
            self.forget(made)
            raise
        return kept, made

    def forget(self, made: Iterable[Path]) -> None:
        """What they were made for has not happened."""
        for path in made:
            path.unlink(missing_ok=True)

    def sweep(self, connector: str, texts: Mapping[str, str]) -> None:
        """Take away those of a connector that its keys do not refer to any more."""
        every = "".join(texts.values())
        for path in (self._directory / DIRECTORY).glob(f"{_prefix(connector)}*"):
            if path.name not in every:
                path.unlink(missing_ok=True)


def _prefix(connector: str) -> str:
    # `~` ends the name: it is none of the characters that quoting leaves.
    return f"{quote(connector, safe='').replace('~', '%7E')}~"


def _write(path: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
