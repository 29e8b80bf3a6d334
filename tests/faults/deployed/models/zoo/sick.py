"""Weight by length, with an estimator that is sick in each country in another way."""

from dataclasses import replace

from models.zoo import weight as healthy
from models.zoo import zoo
from perennial.spec import Seconds


def estimator():
    from faulty.sick import Sick

    return Sick()


sick = replace(healthy.weight, name="sick", countries=zoo.countries, estimator=estimator, time_limit=Seconds(2))
