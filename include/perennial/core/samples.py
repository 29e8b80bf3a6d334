"""Samples: rows with what both fits of a version predict for them, stored beside it.

By them another environment is compared with the one that fitted the version: scikit-learn promises
nothing about what another version of it has fitted, neither that it loads nor that it predicts the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pandas as pd
import pyarrow as pa

from perennial.core.metrics import Floats

ROWS = 200
READ_ALIKE = 1e-6
REBUILT_ALIKE = 0.15
FITS = ("judged", "served")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """``features`` of some rows, what each fit predicts for them, and their target's ``spread``: its standard deviation."""

    features: pd.DataFrame
    expected: Mapping[str, Floats]
    spread: float


def sample_rows(examples: pd.DataFrame) -> pd.DataFrame:
    """At most ROWS examples, evenly spread over all of them, the last one among them."""
    number = min(ROWS, len(examples))
    return examples.iloc[np.linspace(0, len(examples) - 1, number).round().astype(int)]


def spread_of(target: Floats) -> float:
    """The standard deviation of a target; 1 where it does not vary."""
    return float(np.std(target)) or 1.0


def encode_sample(sample: Sample) -> bytes | None:
    """A sample as an Arrow stream; None where its features would not be read back as they are, type by type."""
    features = sample.features.reset_index(drop=True)
    try:
        table = pa.Table.from_pandas(features, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError):
        return None
    for fit in FITS:
        table = table.append_column(_column(fit), pa.array(sample.expected[fit], type=pa.float64()))
    made = BytesIO()
    with pa.ipc.new_stream(made, table.schema) as stream:
        stream.write_table(table)
    data = made.getvalue()
    return data if _is_same(decode_sample(data, sample.spread).features, features) else None


def decode_sample(data: bytes, spread: float) -> Sample:
    """The sample of an Arrow stream."""
    table = pa.ipc.open_stream(data).read_all()
    expected = {fit: table.column(_column(fit)).to_numpy() for fit in FITS}
    features = table.drop_columns([_column(fit) for fit in FITS]).to_pandas()
    for name in _objects(table):
        features[name] = pd.Series(table.column(name).to_pylist(), dtype=object)
    return Sample(features=features, expected=expected, spread=spread)


def _objects(table: pa.Table) -> list[str]:
    """Columns of texts that were Python's own, not pandas': Arrow makes no difference."""
    said = table.schema.pandas_metadata["columns"]
    return [each["name"] for each in said if (each["pandas_type"], each["numpy_type"]) == ("unicode", "object")]


def _column(fit: str) -> str:
    return f"predicted by the {fit} fit"


def _is_same(read: pd.DataFrame, written: pd.DataFrame) -> bool:
    """Whether two frames hold the same values of the same types; what lacks is None in both, or a NaN in both."""
    if list(read.dtypes.items()) != list(written.dtypes.items()):
        return False
    return all(list(map(repr, read[name])) == list(map(repr, written[name])) for name in written)


def is_read_alike(sample: Sample, predicted: Mapping[str, Floats]) -> bool:
    """Whether both fits predict the sample but for what another order of sums makes: within 1e-6, relative or of the spread."""
    return all(
        np.allclose(predicted[fit], sample.expected[fit], rtol=READ_ALIKE, atol=READ_ALIKE * sample.spread, equal_nan=False)
        for fit in FITS
    )


def distance(sample: Sample, predicted: Mapping[str, Floats]) -> float:
    """How far predictions lie from the sample's: root mean square, in spreads of the target; of the fit that lies further."""
    squares = [np.mean((predicted[fit] - sample.expected[fit]) ** 2) for fit in FITS]
    return float(np.sqrt(max(squares))) / sample.spread
