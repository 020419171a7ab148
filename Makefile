# make demo | test | ui | check    All set-up happens in .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: demo test ui check fix docs gallery clean test-bare test-wheel test-node bench-predictors bench-materialize
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
	@source $(BIN)/activate && exec perf-assets ui $(if $(PORT),--port $(PORT))

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check perf_assets

fix: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The contact sheet of all figures, from the shipped drops.
gallery: $(VENV)/ready
	data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && mkdir "$$data/drops" && cp -r data/drops/examples "$$data/drops" \
	  && export PERF_ASSETS_DATA=$$data PERF_ASSETS_SETTLE_S=0 && $(BIN)/perf-assets ingest >/dev/null \
	  && $(BIN)/perf-assets gallery docs/gallery/index.html

docs: $(VENV)/ready
	$(BIN)/perf-assets tables --markdown > docs/tables.md

# The light installs, each in a virtual environment of its own.
test-bare:
	rm -rf .venv-bare && $(PYTHON) -m venv .venv-bare
	.venv-bare/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements/bare.txt
	.venv-bare/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && mkdir "$$data/drops" && cp -r data/drops/examples "$$data/drops" \
	  && export PERF_ASSETS_DATA=$$data PERF_ASSETS_SETTLE_S=0 && .venv-bare/bin/perf-assets ingest >/dev/null \
	  && .venv-bare/bin/perf-assets sql "SELECT tool, count(*) AS runs FROM cleaned_runs GROUP BY ALL ORDER BY ALL" \
	  && .venv-bare/bin/perf-assets status 2>&1 | tee /dev/stderr | grep -q '^perf-assets: this command needs dagster'
	rm -rf .venv-bare

# The wheel alone, with the dependencies of $(VENV) beside it: a project made by 'perf-assets init' works.
test-wheel: $(VENV)/ready
	rm -rf .venv-wheel && $(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$(.venv-wheel/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
	bin=$$PWD/.venv-wheel/bin && drops=$$PWD/data/drops/examples && folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT \
	  && cd "$$folder" && "$$bin/perf-assets" init x && cp -r "$$drops" x/data/drops && cd x && source activate-perf-assets \
	  && "$$bin/python" -c 'import perf_assets, sys; assert perf_assets.__file__.startswith(sys.prefix), perf_assets.__file__' \
	  && "$$bin/perf-assets" ingest >/dev/null && "$$bin/python" -m dagster asset materialize --select cleaned_runs 2>&1 | grep -c RUN_SUCCESS \
	  && "$$bin/perf-assets" sweep sweeps/demo.toml --stage sanity
	rm -rf .venv-wheel

test-node:
	rm -rf .venv-node && $(PYTHON) -m venv .venv-node
	.venv-node/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements/node.txt
	.venv-node/bin/python -m pip install --quiet --disable-pip-version-check --no-deps .
	out=$$(mktemp -d) && trap 'rm -rf "$$out"' EXIT \
	  && .venv-node/bin/python -m perf_assets.measuring.sweeps --sweep sweeps/demo.toml --stage sanity --out "$$out"
	rm -rf .venv-node

clean:
	rm -rf $(VENV)

bench-materialize: $(VENV)/ready
	$(BIN)/python -m benchmarks.materialize

bench-predictors: $(VENV)/ready
	$(BIN)/python -m benchmarks.predictors $(SAMPLES_FOLDER)
