"""Weight by the square of the length: other features than those of `weight`."""


def features(examples):
    return examples[["length"]] ** 2 / 10
