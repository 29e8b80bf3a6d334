"""LightGBM's trees."""


def estimator():
    from lightgbm import LGBMRegressor

    return LGBMRegressor(n_estimators=60, n_jobs=1, verbose=-1)
