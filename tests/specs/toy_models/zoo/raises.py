"""An estimator that fails when it is fitted."""


class Estimator:
    def get_params(self):
        return {}

    def fit(self, features, target):
        raise ValueError("singular")


def estimator():
    return Estimator()
