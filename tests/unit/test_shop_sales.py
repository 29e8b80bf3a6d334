"""What the shop's models do not look at: lines that are no sale of a product."""

import pandas as pd
import pytest
from shop import START, lines

from perennial.catalog import load_catalog
from perennial.core.examples import matured_examples


@pytest.mark.parametrize("model", load_catalog().fleet("shop").models.values(), ids=lambda model: model.name)
def test_a_country_without_a_sale_has_no_example(model):
    rows = lines({"stock_code": "POST"}, {"invoice": "C489434", "quantity": -1})
    assert matured_examples(model.examples, rows, START + pd.Timedelta(days=199), model.name).empty
