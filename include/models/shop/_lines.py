"""What the shop's models share: which invoice lines are sales."""


def sales(rows):
    """Clean lines: no cancellation, no adjustment, nothing free, a product and not postage."""
    clean = (
        ~rows["invoice"].str.startswith(("C", "A"))
        & (rows["quantity"] > 0)
        & (rows["price"] > 0)
        & rows["stock_code"].str.match(r"\d{5}")
    )
    return rows[clean]
