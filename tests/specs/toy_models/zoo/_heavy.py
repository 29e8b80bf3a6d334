"""Whether a weight is above ten: a target of two classes."""


def examples(rows, as_of):
    import pandas as pd

    return pd.DataFrame(
        {
            "event_time": rows["seen_at"],
            "label_time": rows["seen_at"],
            "target": rows["weight"] > 10,
            "length": rows["length"],
        }
    )


def estimator():
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()
