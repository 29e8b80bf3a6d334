# `make help` lists the verbs. Each does all of its own set-up.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
CYCLES ?=
STAY   ?= 1
FLEET  ?= shop
EVERY  ?=
START  ?=
PACE   ?= 0
SPEED   = $(if $(EVERY),--every $(EVERY)) $(if $(START),--start $(START)) --pace $(PACE) $(if $(CYCLES),--cycles $(CYCLES))

# This tree's code first, then wherever else specs lie: PERENNIAL_MODELS and PERENNIAL_SOURCES name their packages.
OWN    := $(CURDIR)/include:$(CURDIR)/plugins
THEIRS := $(patsubst $(OWN):%,%,$(filter-out $(OWN),$(PYTHONPATH)))
export PYTHONPATH := $(OWN)$(if $(THEIRS),:$(THEIRS))
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export GX_ANALYTICS_ENABLED := false
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup boosting run replay stop test without-airflow with-airflow check unit integration dags stack faults bench bench-compaction bench-ingest bench-kills bench-scale bench-validation mutants check-models new-model new-source try audit freeze champions lock clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.core: requirements.txt requirements-example.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Perennial needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 2; }
	@echo "Installing into $(VENV) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==0.13.9
	@$(UV) pip install -q --system-certs --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.txt
	@$(UV) pip install -q --system-certs --python $(BIN)/python --require-hashes --no-deps -r requirements-example.txt
	@touch $@

$(VENV)/.test: requirements-test.txt $(VENV)/.core
	@echo "Installing what the tests need …"
	@$(UV) pip install -q --system-certs --python $(BIN)/python --require-hashes --compile-bytecode -r requirements-test.txt
	@touch $@

setup: $(VENV)/.core ## create .venv from the lock

$(VENV)/.boosting: requirements-boosting.txt $(VENV)/.core
	@echo "Installing LightGBM and XGBoost …"
	@$(UV) pip install -q --system-certs --python $(BIN)/python --require-hashes --compile-bytecode -r requirements-boosting.txt
	@touch $@

boosting: $(VENV)/.boosting ## add LightGBM and XGBoost to .venv, for recipes that use them

$(VENV)/mutants/.done: requirements-mutants.txt $(VENV)/.test
	@echo "Installing the mutation tester, apart from the rest …"
	@$(BIN)/python -m venv $(VENV)/mutants
	@$(UV) pip install -q --system-certs --python $(VENV)/mutants/bin/python --require-hashes -r requirements-mutants.txt
	@touch $@

run: $(VENV)/.core ## run everything on this machine: FLEET=shop, ride_hailing, flights or your own; CYCLES=3 ends after three, STAY=0 exits then
	@$(BIN)/python -m embedded run --fleet $(FLEET) $(SPEED) --stay $(STAY)

replay: $(VENV)/.core ## replay a fleet's past and show what retraining was worth: FLEET=shop EVERY=month, week, day, hour or quarter
	@$(BIN)/python -m embedded replay --fleet $(FLEET) $(SPEED)

stop: $(VENV)/.core ## stop what a run left behind
	@$(BIN)/python -m embedded stop

test: check ## every check and test; those that wait for Airflow beside those that keep a core busy
	@$(MAKE) --no-print-directory -j2 --output-sync=recurse without-airflow with-airflow

without-airflow: $(VENV)/.test
	@$(MAKE) --no-print-directory unit && $(MAKE) --no-print-directory integration

with-airflow: $(VENV)/.test
	@$(MAKE) --no-print-directory stack && $(MAKE) --no-print-directory faults && $(MAKE) --no-print-directory dags

check: $(VENV)/.test ## lint, types, specs
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q . && $(BIN)/mypy --no-error-summary
	@$(BIN)/python -m perennial check-models

unit: $(VENV)/.test ## tests without Airflow, network or database
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit tests/test_architecture.py

integration: $(VENV)/.test ## tests on a real PostgreSQL and a real S3 API
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/integration

dags: $(VENV)/.test ## tests of whole DAGs
	@$(BIN)/python -m pytest tests/dags

stack: $(VENV)/.test ## the real stack, two cycles of the real example
	@$(BIN)/python -m pytest tests/stack

