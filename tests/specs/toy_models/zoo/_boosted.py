"""Weight by boosted trees: what one version of scikit-learn has fitted, another may not load."""


def estimator():
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline

    return make_pipeline(
        make_column_transformer(("passthrough", ["length"])),
        HistGradientBoostingRegressor(max_iter=50, random_state=0),
    )
