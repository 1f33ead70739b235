"""
Examples: the profiles, units, dashboards, scripts and manual, laid out in a folder.

Owns where they are found: beside the package in a checkout, and under the
environment's `share/` where a wheel was installed.  It overwrites nothing that says
something else.

Path: ``cli.main`` -> here
"""

from __future__ import annotations

import argparse
import shutil
import sysconfig
from importlib import metadata
from pathlib import Path

import engine
from engine.errors import EngineError, Exit

#: What belongs to the examples in a checkout.
PARTS = ("README.md", "CHANGELOG.md", "LICENSE", "docs", "scripts", "conf")

#: Where a wheel puts them.
SHARE = f"share/{engine.DISTRIBUTION}"


class ExamplesMissing(EngineError):
    """The examples are not part of this installation."""

    code = Exit.NO_INPUT


class FileInTheWay(EngineError):
    """A file of the user's stands where an example would go."""

    code = Exit.USAGE


def examples(args: argparse.Namespace) -> int:
    """
    `examples`: lay them out.

    Args:
        args: `directory`.

    Raises: NotThere, InTheWay; nothing is written then.
    """
    target = Path(args.directory)
    source = place()
    files = sorted(
        path.relative_to(source)
        for part in PARTS
        for path in _files(source / part)
        if "__pycache__" not in path.parts
    )
    taken = [name for name in files if _differs(source / name, target / name)]
    if taken:
        shown = ", ".join(str(target / name) for name in taken[:5])
        raise FileInTheWay(
            f"{shown}{' ...' if len(taken) > 5 else ''} exist and say something else; "
            "name another directory, nothing was written"
        )
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
        # A wheel's data has no executable files: what begins as a script is one.
        with open(target / name, "rb") as file:
            script = file.read(2) == b"#!"
        (target / name).chmod(0o755 if script else 0o644)
    print(f"{len(files)} files in {target}:")
    for part in PARTS:
        if (target / part).exists():
            print(f"  {target / part}")
    print(f"Begin with {target}/docs/README.md")
    return Exit.OK


def place() -> Path:
    """
    Where the examples of this installation are.

    Raises: NotThere.
    """
    checkout = Path(engine.__file__).resolve().parent.parent
    if (checkout / "setup.cfg").exists() and (checkout / "conf").is_dir():
        return checkout
    try:
        listed = metadata.files(engine.DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        listed = []
    for one in listed:
        text = one.as_posix()
        if text.endswith(f"{SHARE}/README.md"):
            return Path(str(one.locate())).resolve().parent
    found = Path(sysconfig.get_path("data")) / SHARE
    if found.is_dir():
        return found
    raise ExamplesMissing(
        "this installation brought no examples along: install the wheel or the sdist "
        "with pip, or work in a checkout"
    )


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [one for one in path.rglob("*") if one.is_file()]
    return [path] if path.is_file() else []


def _differs(source: Path, target: Path) -> bool:
    return target.exists() and (
        not target.is_file() or target.read_bytes() != source.read_bytes()
    )
