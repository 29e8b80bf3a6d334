"""For services: the champion of a cell, without Airflow and without Postgres.

champions = Champions.from_url("s3://bucket/prefix", public_keys=Path("public.pem"))
champions.load("price", "GB").predict(features)
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd

from perennial.cell import Cell
from perennial.core.artifacts import trusted_of
from perennial.core.metrics import METRICS, Floats, predict
from perennial.core.trusted_types import missing_from
from perennial.errors import ArtifactError, ExamplesError, OtherLibrary
from perennial.recipe import Frozen, deployed_model, frozen_of
from perennial.shell.keys import read_public_keys
from perennial.shell.store import Store, open_store
from perennial.steps.manifests import (
    NEVER,
    Mark,
    Pointer,
    Release,
    check_mark,
    load_fit,
    read_manifest,
    read_pointer,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version in force for a cell, loaded and verified.

    Where that is of another scikit-learn than is installed here, ``release`` is the last one that can
    be read with it, and ``is_former`` is true.
    """

    cell: Cell
    pointer: Pointer
    release: Release
    metric: str
    schema: tuple[tuple[str, str], ...]
    estimator: Any

    @property
    def version(self) -> str:
        """The version's id."""
        return self.release.manifest.version

    @property
    def seq(self) -> int:
        """The number of the release that put it in force."""
        return self.release.seq

    @property
    def is_former(self) -> bool:
        """Whether a later release is in force, which needs another scikit-learn."""
        return self.seq != self.pointer.mark.seq

    @property
    def mark(self) -> Mark:
        """Generation and number of the release in force, as ``Champions`` takes them in ``at_least``."""
        return self.pointer.mark

    def predict(self, features: pd.DataFrame) -> Floats:
        """Predictions of shape (n_rows,). Raises ExamplesError when columns are missing."""
        names = [name for name, _ in self.schema]
        missing = [name for name in names if name not in features]
        if missing:
            raise ExamplesError(f"{self.cell} needs the features {', '.join(names)}; {', '.join(missing)} are missing.")
        return predict(self.estimator, features[names], METRICS[self.metric], str(self.cell))


