"""
Providers: values that stand somewhere else.

Owns `${env:}`, `${file:}`, `${dir:}` and `${cred:}`.  What comes out is a
secret, is never looked at again for further `${`, and never shows in an
error; only the provider and the name do.

Path: ``load`` -> here, after all layers are joined
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from engine.config.entries import Findings
from engine.config.files import NotRegularError, read_regular
from engine.config.kinds import Comment, Kind
from engine.config.properties import Properties
from engine.language import EvaluationError, LanguageError, compile_regex
from engine.later import pattern
from engine.observe.redact import learn

#: A larger file holds no secret.
MOST_BYTES = 1 << 16

#: `$${` is a literal `${`; `${env.X}` is `${env:X}`.
REFERENCE = pattern(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_-]*):([^{}]*)\}|\$\{env\.(\w+)\}")

#: A provider's name that is to come out of something itself.
_NESTED = pattern(
    r"(?<!\$)\$\{(?:(?:env|file|dir|directory|cred):|env\.)[^{}]*\$?\$?\{"
)

PROVIDERS = ("env", "file", "dir", "directory", "cred")


class Unresolved(ValueError):
    """A reference that leads to nothing; says provider and name only."""


class Restriction(Struct, frozen=True):
    """
    What providers may do.

    Attributes:
        allowed: Names of the providers.
        paths: Provider -> directories it may read in; missing: any.
        variables: What a variable's name must match, or None: any.
    """

    allowed: frozenset[str] = frozenset({"env", "file", "dir", "cred"})
    paths: Mapping[str, tuple[str, ...]] = {}
    variables: str | None = None


class Providers:
    """
    Resolves references, and remembers which variables were read.

    Attributes:
        variables: Names of the environment variables that were read.
    """

    def __init__(self, environment: Mapping[str, str]):
        self._environment = environment
        self.variables: set[str] = set()

    def find(self, text: str) -> bool:
        """Whether a provider's value stands in it."""
        return any(
            found.group(1) in PROVIDERS or found.group(3)
            for found in REFERENCE.finditer(text)
        )

    def resolve(
        self,
        text: str,
        near: Path,
        may: Restriction,
        *,
        template: bool,
        hidden: bool = True,
        insert: Callable[[str], str] | None = None,
    ) -> str:
        """
        `text` with every provider's value in its place.

        Args:
            near: The directory that relative paths start at.
            template: True if other `${...}` and `$${` are left as they are.
            hidden: False for a number or a word of a few, which would blank
                out every other text that holds it.
            insert: What to make of a value before it is put in.

        Raises: Unresolved.  Blocks: on the disk only.
        """

        def replace(found: re.Match[str]) -> str:
            word, rest, variable = found.groups()
            if found.group() == "$${":
                return "$${" if template else "${"
            if variable is not None:
                word, rest = "env", variable
            if word not in PROVIDERS:
                if template:
                    return found.group()
                raise Unresolved(
                    f"'${{{word}:' is no provider ({', '.join(PROVIDERS)}); "
                    "write $${ for the characters themselves"
                )
            value = self._value(word, rest, near, may)
            if hidden:
                learn(value)
            if insert is not None:
                return insert(value)
            # What came out is never read as a template again.
            return value.replace("${", "$${") if template else value

        if _NESTED.search(text):
            raise Unresolved(
                "a ${...} inside the name of a provider's value: what is read has a "
                "name of its own, and nothing is read twice"
            )
        return REFERENCE.sub(replace, text)

    def _value(self, word: str, rest: str, near: Path, may: Restriction) -> str:
        provider = "dir" if word == "directory" else word
        name = f"${{{word}:{rest}}}"
        if provider not in may.allowed:
            raise Unresolved(f"{name}: config.providers does not allow {word}")
        if not rest:
            raise Unresolved(f"{name}: no name")
        if provider == "env":
            value = self._variable(rest, name, may)
        elif provider == "cred":
            value = self._credential(rest, name)
        elif provider == "dir":
            value = _from_directory(rest, name, near, may.paths.get(word))
        else:
            value = _from_file(rest, name, near, may.paths.get("file"))
        if not value:
            raise Unresolved(f"{name}: it is empty")
        if "\0" in value:
            raise Unresolved(f"{name}: a NUL character in it")
        return value

    def _variable(self, rest: str, name: str, may: Restriction) -> str:
        if may.variables is not None and not _allows(may.variables, rest):
            raise Unresolved(
                f"{name}: config.providers.env.param.allowlist.pattern does not allow it"
            )
        value = self._environment.get(rest)
        if value is None:
            raise Unresolved(f"{name}: no such environment variable")
        self.variables.add(rest)
        return value

    def _credential(self, rest: str, name: str) -> str:
        directory = self._environment.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise Unresolved(f"{name}: $CREDENTIALS_DIRECTORY is not set")
        return _member(Path(directory), rest, name)


