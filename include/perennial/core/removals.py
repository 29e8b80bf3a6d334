"""Rows that say that they are removed: their file came again without them.

They are as they were when they came, and whoever reads them leaves their key out, so nothing is asked of them once more.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from perennial.spec import REMOVED, FileSource, Source


def is_present(table: pa.Table, source: Source) -> npt.NDArray[np.bool_]:
    """Which rows do not say that they are removed: all, but those of files."""
    if not isinstance(source, FileSource):
        return np.ones(table.num_rows, dtype=bool)
    removed: npt.NDArray[np.bool_] = table[REMOVED].to_numpy().astype(bool)
    return ~removed


def present(table: pa.Table, source: Source) -> pa.Table:
    """The rows that do not say that they are removed."""
    return table.filter(pa.array(is_present(table, source))) if isinstance(source, FileSource) else table
