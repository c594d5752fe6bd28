# make demo: the environment, then the digits recipe.   make test: the environment, then all tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Two files of tests side by side (they start processes of their own); the long ones come first.
SPREAD := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test quick lint env bench clean

demo: $(STAMP)
	$(BIN)/hone run digits

test: $(STAMP)
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(SPREAD)

quick: $(STAMP)
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(SPREAD) -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd $(VENV)/typed && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../.mypy_cache $(addprefix -p prefect_hone.,recipe ray_workers tasks flows)
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)
	$(BIN)/python tests/benchmarks/honesty.py
	$(BIN)/python tests/benchmarks/run_time.py
	$(BIN)/python tests/benchmarks/overhead.py
	$(BIN)/python tests/benchmarks/training.py
	$(BIN)/python tests/benchmarks/compression.py
	$(BIN)/python tests/benchmarks/targets.py
	$(BIN)/python tests/benchmarks/champions.py

env: $(STAMP)

# torch comes first and exactly: another package's wish for it would bring gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt __init__.py Makefile
	@$(PYTHON) -c 'import sys; sys.exit("Hone needs Python 3.11, 3.12 or 3.13; this is %d.%d. Try: make PYTHON=python3.11" % sys.version_info[:2]) if not (3, 11) <= sys.version_info[:2] <= (3, 13) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable '.[dev]'
	mkdir -p $(VENV)/typed && ln -sfn ../.. $(VENV)/typed/prefect_hone
	touch $(STAMP)

clean:
	rm -rf $(VENV) build *.egg-info
