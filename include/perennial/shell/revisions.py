"""Which rows are in force: of each key the latest revision, unless that says that its row is removed."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from perennial.shell.frames import plain_frame
from perennial.spec import REMOVED, Source

Mask = npt.NDArray[np.bool_]
PLACE = "place of the row"


def in_force(rows: pa.Table, elsewhere: pd.DataFrame, source: Source, known_until: datetime | None) -> Mask | None:
    """Which of the rows, in the order of their landing, are in force; None where all are.

    ``elsewhere``: revisions that are none of the rows, each with PLACE, how many of the rows were landed before it. Of
    revisions of the same time of change the later landed one is the latest. What was changed after ``known_until`` is left
    out, and so takes no earlier revision's place.
    """
    found = _latest(rows, elsewhere, source, known_until)
    if pc.any(rows[REMOVED]).as_py():
        present: Mask = ~rows[REMOVED].to_numpy()
        found = present if found is None else found & present
    return found


def _latest(rows: pa.Table, elsewhere: pd.DataFrame, source: Source, known_until: datetime | None) -> Mask | None:
    key, changed_at = list(source.key), source.changed_at
    if elsewhere.empty and known_until is None and _is_ascending(rows, key):
        return None
    frame = plain_frame(rows.select([*key, changed_at]))
    revisions = frame if elsewhere.empty else pd.concat([_in_order(frame), _placed(elsewhere)], ignore_index=True)
    if known_until is not None:
        revisions = revisions[revisions[changed_at] <= known_until]
    several = revisions.duplicated(key, keep=False).to_numpy()
    if len(revisions) == len(frame) and not several.any():
        return None

    order = [changed_at] if elsewhere.empty else [changed_at, PLACE]
    earlier = revisions[several].sort_values(order, kind="stable").duplicated(key, keep="last")
    is_latest = pd.Series(True, index=revisions.index)
    is_latest[earlier.index[earlier]] = False
    return is_latest.reindex(range(len(frame)), fill_value=False).to_numpy()


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{PLACE: np.arange(len(frame), dtype=np.float64)})


def _placed(elsewhere: pd.DataFrame) -> pd.DataFrame:
    """Revisions in the order of the rows: each just before the one that was landed next."""
    return elsewhere.assign(**{PLACE: elsewhere[PLACE] - 0.5})


def _is_ascending(rows: pa.Table, key: Sequence[str]) -> bool:
    """Whether one look shows that no key is there twice."""
    column = rows[key[0]]
    if len(key) > 1 or column.null_count or not pa.types.is_integer(column.type):
        return False
    values = column.to_numpy()
    return bool((values[1:] > values[:-1]).all())
