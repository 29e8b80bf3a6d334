"""A rehearsal of a publication: whether a fit can be stored and read back by what is trusted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from perennial.core import artifacts
from perennial.core.metrics import METRICS, predict
from perennial.core.trusted_types import missing_from, refusal
from perennial.errors import ArtifactError
from perennial.spec import Model

TOLERANCE = 1e-9


def rehearse(model: Model, estimator: Any, sample: pd.DataFrame | None = None) -> None:
    """Raise ArtifactError, naming the fix, unless an estimator can be read back from its bytes.

    ``sample``: features, of which it has to predict the same afterwards; None before a fit.
    """
    data = artifacts.encode_estimator(estimator)
    check_types(model, artifacts.needed_types(data))
    read = artifacts.decode_estimator(data, model.trusted)
    if sample is None:
        return
    metric = METRICS[model.metric]
    before, after = (predict(fitted, sample, metric, model.name) for fitted in (estimator, read))
    if not np.allclose(before, after, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        raise ArtifactError(f"What is read back of {model.name} does not predict the same.")


def check_types(model: Model, needed: Sequence[str]) -> None:
    """Raise ArtifactError, naming the line to write, for types that nobody trusts."""
    missing = missing_from(needed, model.trusted)
    if missing:
        said = (artifacts.said_of_missing(missing), line_to_write(model, missing))
        raise ArtifactError(" ".join(filter(None, said)))


def line_to_write(model: Model, missing: Sequence[str]) -> str:
    """The ``trusted`` that names the missing types, too, and where; empty where none can be."""
    further = [name for name in missing if not refusal(name)]
    if not further:
        return ""
    names = ", ".join(f'"{name}"' for name in (*model.trusted, *further))
    return f"In {model.where} that is trusted=({names},)."
