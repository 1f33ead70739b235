"""
Check: what a configuration says, before anything is run.

Owns the output of `check`, `explain` and `config show`, and the one way every
verb reads its files.  Calls nobody unless `--connect` asks for it, changes
nothing, and imports neither Kafka nor HTTP before that.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

import msgspec

from engine import config
from engine.config import Finding, Loaded
from engine.config.explain import explain as text_of
from engine.config.explain import known
from engine.config.memory import memory
from engine.config.show import show as text_of_all
from engine.errors import ConfigError, EngineError, Exit
from engine.observe.redact import redact


def load(args: argparse.Namespace, *, quiet: bool = False) -> Loaded:
    """
    Read the files of a command line; warnings and notices go to stderr.

    Raises: ConfigError with every error at once; under `--strict` warnings
    are errors.
    """
    loaded = config.load(args.files, args.overrides, stdin=sys.stdin.buffer)
    if not quiet:
        for finding in loaded.findings:
            print(f"{finding.severity}: {finding}", file=sys.stderr)
    warnings = [f for f in loaded.findings if f.severity == "warning"]
    if args.strict and warnings:
        raise ConfigError(warnings if quiet else "--strict: a warning is an error")
    return loaded


def check(args: argparse.Namespace) -> int:
    """`check FILE...`: all findings, then 0, 78 (66, 77 for a file), or 69."""
    findings: list[Finding] = []
    code = Exit.OK
    loaded = None
    try:
        loaded = config.load(args.files, args.overrides, stdin=sys.stdin.buffer)
        findings.extend(loaded.findings)
    except ConfigError as failure:
        findings.extend(failure.findings)
        code = failure.code
    if args.strict and any(f.severity == "warning" for f in findings):
        code = Exit.CONFIG
    if loaded is not None and args.connect:
        unreached = connect(loaded)
        findings.extend(unreached)
        worst = {finding.severity for finding in unreached}
        if "error" in worst and code is Exit.OK:
            code = Exit.UNAVAILABLE
        elif "warning" in worst and args.strict and code is Exit.OK:
            code = Exit.CONFIG
    if args.json:
        document = {"findings": findings}
        print(msgspec.json.format(msgspec.json.encode(document)).decode())
        return code
    for finding in findings:
        out = sys.stderr if finding.severity == "error" else sys.stdout
        print(f"{finding.severity}: {finding}", file=out)
    if loaded is not None:
        print_memory(loaded)
        if code is Exit.OK:
            print(f"{count(loaded)}: no errors")
    return code


def print_memory(loaded: Loaded) -> None:
    """The memory each connector is expected to take, and its bound."""
    admin = loaded.process["listeners"] != ("none",)
    for connector in loaded.connectors:
        expected, bound = memory(connector, admin=admin)
        print(
            f"{connector.name}: memory expected {expected.total / 2**20:,.0f} MiB, "
            f"bound {bound.total / 2**20:,.0f} MiB"
        )


def count(loaded: Loaded) -> str:
    """How much was checked."""
    apis = sum(len(connector.apis) for connector in loaded.connectors)
    connectors = len(loaded.connectors)
    return f"{connectors} connector{'s' * (connectors != 1)}, {apis} api{'s' * (apis != 1)}"


def connect(loaded: Loaded) -> Sequence[Finding]:
    """Call each API and broker once; a finding for each that gave no answer."""
    # Only here: HTTP and Kafka are dear to import.
    probe = importlib.import_module("engine.task.probe")
    found = []
    zone = loaded.process["schedule.timezone"]
    for connector in loaded.connectors:
        for api, key, question in probe.questions(connector, zone):
            try:
                question()
            except EngineError as failure:
                values = connector.values if api is None else api.values
                file, line = values.origin(key) or ("", 0)
                found.append(
                    Finding("error", file, line, key, None, redact(str(failure)))
                )
        if any(finding.severity == "error" for finding in found):
            # Whoever cannot be reached is not asked for more.
            continue
        for api, key, severity, message in probe.outlived(connector):
            file, line = api.values.origin(key) or ("", 0)
            found.append(Finding(severity, file, line, key, None, message))
    return found


def explain(args: argparse.Namespace) -> int:
    """`explain KEY`: its meaning; 64 for a key nobody knows."""
    found = known(args.key)
    print(text_of(args.key), file=sys.stdout if found else sys.stderr)
    return Exit.OK if found else Exit.USAGE


def show(args: argparse.Namespace) -> int:
    """`config show FILE...`: what was read, secrets never resolved."""
    loaded = load(args)
    print(text_of_all(loaded, resolved=args.resolved), end="")
    return Exit.OK
