"""A batch under validation: what its tables came to so far, and the findings at the end."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from perennial.core.copies import hashes, identities
from perennial.core.expectations import EXAMPLES, Rule, Tally
from perennial.core.findings import Finding
from perennial.core.profiles import Profiler
from perennial.core.removals import is_present
from perennial.errors import SourceMismatch
from perennial.spec import QUARANTINE_BATCH, REJECT_ROW, REMOVED, WARN, Checks, Source

Positions = npt.NDArray[np.int64]
COPIES, KEYS = "copies", "keys"
COPY = "a copy of an earlier row, in all but key and time of change"
SHOWN = 10
REJECTED_BY, REASON = "rejected_by", "rejected_because"


class Trial:
    """One batch's way through validation, table by table; it holds some numbers per row, and no row.

    ``unreadable``: how many rows came with it that cannot be read; ``flaws``: how many have which.
    """

    def __init__(
        self, source: Source, checks: Checks, rules: Sequence[Rule], unreadable: int = 0, flaws: Mapping[str, int] | None = None
    ) -> None:
        self.source, self.checks, self.rules = source, checks, rules
        self.unreadable, self.flaws = unreadable, flaws or {}
        self.rows = self.present = 0
        self.profiler = Profiler(source)
        self.hashes: list[npt.NDArray[np.uint64]] = []
        self.identities: list[npt.NDArray[np.uint64]] = []
        self.absent: list[Positions] = []
        self.contradictions = 0
        self.told, self.failed = np.zeros(len(rules), dtype=np.int64), np.zeros(len(rules), dtype=np.int64)
        self.examples: list[dict[str, None]] = [{} for _ in rules]
        self.crashes: dict[int, str] = {}
        self.rejections: list[tuple[int, Positions]] = []
        self.copies: Positions = np.empty(0, dtype=np.int64)

    def add(self, table: pa.Table, tallies: Sequence[Tally]) -> None:
        """Take in some more rows and what each rule said of those that are present."""
        is_there = is_present(table, self.source)
        places = np.flatnonzero(is_there)
        for number, (rule, tally) in enumerate(zip(self.rules, tallies, strict=True)):
            self.told[number] += tally.rows
            self.failed[number] += len(tally.failed)
            self.examples[number].update(dict.fromkeys(tally.examples))
            if tally.crash:
                self.crashes[number] = tally.crash
            if rule.severity == REJECT_ROW and len(tally.failed):
                self.rejections.append((number, places[tally.failed] + self.rows))
        numbers = identities(table, self.source)
        self.identities.append(numbers if is_there.all() else numbers[places])
        self.absent.append(np.flatnonzero(~is_there) + self.rows)
        self.rows += table.num_rows
        self.present += len(places)
        self.profiler.add(table)
        self.hashes.append(hashes(table, self.source))

    @property
    def places(self) -> Positions:
        """Positions of the rows that are present, those of ``identities``."""
        return np.delete(np.arange(self.rows), np.concatenate(self.absent))

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
        unread = [self._readable()] if self.unreadable else []
        return [*unread, *found, self._repeated_keys(), self._too_many_rejected()]

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

    def _readable(self) -> Finding:
        """That not all rows could be read when they were landed."""
        rows, few = self.rows + self.unreadable, [f"{flaw} ({number:,})" for flaw, number in _commonest(self.flaws)]
        text = f"readable: {self.unreadable:,} of {rows:,} rows cannot be read: {', '.join(few)}"
        return Finding(
            expectation="readable", columns=(), severity=REJECT_ROW, success=False, rows=rows,
            unexpected=self.unreadable, text=text,
        )  # fmt: skip

    def _repeated_keys(self) -> Finding:
        """Of rows that contradict each other under one key and time of change, readers get any one. Many hold the batch: the
        key is none, and most rows would vanish."""
        number, key = self.contradictions, ", ".join((*self.source.key, self.source.changed_at))
        text = (
            f"keys: {number:,} of {self.rows:,} rows have the {key} of another row that says otherwise, and only one of "
            f"them is read. Mend the rows, or key at {self.source.where}"
        )
        return Finding(
            expectation=KEYS, columns=self.source.key, severity=QUARANTINE_BATCH if number > self._most_bad() else WARN,
            success=not number, rows=self.rows, unexpected=number, text=text if number else "",
        )  # fmt: skip

    def _most_bad(self) -> float:
        """How many rows may be bad: of few rows more may be so by chance."""
        share, rows = self.checks.max_rejected, self.present + self.unreadable
        most: float = share * rows + 3 * (share * (1 - share) * rows) ** 0.5
        return most

    def _too_many_rejected(self) -> Finding:
        """Unreadable rows count as rejected ones. Copies are no loss and do not count, nor do removed rows."""
        broken = np.concatenate([np.empty(0, dtype=np.int64), *(positions for _, positions in self.rejections)])
        bad, kept = len(np.unique(broken)) + self.unreadable, self.rows - len(self.rejected)
        share, most, rows = self.checks.max_rejected, self._most_bad(), self.present + self.unreadable
        text = f"{bad:,} of {rows:,} rows are rejected, more than {share:.0%}"
        if not kept:
            text = f"every one of {self.rows + self.unreadable:,} rows is rejected"
        broke = ", ".join(f"{name} {number:,}" for name, number in [*self.by_rule().items(), *_commonest(self.flaws)])
        return Finding(
            expectation="max_rejected", columns=(), severity=QUARANTINE_BATCH, success=bool(kept) and bad <= most,
            rows=rows, unexpected=bad, text=f"{text}: {broke}" if not kept or bad > most else "",
        )  # fmt: skip


def _commonest(flaws: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(flaws.items(), key=lambda entry: -entry[1])[:SHOWN]


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
