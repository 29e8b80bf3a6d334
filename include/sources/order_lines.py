"""Invoice lines of the shop, revisions included."""

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


def expectations():
    """What a batch must look like. Cancellations, adjustments and free items are normal in this table."""
    import great_expectations.expectations as gxe

    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("invoice", "stock_code", "quantity", "price")),
        gxe.ExpectColumnValuesToMatchRegex(column="invoice", regex=r"^[AC]?\d{6}$", mostly=0.99),
        gxe.ExpectColumnValuesToBeBetween(column="price", min_value=-100_000, max_value=100_000),
        gxe.ExpectColumnValuesToBeBetween(column="quantity", min_value=-1_000_000, max_value=1_000_000),
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
