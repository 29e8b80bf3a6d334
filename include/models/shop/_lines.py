"""What the shop's models share: which invoice lines are sales, and what happened to a customer before."""


def sales(rows):
    """Clean lines: no cancellation, no adjustment, nothing free, a product and not postage."""
    clean = (
        ~rows["invoice"].str.startswith(("C", "A"))
        & (rows["quantity"] > 0)
        & (rows["price"] > 0)
        & rows["stock_code"].str.match(r"\d{5}")
    )
    return rows[clean]


def once(lines):
    """Lines without exact repetitions: where the source's yearly files overlap, it holds a week twice."""
    return lines.drop_duplicates(["invoice", "stock_code", "quantity", "price", "invoice_date"])


def past(asked, events, span):
    """What each asked row's key saw in the span strictly before its moment: number, mean value, days since the last.

    Both frames hold ``key`` and ``moment``, the events a ``value``; a missing key has no past. Values are summed as whole
    millionths, exactly, so that a mean does not depend on what other rows there are.
    """
    import numpy as np
    import pandas as pd

    codes = pd.factorize(pd.concat([events["key"], asked["key"]]))[0].astype("int64")
    moments = pd.concat([events["moment"], asked["moment"]]).to_numpy(dtype="datetime64[us]").astype("int64")
    micros, day = int(span.total_seconds() * 1e6), 86_400_000_000
    moments = moments - (moments.min(initial=0) - micros)
    places = codes * (moments.max(initial=0) + 1) + moments
    known, queries = places[: len(events)], places[len(events) :]
    order = np.argsort(known, kind="stable")
    known = known[order]
    values = np.rint(events["value"].to_numpy(dtype=float)[order] * 1e6).astype("int64")
    totals = np.concatenate([[0], np.cumsum(values)])
    first, end = (np.searchsorted(known, bound, side="left") for bound in (queries - micros, queries))
    number = np.where(codes[len(events) :] < 0, 0, end - first)
    some = number > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(some, (totals[end] - totals[first]) / 1e6 / number, np.nan)
    last = np.append(known, 0)[end - 1]
    days_since = np.where(some, (queries - last) / day, np.nan)
    return pd.DataFrame({"number": number.astype(float), "mean": mean, "days_since": days_since}, index=asked.index)
