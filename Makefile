PYTHON ?= python3
BIN = .venv/bin
INSTALLED = .venv/.installed
EXTRAS = .venv/.extras
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile
# Names of several versions of numpy: it leaves out those that it, or the machine, does not know.
WITHOUT_AVX512 = NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX \
	AVX512_CNL AVX512_ICL AVX512_SPR"

.PHONY: help train test test-slow test-portable test-extras lint types format bench results notebooks

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into .venv; once, a minute or more ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

$(EXTRAS): $(INSTALLED)
	@echo "Installing the environments of the extras ..."
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev,atari,metaworld,minigrid,mujoco]"
	@touch $@

train: $(INSTALLED) ## train an agent; make train ARGS="experiment=..." sets fields
	$(BIN)/python train.py $(ARGS)

test: lint types ## style, types, the direction of imports, and the quick tests
	$(PYTEST) -m "not slow"

test-slow: test-portable ## agents trained to a threshold, long published figures, other processors
	$(PYTEST) -m slow

test-portable: $(INSTALLED) ## the quick tests of the families, as processors without AVX-512 round
	$(WITHOUT_AVX512) ATEN_CPU_CAPABILITY=avx2 $(PYTEST) -m "not slow" tests/families
	$(WITHOUT_AVX512) ATEN_CPU_CAPABILITY=default $(PYTEST) -m "not slow" tests/families

test-extras: $(EXTRAS) ## the environments of optional packages, which this installs
	$(PYTEST) tests/extras

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

notebooks: $(INSTALLED) ## execute the notebooks, and store their outputs; minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m notebooks.execute $(ARGS)
