# Two commands do everything on a fresh machine with Python 3.11 to 3.13: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TASK ?= breast_cancer
READY := $(VENV)/.installed
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint mutants bench docs bundle pictures sbom mlflow clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(READY) ## A real federation of four hospitals on this machine (TASK=heart_disease with its data)
	@$(BIN)/wardround demo --task $(TASK)

test: $(READY) lint ## Lint, types and the whole suite
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

test-fast: $(READY) ## What is quick: no other process, coordinator or study is started
	@$(BIN)/python -m pytest --fast --numprocesses logical --maxprocesses 4 --dist loadfile

lint: $(READY) ## ruff, mypy --strict, bandit and hadolint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive protocol tasks client server launch wardround
	@$(BIN)/hadolint deploy/containers/*.Containerfile

mutants: $(READY) ## Faults that break privacy, one at a time: each must make a test fail
	@$(BIN)/python -m tests.mutants

bench: $(READY) ## Every benchmark, one JSON line a figure
	@status=0; for file in $(filter-out bench/published_statistics.py,$(wildcard bench/*.py)); do echo "# $$file" >&2; $(BIN)/python $$file || status=1; done; exit $$status

docs: $(READY) ## The documents as a site with search, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bundle: $(READY) ## What installs wardround without internet, in bundle/ (BEFORE=FOLDER: changes only)
	@$(BIN)/python -m deploy.bundle.make $(if $(BEFORE),--before $(BEFORE))

pictures: $(READY) ## The pictures of the README anew (Chromium draws MLflow's page)
	@$(BIN)/python -m tests.pictures

sbom: $(READY) ## sbom.json: every installed package with version and licence (CycloneDX)
	@$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file sbom.json $(BIN)/python

mlflow: $(READY) ## Open the demo's MLflow server until Ctrl-C
	@$(BIN)/wardround mlflow demo/mlflow

clean: ## Remove the virtual environment and what runs left behind
	rm -rf $(VENV) demo outputs site bundle sbom.json

# Hashes do not reach what a package is built with, so nothing is built in isolation: setuptools comes
# first, by its hash, and then builds what has no wheel.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@sed -n '/^setuptools==/,/[^\\]$$/p' constraints.txt > $(VENV)/build.txt
	@$(INSTALL) --require-hashes --requirement $(VENV)/build.txt
	@$(INSTALL) --require-hashes --requirement constraints.txt
	@$(INSTALL) --no-deps --editable .
	@touch $@
