# make demo | test | ui | check    All set-up happens in .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: demo test ui check fix docs clean bench-predictors
.DEFAULT_GOAL := demo

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@grep -q DAGSTER_CLI $(BIN)/activate || printf '%s\n' \
	  '# so that "dagster asset materialize" knows our definitions' \
	  'export DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME=perf_assets.definitions' >> $(BIN)/activate
	@touch $@

demo: $(VENV)/ready
	@source $(BIN)/activate && bash demo.sh

test: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 --dist worksteal

ui: $(VENV)/ready
	@# A fresh instance must be set up by one process, before the UI and the daemon open it at once.
	@source $(BIN)/activate && python -c 'import dagster as dg; dg.DagsterInstance.from_config(".").dispose()' \
	  && exec dagster dev $(if $(PORT),--port $(PORT))

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check perf_assets

fix: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/ready
	$(BIN)/perf-assets tables > docs/tables.md

clean:
	rm -rf $(VENV)

bench-predictors: $(VENV)/ready
	$(BIN)/python -m benchmarks.predictors $(SAMPLES_FOLDER)
