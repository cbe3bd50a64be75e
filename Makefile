# make            says what there is to make
SHELL := bash

# What pip is asked for. Without a GPU, PyTorch's CPU wheels save gigabytes:
#   make setup TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
# Where `make setup-source` builds. No space in the path: PETSc's build cannot have one.
SOURCE_ENV ?= .venv-source
# Ranks and job of `make demo`; options of pytest for the tests
RANKS ?= 2
JOB ?= jobs/digits.toml
PYTEST ?=

export TORCH

PYTHON_TOOL := .venv/bin/python -m
SHELL_FILES := scripts/*.sh jobs/*.sh benchmarks/*.sh jobs/*.sbatch .ci/run

.DEFAULT_GOAL := help
.PHONY: help setup demo test setup-source test-source lint format types contracts clean

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## environment .venv with all that hpcembed needs; nothing to do when it is there
	@bash scripts/setup.sh

demo: setup ## a whole job on 2 ranks of this machine: digits, 8 by 8 pixels, in runs/
	@bash jobs/run_local.sh $(RANKS) "$(JOB)" --out "runs/demo-$$(date +%Y%m%d-%H%M%S)"

test: setup ## all tests: in one process, then those for MPI at 1, 2 and 3 ranks
	@bash scripts/test.sh .venv $(PYTEST)

setup-source: ## environment .venv-source with PETSc and SLEPc built from source over MPICH
	@SOURCE_ENV="$(SOURCE_ENV)" bash scripts/setup_source.sh

test-source: setup-source ## all tests in that environment
	@bash scripts/test.sh "$(SOURCE_ENV)" $(PYTEST)

lint: ## style of Python (ruff) and shell (shellcheck)
	@$(PYTHON_TOOL) ruff check .
	@$(PYTHON_TOOL) ruff format --check .
	@PATH="$$PWD/.venv/bin:$$PATH" shellcheck -x $(SHELL_FILES)

format: ## put Python into the style that `make lint` asks for
	@$(PYTHON_TOOL) ruff check --fix .
	@$(PYTHON_TOOL) ruff format .

types: ## types (mypy, strict)
	@$(PYTHON_TOOL) mypy

contracts: ## which module may import which (import-linter)
	@.venv/bin/lint-imports

clean: ## remove caches and builds; environments and runs stay
	@find hpcembed solvers tests scripts benchmarks examples -name __pycache__ -type d \
		-prune -exec rm -rf {} + 2>/dev/null || true
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
