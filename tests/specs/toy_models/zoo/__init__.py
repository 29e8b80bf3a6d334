"""The fleet of the tests."""

from perennial import Fleet, Owner

zoo = Fleet(name="zoo", owner=Owner("keepers"), countries=("GB", "FR", "DE"), workers=2)
