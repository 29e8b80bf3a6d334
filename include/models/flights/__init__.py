"""The airports' fleet: what New York's three airports predict of a flight before it leaves."""

from perennial import Fleet, Owner

flights = Fleet(
    name="flights",
    owner=Owner("flight-ml", alerts=("mailto://flight-ml@example.com",)),
    countries=("EWR", "JFK", "LGA"),
    country_pattern=r"[A-Z]{3}",
    workers=2,
)
