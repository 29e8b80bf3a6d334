"""An estimator that names a type beyond the project's list, which a team may trust: a function that picks columns."""

TRUSTED = ("operator.itemgetter",)


def estimator():
    from operator import itemgetter

    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(itemgetter(["length"])), Ridge())
