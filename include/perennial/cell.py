"""A cell: one model in one country."""

from typing import NamedTuple


class Cell(NamedTuple):
    """The unit of training, failure, comparison, publication and rollback."""

    model: str
    country: str

    def __str__(self) -> str:
        return f"{self.model}/{self.country}"
