"""
Fingerprints: a credential as a key of the cache shows it.

Owns the secret that they are hashed with.  It lies beside the cache on disk, so that a
key is the same in every process and after a restart, and says nothing elsewhere.

Path: `shared.cache.tiers` -> here
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b
from pathlib import Path

from engine.errors import SharedError
from engine.shared.lock import lock_within, open_private


class Fingerprints:
    """
    From a text to its hash, 32 hexadecimal digits.

    Args:
        path: The secret's file, made at the first call; without one, what this
            gives holds for this process alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._secret: bytes | None = None

    def __call__(self, text: str) -> str:
        """Blocks: at the first call, for a second at most."""
        if self._secret is None:
            self._secret = secret_in(self._path)
        return blake2b(text.encode(), key=self._secret, digest_size=16).hexdigest()


def secret_in(path: Path) -> bytes:
    """32 bytes that stay with the cache; made once, readable for us alone."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = open_private(path)
    except (OSError, SharedError):
        return secrets.token_bytes(32)
    try:
        if not lock_within(fd, 1.0):
            return secrets.token_bytes(32)
        found = os.pread(fd, 32, 0)
        if len(found) < 32:
            found = secrets.token_bytes(32)
            os.pwrite(fd, found, 0)
        return found
    except (OSError, SharedError):
        return secrets.token_bytes(32)
    finally:
        os.close(fd)