def _allows(pattern: str, name: str) -> bool:
    try:
        return compile_regex(pattern).matches(name)
    except (LanguageError, EvaluationError):
        return False


def _from_directory(
    rest: str, name: str, near: Path, allowed: tuple[str, ...] | None
) -> str:
    directory, _, key = rest.partition(":")
    if not directory or not key:
        raise Unresolved(f"{name}: allowed: ${{dir:DIRECTORY:KEY}}")
    path = near / Path(directory).expanduser()
    _permit(path, name, allowed)
    return _member(path, key, name)


def _member(directory: Path, key: str, name: str) -> str:
    """A file right in a directory; a link may not lead out of it."""
    if "/" in key or key in (".", ".."):
        raise Unresolved(f"{name}: the key is the name of a file, not a path")
    path = directory / key
    if not path.resolve().is_relative_to(directory.resolve()):
        raise Unresolved(f"{name}: it leads out of its directory")
    return _text(path, name)


def _from_file(
    rest: str, name: str, near: Path, allowed: tuple[str, ...] | None
) -> str:
    path_text, colon, key = rest.partition(":")
    path = near / Path(path_text).expanduser()
    _permit(path, name, allowed)
    text = _text(path, name)
    if not colon:
        return text
    findings = Findings()
    documents = Properties(
        text.removeprefix("\ufeff").replace("\r\n", "\n"),
        file=path_text,
        near=near,
        public=False,
        kind_of=lambda key: _PLAIN,
        findings=findings,
    ).documents()
    if findings.errors:
        raise Unresolved(f"{name}: the file is no properties file")
    for document in documents:
        if (entry := document.entries.get(key)) is not None:
            return entry.text
    raise Unresolved(f"{name}: no key {key!r} in that file")


class _Plain(Struct, frozen=True):
    """Every key of a secrets file is plain text: nothing in it is a comment."""

    allowed: str = "text"
    comment: Comment = Comment.TEXT

    def read(self, text: str, near: Path) -> str:
        return text


_PLAIN: Kind = _Plain()


def _permit(path: Path, name: str, allowed: tuple[str, ...] | None) -> None:
    if allowed is None:
        return
    real = path.resolve()
    if not any(real.is_relative_to(Path(root).resolve()) for root in allowed):
        raise Unresolved(f"{name}: config.providers allows other directories only")


def _text(path: Path, name: str) -> str:
    try:
        data, _, _ = read_regular(path, MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise Unresolved(f"{name}: no such file") from error
    except (IsADirectoryError, NotRegularError) as error:
        raise Unresolved(f"{name}: not a regular file") from error
    except (OSError, ValueError) as error:
        raise Unresolved(f"{name}: not readable") from error
    if len(data) > MOST_BYTES:
        raise Unresolved(f"{name}: larger than {MOST_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Unresolved(f"{name}: not UTF-8") from error
    if text.endswith("\r\n"):
        return text[:-2]
    return text.removesuffix("\n")
