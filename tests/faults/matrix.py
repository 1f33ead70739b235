"""
The table of faults: each is made, and what it cost is counted.

    python -m tests.faults.matrix [--rows F01,F07] [--mode "at least once"] [--runs N]
                                  [--write] [--list]

Runs on Apache Kafka (scripts/kafka) and, where a reply has to be scripted, on the
tests' own broker.  `--write` puts the rows into docs/faults.md and leaves there what
was not run; without it the table is printed.  Ends by 1 if an invariant is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import re
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.faults import brokers, cluster, hygiene, processes, scripted
from tests.faults.field import MODES, Field, Run, field
from tests.faults.rows import ROWS, Row
from tests.faults.verdict import Verdict, judge

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

#: Where the table stands in the page.
MARKS = "<!-- table: python -m tests.faults.matrix --write -->\n", "<!-- end -->\n"

HEAD = "| | fault | mode | runs | lost | twice | s to recover | |\n" + (
    "|---|---|---|---|---|---|---|---|\n"
)

#: Modules whose rows there are.
KINDS = (processes, brokers, cluster, scripted)


@dataclass
class Line:
    """What the runs of one row in one mode have come to."""

    name: str
    title: str
    mode: str
    runs: int = 0
    lost: int = 0
    duplicated: int = 0
    seconds: float = 0.0
    note: str = ""

    def __str__(self) -> str:
        told = [f"{self.runs}", f"{self.lost}", f"{self.duplicated}"]
        seconds = f"{self.seconds:.1f}" if self.seconds else ""
        cells = [self.name, self.title, self.mode, *told, seconds, self.note]
        if not self.runs:
            cells[3:7] = [""] * 4
        return "| " + " | ".join(cells) + " |"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="faults-") as found:
        yield Path(found)


def one(row: Row, mode: str, where: Field | None) -> Verdict:
    """
    Make a fault once.

    Raises: whatever keeps it from its end.  Blocks: up to some minutes.
    """
    with folder() as place:
        if row.needs in ("script", "three"):
            found = row.deed(place, mode)
            return found if isinstance(found, Verdict) else Verdict()
        assert where is not None
        row.prepare(where)
        if not row.loaded:
            given = [where, place, mode][: len(inspect.signature(row.deed).parameters)]
            run = row.deed(*given)
            if not isinstance(run, Run):
                return run if isinstance(run, Verdict) else Verdict()
            with run:
                return end(run)
        with Run(where, place, mode) as run:
            run.setup.write(**dict(row.keys))
            run.start()
            run.underway()
            row.deed(run)
            return end(run)


def end(run: Run) -> Verdict:
    """The fault is over: all arrives, the engine stops, and what is there is judged."""
    run.heal()
    run.settle(240.0)
    wrong = hygiene.settled(run)
    run.stop()
    time.sleep(0.3)
    verdict = judge(run)
    verdict.wrong += wrong
    return verdict


def measure(row: Row, mode: str, runs: int, where: Field | None) -> Line:
    """Make a fault some times."""
    line = Line(row.name, row.title, mode)
    seconds = []
    for _ in range(runs):
        began = time.monotonic()
        try:
            verdict = one(row, mode, where)
        except Exception as failure:  # noqa: BLE001 - the row has failed, not the table
            traceback.print_exc()
            [first, *_] = [*str(failure).splitlines(), ""]
            line.note = f"**failed**: {type(failure).__name__} {first[:160]}"
            line.runs += 1
            continue
        line.runs += 1
        line.lost += verdict.lost
        line.duplicated += verdict.duplicated
        seconds.append(verdict.seconds)
        line.note = line.note or verdict.note
        if verdict.wrong:
            line.note = "**broken**: " + "; ".join(verdict.wrong)
        print(
            f"  {row.name} {mode}: {time.monotonic() - began:.0f} s, {verdict}",
            file=sys.stderr,
            flush=True,
        )
    line.seconds = statistics.median(seconds) if seconds else 0.0
    return line


def table(rows: list[Row], modes: list[str], runs: int) -> Iterator[Line]:
    """All of them, on as few brokers as they need."""
    shared = contextlib.ExitStack()
    where: Field | None = None
    with shared:
        for row in rows:
            if row.why:
                yield Line(row.name, row.title, "", note=row.why)
                continue
            for mode in [each for each in modes if each in row.modes]:
                print(f"{row.name} {mode}: {row.title}", file=sys.stderr, flush=True)
                if row.needs in ("script", "three"):
                    yield measure(row, mode, runs, None)
                elif row.broker or row.needs == "own":
                    with field(row.broker) as own:
                        yield measure(row, mode, runs, own)
                else:
                    where = where or shared.enter_context(field())
                    yield measure(row, mode, runs, where)


def order(line: str) -> tuple[str, int, str, str]:
    """Where a line of the table belongs."""
    cells = [cell.strip() for cell in line.strip("|\n ").split("|")]
    found = re.match(r"([A-Z]+)(\d+) ?(.*)", cells[0])
    assert found is not None, line
    return found[1], int(found[2]), found[3], cells[2]


def write(lines: list[Line]) -> None:
    """Put lines into the page in place of those of the same row and mode."""
    text = PAGE.read_text()
    before, _, rest = text.partition(MARKS[0])
    old, _, after = rest.partition(MARKS[1])
    kept = {
        order(each): each for each in old.splitlines() if re.match(r"\| [A-Z]\d", each)
    }
    for line in lines:
        kept[order(str(line))] = str(line)
    body = "\n".join(kept[key] for key in sorted(kept))
    PAGE.write_text(before + MARKS[0] + HEAD + body + "\n" + MARKS[1] + after)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", help="names, or beginnings of names, with commas")
    parser.add_argument("--mode", action="append", choices=list(MODES))
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="into docs/faults.md")
    parser.add_argument("--json", action="store_true", help="print lines as JSON")
    parser.add_argument("--list", action="store_true", help="name the rows only")
    given = parser.parse_args()
    names = [each.strip() for each in (given.rows or "").split(",")]
    rows = [
        row
        for name, row in ROWS.items()
        if any(
            name == each or name.startswith(each + " ") or not each for each in names
        )
    ]
    if given.list:
        for row in rows:
            print(f"{row.name:8}{row.title}" + (f" ({row.why})" if row.why else ""))
        return 0
    lines = []
    for line in table(rows, given.mode or list(MODES), given.runs):
        lines.append(line)
        print(json.dumps(asdict(line)) if given.json else line, flush=True)
        if given.write:
            write([line])
    return int(any("**" in line.note for line in lines))


if __name__ == "__main__":
    sys.exit(main())
