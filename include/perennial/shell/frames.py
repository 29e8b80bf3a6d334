"""Rows of the lake in the types of a spec, as Arrow tables and as pandas frames: never in types that their values suggest."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from perennial.errors import SourceMismatch
from perennial.spec import WARN, Column

WHOLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


def may_lack_values(column: Column) -> bool:
    """Whether rows without a value of the column are let through."""
    return column.nullable or column.severity == WARN


def plain_frame(table: pa.Table) -> pd.DataFrame:
    """A table for comparisons: no value of it becomes another one where some are missing."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=WHOLE.get)
    return frame


def typed_frame(table: pa.Table, columns: dict[str, Column]) -> pd.DataFrame:
    """A table whose types are those of its columns' specs, whatever it holds, without a copy of numbers and times.

    Whole numbers are ``Int64`` and booleans ``boolean`` where values may lack, ``int64`` and ``bool`` elsewhere.
    """
    masked = [
        name for name in table.column_names
        if table[name].type in WHOLE and name in columns and may_lack_values(columns[name])
    ]  # fmt: skip
    frame: pd.DataFrame = table.drop_columns(masked).to_pandas(split_blocks=True)
    for name in masked:
        frame.insert(table.column_names.index(name), name, _masked(table[name]))
    return frame if len(frame) else _without_rows(frame)


def _without_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The same columns, made by pandas: its merges fail on text that Arrow made of no row at all."""
    return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in frame.dtypes.items()})


def _masked(values: pa.ChunkedArray) -> Any:
    missing = values.is_null().to_numpy() if values.null_count else np.zeros(len(values), dtype=bool)
    if pa.types.is_boolean(values.type):
        return pd.arrays.BooleanArray(values.fill_null(False).to_numpy().astype(bool), missing)
    # Slots without a value hold anything in Arrow's memory: nobody sees them, and nothing is copied for them.
    chunk = values.combine_chunks()
    numbers = np.empty(0, dtype=np.int64)
    if len(chunk):
        numbers = np.frombuffer(chunk.buffers()[1], dtype=np.int64)[chunk.offset : chunk.offset + len(chunk)]
    return pd.arrays.IntegerArray(numbers, missing)


def cast_column(values: pa.ChunkedArray, kind: pa.DataType, what: str) -> pa.ChunkedArray:
    """A column in another type, each value what it was. Raises SourceMismatch, naming ``what``, where one cannot be."""
    if values.type == kind:
        return values
    try:
        cast = values.cast(kind)
        if pa.types.is_timestamp(values.type) == pa.types.is_timestamp(kind) and cast.cast(values.type).equals(values):
            return cast
        reason = "not every value would stay what it is"
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
    raise SourceMismatch(
        f"{what} is of type {values.type}, the spec says {kind}: {reason}. Declare the column in its former type, or under "
        "another name and land the rows again; or retract the batch."
    )


def missing_column(rows: int, kind: pa.DataType, column: Column, what: str) -> pa.ChunkedArray:
    """The values of a column that is younger than its rows: none. Raises SourceMismatch where each row must have one."""
    if may_lack_values(column):
        return pa.chunked_array([pa.nulls(rows, kind)])
    raise SourceMismatch(
        f"{what} is not there: the batch is older than the column, which may not lack values. Declare it nullable, or give "
        "its rows a value and a new time of change at the source, and retract the batch."
    )


def check_filled(values: pa.ChunkedArray, column: Column, what: str) -> None:
    """Raise SourceMismatch where a type has no room for the values that lack."""
    if values.null_count and values.type in WHOLE and not may_lack_values(column):
        number = pc.sum(values.is_null()).as_py()
        raise SourceMismatch(
            f"{what} lacks {number:,} values, and the spec does not let it. Declare the column nullable, or retract the "
            "batches that lack them."
        )
