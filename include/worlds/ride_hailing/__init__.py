"""Ride hailing in twenty countries. It is simulated: no row of it was ever driven, and its truth is known.

Sizes, drift, label delays, seasons and incidents are parameters (``countries``); every trip follows from them, the seed and
its day (``trips``); the operational table and files are written from that (``table``, ``files``). Simulated time starts
years ago, because a source's rows cannot be newer than its clock.
"""

from worlds.ride_hailing.table import FREQUENCIES, advance, position, prepare, steps

__all__ = ["FREQUENCIES", "advance", "position", "prepare", "steps"]
