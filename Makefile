# make demo | test | ui | check    All set-up happens in .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: demo test ui check fix docs gallery clean test-bare test-wheel test-node test-pa test-triton test-gpu bench-predictors bench-materialize bench-load
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

# The real perf_analyzer, 15 MB: the binary of an old tritonclient wheel and the two libraries that it needs.
PA := .perf_analyzer
$(PA)/perf_analyzer:
	mkdir -p $(PA)/wheels $(PA)/libs
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --no-deps -d $(PA)/wheels tritonclient==2.48.0 nvidia-cuda-runtime-cu12==12.6.77
	$(PYTHON) -m zipfile -e $(PA)/wheels/tritonclient-2.48.0-*.whl $(PA)/wheels/triton
	$(PYTHON) -m zipfile -e $(PA)/wheels/nvidia_cuda_runtime_cu12-*.whl $(PA)/wheels/cuda
	cp $$(find $(PA)/wheels/cuda -name libcudart.so.12) $(PA)/libs/
	cd $(PA)/wheels && apt-get download -q libb64-0d && dpkg -x libb64-0d_*.deb b64
	cp $$(find $(PA)/wheels/b64 -name 'libb64.so.0d') $(PA)/libs/
	install -m 755 $$(find $(PA)/wheels/triton -name perf_analyzer) $@
	rm -rf $(PA)/wheels

test-pa: $(VENV)/ready $(PA)/perf_analyzer
	LD_LIBRARY_PATH=$(CURDIR)/$(PA)/libs PERF_ANALYZER=$(CURDIR)/$(PA)/perf_analyzer \
	  $(BIN)/python -m pytest -k perf_analyzer_and_our_own perf_assets_tests/measuring/load_tests

bench-load: $(VENV)/ready $(PA)/perf_analyzer
	LD_LIBRARY_PATH=$(CURDIR)/$(PA)/libs $(BIN)/python -m benchmarks.load_generator $(PA)/perf_analyzer

# The real Triton 2.51 of the pytriton wheel, 370 MB, in an environment of its own: opt-in.
TRITON := .triton
$(TRITON)/ts/bin/tritonserver:
	rm -rf $(TRITON) && $(PYTHON) -m venv $(TRITON)/venv
	$(TRITON)/venv/bin/python -m pip install --quiet --disable-pip-version-check nvidia-pytriton==0.7.0
	cp -r $(TRITON)/venv/lib/python3*/site-packages/pytriton/tritonserver $(TRITON)/ts
	cp $(TRITON)/ts/python_backend_stubs/$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')/triton_python_backend_stub $(TRITON)/ts/backends/python/
	chmod +x $(TRITON)/ts/bin/tritonserver $(TRITON)/ts/backends/python/*stub

test-triton: $(VENV)/ready $(TRITON)/ts/bin/tritonserver
	TRITON_FOLDER=$(CURDIR)/$(TRITON) $(BIN)/python -m pytest perf_assets_tests/measuring/load_tests/test_triton.py

# The profiler's numbers on one GPU beside references of others: eight minutes; without a GPU one line.
test-gpu: $(VENV)/ready
	$(BIN)/python -m benchmarks.gpu_checks

clean:
	rm -rf $(VENV) $(PA) $(TRITON)

bench-materialize: $(VENV)/ready
	$(BIN)/python -m benchmarks.materialize

bench-predictors: $(VENV)/ready
	$(BIN)/python -m benchmarks.predictors $(SAMPLES_FOLDER)
