"""
Aws: the standard AWS variables, where AWS_SIGV4 is asked for and its keys are not.

Owns which variable stands for which key.  Reads no variable: it writes the
reference that a person would have written, so that all that holds for
providers holds for it.

Path: `config.load` (entries of a connector) -> here -> entries
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from engine.config.entries import Entry

_ID, _SECRET = "http.auth.aws.access.key.id", "http.auth.aws.secret.access.key"

#: The key pair of the process's environment, which comes whole or not at all.
_PAIR = ((_ID, "AWS_ACCESS_KEY_ID"), (_SECRET, "AWS_SECRET_ACCESS_KEY"))

_TOKEN = ("http.auth.aws.session.token", "AWS_SESSION_TOKEN")

_REGION = "http.auth.aws.region"

#: In the order in which AWS's own tools look.
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


def standing_in(
    known: Mapping[tuple[int | None, str], Entry], environment: Mapping[str, str]
) -> dict[tuple[int | None, str], Entry]:
    """
    Entries for keys of AWS_SIGV4 that are not stated and stand in the environment.

    A session token counts only with the pair it was made with.

    Args:
        known: What is stated, by the api's number and key.
    """
    found: dict[tuple[int | None, str], Entry] = {}
    for (number, key), entry in known.items():
        kind = entry.text.strip().upper().replace("-", "_")
        if key != "auth.type" or kind != "AWS_SIGV4":
            continue

        def stated(name: str, number: int | None = number) -> bool:
            return (number, name) in known or (None, name) in known

        prefix = "" if number is None else f"api{number}."
        wanted: list[tuple[str, str]] = []
        if not any(stated(name) for name, _ in _PAIR) and all(
            environment.get(variable) for _, variable in _PAIR
        ):
            wanted += _PAIR
            if environment.get(_TOKEN[1]) and not stated(_TOKEN[0]):
                wanted.append(_TOKEN)
        if not stated(_REGION):
            named = [each for each in _REGIONS if environment.get(each)]
            wanted += [(_REGION, each) for each in named[:1]]
        for name, variable in wanted:
            text = f"${{env:{variable}}}"
            found[number, name] = replace(entry, key=f"{prefix}{name}", text=text)
    return found
