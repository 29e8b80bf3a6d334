"""Perennial: continuous retraining for fleets of models."""

from perennial.spec import Cadence, Column, Days, FileSource, Fleet, Gate, Minutes, Model, Owner, Seconds, Source

__all__ = ["Cadence", "Column", "Days", "FileSource", "Fleet", "Gate", "Minutes", "Model", "Owner", "Seconds", "Source"]
