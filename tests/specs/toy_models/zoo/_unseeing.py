"""An estimator that cannot say anything of what is much longer than all that it has learned from."""

from sklearn.linear_model import Ridge

TRUSTED = ("toy_models.zoo._unseeing.Raising", "toy_models.zoo._unseeing.Blank")


class Raising(Ridge):
    """Raises for lengths unlike those it has seen."""

    def fit(self, features, target):
        self.longest_ = float(features["length"].max())
        return super().fit(features, target)

    def predict(self, features):
        if (features["length"] > 2 * self.longest_).any():
            raise ValueError("Found unknown lengths during transform")
        return super().predict(features)


class Blank(Raising):
    """Predicts no number for lengths unlike those it has seen."""

    def predict(self, features):
        predicted = Ridge.predict(self, features)
        predicted[(features["length"] > 2 * self.longest_).to_numpy()] = float("nan")
        return predicted
