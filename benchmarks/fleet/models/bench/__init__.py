"""The benchmark's fleet: ten targets of one source, in twenty countries, two workers. It is woken by its source alone."""

from fleet.world import COUNTRIES
from perennial import Fleet, Owner

bench = Fleet(name="bench", owner=Owner("bench"), countries=COUNTRIES, workers=2, schedule="0 0 1 1 *")
