# Needs Python 3.10 or newer and make, nothing else. Other places: make test VENV=/tmp/venv PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?= -n auto --dist loadfile

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ALL := $(VENV)/.installed-all
DEV := $(VENV)/.installed-dev

.PHONY: help setup demo test lint format
.DEFAULT_GOAL := help

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(ALL) ## Make .venv and install kws for training and listening

demo: $(ALL) ## Make the wake word "hey computer" and find it in a recording
	$(BIN)/python demo/typed_phrase.py

test: $(DEV) ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(DEV) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## Put the code into the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "kws needs Python 3.10 or newer, $(PYTHON) is " \
		+ sys.version.split()[0] + "; name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# pip touches what it installs from, not the interpreter: order-only, so that a second call does nothing.
$(ALL): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV): several minutes the first time, torch is large'
	$(PIP) install --quiet -c constraints.txt -e '.[all]'
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV): several minutes the first time, torch is large'
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $(ALL) $@
