"""Waiting: cells whose lock another session holds, who that is, and when it is no use to wait any longer."""

import logging
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from perennial.cell import Cell
from perennial.shell.database import Connection, fetch_one

logger = logging.getLogger(__name__)

LOOK_SECONDS = 60
PATIENCE_SECONDS = 600


@dataclass
class Waiting:
    """Since when a worker has found cells in other hands, and when it last looked in whose."""

    database: Connection
    since: dict[Cell, float] = field(default_factory=dict)
    looked: dict[Cell, float] = field(default_factory=dict)

    def on(self, cell: Cell, longest: timedelta) -> str:
        """Why not to wait for a cell any longer, empty as long as that is of use.

        Call it each time that the cell is found locked.
        ``longest``: how long an attempt at the cell may take. Who trains is waited for; a session
        that holds the lock without is named once a minute, and given up in the end.
        """
        now = time.monotonic()
        since = self.since.setdefault(cell, now)
        if now - self.looked.setdefault(cell, now) < LOOK_SECONDS:
            return ""
        self.looked[cell] = now
        asked = {**cell._asdict(), "longest": longest}
        holder = fetch_one(self.database, "lock_holder", **asked)
        if holder is None or holder.may_train:
            self.since[cell] = now
            return ""
        said = _said(cell, holder)
        if now - since >= PATIENCE_SECONDS:
            return said
        logger.warning("%s Waiting for %.0f seconds more.", said, PATIENCE_SECONDS - (now - since))
        return ""

    def over(self, cell: Cell) -> None:
        """The cell is in other hands no more."""
        self.since.pop(cell, None)
        self.looked.pop(cell, None)


def _said(cell: Cell, holder: Any) -> str:
    since = f", connected since {holder.since:%Y-%m-%d %H:%M:%S %Z}" if holder.since else ""
    application, host = holder.application or "unnamed", holder.host or "the server itself"
    return (
        f"The lock of {cell} is held by a session of the database that trains nothing: "
        f"process {holder.pid}, user {holder.person}, application {application}, from {host}{since}. "
        f"End it (SELECT pg_terminate_backend({holder.pid})), then trigger the cell with force."
    )
