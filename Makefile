# make            print the targets
SHELL := bash

# PyTorch for pip. Without a GPU, the CPU wheels are gigabytes smaller:
#   make setup TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
# Environment of `make setup-source`. PETSc's build does not allow a space in its path.
SOURCE_ENV ?= .venv-source$(if $(filter 64,$(INDICES)),-64)
# Bits of PETSc's indices in that build: 64 for matrices of 2^31 rows or more
INDICES ?= 32
# Ranks and job of `make demo`; options of pytest for the tests
RANKS ?= 2
JOB ?= jobs/digits.toml
PYTEST ?=

export TORCH

PYTHON_TOOL := .venv/bin/python -m
# Pages of `make docs-commands`; all if empty
PAGES ?=

SHELL_FILES := scripts/*.sh jobs/*.sh benchmarks/*.sh jobs/*.sbatch packaging/*/*.sh .ci/run

.DEFAULT_GOAL := help
.PHONY: help setup oracles demo check test test-kernels setup-source test-source lint format types \
	contracts docs docs-commands clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: ## create the environment .venv, or bring it up to date
	@bash scripts/setup.sh

demo: setup ## run a whole job on 2 ranks: digits of 8 by 8 pixels, results in runs/
	@bash jobs/run_local.sh $(RANKS) "$(JOB)" --out "runs/demo-$$(date +%Y%m%d-%H%M%S)"

oracles: setup ## install the packages that results are compared with by tests (half a minute)
	@bash scripts/oracles.sh

check: setup ## run lint, types, contracts and the quick tests: before each commit
	@$(MAKE) --no-print-directory --jobs 2 lint types contracts
	@bash scripts/test.sh quick .venv $(PYTEST)

test: setup ## run all tests, on 1, 2 and 3 ranks
	@bash scripts/test.sh all .venv $(PYTEST)

test-kernels: setup ## run the tests of solver, operators and embeddings with several BLAS kernels
	@bash scripts/test.sh kernels .venv $(PYTEST)

setup-source: ## create .venv-source with PETSc and SLEPc built from source over MPICH
	@SOURCE_ENV="$(SOURCE_ENV)" INDICES="$(INDICES)" bash scripts/setup_source.sh

test-source: setup-source ## run all tests in .venv-source
	@bash scripts/test.sh all "$(SOURCE_ENV)" $(PYTEST)

lint: ## check the style of Python (ruff) and shell (shellcheck)
	@$(PYTHON_TOOL) ruff check .
	@$(PYTHON_TOOL) ruff format --check .
	@PATH="$$PWD/.venv/bin:$$PATH" shellcheck -x $(SHELL_FILES)

format: ## rewrite Python in the style that `make lint` checks
	@$(PYTHON_TOOL) ruff check --fix .
	@$(PYTHON_TOOL) ruff format .

types: ## check types (mypy, strict)
	@$(PYTHON_TOOL) mypy

contracts: ## check which module imports which (import-linter)
	@.venv/bin/lint-imports

docs: setup ## build the documentation site in build/docs, with the figures of the gallery
	@bash scripts/docs.sh .venv

docs-commands: setup ## run the commands of README and documentation (minutes; PAGES="README.md ...")
	@.venv/bin/python scripts/run_documentation.py $(PAGES)

clean: ## remove caches and builds; environments and runs stay
	@find hpcembed solvers tests scripts benchmarks docs examples -name __pycache__ -type d \
		-prune -exec rm -rf {} +
	@rm -rf build docs/gallery docs/reference/generated docs/sg_execution_times.rst dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
