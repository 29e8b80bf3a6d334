"""What an owner is told of champions that cannot be read."""

from dataclasses import replace

import pytest
from toy_models.zoo import zoo
from toy_models.zoo.late import late
from toy_models.zoo.weight import weight

from perennial import Owner
from perennial.catalog import FleetSpecs
from perennial.cell import Cell
from perennial.core.messages import MOST_CELLS, Loss, messages_of_losses

LOST = "The champion, release 3, cannot be read: a.skops is not in the store."


@pytest.fixture
def specs():
    theirs = replace(late, owner=Owner("weighers", tier=1))
    return FleetSpecs(fleet=zoo, models={"weight": weight, "late": theirs}, refused={})


def loss(model="weight", country="GB", is_served=False):
    return Loss(cell=Cell(model, country), what=LOST, is_served=is_served)


def test_each_owner_is_told_of_his_own_cells_in_one_message(specs):
    told = messages_of_losses(specs, [loss(), loss("late", "DE"), loss(country="FR", is_served=True)])
    assert {each.owner: each.tier for each in told} == {"keepers": 2, "weighers": 1}
    keepers = next(each for each in told if each.owner == "keepers")
    assert keepers.subject == "[zoo] 2 champions cannot be read, 1 without a successor"
    assert f"weight/GB: {LOST}" in keepers.body
    assert "trigger retrain_zoo" in keepers.body
    assert "late/DE" not in keepers.body


def test_a_long_list_is_cut_and_says_so(specs):
    many = [loss(country=f"C{number:02}") for number in range(MOST_CELLS + 3)]
    (message,) = messages_of_losses(specs, many)
    assert "and 3 more" in message.body
