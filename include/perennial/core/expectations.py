"""Great Expectations over batches: a suite per source, a verdict per chunk of rows, merged per country."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.batch_definition import BatchDefinition

from perennial.errors import SourceMismatch
from perennial.spec import Source


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An expectation over a whole batch: rows looked at, rows that failed it, whether the batch fails by it."""

    expectation: str
    column: str
    rows: int
    unexpected: int
    success: bool
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = f", such as {', '.join(self.examples)}" if self.examples else ""
        return f"{self.expectation} on {self.column}: {self.unexpected} of {self.rows} rows fail it{shown}"


class Suite:
    """A source's expectations, ready to run on many frames in this process.

    Expectations are row-wise ("map") ones; ``mostly`` is applied to the batch as a whole, not to each chunk.
    """

    def __init__(self, source: Source) -> None:
        expectations = source.expectations()
        if not expectations:
            raise SourceMismatch(f"Source {source.name} has no expectations. An empty suite lets everything in: add some.")
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas(source.name).add_dataframe_asset("batch")
        self.batches: BatchDefinition = asset.add_batch_definition_whole_dataframe("batch")
        self.suite = gx.ExpectationSuite(name=source.name, expectations=expectations)

    def findings(self, chunks: Iterable[pd.DataFrame]) -> list[Finding]:
        """One finding per expectation, over all chunks of a batch. Raises what Great Expectations raises."""
        merged: dict[str, list[dict[str, Any]]] = {}
        for chunk in chunks:
            for result in self._validate(chunk):
                merged.setdefault(_key(result), []).append(result)
        return [_merge(parts) for _, parts in sorted(merged.items())]

    def _validate(self, chunk: pd.DataFrame) -> list[dict[str, Any]]:
        batch = self.batches.get_batch(batch_parameters={"dataframe": chunk})
        outcome = batch.validate(self.suite, result_format="SUMMARY")
        return [json.loads(json.dumps(result.to_json_dict(), default=str)) for result in outcome.results]


def _key(result: dict[str, Any]) -> str:
    config = result["expectation_config"]
    kwargs = {name: value for name, value in config["kwargs"].items() if name != "batch_id"}
    return json.dumps([config["type"], kwargs], sort_keys=True)


def _merge(parts: list[dict[str, Any]]) -> Finding:
    config = parts[0]["expectation_config"]
    mostly = float(config["kwargs"].get("mostly", 1.0))
    crashed = [part for part in parts if part["exception_info"].get("raised_exception") or not _is_counted(part)]
    rows = sum(part["result"].get("element_count", 0) - part["result"].get("missing_count", 0) for part in parts)
    unexpected = sum(part["result"].get("unexpected_count", 0) for part in parts)
    shown = [str(value) for part in parts for value in part["result"].get("partial_unexpected_list", [])]
    return Finding(
        expectation=config["type"],
        column=str(config["kwargs"].get("column") or config["kwargs"].get("column_list")),
        rows=rows,
        unexpected=unexpected,
        success=not crashed and (rows == 0 or (rows - unexpected) / rows >= mostly),
        examples=tuple(dict.fromkeys(shown))[:3] if not crashed else ("the expectation could not be run",),
    )


def _is_counted(part: dict[str, Any]) -> bool:
    return "unexpected_count" in part["result"]