@dataclass
class Champions:
    """Loads champions by their signed pointers, and keeps each until its pointer moves on. Threads may share one.

    ``trusted``: None to believe the types that a champion's signed manifest names: those that were
    reviewed when it was published. A list of types believes no others beside the project's own, whoever
    has signed them.
    ``deployment``: whose champions; where it is empty, that of the first pointer read.
    ``at_least``: per (model, country) the generation and number of a release, such as a champion's
    ``mark``, before which no pointer is believed.
    """

    store: Store
    keys: Sequence[Any]
    trusted: Sequence[str] | None = None
    deployment: str = ""
    at_least: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    loaded: dict[Cell, Champion] = field(default_factory=dict)
    seen: dict[Cell, Pointer] = field(default_factory=dict)
    followed: str = ""
    lock: Any = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def from_url(
        cls,
        url: str,
        public_keys: Path,
        trusted: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        deployment: str = "",
        at_least: Mapping[tuple[str, str], tuple[int, int]] | None = None,
    ) -> "Champions":
        """Readers of a store, which believe what one of the public keys has signed."""
        return cls(
            store=open_store(url, options),
            keys=read_public_keys(public_keys),
            trusted=trusted,
            deployment=deployment,
            at_least=at_least or {},
        )

    def load(self, model: str, country: str) -> Champion:
        """The champion in force. Raises ObjectMissing where there is none, ArtifactError for anything not as signed.

        Where another scikit-learn has fitted it, and it was not shown to be read by the one here, the
        last release of before that can be read; OtherLibrary where there is none.
        A pointer of before one that this reader has seen is refused, and so is another version
        under the same number.
        """
        cell = Cell(model, country)
        least = Mark(*self.at_least.get(cell, NEVER))
        pointer = read_pointer(self.store, self.keys, cell, self.deployment, least)
        with self.lock:
            self._see(cell, pointer)
            known = self.loaded.get(cell)
        if known is None or known.pointer != pointer:
            known = self._kept(self._read(cell, pointer))
        return known

    def _see(self, cell: Cell, pointer: Pointer) -> None:
        """Note how far the cell has moved. Raises ArtifactError for a pointer that does not follow what was seen."""
        deployment, seen = pointer.manifest.deployment, self.seen.get(cell)
        if self.followed and deployment and deployment != self.followed:
            raise ArtifactError(
                f"The pointer of {cell} is of deployment {deployment}, this reader follows "
                f"{self.followed}. Objects of "
                "another deployment were copied into this store; the DAG maintain of its own one "
                "writes pointers again."
            )
        check_mark(cell, pointer.mark, seen.mark if seen else NEVER)
        if seen is not None and pointer.mark == seen.mark and pointer.manifest.version != seen.manifest.version:
            raise ArtifactError(
                f"The pointer of {cell} names version {pointer.manifest.version[:12]} as "
                f"{pointer.mark}, and "
                f"{seen.manifest.version[:12]} has been seen. The registry was restored: `python "
                f"-m perennial restored`."
            )
        self.followed = self.followed or deployment
        self.seen[cell] = pointer

    def _read(self, cell: Cell, pointer: Pointer) -> Champion:
        release, payload = self._readable(cell, pointer)
        types = self._types(cell, payload)
        return Champion(
            cell=cell,
            pointer=pointer,
            release=release,
            metric=payload["metric"],
            schema=tuple((name, dtype) for name, dtype in payload["schema"]),
            estimator=load_fit(
                self.store,
                self.keys,
                release.manifest,
                "served",
                types,
                self._frozen(cell, payload, types),
            ),
        )

    def _readable(self, cell: Cell, pointer: Pointer) -> tuple[Release, dict[str, Any]]:
        """The newest release that the scikit-learn here may read, and its manifest. Raises OtherLibrary where none is."""
        refused: list[OtherLibrary] = []
        for release in pointer.releases:
            try:
                payload = read_manifest(self.store, self.keys, release.manifest)
            except OtherLibrary as error:
                refused.append(error)
                continue
            if refused:
                logger.warning(
                    "%s: release %s is read instead of release %s. %s", cell, release.seq, pointer.mark.seq, refused[0]
                )
            return release, payload
        raise refused[0]

    def _types(self, cell: Cell, payload: dict[str, Any]) -> Sequence[str]:
        """The types that the champion may name. Raises ArtifactError where this reader was given a list without some."""
        types = trusted_of(payload, self.trusted or ())
        missing = [] if self.trusted is None else missing_from(types, self.trusted)
        if missing:
            raise ArtifactError(
                f"The champion of {cell} needs types that are not trusted: {', '.join(missing)}. Its "
                "spec trusts them, and this reader was given a list without them: review them and "
                "add them to its trusted=…, or leave the list out."
            )
        return types

    def _frozen(self, cell: Cell, payload: Mapping[str, Any], types: Sequence[str]) -> Frozen | None:
        """Where the version's own code stands in this tree, if it names any. Raises ArtifactError where it does not."""
        package = payload.get("package", "")
        if not package or not any(name.startswith(f"{package}.") for name in types):
            return None
        model = deployed_model(package, cell.model)
        if model is None:
            raise ArtifactError(f"The champion of {cell} has code of {package}, and this tree has no such model. Deploy it.")
        frozen = frozen_of(model, payload["recipe"], payload.get("parameters"))
        if frozen is not None and frozen.missing:
            raise ArtifactError(f"The champion of {cell} has code that this tree lacks: {frozen.missing}")
        return frozen

    def _kept(self, champion: Champion) -> Champion:
        """Keep a champion; the one that is further where another thread has kept one meanwhile."""
        with self.lock:
            known = self.loaded.get(champion.cell)
            if known is None or known.mark <= champion.mark:
                self.loaded[champion.cell] = known = champion
            return known
