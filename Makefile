# Everything happens in .venv, which the first command makes. PYTHON=python3.12 chooses another Python.
PYTHON ?= python3
BUDGET ?= quick
VENV := .venv
# A worker for each core; more than four would mostly repeat what tests share.
WORKERS := -n auto --maxprocesses 4 --dist worksteal
BIN := $(VENV)/bin

.PHONY: help reproduce test test-fast check format docs
help:
	@echo "make reproduce   install, find the data, train all methods, compare, report (BUDGET=quick, or full)"
	@echo "make test        all tests"
	@echo "make test-fast   the tests that take seconds"
	@echo "make check       formatting, lint and types"
	@echo "make format      format the code"
	@echo "make docs        the documentation as a site, in site/"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch numpy
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed photos/pyproject.toml
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ./photos -e '.[dev]'
	touch $@

reproduce: $(VENV)/installed
	$(BIN)/innerloop reproduce --budget $(BUDGET)

test: $(VENV)/installed-dev
	$(BIN)/pytest $(WORKERS)

test-fast: $(VENV)/installed-dev
	$(BIN)/pytest $(WORKERS) -m 'not slow'

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs site
