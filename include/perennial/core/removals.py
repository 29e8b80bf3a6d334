"""Rows that say that they are removed: deleted at the source, moved to another country, or gone from their file.

Whoever reads them leaves their key out, so nothing is asked of their values.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from perennial.spec import REMOVED, Source


def is_present(table: pa.Table, source: Source) -> npt.NDArray[np.bool_]:
    """Which rows do not say that they are removed."""
    removed: npt.NDArray[np.bool_] = table[REMOVED].to_numpy().astype(bool)
    return ~removed


def present(table: pa.Table, source: Source) -> pa.Table:
    """The rows that do not say that they are removed."""
    mask = is_present(table, source)
    return table if mask.all() else table.filter(pa.array(mask))
