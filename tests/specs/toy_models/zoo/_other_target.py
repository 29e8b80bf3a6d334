"""Another target under the same name: twice the weight."""


def examples(rows, as_of):
    import pandas as pd

    event = rows["seen_at"]
    return pd.DataFrame({"event_time": event, "label_time": event, "target": 2 * rows["weight"], "length": rows["length"]})