faults: $(VENV)/.test ## parts of the real stack are killed during real runs
	@$(BIN)/python -m pytest tests/faults

bench-kills: $(VENV)/.test ## the same; keeps the table of kills and recoveries
	@PERENNIAL_KILLS=benchmarks/results/kills.json $(BIN)/python -m pytest tests/faults

bench: $(VENV)/.core ## one cycle of 200 cells against loops and a textbook DAG, five times: CELLS=40 REPEAT=1 for a quick look
	@PYTHONPATH=$(PYTHONPATH):$(CURDIR)/benchmarks PERENNIAL_MODELS=fleet.models PERENNIAL_SOURCES=fleet.sources $(BIN)/python -m fleet

bench-compaction: $(VENV)/.test ## reading 12,000 small batches, before and after they were put together
	@$(BIN)/python benchmarks/compaction.py

bench-ingest: $(VENV)/.core ## ingest the whole shop: seconds and peak memory
	@$(BIN)/python benchmarks/ingest.py

bench-scale: $(VENV)/.core ## 200, 1,000 and 5,000 small cells in the real stack, and a registry of 1,000,000 outcomes
	@PYTHONPATH=$(PYTHONPATH):$(CURDIR)/benchmarks $(BIN)/python -m scale

bench-validation: $(VENV)/.core ## validation beside plain pandas and pandera: seconds and peak memory
	@$(BIN)/python benchmarks/validation.py

mutants: $(VENV)/mutants/.done ## small faults put into what decides: which do the unit tests find? MODULES=spans for one
	@$(BIN)/python benchmarks/mutants.py $(CURDIR)/$(VENV)/mutants/bin $(MODULES)

check-models: $(VENV)/.core ## check every spec and say what to correct
	@$(BIN)/python -m perennial check-models

new-model: $(VENV)/.core ## write a skeleton: FLEET=shop NAME=my_model SOURCE=order_lines TARGET=price; a new fleet, too
	@$(BIN)/python -m perennial new-model --fleet $(FLEET) --name "$(NAME)" --source "$(or $(SOURCE),order_lines)" --target "$(TARGET)"

new-source: $(VENV)/.core ## write the spec of what is there: NAME=orders FILE=/data/orders/may.csv, or CONNECTION=my_db TABLE=orders
	@$(BIN)/python -m embedded new-source --name "$(NAME)" --table "$(TABLE)" --file "$(FILE)" --connection "$(CONNECTION)" \
		--key "$(KEY)" --event-time "$(EVENT_TIME)" --changed-at "$(CHANGED_AT)" --country "$(COUNTRY)"

try: $(VENV)/.core ## train and judge one cell, publish nothing: MODEL=price COUNTRY=FR
	@$(BIN)/python -m embedded exec -- $(BIN)/python -m perennial try --model "$(MODEL)" --country "$(COUNTRY)"

audit: $(VENV)/.core ## check what the state folder holds against every rule; DEEP=1 loads the champions, too
	@$(BIN)/python -m embedded exec -- $(BIN)/python -m perennial audit $(if $(DEEP),--deep)

freeze: $(VENV)/.core ## keep superseded recipes that champions still need
	@$(BIN)/python -m embedded exec -- $(BIN)/python -m perennial freeze

champions: $(VENV)/.core ## every release of the replayed months, with verdict and reason
	@$(BIN)/python -m embedded sql docs/champions.sql

lock: $(VENV)/.core ## resolve the requirements again
	@for part in requirements requirements-boosting requirements-test requirements-deploy requirements-mutants; do \
		$(UV) pip compile -q --system-certs --generate-hashes --universal --python-version 3.11 --no-header \
			--no-emit-index-url --no-emit-find-links $$part.in -o $$part.txt; done
	@$(UV) pip compile -q --system-certs --no-deps --generate-hashes --universal --python-version 3.11 --no-header \
		--no-emit-index-url --no-emit-find-links requirements-example.in -o requirements-example.txt

clean: ## stop everything and remove all local state
	@test ! -x $(BIN)/python || $(BIN)/python -m embedded stop
	@rm -rf $(or $(PERENNIAL_STATE),.state) $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
