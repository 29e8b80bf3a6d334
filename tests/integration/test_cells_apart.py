"""What one cell's recipe does to its process reaches no other cell of it."""

import os
import signal
import time
from contextlib import closing

from toolbox import add_model, states
from toy_models.zoo import _forking, _rude, _tidy
from toy_models.zoo._unmannerly import TRUSTED

from perennial.shell.database import connect
from perennial.steps.audit import audit
from perennial.steps.worker import work


def test_what_a_recipe_sets_for_its_process_reaches_no_other_cell(fed):
    fed.edit(estimator=_rude.estimator, trusted=TRUSTED)
    add_model(fed, "height", estimator=_tidy.estimator, trusted=TRUSTED)
    run_id = fed.plan()
    fed.train(run_id)
    assert {state for cell, state in states(fed, run_id).items() if cell.startswith("height")} == {"published"}


def test_a_copy_that_a_recipe_forked_ends_where_it_would_go_on_with_its_training(fed, capfd):
    fed.edit(estimator=_forking.estimator, trusted=TRUSTED)
    run_id = fed.plan()
    assert work(fed.resources, fed.catalog, run_id) == {"published": 3}
    assert capfd.readouterr().err.count("end forks of a recipe with os._exit()") >= 3
    assert audit(fed.resources, fed.catalog) == []


def test_a_copy_that_stays_keeps_no_lock(fed):
    takes = "SELECT pg_advisory_lock(7007)"
    original = os.fork()
    if original == 0:
        database = connect(fed.resources.database)
        database.cursor().execute(takes)
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.waitstatus_to_exitcode(os.waitpid(original, 0)[1]) == -signal.SIGKILL
    with closing(connect(fed.resources.database)) as database, database.cursor() as cursor:
        cursor.execute("SET lock_timeout = '10s'")
        cursor.execute(takes)
