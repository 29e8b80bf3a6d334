"""What one cell's recipe does to its process reaches no other cell of it."""

from toolbox import add_model, states
from toy_models.zoo import _rude, _tidy
from toy_models.zoo._unmannerly import TRUSTED


def test_what_a_recipe_sets_for_its_process_reaches_no_other_cell(fed):
    fed.edit(estimator=_rude.estimator, trusted=TRUSTED)
    add_model(fed, "height", estimator=_tidy.estimator, trusted=TRUSTED)
    run_id = fed.plan()
    fed.train(run_id)
    assert {state for cell, state in states(fed, run_id).items() if cell.startswith("height")} == {"published"}
