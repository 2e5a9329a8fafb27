PYTHON ?= python3
BIN = .venv/bin
INSTALLED = .venv/.installed

.PHONY: help train test lint types format bench results

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' Makefile

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into .venv; once, a minute or more ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

train: $(INSTALLED) ## train an agent; make train ARGS="experiment=..." sets fields
	$(BIN)/python train.py $(ARGS)

test: lint types ## style, types, the direction of imports, and the quick tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 8 --dist loadfile

lint: $(INSTALLED) ## style, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(INSTALLED) ## types
	$(BIN)/mypy

format: $(INSTALLED) ## put the code into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## env steps per second: collection, optimisation, the whole
	$(BIN)/python -m benchmarks.throughput $(ARGS)

results: $(INSTALLED) ## render the tables of results/ anew
	$(BIN)/python -m results.render
