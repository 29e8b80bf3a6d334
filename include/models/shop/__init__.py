"""The shop's fleet: what an online retailer predicts for the ten countries it sells most to."""

from perennial import Fleet, Owner

shop = Fleet(
    name="shop",
    owner=Owner("shop-ml", alerts=("mailto://shop-ml@example.com",)),
    countries=("GB", "IE", "DE", "FR", "NL", "ES", "CH", "BE", "PT", "AU"),
    workers=2,
)
