"""Estimators that do what no estimator should."""

import faulthandler
import os
import signal
import time

from sklearn.linear_model import Ridge


class Failing(Ridge):
    """Cannot be fitted."""

    def fit(self, features, target):
        raise ValueError("this recipe is broken")


class Talking(Ridge):
    """Says what it is told to say, which a database may not take."""

    TEXT = ""

    def fit(self, features, target):
        raise ValueError(self.TEXT)


class Sleeping(Ridge):
    """Takes its time."""

    def fit(self, features, target):
        time.sleep(30)


class Killing(Ridge):
    """Ends its process, as the kernel does when memory is short."""

    def fit(self, features, target):
        os.kill(os.getpid(), signal.SIGKILL)


class Poisonous(Ridge):
    """Ends the process that loads it, where the weights rise by more than 2.5 a length."""

    def __setstate__(self, state):
        super().__setstate__(state)
        if self.coef_[0] > 2.5:
            faulthandler.disable()
            os.kill(os.getpid(), signal.SIGSEGV)
