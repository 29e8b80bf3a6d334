"""A fleet of many small models."""

from perennial import Fleet, Owner

COUNTRIES = tuple(f"{first}{second}" for first in "ABCD" for second in "ABCDE")

grid = Fleet(name="grid", owner=Owner("bench"), countries=COUNTRIES, workers=2)
