"""The registry's moves: who is champion, and the one INSERT that changes it."""

from collections.abc import Sequence
from typing import Any

import psycopg2
from psycopg2 import errors

from perennial.cell import Cell
from perennial.errors import ArtifactError, Blocked, PerennialError, RegistryError, StaleVerdict
from perennial.shell.database import Connection, fetch, fetch_one, run

BLOCKED = "PB001"
READS_OTHERWISE = "PB002"


def champion_of(database: Connection, cell: Cell) -> Any | None:
    """The cell's last release, or None where there never was one. Raises RegistryError when it cannot be told."""
    champion = fetch_one(database, "champion_of", model=cell.model, country=cell.country)
    if champion is not None and champion.artifact_key is None:
        raise ArtifactError(f"The champion of {cell}, version {champion.version[:12]}, has no artifact on record.")
    return champion


def reading_differently(database: Connection, cells: Sequence[Cell]) -> set[Cell]:
    """The cells for which a person has since retracted a batch that the champion or the last verdict's challenger was trained
    on, or accepted one that the challenger had to do without."""
    models, countries = [cell.model for cell in cells], [cell.country for cell in cells]
    rows = fetch(database, "reading_differently", models=models, countries=countries)
    return {Cell(row.model, row.country) for row in rows}


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


def _explained(error: psycopg2.Error, cell: Cell, against_seq: int) -> PerennialError:
    if isinstance(error, errors.UniqueViolation):
        return StaleVerdict(f"{cell} has moved past release {against_seq} since it was judged.")
    if error.pgcode == READS_OTHERWISE:
        return StaleVerdict(f"A batch that {cell} was trained on, or had to do without, has been decided about since.")
    if error.pgcode == BLOCKED:
        return Blocked(f"{cell} has a blocker.")
    return RegistryError(f"The release of {cell} was refused by the database: {str(error).strip()}")
