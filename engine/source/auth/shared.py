"""
Shared: one token for all processes, in a file of theirs.

Owns the file (0600) and when a token is asked for anew: under a lock that all processes
share, so that one of them asks and the others read.  A refusal is kept as well: eight
tasks with a wrong password are one failed login and not eight.  How a token is asked for
is handed in; this file opens no socket.

Path: `source.auth.oauth`, `source.auth.login` -> here -> the file
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from engine.clock import SYSTEM, Clock
from engine.errors import Denied, Unreachable
from engine.language.faults import EvaluationError
from engine.language.times import parse_timestamp
from engine.records import Response
from engine.source.wire.cookies import Cookie

log = logging.getLogger("http")

#: Of its lifetime a token is used at least so much.
LEAST_USE = 0.8
#: Seconds to wait for another process that is asking.
PATIENCE = 60.0
#: Seconds for which a refusal holds for everybody who would ask the same.
REFUSED = 10.0
#: A number from here on is a time since 1970 and no lifetime.
_EPOCH = 1e9


class SharedLock(Protocol):
    """A lock that dies with its holder."""

    def acquire(self, patience: float | None = None) -> bool:
        """Wait for the lock; True once it is held."""

    def release(self) -> None:
        """Let the next one in."""


class KeptToken(Struct, frozen=True):
    """
    A token as it is kept.

    Attributes:
        fits: Hash of the options it was asked for with.
        access: The token; "" where there is none.
        renew_ms: Wall milliseconds from which a new one is asked for; 0: never.
        refresh: The refresh token that holds now, rotated or given.
        given: Hash of the refresh token in the configuration.
        kind: Its type as the answer says it, or "".
        base: The URL that requests go to with it, or "".
        cookies: What the login set.
        refusal: Why the last attempt was refused, or "".
        status: Of that refusal.
        refused_ms: Wall milliseconds of it.
    """

    fits: str
    access: str
    renew_ms: int = 0
    refresh: str | None = None
    given: str = ""
    kind: str = ""
    base: str = ""
    cookies: tuple[Cookie, ...] = ()
    refusal: str = ""
    status: int | None = None
    refused_ms: int = 0


class SharedToken:
    """
    The token of all processes that know its path.  Thread-safe by its lock.

    Args:
        ask: Asks for one, given what is kept of the same configuration, or None.
        fits: Hash of the options; a token of others is not used.
        given: Hash of the refresh token in the configuration, or "".
        path: Its file; the directory is ours alone.
        lock: Shared by all processes that know the path.
    """

    def __init__(
        self,
        ask: Callable[[KeptToken | None], KeptToken],
        *,
        fits: str,
        given: str = "",
        path: Path,
        lock: SharedLock,
        clock: Clock = SYSTEM,
    ):
        self._ask = ask
        self._fits = fits
        self._given = given
        self._path = path
        self._lock = lock
        self._clock = clock
        #: The one in use, or None before the first.
        self.current: KeptToken | None = None
        #: Monotonic seconds since which it is the one in use.
        self._since = 0.0

    def token(self) -> KeptToken:
        """
        The token to use now; asks for one where there is none or it is old.

        Raises: Denied, Unreachable, Unexpected.
        Blocks: for the request, of whichever process makes it.
        """
        token = self.current
        if token is None or self._old(token):
            token = self._renewed(None)
        return token

    def renew(self, response: Response) -> bool:
        """
        After a refusal: another token, unless somebody has renewed it already.

        Returns: True if there is another one now.
        Raises, blocks: as `token`.
        """
        if response.sent_at < self._since:
            # Sent with the one before: another thread was the first to renew.
            return True
        refused = self.current
        return not _same(self._renewed(refused), refused)

    def _old(self, token: KeptToken) -> bool:
        return 0 < token.renew_ms <= self._clock.wall_ms()

    def _renewed(self, refused: KeptToken | None) -> KeptToken:
        if not self._lock.acquire(PATIENCE):
            raise Unreachable("another process is asking for the token", sent=False)
        try:
            kept = self._read()
            if kept is not None and (kept.fits, kept.given) != (
                self._fits,
                self._given,
            ):
                kept = None
            if kept is not None:
                if kept.access and not _same(kept, refused) and not self._old(kept):
                    return self._use(kept)
                self._hold(kept)
            token = self._asked(kept)
            self._write(token)
            return self._use(token)
        finally:
            self._lock.release()

    def _hold(self, kept: KeptToken) -> None:
        """What another process was refused just now is not asked again."""
        ago = (self._clock.wall_ms() - kept.refused_ms) / 1000
        if kept.refusal and 0 <= ago < REFUSED:
            raise Denied(
                f"{kept.refusal} (told {ago:.0f} s ago; asked again {REFUSED:.0f} s "
                "after that)",
                status=kept.status,
            )

    def _asked(self, kept: KeptToken | None) -> KeptToken:
        try:
            return self._ask(kept)
        except Denied as denied:
            blank = KeptToken(self._fits, "", given=self._given)
            self._write(
                replace(
                    blank if kept is None else kept,
                    access="",
                    refusal=str(denied),
                    status=denied.status,
                    refused_ms=self._clock.wall_ms(),
                )
            )
            raise

    def _use(self, token: KeptToken) -> KeptToken:
        self.current, self._since = token, self._clock.monotonic()
        return token

    def _read(self) -> KeptToken | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=KeptToken)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the kept token cannot be read (%s)", type(error).__name__)
            return None

    def _write(self, token: KeptToken) -> None:
        """Replace the file as a whole; a token that is not kept is a warning."""
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(token))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            log.warning("the token cannot be kept for the other tasks: %s", error)


def _same(token: KeptToken, other: KeptToken | None) -> bool:
    return other is not None and (token.access, token.cookies) == (
        other.access,
        other.cookies,
    )


def renewal(said: Any, asked_ms: int, buffer: float) -> int:
    """
    From when a token is to be renewed, in wall milliseconds; 0: never.

    Args:
        said: When it ends, as the answer says it: seconds it lives, as number or text;
            a time since 1970 in seconds or milliseconds; a timestamp.
        asked_ms: When it was asked for.
        buffer: Seconds before its end; at least `LEAST_USE` of its life is used.
    """
    seconds = _lifetime(said, asked_ms)
    if seconds is None or not 0 < seconds < 1e9:
        return 0
    use = max(seconds - buffer, seconds * LEAST_USE)
    return asked_ms + max(1, int(use * 1000))


def _lifetime(said: Any, asked_ms: int) -> float | None:
    if isinstance(said, Raw):
        said = bytes(said).decode("ascii", "replace")
    if said is None or isinstance(said, bool):
        return None
    try:
        seconds = float(said)
    except (TypeError, ValueError, OverflowError):
        seconds = _EPOCH
    if seconds < _EPOCH:
        return seconds
    try:
        return (parse_timestamp(said, UTC) - asked_ms) / 1000
    except EvaluationError:
        return None


def hashed(*texts: str) -> str:
    """What tells one configuration of a login from another, and shows no secret."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
