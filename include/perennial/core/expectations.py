"""Great Expectations over batches: one run over the rows of many countries, every failure attributed to its rows.

A run of Great Expectations costs some milliseconds per expectation however few the rows (twenty countries apart would be
twenty times that), so rows of many batches are put together, asked first only whether all of them pass, and in full where
not. It is the validator below ``Batch.validate`` that is asked: that one hashes the whole frame, twice.
"""

import inspect
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from great_expectations.core.batch import Batch
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.execution_engine.pandas_batch_data import PandasBatchData
from great_expectations.expectations.expectation import (
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.validator.validator import Validator

from perennial import expectations as own
from perennial.errors import SourceMismatch
from perennial.spec import REJECT_ROW, SEVERITIES, Column, Source

# An ephemeral context says at each start that it has made a folder, for a site that nobody builds.
logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)

Positions = npt.NDArray[np.int64]
ROW_WISE = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
# Of the map expectations those whose answer for a row depends on other rows: of other chunks, or of other countries.
ACROSS_ROWS = (
    gxe.ExpectColumnValuesToBeUnique, gxe.ExpectCompoundColumnsToBeUnique, gxe.ExpectColumnValueZScoresToBeLessThan,
    *(getattr(gxe, name) for name in ("ExpectColumnValuesToBeIncreasing", "ExpectColumnValuesToBeDecreasing")
      if hasattr(gxe, name)),
)  # fmt: skip
NOT_ABOUT_VALUES = ("expect_column_values_to_not_be_null", "expect_column_values_to_be_null")
EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An expectation of a suite: what it is called, the columns it looks at, what happens where it fails.

    ``asked``: everything it was made with; ``kwargs``: of that what its columns and ``mostly`` do not say already.
    """

    name: str
    columns: tuple[str, ...]
    severity: str
    mostly: float
    kwargs: dict[str, Any]
    asked: dict[str, Any] = field(default_factory=dict)
    description: str = ""

    def __str__(self) -> str:
        details = ", ".join(f"{name} {value}" for name, value in self.kwargs.items() if value is not None)
        return f"{self.name} on {', '.join(self.columns)}" + (f" ({details})" if details else "")


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How the rows of one table did by one rule. ``rows``: those it says something about; ``failed``: their positions;
    ``crash``: why it could not be run."""

    rows: int
    failed: Positions
    examples: tuple[str, ...] = ()
    crash: str = ""


NOTHING: Positions = np.empty(0, dtype=np.int64)


class Suite:
    """A source's expectations, those of its columns and its own, ready to run on many tables in this process.

    ``clock``: the source's own time, after which no event can be. Raises SourceMismatch for a suite that would let
    everything in or cannot be told row by row, and whatever the source's ``expectations()`` raises.
    """

    def __init__(self, source: Source, clock: datetime) -> None:
        written = source.expectations()
        faults = suite_faults(written)
        if faults:
            raise SourceMismatch(f"Source {source.name}: {'; '.join(faults)}.")
        if not written and not source.is_bounded:
            raise SourceMismatch(
                f"Source {source.name} has no expectations. An empty suite lets everything in: add some, or bound a column."
            )
        self.columns = tuple(column.name for column in source.columns)
        self.context = gx.get_context(mode="ephemeral")
        self.context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
        configurations = [expectation.configuration for expectation in (*implied(source, clock), *written)]
        self.rules = tuple(_rule(configuration) for configuration in configurations)
        self.configurations = [_numbered(each, number) for number, each in enumerate(configurations)]

    def tallies(self, tables: Sequence[pa.Table]) -> list[list[Tally]]:
        """For each table, a tally per rule. Raises what Great Expectations raises.

        Where a rule cannot be run on all tables together, each is asked alone: one of them may be to blame.
        """
        merged = pa.concat_tables(tables, promote_options="default").select([*self.columns])
        frame = merged.to_pandas()
        bounds = np.cumsum([0, *(table.num_rows for table in tables)])
        found = self._results(frame) if len(frame) else {}
        if len(tables) > 1 and any(_crash_of(result) for result in found.values()):
            return [self.tallies([table])[0] for table in tables]
        parts = [frame.iloc[start:end] for start, end in itertools.pairwise(bounds)]
        return [self._tallies_of(part, start, found) for part, start in zip(parts, bounds, strict=False)]

    def _results(self, frame: pd.DataFrame) -> dict[int, Any]:
        """Full results by the number of the rule, of those that some row fails."""
        passed = {number: result.success for number, result in self._run(frame, self.configurations, "BOOLEAN_ONLY").items()}
        suspects = [each for number, each in enumerate(self.configurations) if not passed.get(number, False)]
        return self._run(frame, suspects, "COMPLETE") if suspects else {}

    def _run(self, frame: pd.DataFrame, configurations: list[Any], result_format: str) -> dict[int, Any]:
        engine = PandasExecutionEngine()
        batch = Batch(data=PandasBatchData(engine, frame))
        validator = Validator(execution_engine=engine, data_context=self.context, batches=[batch])
        asked = {"result_format": {"result_format": result_format}}
        results = validator.graph_validate(configurations=configurations, runtime_configuration=asked)
        return {int(result.expectation_config.meta["rule"]): result for result in results}

    def _tallies_of(self, part: pd.DataFrame, start: int, found: dict[int, Any]) -> list[Tally]:
        return [_tally(rule, part, int(start), found.get(number)) for number, rule in enumerate(self.rules)]


