# Two commands do for a first look: `make demo` and `make test`. `make help` lists the others.
PYTHON ?= /usr/bin/python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# More workers than the two cores of a small machine: most tests wait for processes and for the
# kernel. A file stays with one worker, so that its fixtures are made once; which file comes when
# says tests/conftest.py.
WORKERS ?= 4
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# The tests' bytecode is kept, also where the environment says otherwise: each worker wants all of it.
export PYTHONDONTWRITEBYTECODE :=
CODE := src tests $(wildcard bench)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint bench build clean

help: ## list these goals
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## install the Debian packages and the virtual environment that are missing
	@scripts/setup $(PYTHON)

demo: ## see it work: three hosts on this machine, traffic, tables, damage and repair
	@scripts/need-root demo
	@$(MAKE) --no-print-directory setup
	@$(BIN)/netloom demo

test: ## lint, then every test that is not slow
	@scripts/need-root test
	@$(MAKE) --no-print-directory setup lint
	$(PYTEST) $(PARALLEL) -m "not slow"

test-all: ## lint, then every test
	@scripts/need-root test-all
	@$(MAKE) --no-print-directory setup lint
	$(PYTEST) $(PARALLEL)

lint: setup ## style, types, and the arrows between the layers
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: ## measure; prints figures, asserts none
	@scripts/need-root bench
	@$(MAKE) --no-print-directory setup
	$(BIN)/python -m bench

build: setup ## a wheel in dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## remove all that these goals made here; Debian packages stay
	rm -rf .venv build dist src/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
