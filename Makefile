# Two commands do everything on a fresh machine with Python 3.11 or newer: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TASK ?= breast_cancer
READY := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint mutants bench mlflow clean

help: ## Show this help
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(READY) ## A real federation of four hospitals on this machine (TASK=heart_disease with its data)
	@$(BIN)/wardround demo --task $(TASK)

test: $(READY) lint ## Lint, types and the whole suite
	@$(BIN)/python -m pytest

lint: $(READY) ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

mutants: $(READY) ## Faults that break privacy, one at a time: each must make a test fail
	@$(BIN)/python -m tests.mutants

bench: $(READY) ## Every benchmark, one JSON line a figure
	@status=0; for file in bench/*.py; do echo "# $$file" >&2; $(BIN)/python $$file || status=1; done; exit $$status

mlflow: $(READY) ## Open the demo's MLflow server until Ctrl-C
	@$(BIN)/wardround mlflow demo/mlflow

clean: ## Remove the virtual environment and what runs left behind
	rm -rf $(VENV) demo outputs

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
