# Each target makes .venv if there is none and installs into it; after that a call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread a process: the networks are small, and two processes share two cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint bench docs
demo: $(VENV)/.installed
	$(BIN)/regrow demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -q

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(VENV)/.bench
	set -e; for script in benchmarks/*.py; do $(BIN)/python $$script; done

docs: $(VENV)/.docs
	$(BIN)/python tools/make_docs.py
	$(BIN)/zensical build --strict

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lab,dev,lightning,stable-baselines3,transformers,recipes]'
	touch $@

$(VENV)/.bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@
