"""An estimator that ends its process when it is fitted."""

import os
import signal


class Estimator:
    def get_params(self):
        return {}

    def fit(self, features, target):
        os.kill(os.getpid(), signal.SIGKILL)


def estimator():
    return Estimator()
