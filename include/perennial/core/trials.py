"""A batch under validation: what its tables came to so far, and the findings at the end."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from perennial.core.copies import hashes
from perennial.core.expectations import EXAMPLES, Rule, Tally
from perennial.core.findings import Finding
from perennial.core.profiles import Profiler
from perennial.core.removals import is_present
from perennial.errors import SourceMismatch
from perennial.spec import QUARANTINE_BATCH, REJECT_ROW, REMOVED, WARN, Checks, Source

Positions = npt.NDArray[np.int64]
COPIES = "copies"
COPY = "a copy of an earlier row, in all but key and time of change"
REJECTED_BY, REASON = "rejected_by", "rejected_because"


class Trial:
    """One batch's way through validation, table by table; it holds some numbers per row, and no row."""

    def __init__(self, source: Source, checks: Checks, rules: Sequence[Rule]) -> None:
        self.source, self.checks, self.rules = source, checks, rules
        self.rows = self.present = 0
        self.profiler = Profiler(source)
        self.hashes: list[npt.NDArray[np.uint64]] = []
        self.told, self.failed = np.zeros(len(rules), dtype=np.int64), np.zeros(len(rules), dtype=np.int64)
        self.examples: list[dict[str, None]] = [{} for _ in rules]
        self.crashes: dict[int, str] = {}
        self.rejections: list[tuple[int, Positions]] = []
        self.copies: Positions = np.empty(0, dtype=np.int64)

    def add(self, table: pa.Table, tallies: Sequence[Tally]) -> None:
        """Take in some more rows and what each rule said of those that are present."""
        places = np.flatnonzero(is_present(table, self.source))
        for number, (rule, tally) in enumerate(zip(self.rules, tallies, strict=True)):
            self.told[number] += tally.rows
            self.failed[number] += len(tally.failed)
            self.examples[number].update(dict.fromkeys(tally.examples))
            if tally.crash:
                self.crashes[number] = tally.crash
            if rule.severity == REJECT_ROW and len(tally.failed):
                self.rejections.append((number, places[tally.failed] + self.rows))
        self.rows += table.num_rows
        self.present += len(places)
        self.profiler.add(table)
        self.hashes.append(hashes(table, self.source))

    @property
    def rejected(self) -> Positions:
        """Positions of the rows that are kept aside."""
        own = self.copies if self.checks.copies == REJECT_ROW else np.empty(0, dtype=np.int64)
        return np.unique(np.concatenate([own, *(positions for _, positions in self.rejections)])).astype(np.int64)

    def findings(self) -> list[Finding]:
        """What the rules found over the whole batch, whether there are copies, and too many or only rejected rows."""
        found = [self._finding(number) for number in range(len(self.rules))]
        kept = min(len(self.copies), self.rows)
        found.append(
            Finding(
                expectation=COPIES, columns=(), severity=self.checks.copies, success=not kept, rows=self.rows, unexpected=kept,
                text=f"copies: {kept:,} of {self.rows:,} rows are each {COPY}" if kept else "",
            )
        )  # fmt: skip
        return [*found, self._too_many_rejected()]

    def by_rule(self) -> dict[str, int]:
        """How many rows each rule rejects; one row may be rejected by several."""
        counts: dict[str, int] = {}
        for number, positions in self._all_rejections():
            counts[self._name(number)] = counts.get(self._name(number), 0) + len(positions)
        return counts

    def reasons(self, first: int, positions: Positions) -> tuple[list[list[str]], list[str]]:
        """For rejected rows of the table that begins at ``first``: the names of the rules each broke, and what those ask."""
        broken: list[list[int]] = [[] for _ in positions]
        for number, rejected in self._all_rejections():
            within = rejected[np.searchsorted(rejected, first) :]
            for place in np.flatnonzero(np.isin(positions, within)):
                broken[place].append(number)
        names = [[self._name(number) for number in numbers] for numbers in broken]
        return names, ["; ".join(self._asks(number) for number in numbers) for numbers in broken]

    def _all_rejections(self) -> Iterable[tuple[int, Positions]]:
        yield from self.rejections
        if self.checks.copies == REJECT_ROW and len(self.copies):
            yield -1, self.copies

    def _name(self, number: int) -> str:
        return self.rules[number].name if number >= 0 else COPIES

    def _asks(self, number: int) -> str:
        return str(self.rules[number]) if number >= 0 else COPY

    def _finding(self, number: int) -> Finding:
        """A rule that could not be run has failed; rows it might have rejected are unknown, so it holds the batch."""
        rule, failed, told = self.rules[number], int(self.failed[number]), int(self.told[number])
        crash = self.crashes.get(number, "")
        severity = QUARANTINE_BATCH if crash and rule.severity == REJECT_ROW else rule.severity
        within = failed == 0 or (told > 0 and (told - failed) / told >= rule.mostly and rule.severity != REJECT_ROW)
        return Finding(
            expectation=rule.name, columns=rule.columns, severity=severity, success=not crash and within, rows=told,
            unexpected=failed, examples=tuple(self.examples[number])[:EXAMPLES], kwargs=rule.asked,
            description=rule.description,
            text=f"{rule.name} on {', '.join(rule.columns)}: the expectation could not be run: {crash}" if crash else "",
        )  # fmt: skip

    def _too_many_rejected(self) -> Finding:
        """Copies are no loss and do not count, nor do removed rows; of few rows more may be bad by chance."""
        broken = np.concatenate([np.empty(0, dtype=np.int64), *(positions for _, positions in self.rejections)])
        bad, kept = len(np.unique(broken)), self.rows - len(self.rejected)
        share = self.checks.max_rejected
        most = share * self.present + 3 * (share * (1 - share) * self.present) ** 0.5
        text = f"{bad:,} of {self.present:,} rows are rejected, more than {share:.0%}"
        if not kept:
            text = f"every one of {self.rows:,} rows is rejected"
        broke = ", ".join(f"{name} {number:,}" for name, number in self.by_rule().items())
        return Finding(
            expectation="max_rejected", columns=(), severity=QUARANTINE_BATCH, success=bool(kept) and bad <= most,
            rows=self.present, unexpected=bad, text=f"{text}: {broke}" if not kept or bad > most else "",
        )  # fmt: skip


