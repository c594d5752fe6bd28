# Without a target: the list of targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from
# Three files of tests at a time: much of their time they wait for servers and processes to start.
# The quick ones don't: two, and each imports the libraries once.
# A worker that dies ends the tests: its tests given to another, pytest-xdist waits for ever.
SPREAD := -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart=0

.PHONY: help demo test nightly quick lint env stack bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile
	@echo 'PYTHON=python3.12 before them takes another Python; HONE_TORCH=cpu, cuda or auto a build of torch.'

demo: $(STAMP) ## the environment, then the digits recipe
	$(BIN)/hone run digits

test: $(STAMP) ## the environment, then lint and the tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(SPREAD) -m "not nightly"

quick: $(STAMP) ## the same without the slow and the long tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(SPREAD) -n 2 -m "not slow and not long"

nightly: $(STAMP) ## all tests, with those that repeat at length what others show
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(SPREAD)

lint: $(STAMP) ## ruff, mypy, the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select PLW1514 recipe runtimes ray_workers tasks flows testing
	$(BIN)/ruff format --check .
	cd $(VENV)/typed && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../.mypy_cache $(addprefix -p prefect_hone.,recipe runtimes ray_workers tasks flows testing)
	cd $(VENV)/typed && MYPYPATH=.:../../docs:../../examples/serving ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../.mypy_cache --explicit-package-bases ../../docs/write_reference.py ../../examples/serving/*.py
	$(BIN)/mypy --config-file pyproject.toml --cache-dir $(VENV)/.mypy_cache .ci/set_up.py
	$(BIN)/lint-imports --no-cache

stack: $(STAMP) ## a team's servers on this machine (hone stack up)
	$(BIN)/hone stack up

bench: $(STAMP) ## the benchmarks
	$(BIN)/python tests/benchmarks/honesty.py
	$(BIN)/python -m pip install --quiet --constraint constraints.txt mlcommons-loadgen
	$(BIN)/python tests/benchmarks/loadgen.py
	$(BIN)/python tests/benchmarks/run_time.py
	$(BIN)/python tests/benchmarks/overhead.py
	$(BIN)/python tests/benchmarks/training.py
	$(BIN)/python tests/benchmarks/compression.py
	$(BIN)/python tests/benchmarks/targets.py
	$(BIN)/python tests/benchmarks/champions.py
	$(BIN)/python tests/benchmarks/intervals.py --minutes 10
	$(BIN)/python tests/benchmarks/broken_layers.py
	$(BIN)/python tests/benchmarks/fuzz.py 5
	$(BIN)/python tests/benchmarks/fuzz_quantized.py
	$(BIN)/python tests/benchmarks/kills.py
	$(BIN)/python tests/benchmarks/registry_truth.py
	$(BIN)/python tests/benchmarks/outages.py

env: $(STAMP) ## only the environment, .venv

# Another build of torch than the last that was asked for makes the environment again.
ifneq ($(HONE_TORCH),)
export HONE_TORCH
ifneq ($(HONE_TORCH),$(shell cat $(VENV)/.torch 2>/dev/null))
.PHONY: $(STAMP)
endif
endif

$(STAMP): pyproject.toml constraints.txt __init__.py Makefile .ci/set_up.py
	@$(PYTHON) -c 'import sys; sys.exit("Hone needs Python 3.11, 3.12 or 3.13; this is %d.%d. Try: make PYTHON=python3.11" % sys.version_info[:2]) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
	@rm -f $(STAMP)
	@$(PYTHON) .ci/set_up.py
	@mkdir -p $(VENV)/typed && ln -sfn ../.. $(VENV)/typed/prefect_hone
	@touch $(STAMP)

clean: ## remove the environment
	rm -rf $(VENV) build *.egg-info
