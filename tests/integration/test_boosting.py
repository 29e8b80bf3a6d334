"""LightGBM and XGBoost: published, read by a service and compared, without a line in the spec."""

import pytest
from toolbox import GB, cycle, edit_gate, predict, reader, releases
from toy_models.zoo import _extreme, _light

from perennial.steps.audit import audit


@pytest.fixture(params=[_light, _extreme], ids=["LightGBM", "XGBoost"])
def boosted(request, zoo):
    zoo.edit(estimator=request.param.estimator)
    edit_gate(zoo, floor=100)
    return zoo


def test_it_is_published_read_and_compared(boosted):
    assert cycle(boosted).state == "published"
    first = reader(boosted).load(*GB)
    assert predict(first.estimator, 5) == pytest.approx(10, abs=1)
    boosted.see("Britain", range(60, 90), slope=4.0)
    boosted.ingest()
    outcome = boosted.retrain()["weight/GB"]
    assert (outcome.state, outcome.release_seq) == ("published", 2)
    assert outcome.gain > 0.1
    second = reader(boosted).load(*GB)
    assert predict(second.estimator, 5) > predict(first.estimator, 5)
    assert audit(boosted.resources, boosted.catalog, deep=True) == []
    assert len(releases(boosted)) == 2
