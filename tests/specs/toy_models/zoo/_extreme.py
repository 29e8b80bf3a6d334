"""XGBoost's trees, behind a step of scikit-learn's."""


def estimator():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBRegressor

    return make_pipeline(StandardScaler(), XGBRegressor(n_estimators=60, n_jobs=1))
