"""Perennial's own expectations beside those of Great Expectations. They go row by row, so any number of batches may share a
run. Import them inside a source's ``expectations()``: Great Expectations takes seconds to import.
"""

from abc import ABC
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import (
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    ColumnPairMapMetricProvider,
    MulticolumnMapMetricProvider,
    column_condition_partial,
    column_pair_condition_partial,
    multicolumn_condition_partial,
)

# U+FFFD stands where a decoder met bytes of another encoding; controls other than tab and line breaks are no text.
UNREADABLE = "[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f]"


class ColumnsExpectation(MulticolumnMapExpectation, ABC):
    """An expectation about several columns of each row. A single one is named twice: Great Expectations asks for two."""

    ignore_row_if: str = "never"


def _each(columns: pd.DataFrame) -> Iterator[pd.Series]:
    return (columns.iloc[:, place] for place in range(columns.shape[1]))


class ColumnsPresent(MulticolumnMapMetricProvider):
    """Whether every column of a row holds a value."""

    condition_metric_name = "multicolumn_values.present"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, **_: Any) -> pd.Series:  # noqa: N805
        present = np.ones(len(column_list), dtype=bool)
        for values in _each(column_list):
            present &= values.notna().to_numpy()
        return pd.Series(present, index=column_list.index)


class ExpectMulticolumnValuesToNotBeNull(ColumnsExpectation):
    """Expect every column of ``column_list`` to hold a value in each row."""

    map_metric: ClassVar[str] = "multicolumn_values.present"


class ColumnsFinite(MulticolumnMapMetricProvider):
    """Whether no column of a row holds an infinity."""

    condition_metric_name = "multicolumn_values.finite"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, **_: Any) -> pd.Series:  # noqa: N805
        finite = np.ones(len(column_list), dtype=bool)
        for values in _each(column_list):
            finite &= ~np.isinf(values.to_numpy(dtype=float, na_value=np.nan))
        return pd.Series(finite, index=column_list.index)


class ExpectMulticolumnValuesToBeFinite(ColumnsExpectation):
    """Expect no infinity in any column of ``column_list``."""

    map_metric: ClassVar[str] = "multicolumn_values.finite"


def _may_hold_unreadable(texts: pd.Series) -> bool:
    """Whether the bytes of all texts together hold what a search text by text, far slower, should look for."""
    for chunk in pa.chunked_array(pa.array(texts, from_pandas=True)).chunks:
        data = chunk.buffers()[-1]
        seen = np.frombuffer(data, dtype=np.uint8) if data else np.empty(0, dtype=np.uint8)
        if (seen < ord(" ")).any() or b"\xef\xbf\xbd" in memoryview(data or b"").tobytes():
            return True
    return False


class ColumnsReadable(MulticolumnMapMetricProvider):
    """Whether all texts of a row are of some length at most and decoded well."""

    condition_metric_name = "multicolumn_values.readable"
    condition_domain_keys = ("batch_id", "table", "column_list", "row_condition", "condition_parser", "ignore_row_if")
    condition_value_keys = ("max_length",)

    @multicolumn_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_list: pd.DataFrame, max_length: int, **_: Any) -> pd.Series:  # noqa: N805
        readable = np.ones(len(column_list), dtype=bool)
        for texts in _each(column_list):
            readable &= ~(texts.str.len() > max_length).to_numpy(dtype=bool)
            if _may_hold_unreadable(texts):
                readable &= ~texts.str.contains(UNREADABLE, regex=True, na=False).to_numpy(dtype=bool)
        return pd.Series(readable, index=column_list.index)


class ExpectMulticolumnValuesToBeReadable(ColumnsExpectation):
    """Expect texts of at most ``max_length`` characters, without control or replacement characters, in every column of
    ``column_list``: what a wrong encoding or a runaway field leaves behind.
    """

    max_length: int
    map_metric: ClassVar[str] = "multicolumn_values.readable"
    success_keys: ClassVar[tuple[str, ...]] = ("max_length", "mostly")


class TimesPlausible(ColumnMapMetricProvider):
    """Whether a time lies in a span."""

    condition_metric_name = "column_values.plausible_time"
    condition_value_keys = ("earliest", "latest")

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column: pd.Series, earliest: str | None, latest: str | None, **_: Any) -> pd.Series:  # noqa: N805
        plausible = pd.Series(True, index=column.index)
        if earliest is not None:
            plausible &= column >= pd.Timestamp(earliest)
        if latest is not None:
            plausible &= column <= pd.Timestamp(latest)
        return plausible


class ExpectColumnValuesToBePlausibleTimes(ColumnMapExpectation):
    """Expect the times of ``column`` to lie in [``earliest``, ``latest``]: ISO 8601 with a zone, None for no bound."""

    earliest: str | None = None
    latest: str | None = None
    map_metric: ClassVar[str] = "column_values.plausible_time"
    success_keys: ClassVar[tuple[str, ...]] = ("earliest", "latest", "mostly")


class NegativeMatchesRegex(ColumnPairMapMetricProvider):
    """Whether a number is negative only where a text says so."""

    condition_metric_name = "column_pair_values.negative_matches_regex"
    condition_domain_keys = ("batch_id", "table", "column_A", "column_B", "row_condition", "condition_parser")
    condition_value_keys = ("regex",)

    @column_pair_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_A: pd.Series, column_B: pd.Series, regex: str, **_: Any) -> pd.Series:  # noqa: N803, N805
        negative = column_A < 0
        says_so = column_B[negative].str.match(regex).fillna(False).astype(bool)
        return ~negative | says_so.reindex(column_A.index, fill_value=False)


class ExpectColumnPairValuesNegativeToMatchRegex(ColumnPairMapExpectation):
    """Expect ``column_A`` to be negative only where ``column_B`` matches ``regex`` from its beginning."""

    regex: str
    map_metric: ClassVar[str] = "column_pair_values.negative_matches_regex"
    success_keys: ClassVar[tuple[str, ...]] = ("regex", "mostly")
    domain_keys: ClassVar[tuple[str, ...]] = ("batch_id", "column_A", "column_B", "row_condition", "condition_parser")
