"""Succession: what becomes of a cell whose champion is lost, that is whose artifact is missing or altered.

A champion that is there and cannot be loaded, for its key is not trusted or a type is not named, is
not lost: that is mended where the reader is deployed, and its cell fails and says so. Nor is one that
another scikit-learn has fitted: a run carries it over (rebuild.py).
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sklearn

from perennial.catalog import Catalog
from perennial.cell import Cell
from perennial.core.messages import Loss
from perennial.errors import (
    ArtifactAltered,
    ArtifactError,
    ObjectMissing,
    RecipeMissing,
    StaleVerdict,
    StoreError,
)
from perennial.recipe import code_of, frozen_of
from perennial.resources import Resources
from perennial.shell.database import Connection, connect, fetch, fetch_one
from perennial.shell.keys import read_public_keys
from perennial.shell.registry import bound_elsewhere, champion_of, fall_back, note_found, note_lost
from perennial.spec import Model
from perennial.steps.manifests import check_whole, load_fits, manifest_of
from perennial.steps.pointers import write_pointer
from perennial.steps.rebuild import is_bound_elsewhere
from perennial.steps.tell import tell_of_losses
from perennial.steps.verifier import Verifier

logger = logging.getLogger(__name__)

LOST = (ObjectMissing, ArtifactAltered)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look at all champions needs."""

    resources: Resources
    database: Connection
    verifier: Verifier
    keys: Sequence[Any]


def succeed(
    resources: Resources,
    database: Connection,
    model: Model,
    cell: Cell,
    champion: Any,
    error: Exception,
) -> Loss:
    """Note that a champion is lost, and put the last former one that can be read in force, where there is one.

    Raises StaleVerdict when the champion has moved meanwhile.
    """
    what = f"The champion, release {champion.seq}, cannot be read: {error}"
    note_lost(database, cell, champion.seq, what)
    for former in fetch(database, "former_champions", **cell._asdict(), seq=champion.seq, version=champion.version):
        if _serves(resources, model, cell, former):
            reason = f"{what} Version {former.version[:12]} of release {former.seq} takes over."
            seq = fall_back(
                database,
                cell,
                against_seq=champion.seq,
                lost=champion.version,
                former=former.version,
                reason=reason,
            )
            write_pointer(resources, database, manifest_of(cell, former), seq)
            logger.error("%s: %s", cell, reason)
            return Loss(cell=cell, what=f"{reason} Readers have a model again.", is_served=True)
    logger.error("%s: %s No former version can be read.", cell, what)
    return Loss(
        cell=cell,
        what=f"{what} No former version can be read: readers are without a model.",
        is_served=False,
    )


def _serves(resources: Resources, model: Model, cell: Cell, former: Any) -> bool:
    """Whether a former version can be read and compared with: its artifact and its recipe's code are there."""
    try:
        code_of(model, former.recipe, former.parameters)
        keys, frozen = read_public_keys(resources.public_keys), frozen_of(model, former.recipe, former.parameters)
        load_fits(resources.store, keys, manifest_of(cell, former), model.trusted, frozen)
    except (ArtifactError, StoreError, RecipeMissing) as error:
        logger.warning("%s: version %s cannot take over: %s", cell, former.version[:12], error)
        return False
    return True


def check_champions(resources: Resources, catalog: Catalog) -> dict[str, int]:
    """Load both fits of every champion; where one is lost a former one takes over, or the cell is due. Owners are told.

    Returns how many champions there are, how many cannot be read, and how many of these were
    replaced by a former one. Each owner is told once a day.
    """
    database = connect(resources.database)
    losses: dict[str, list[Loss]] = defaultdict(list)
    number = 0
    try:
        today = fetch_one(database, "today").day
        with Verifier(resources) as verifier:
            keys = read_public_keys(resources.public_keys)
            look = Look(resources=resources, database=database, verifier=verifier, keys=keys)
            for fleet, specs in catalog.fleets.items():
                for row in fetch(database, "cells_of", models=list(specs.models)):
                    number += 1
                    loss = _loss(look, specs.models[row.model], Cell(row.model, row.country))
                    losses[fleet] += [loss] if loss else []
    finally:
        database.close()
    for fleet, found in losses.items():
        tell_of_losses(resources, catalog, fleet, found, f"{fleet}/{today}")
    all_of_them = [loss for found in losses.values() for loss in found]
    served = sum(loss.is_served for loss in all_of_them)
    return {"champions": number, "unreadable": len(all_of_them), "replaced by a former one": served}


def _loss(look: Look, model: Model, cell: Cell) -> Loss | None:
    """What is wrong with a cell's champion, after a former one took over where that can be; None where it can be read."""
    try:
        champion = champion_of(look.database, cell)
    except ArtifactError as error:
        return Loss(cell=cell, what=str(error), is_served=False)
    if champion is None:
        return None
    manifest = manifest_of(cell, champion)
    try:
        check_whole(look.resources.store, look.keys, manifest)
        if is_bound_elsewhere(champion):
            return _bound_elsewhere(look, cell, champion)
        look.verifier.load(manifest, model.trusted, frozen_of(model, champion.recipe, champion.parameters))
    except LOST as error:
        return _succeeded(look, model, cell, champion, error)
    except (ArtifactError, RecipeMissing) as error:
        return Loss(
            cell=cell,
            what=f"The champion, release {champion.seq}, cannot be read: {error}",
            is_served=False,
        )
    note_found(look.database, cell, champion.seq)
    return None


def _bound_elsewhere(look: Look, cell: Cell, champion: Any) -> Loss | None:
    """Why a champion of another scikit-learn is not rebuilt, if that is so; the next run carries others over."""
    found = bound_elsewhere(look.database, [cell], sklearn.__version__).get(cell)
    if found is not None and found.refusal:
        return Loss(cell=cell, what=found.refusal, is_served=False, is_there=True)
    logger.warning(
        "The champion of %s was fitted by scikit-learn %s: the next run carries it over to %s.",
        cell,
        champion.fitted_by,
        sklearn.__version__,
    )
    return None


def _succeeded(look: Look, model: Model, cell: Cell, champion: Any, error: Exception) -> Loss | None:
    try:
        return succeed(look.resources, look.database, model, cell, champion, error)
    except StaleVerdict:
        return None  # another one was published meanwhile