def suite_faults(written: Any) -> list[str]:
    """What is wrong with what a source's ``expectations()`` returns, as sentences without their end."""
    if not isinstance(written, list | tuple):
        return [f"expectations() returned {type(written).__name__}, not a list of expectations"]
    strangers = [type(each).__name__ for each in written if not isinstance(each, gxe.Expectation)]
    if strangers:
        return [f"expectations() returned other things than expectations: {', '.join(strangers)}"]
    return [fault for each in written for fault in row_wise_faults(each)]


def row_wise_faults(expectation: Any) -> list[str]:
    """Why an expectation of a source cannot be told row by row, as sentences without their end."""
    name = type(expectation).__name__
    if not isinstance(expectation, ROW_WISE) or isinstance(expectation, ACROSS_ROWS):
        return [f"{name} is not row-wise: compare batches by Checks, keys and copies are looked at anyway"]
    severity, mostly = _severity(expectation.configuration), float(expectation.mostly)
    found = []
    if severity not in SEVERITIES:
        found.append(f"{name} has the unknown severity {severity!r}: use {', '.join(SEVERITIES.values())}")
    if severity == REJECT_ROW and mostly < 1:
        found.append(f"{name} rejects rows one by one, so mostly says nothing: see Checks.max_rejected")
    if expectation.row_condition is not None and mostly < 1:
        found.append(f"{name} has both row_condition and mostly: leave one out")
    return found


def implied(source: Source, clock: datetime) -> list[Any]:
    """What a source's columns and checks ask for, as expectations."""
    by_type = {kind: [column.name for column in source.columns if column.type == kind] for kind in ("float64", "string")}
    latest = (clock + source.checks.max_future).isoformat()
    found: list[Any] = [
        own.ExpectMulticolumnValuesToNotBeNull(column_list=list(required_columns(source)), severity=REJECT_ROW),
        own.ExpectColumnValuesToBePlausibleTimes(column=source.event_time, latest=latest, severity=REJECT_ROW),
    ]
    if by_type["float64"]:
        found.append(own.ExpectMulticolumnValuesToBeFinite(column_list=_two(by_type["float64"]), severity=REJECT_ROW))
    if by_type["string"]:
        most = source.checks.max_text
        found.append(
            own.ExpectMulticolumnValuesToBeReadable(column_list=_two(by_type["string"]), max_length=most, severity=REJECT_ROW)
        )
    return found + [expectation for column in source.columns for expectation in _implied_by(column)]


def _two(columns: list[str]) -> list[str]:
    return columns if len(columns) > 1 else columns * 2


