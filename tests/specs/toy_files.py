"""The toy source's rows in files instead of a table."""

from toy_sources.sightings import sightings

from perennial import FileSource, Seconds

sightings_files = FileSource(
    name="sightings",
    owner=sightings.owner,
    connection="zoo_files",
    prefix="in/",
    format="csv",
    key=sightings.key,
    event_time=sightings.event_time,
    country=sightings.country,
    countries=sightings.countries,
    columns=tuple(column for column in sightings.columns if column.name != "changed_at"),
    expectations=sightings.expectations,
    quiet=Seconds(0),
)
