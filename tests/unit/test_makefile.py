"""What `make` hands on: specs that are kept elsewhere stay importable."""

import os
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
OWN = f"{REPO / 'include'}:{REPO / 'plugins'}"


@pytest.mark.parametrize(("given", "theirs"), [("", ""), ("/a folder:/b", ":/a folder:/b"), (OWN, ""), (f"{OWN}:/a", ":/a")])
def test_the_import_path_is_this_trees_before_the_users(given, theirs):
    command = ["make", "-s", "-C", str(REPO), "--eval", 'show: ; @echo "$$PYTHONPATH"', "show"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(command, env={**kept, "PYTHONPATH": given}, capture_output=True, text=True, check=True)
    assert shown.stdout == f"{OWN}{theirs}\n"