def required_columns(source: Source) -> tuple[str, ...]:
    """Columns without which a row is no row: those that identify it and place it, and those not nullable."""
    stated = [column.name for column in source.columns if not column.nullable]
    return tuple(dict.fromkeys((*source.key, source.event_time, source.changed_at, *stated)))


def _implied_by(column: Column) -> list[Any]:
    found: list[Any] = []
    least, most, severity = column.min_value, column.max_value, column.severity
    if column.type == "timestamp" and (least or most):
        earliest, latest = (bound.isoformat() if bound else None for bound in (least, most))
        found.append(
            own.ExpectColumnValuesToBePlausibleTimes(column=column.name, earliest=earliest, latest=latest, severity=severity)
        )
    elif least is not None or most is not None:
        found.append(gxe.ExpectColumnValuesToBeBetween(column=column.name, min_value=least, max_value=most, severity=severity))
    if column.value_set:
        values = list(column.value_set)
        found.append(gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=values, severity=severity))
    if column.regex:
        found.append(gxe.ExpectColumnValuesToMatchRegex(column=column.name, regex=column.regex, severity=severity))
    return found


def _rule(configuration: Any) -> Rule:
    kwargs = dict(configuration.kwargs)
    columns = kwargs.pop("column_list", None) or [
        kwargs.pop(name) for name in ("column", "column_A", "column_B") if name in kwargs
    ]
    mostly = float(kwargs.pop("mostly", 1))
    return Rule(
        name=configuration.type,
        columns=tuple(dict.fromkeys(columns)),
        severity=_severity(configuration),
        mostly=mostly,
        kwargs=kwargs,
        asked=dict(configuration.kwargs),
        description=configuration.description or "",
    )


def _numbered(configuration: Any, number: int) -> Any:
    """The configuration as it is run: every failed row counts, whatever share of them its rule lets pass."""
    made = configuration.to_domain_obj().configuration
    made.kwargs.pop("mostly", None)
    made.meta = {"rule": number}
    return made


def _severity(configuration: Any) -> str:
    return str(getattr(configuration.severity, "value", configuration.severity))


def _tally(rule: Rule, part: pd.DataFrame, start: int, result: Any | None) -> Tally:
    if result is None:
        return Tally(rows=_rows_told(rule, part), failed=NOTHING)
    crash = _crash_of(result)
    if crash:
        return Tally(rows=len(part), failed=NOTHING, crash=crash)
    everywhere = np.asarray(result.result["unexpected_index_list"], dtype=np.int64)
    failed = np.unique(everywhere[(everywhere >= start) & (everywhere < start + len(part))]) - start
    shown = part[list(rule.columns)].iloc[failed[:EXAMPLES]]
    return Tally(rows=_rows_told(rule, part), failed=failed, examples=tuple(_shown(row) for _, row in shown.iterrows()))


def _rows_told(rule: Rule, part: pd.DataFrame) -> int:
    """Rows that the rule says something about: a missing value is neither right nor wrong. Only shares need it."""
    if rule.mostly == 1 or len(rule.columns) > 1 or rule.name in NOT_ABOUT_VALUES:
        return len(part)
    return int(part[rule.columns[0]].count())


def _shown(row: pd.Series) -> str:
    """What a person needs to see of a failed row: of many columns only those that are missing or infinite, if any are."""
    odd = {name: value for name, value in row.items() if pd.isna(value) or (isinstance(value, float) and np.isinf(value))}
    values = odd if len(row) > 1 and odd else dict(row)
    texts = [str(value) if len(row) == 1 else f"{name} {value}" for name, value in values.items()]
    return ", ".join(text if len(text) <= 60 else f"{text[:57]}…" for text in texts)


def _crash_of(result: Any) -> str:
    """Why an expectation could not be run; empty where it could."""
    info = result.exception_info or {}
    nested = [value for value in info.values() if isinstance(value, dict)]
    if nested or info.get("raised_exception"):
        message = str((nested[0] if nested else info).get("exception_message", "")).strip()
        return inspect.cleandoc(message).splitlines()[0] if message else "no reason given"
    if not result.success and result.result and "unexpected_index_list" not in result.result:
        return "it does not name the rows that fail it"
    return ""
