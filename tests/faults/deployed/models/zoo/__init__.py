"""A fleet to be killed, beside the shop's: healthy cells that can be held at a moment, and sick ones."""

from perennial import Fleet, Owner

NEXT_IN_2028 = "0 0 29 2 *"
keepers = Owner("keepers", alerts=("mailto://keepers@example.com",))
zoo = Fleet(name="zoo", owner=keepers, countries=("GB", "FR", "DE", "ES", "IT"), workers=2, schedule=NEXT_IN_2028)
