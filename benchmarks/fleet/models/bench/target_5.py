"""Target 5."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_5")


target_5 = model_of("target_5", examples)
