"""Artifacts: signed, bound to their cell and version, and without types nobody reviewed."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sklearn.cluster import Birch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, TargetEncoder

from perennial.cell import Cell
from perennial.core import artifacts
from perennial.errors import ArtifactError

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
CELL = Cell("weight", "GB")
X = np.random.default_rng(0).normal(size=(200, 2))
Y = X.sum(axis=1)
PAYLOAD = {"kind": "pointer", "format": artifacts.FORMAT, "seq": 3}


def verify(document, key=KEY, kind="pointer"):
    return artifacts.verify(document, [key.public_key()], kind)


def manifest(**changes):
    files = {"judged": {"key": "a.skops", "sha256": artifacts.sha256(b"bytes"), "size": 5}}
    features = pd.DataFrame({"length": [1.0], "colour": ["red"]})
    made = artifacts.manifest_payload(
        cell=CELL, version="v1", deployment="d1", files=files, features=features, recipe="r1", metric="rmse"
    )
    return {**made, **changes}


def test_a_signed_document_gives_its_payload_back():
    assert verify(artifacts.sign(PAYLOAD, KEY)) == PAYLOAD


def test_one_of_several_trusted_keys_suffices():
    keys = [OTHER.public_key(), KEY.public_key()]
    assert artifacts.verify(artifacts.sign(PAYLOAD, KEY), keys, "pointer") == PAYLOAD


@pytest.mark.parametrize("position", [0, 40, 87, 90, -1])
def test_an_altered_byte_is_noticed(position):
    document = bytearray(artifacts.sign(PAYLOAD, KEY))
    document[position] ^= 1
    with pytest.raises(ArtifactError, match="The pointer is not signed by a trusted key"):
        verify(bytes(document))


@pytest.mark.parametrize("document", [b"", b"\n", b"no signature", b'\n{"kind":"pointer"}', b"\xff\xfe\n{}", b"AAAA\n{}"])
def test_what_is_no_signed_document_is_refused(document):
    with pytest.raises(ArtifactError, match="not signed by a trusted key"):
        verify(document)


def test_the_signature_of_another_key_is_refused():
    with pytest.raises(ArtifactError, match="not among the public keys: add it there"):
        verify(artifacts.sign(PAYLOAD, OTHER))
    with pytest.raises(ArtifactError):
        artifacts.verify(artifacts.sign(PAYLOAD, KEY), [], "pointer")


def test_a_manifest_is_no_pointer():
    with pytest.raises(ArtifactError, match="A pointer of format 2 was expected, not manifest 2"):
        verify(artifacts.sign(manifest(), KEY))


def test_a_document_of_another_format_is_refused():
    with pytest.raises(ArtifactError, match="not pointer 3"):
        verify(artifacts.sign({**PAYLOAD, "format": 3}, KEY))


def test_a_document_of_format_1_is_of_no_deployment_and_before_every_generation():
    read = verify(artifacts.sign({**PAYLOAD, "format": 1}, KEY))
    assert (read["format"], read["deployment"], read["generation"], read["seq"]) == (artifacts.FORMAT, "", 0, 3)


def test_a_manifest_says_what_it_binds():
    made = manifest()
    assert (made["model"], made["country"], made["version"]) == (*CELL, "v1")
    assert [name for name, _ in made["schema"]] == ["length", "colour"]
    assert set(made["environment"]) == {"python", "scikit-learn", "numpy", "pandas", "skops"}
    artifacts.check_binding(made, CELL, "v1")


@pytest.mark.parametrize("change", [{"model": "height"}, {"country": "FR"}, {"version": "v2"}])
def test_a_manifest_of_something_else_is_refused(change):
    with pytest.raises(ArtifactError, match="The manifest of weight/GB version v1 is that of"):
        artifacts.check_binding(manifest(**change), CELL, "v1")


def test_a_fit_of_another_scikit_learn_is_refused():
    with pytest.raises(ArtifactError, match=r"fitted by scikit-learn 0\.1; .* is installed here"):
        artifacts.check_binding(manifest(environment={"scikit-learn": "0.1"}), CELL, "v1")


def test_bytes_other_than_the_manifests_are_refused():
    entry = manifest()["files"]["judged"]
    artifacts.check_file(b"bytes", entry, CELL)
    for data in (b"Bytes", b"bytes!", b""):
        with pytest.raises(ArtifactError, match=r"a\.skops of weight/GB is not what its manifest says"):
            artifacts.check_file(data, entry, CELL)


@pytest.mark.parametrize("estimator", [make_pipeline(StandardScaler(), Ridge()), HistGradientBoostingRegressor(max_iter=5)])
def test_an_estimator_predicts_the_same_after_a_round_trip(estimator):
    fitted = estimator.fit(X, Y)
    read = artifacts.decode_estimator(artifacts.encode_estimator(fitted), trusted=())
    assert np.array_equal(read.predict(X), fitted.predict(X))


def test_what_loaded_modules_say_of_names_that_moved_does_not_fill_the_log():
    code = """
import sys, warnings
from types import ModuleType

def moved(name):
    warnings.warn(f"{name} has moved", FutureWarning, stacklevel=2)
    raise AttributeError(name)

module = sys.modules["aaa"] = ModuleType("aaa")
module.__getattr__ = moved
from perennial.core import artifacts
import scipy.special, skops.io
from sklearn.preprocessing import FunctionTransformer
estimator = FunctionTransformer(scipy.special.expit)
artifacts.decode_estimator(artifacts.encode_estimator(estimator), ())
print("to the worker's log")
skops.io.dumps(estimator)
"""
    command = [sys.executable, "-W", "always", "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout == "to the worker's log\n"
    assert ended.stderr.count("expit has moved") == 1
    assert ended.stderr.count("has moved") == 1


class Thirds(KFold):
    """A splitter that no list names."""


THIRDS = f"{Thirds.__module__}.Thirds"


def test_a_type_outside_the_list_is_refused_until_the_spec_trusts_it():
    data = artifacts.encode_estimator(TargetEncoder(target_type="continuous", cv=Thirds(3)).fit(X.round(), Y))
    with pytest.raises(ArtifactError, match=rf"not trusted: {THIRDS}\. .*trusted="):
        artifacts.decode_estimator(data, trusted=())
    assert artifacts.decode_estimator(data, trusted=(THIRDS,)).cv.n_splits == 3


def test_what_needs_a_library_that_is_not_here_says_which(monkeypatch):
    data = artifacts.encode_estimator(TargetEncoder(target_type="continuous", cv=Thirds(3)).fit(X.round(), Y))
    monkeypatch.setitem(sys.modules, Thirds.__module__, None)
    with pytest.raises(ArtifactError, match=f"The artifact needs {Thirds.__module__}, which is not installed here"):
        artifacts.decode_estimator(data, trusted=(THIRDS,))


def test_what_cannot_be_stored_is_said_so_with_what_to_take_instead():
    with pytest.raises(ArtifactError, match=r"cannot be stored: .*Birch: .* take MiniBatchKMeans"):
        artifacts.encode_estimator(Birch())


def test_a_function_in_an_estimator_is_refused():
    data = artifacts.encode_estimator(FunctionTransformer(len))
    with pytest.raises(ArtifactError, match="not trusted"):
        artifacts.decode_estimator(data, trusted=())


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps(Ridge()), artifacts.encode_estimator(Ridge())[:200]])
def test_what_is_no_skops_file_is_refused(data):
    with pytest.raises(ArtifactError, match="not a readable skops file"):
        artifacts.decode_estimator(data, trusted=())
