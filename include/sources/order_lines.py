"""Invoice lines of the shop, revisions included."""

from typing import Any

from perennial import Column, Owner, Seconds, Source

COUNTRIES = {
    "Australia": "AU",
    "Austria": "AT",
    "Bahrain": "BH",
    "Belgium": "BE",
    "Bermuda": "BM",
    "Brazil": "BR",
    "Canada": "CA",
    "Cyprus": "CY",
    "Czech Republic": "CZ",
    "Denmark": "DK",
    "EIRE": "IE",
    "Finland": "FI",
    "France": "FR",
    "Germany": "DE",
    "Greece": "GR",
    "Hong Kong": "HK",
    "Iceland": "IS",
    "Israel": "IL",
    "Italy": "IT",
    "Japan": "JP",
    "Korea": "KR",
    "Lebanon": "LB",
    "Lithuania": "LT",
    "Malta": "MT",
    "Netherlands": "NL",
    "Nigeria": "NG",
    "Norway": "NO",
    "Poland": "PL",
    "Portugal": "PT",
    "RSA": "ZA",
    "Saudi Arabia": "SA",
    "Singapore": "SG",
    "Spain": "ES",
    "Sweden": "SE",
    "Switzerland": "CH",
    "Thailand": "TH",
    "USA": "US",
    "United Arab Emirates": "AE",
    "United Kingdom": "GB",
    # ISO 3166 has no single code for these; XX is free for such use.
    "Channel Islands": "XX",
    "European Community": "XX",
    "Unspecified": "XX",
    "West Indies": "XX",
}
REQUIRED = ("invoice", "stock_code", "quantity", "price", "country")


def expectations() -> list[Any]:
    """What a batch must look like. Cancellations, adjustments and free items are normal in this table.

    A country's batch may be two lines long and hold nothing but postage or one wholesale order, so a share of odd
    rows says little: the outer bounds are wide, and the inner one only refuses a batch of mostly huge quantities.
    """
    import great_expectations.expectations as gxe

    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in REQUIRED),
        gxe.ExpectColumnValuesToMatchRegex(column="invoice", regex=r"^[AC]?\d{6}$", mostly=0.99),
        gxe.ExpectColumnValuesToMatchRegex(column="stock_code", regex=r"^[A-Za-z0-9_ ]{1,20}$", mostly=0.99),
        gxe.ExpectColumnValuesToBeBetween(column="price", min_value=-100_000, max_value=100_000, mostly=0.99),
        gxe.ExpectColumnValuesToBeBetween(column="quantity", min_value=-200_000, max_value=200_000, mostly=0.99),
        gxe.ExpectColumnValuesToBeBetween(column="quantity", min_value=-5_000, max_value=5_000, mostly=0.4),
    ]


order_lines = Source(
    name="order_lines",
    owner=Owner("shop-data", alerts=("mailto://shop-data@example.com",)),
    connection="shop_db",
    table="order_lines",
    key=("line_id",),
    event_time="invoice_date",
    changed_at="changed_at",
    country="country",
    countries=COUNTRIES,
    columns=(
        Column("line_id", "int64", nullable=False),
        Column("changed_at", "timestamp", nullable=False),
        Column("invoice", "string"),
        Column("stock_code", "string"),
        Column("description", "string"),
        Column("quantity", "int64"),
        Column("invoice_date", "timestamp", nullable=False),
        Column("price", "float64"),
        Column("customer_id", "string"),
        Column("country", "string"),
    ),
    expectations=expectations,
    max_commit_lag=Seconds(2),
    schedule="*/10 * * * *",
)
