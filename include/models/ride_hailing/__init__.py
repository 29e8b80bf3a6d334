"""The ride-hailing fleet: ten models for each of twenty countries, over simulated trips whose truth is known."""

from perennial import Fleet, Owner

ride_hailing = Fleet(
    name="ride_hailing",
    owner=Owner("rides-ml", alerts=("mailto://rides-ml@example.com",)),
    countries=(
        "US", "BR", "IN", "MX", "GB", "FR", "DE", "ID", "AU", "CA", "ES", "JP", "ZA", "NL", "PL", "SE", "CL", "PT", "NZ", "IE",
    ),
    workers=2,
)  # fmt: skip
