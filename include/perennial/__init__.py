"""Perennial: continuous retraining for fleets of models."""

from perennial.spec import (
    QUARANTINE_BATCH,
    REJECT_ROW,
    WARN,
    Cadence,
    Checks,
    Column,
    Days,
    FileSource,
    Fleet,
    Gate,
    Limit,
    Minutes,
    Model,
    Owner,
    Seconds,
    Source,
)  # fmt: skip

__all__ = [
    "QUARANTINE_BATCH", "REJECT_ROW", "WARN", "Cadence", "Checks", "Column", "Days", "FileSource", "Fleet", "Gate", "Limit",
    "Minutes", "Model", "Owner", "Seconds", "Source",
]  # fmt: skip
