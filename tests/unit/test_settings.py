"""Settings: what is missing is named."""

import pytest

from perennial.errors import SettingsError
from perennial.settings import key_file, setting, spec_package


@pytest.mark.parametrize("environment", [{}, {"PERENNIAL_STORE_URL": ""}])
def test_a_missing_setting_names_its_variable(environment):
    with pytest.raises(SettingsError, match="PERENNIAL_STORE_URL is not set"):
        setting("PERENNIAL_STORE_URL", environment)


def test_a_setting_is_read_from_the_environment():
    assert setting("A", {"A": "b"}) == "b"


def test_a_key_file_that_does_not_exist_names_variable_and_path(tmp_path):
    missing = tmp_path / "key.pem"
    with pytest.raises(SettingsError, match=f"PERENNIAL_SIGNING_KEY names {missing}, which does not exist"):
        key_file("PERENNIAL_SIGNING_KEY", {"PERENNIAL_SIGNING_KEY": str(missing)})


def test_a_key_file_that_exists_is_its_path(tmp_path):
    path = tmp_path / "key.pem"
    path.touch()
    assert key_file("KEY", {"KEY": str(path)}) == path


def test_specs_are_the_trees_own_unless_a_variable_names_others():
    assert spec_package("PERENNIAL_MODELS", "models", {}) == "models"
    assert spec_package("PERENNIAL_MODELS", "models", {"PERENNIAL_MODELS": "toy_models"}) == "toy_models"


@pytest.mark.parametrize("package", ["no_such_thing", "no.such.thing", "toy_models.zoo.weight", "../models"])
def test_a_package_of_specs_that_is_none_is_named(package):
    with pytest.raises(SettingsError, match=r"PERENNIAL_MODELS names .* which is no package on the import path"):
        spec_package("PERENNIAL_MODELS", "models", {"PERENNIAL_MODELS": package})
