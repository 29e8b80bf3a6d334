"""Target 3."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_3")


target_3 = model_of("target_3", examples)