def conformed(schema: pa.Schema, wanted: pa.Schema) -> list[Finding]:
    """What is new, lacking or of another type in a batch's columns, compared with its source's spec.

    A batch may be from before its rows said whether they are removed.
    """
    there, asked = {field.name: field.type for field in schema}, {field.name: field.type for field in wanted}
    said = [f"column {name} has vanished" for name in asked if name not in (*there, REMOVED)]
    said += [
        f"column {name} is of type {there[name]}, the spec says {kind}"
        for name, kind in asked.items()
        if name in there and there[name] != kind
    ]
    found = [_columns(QUARANTINE_BATCH, text) for text in said]
    return found + [_columns(WARN, f"column {name} is new, and not in the spec") for name in there if name not in asked]


def _columns(severity: str, text: str) -> Finding:
    return Finding(expectation="columns", columns=(), severity=severity, success=False, rows=0, text=text)


def with_reasons(table: pa.Table, names: list[list[str]], reasons: list[str]) -> pa.Table:
    """Rejected rows with the rules they broke, as they are kept aside. Raises SourceMismatch where columns clash."""
    if {REJECTED_BY, REASON} & set(table.column_names):
        raise SourceMismatch(f"A source cannot have columns named {REJECTED_BY} or {REASON}: rename them in the spec.")
    table = table.append_column(REJECTED_BY, pa.array(names, type=pa.list_(pa.string())))
    return table.append_column(REASON, pa.array(reasons, type=pa.string()))


def rejected_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of rejected rows."""
    extra: list[Any] = [pa.field(REJECTED_BY, pa.list_(pa.string())), pa.field(REASON, pa.string())]
    return pa.schema([*schema, *extra])
