"""Fixtures shared by all rooms."""

import os
import sys
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before anything is imported: a process that has used several threads cannot fork well
sys.path.insert(0, str(Path(__file__).parent / "specs"))
