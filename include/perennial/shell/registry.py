"""The registry's moves: who is champion, and the one INSERT that changes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import errors

from perennial.cell import Cell
from perennial.errors import ArtifactError, Blocked, PerennialError, RegistryError, StaleVerdict
from perennial.shell.database import Connection, fetch, fetch_one, run

BLOCKED = "PB001"
READS_OTHERWISE = "PB002"
SIGNED_AGAIN, STORED_AGAIN, SHOWN_TO_BE_READ = "signed again", "stored again", "shown to be read"


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Whose registry it is, and its generation: raised when it was restored, so that its word counts from then on."""

    id: str
    generation: int


def deployment_of(database: Connection) -> Deployment:
    """The deployment whose registry this is."""
    row = fetch_one(database, "deployment_of")
    return Deployment(id=row.deployment, generation=row.generation)


def raise_generation(database: Connection, reason: str, *, beyond: int = 0, is_copy: bool = False) -> Deployment:
    """Begin a generation, later than all before and than ``beyond``; a copy of another registry gets a name of its own."""
    run(database, "raise_generation", reason=reason, beyond=beyond, is_copy=is_copy)
    return deployment_of(database)


def champion_of(database: Connection, cell: Cell) -> Any | None:
    """The cell's last release, or None where there never was one. Raises RegistryError when it cannot be told."""
    champion = fetch_one(database, "champion_of", model=cell.model, country=cell.country)
    if champion is not None and champion.artifact_key is None:
        raise ArtifactError(f"The champion of {cell}, version {champion.version[:12]}, has no artifact on record.")
    return champion


def reading_differently(database: Connection, cells: Sequence[Cell]) -> set[Cell]:
    """The cells for which a person has since retracted a batch that the champion or the last verdict's challenger was trained
    on, or accepted one that the challenger had to do without; and those whose champion is lost."""
    asked = {"models": [cell.model for cell in cells], "countries": [cell.country for cell in cells]}
    rows = fetch(database, "reading_differently", **asked)
    lost = fetch(database, "cells_without_champion", **asked)
    return {Cell(row.model, row.country) for row in (*rows, *lost)}


def is_lost(database: Connection, cell: Cell) -> bool:
    """Whether the cell's champion was found missing or altered."""
    return bool(fetch(database, "cells_without_champion", models=[cell.model], countries=[cell.country]))


def note_lost(database: Connection, cell: Cell, seq: int, reason: str) -> bool:
    """Note that the champion of a release is missing or altered; False where that is known."""
    return bool(run(database, "add_lost_champion", model=cell.model, country=cell.country, seq=seq, reason=reason))


def note_found(database: Connection, cell: Cell, seq: int) -> None:
    """Note that the champion of a release can be read."""
    run(database, "found_champion", model=cell.model, country=cell.country, seq=seq)


def fall_back(database: Connection, cell: Cell, *, against_seq: int, lost: str, former: str, reason: str) -> int:
    """Put a former version in force in place of a lost one; returns the release's number. Raises StaleVerdict as `publish`."""
    moved = {"against_seq": against_seq, "from_version": lost, "to_version": former, "reason": reason}
    try:
        run(database, "fall_back", model=cell.model, country=cell.country, **moved)
    except psycopg2.Error as error:
        raise _explained(error, cell, against_seq) from error
    return against_seq + 1


def add_manifest(
    database: Connection,
    version: str,
    *,
    follows: str,
    kind: str,
    artifact_key: str,
    sha256: str,
    size: int,
    read_by: str | None = None,
) -> bool:
    """Put a further manifest of a version in force; False where another one has been since that of the hash ``follows``.

    ``read_by``: the scikit-learn that was shown to read it, beside the one that fitted it. Raises
    ArtifactError where an artifact is to be stored again that a release names.
    """
    made = {"artifact_key": artifact_key, "sha256": sha256, "size": size, "read_by": read_by}
    try:
        return bool(run(database, "add_manifest", id=version, follows=follows, kind=kind, **made))
    except errors.RestrictViolation as error:
        raise ArtifactError(
            f"The artifact on record of version {version[:12]} cannot be used and is not replaced: "
            f"{str(error).splitlines()[0]}. Wait for new rows: they make another version."
        ) from error


def publish(
    database: Connection, cell: Cell, *, against_seq: int, champion: str | None, challenger: str, verdict: int,
    reason: str, run_id: str,
) -> int:  # fmt: skip
    """Move the champion if it is still the one the verdict was judged against; returns the release's number.

    Raises StaleVerdict when it has moved since, or the challenger's batches are no longer those that are read; Blocked when a
    blocker is in force.
    """
    try:
        run(
            database, "publish", model=cell.model, country=cell.country, against_seq=against_seq, from_version=champion,
            to_version=challenger, verdict=verdict, reason=reason, run_id=run_id,
        )  # fmt: skip
    except psycopg2.Error as error:
        raise _explained(error, cell, against_seq) from error
    return against_seq + 1


def release_rebuild(
    database: Connection, cell: Cell, *, against_seq: int, former: str, rebuilt: str, reason: str, run_id: str
) -> int:
    """Put the champion as another scikit-learn has fitted it in its place; returns the release's number.

    Raises StaleVerdict as `publish`. A blocker does not keep it back: it is the champion in force.
    """
    moved = {"against_seq": against_seq, "from_version": former, "to_version": rebuilt, "reason": reason}
    try:
        run(database, "rebuild", model=cell.model, country=cell.country, run_id=run_id, **moved)
    except psycopg2.Error as error:
        raise _explained(error, cell, against_seq) from error
    return against_seq + 1


def bound_elsewhere(database: Connection, cells: Sequence[Cell], scikit_learn: str) -> dict[Cell, Any]:
    """Of some cells, those whose champion was fitted by another scikit-learn and is not shown to be read by this one.

    A row has seq, fitted_by, and a refusal, where it is on record that it is not rebuilt for this one.
    """
    asked = {"models": [cell.model for cell in cells], "countries": [cell.country for cell in cells]}
    rows = fetch(database, "bound_elsewhere", scikit_learn=scikit_learn, **asked)
    return {Cell(row.model, row.country): row for row in rows}


def refuse_rebuild(database: Connection, cell: Cell, seq: int, scikit_learn: str, reason: str) -> None:
    """Note why the champion of a release is not rebuilt for a scikit-learn."""
    run(database, "refuse_rebuild", model=cell.model, country=cell.country, seq=seq, scikit_learn=scikit_learn, reason=reason)


def _explained(error: psycopg2.Error, cell: Cell, against_seq: int) -> PerennialError:
    if isinstance(error, errors.UniqueViolation):
        return StaleVerdict(f"{cell} has moved past release {against_seq} since it was judged.")
    if error.pgcode == READS_OTHERWISE:
        return StaleVerdict(f"A batch that {cell} was trained on, or had to do without, has been decided about since.")
    if error.pgcode == BLOCKED:
        return Blocked(f"{cell} has a blocker.")
    return RegistryError(f"The release of {cell} was refused by the database: {str(error).strip()}")
