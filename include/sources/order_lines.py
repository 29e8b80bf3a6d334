"""Invoice lines of the shop, revisions included."""

from typing import Any

from perennial import QUARANTINE_BATCH, REJECT_ROW, WARN, Checks, Column, Owner, Seconds, Source

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


def expectations() -> list[Any]:
    """What a line must look like beyond its columns' bounds. Cancellations (C…) are normal in this table.

    Rejected: what is given away or written off (no price), and stock that vanished without a cancellation: neither is a
    sale. Postage, samples and charges are lines of an invoice like others: their share is only noticed. A country's batch
    may be two lines long, one of them huge, so the last one only refuses a batch of mostly huge quantities.
    """
    import great_expectations.expectations as gxe

    from perennial.expectations import ExpectColumnPairValuesNegativeToMatchRegex

    return [
        gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, strict_min=True, severity=REJECT_ROW),
        ExpectColumnPairValuesNegativeToMatchRegex(column_A="quantity", column_B="invoice", regex="C", severity=REJECT_ROW),
        gxe.ExpectColumnValuesToMatchRegex(column="stock_code", regex=r"^\d{5}", severity=WARN),
        gxe.ExpectColumnValuesToBeBetween(
            column="quantity", min_value=-5_000, max_value=5_000, mostly=0.4, severity=QUARANTINE_BATCH
        ),
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
        Column("invoice", "string", nullable=False, regex=r"^[AC]?\d{6}$"),
        Column("stock_code", "string", nullable=False, regex=r"^[A-Za-z0-9_ ]{1,20}$"),
        Column("description", "string"),
        Column("quantity", "int64", nullable=False, min_value=-200_000, max_value=200_000),
        Column("invoice_date", "timestamp", nullable=False),
        Column("price", "float64", nullable=False, max_value=100_000),
        Column("customer_id", "string"),
        Column("country", "string", nullable=False),
    ),
    expectations=expectations,
    checks=Checks(copies=REJECT_ROW),
    max_commit_lag=Seconds(2),
    schedule="*/10 * * * *",
)
