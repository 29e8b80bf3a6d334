"""The sightings of the tests, in the shop's database and in more countries."""

from dataclasses import replace

from toy_sources import sightings as toy

from perennial import Owner

COUNTRIES = {"Britain": "GB", "France": "FR", "Germany": "DE", "Spain": "ES", "Italy": "IT"}
RANGERS = Owner("rangers", alerts=("mailto://rangers@example.com",))
NEXT_IN_2028 = "0 0 29 2 *"
sightings = replace(toy.sightings, connection="shop_db", countries=COUNTRIES, owner=RANGERS, schedule=NEXT_IN_2028)
