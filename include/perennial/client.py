"""For services: the champion of a cell, without Airflow and without Postgres.

champions = Champions.from_url("s3://bucket/prefix", public_keys=Path("public.pem"))
champions.load("price", "GB").predict(features)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from perennial.cell import Cell
from perennial.core.metrics import METRICS, Floats, predict
from perennial.errors import ExamplesError
from perennial.shell.keys import read_public_keys
from perennial.shell.store import Store, open_store
from perennial.steps.manifests import load_fit, read_manifest, read_pointer


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version in force for a cell, loaded and verified."""

    cell: Cell
    seq: int
    version: str
    metric: str
    schema: tuple[tuple[str, str], ...]
    estimator: Any

    def predict(self, features: pd.DataFrame) -> Floats:
        """Predictions of shape (n_rows,). Raises ExamplesError when columns are missing."""
        names = [name for name, _ in self.schema]
        missing = [name for name in names if name not in features]
        if missing:
            raise ExamplesError(f"{self.cell} needs the features {', '.join(names)}; {', '.join(missing)} are missing.")
        return predict(self.estimator, features[names], METRICS[self.metric])


@dataclass
class Champions:
    """Loads champions by their signed pointers, and keeps each until its pointer moves on."""

    store: Store
    keys: Sequence[Any]
    trusted: Sequence[str] = ()
    loaded: dict[Cell, Champion] = field(default_factory=dict)

    @classmethod
    def from_url(
        cls, url: str, public_keys: Path, trusted: Sequence[str] = (), options: Mapping[str, Any] | None = None
    ) -> "Champions":
        """Readers of a store; ``trusted`` names the further skops types its models may need."""
        return cls(store=open_store(url, options), keys=read_public_keys(public_keys), trusted=trusted)

    def load(self, model: str, country: str) -> Champion:
        """The champion in force. Raises ObjectMissing where there is none, ArtifactError for anything not as signed.

        A pointer numbered lower than one this reader has seen is refused.
        """
        cell = Cell(model, country)
        known = self.loaded.get(cell)
        seq, manifest = read_pointer(self.store, self.keys, cell, at_least=known.seq if known else 0)
        if known is None or known.seq != seq:
            payload = read_manifest(self.store, self.keys, manifest)
            self.loaded[cell] = Champion(
                cell=cell,
                seq=seq,
                version=manifest.version,
                metric=payload["metric"],
                schema=tuple((name, dtype) for name, dtype in payload["schema"]),
                estimator=load_fit(self.store, self.keys, manifest, "served", self.trusted),
            )
        return self.loaded[cell]
