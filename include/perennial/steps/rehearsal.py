"""A rehearsal of a publication: whether a fit can be stored and read back by what its spec trusts. Nothing is published."""

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
    """Raise ArtifactError, naming the fix, unless an estimator comes back from its bytes as a reader would load it.

    ``sample``: features, of which it has to predict the same afterwards; None for one that was not fitted.
    """
    data = artifacts.encode_estimator(estimator)
    check_types(model, artifacts.needed_types(data))
    read = artifacts.decode_estimator(data, model.trusted)
    if sample is None:
        return
    metric = METRICS[model.metric]
    before, after = (predict(fitted, sample, metric, model.name) for fitted in (estimator, read))
    if not np.allclose(before, after, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        raise ArtifactError(f"What is read back of {model.name} predicts otherwise than the fit in memory.")


def check_types(model: Model, needed: Sequence[str]) -> None:
    """Raise ArtifactError, naming types and the line to write, where an artifact needs some that nobody trusts."""
    missing = missing_from(needed, model.trusted)
    if missing:
        raise ArtifactError(f"{artifacts.said_of_missing(missing)} {line_to_write(model, missing)}".strip())


def line_to_write(model: Model, missing: Sequence[str]) -> str:
    """The ``trusted`` that would name the missing types, and where; empty where none can be trusted."""
    further = [name for name in missing if not refusal(name)]
    if not further:
        return ""
    names = ", ".join(f'"{name}"' for name in (*model.trusted, *further))
    return f"In {model.where} that is trusted=({names},)."
