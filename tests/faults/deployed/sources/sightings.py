"""The sightings of the tests, in the shop's database and in more countries."""

from dataclasses import replace

from toy_sources import sightings as toy

COUNTRIES = {"Britain": "GB", "France": "FR", "Germany": "DE", "Spain": "ES", "Italy": "IT"}
sightings = replace(toy.sightings, connection="shop_db", countries=COUNTRIES)
