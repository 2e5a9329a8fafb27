PYTHON ?= python3
BIN = .venv/bin
INSTALLED = .venv/.installed
EXTRAS = .venv/.extras
SITE = .venv/.site
# At the end it names the tests that took longest; ARGS=--durations=30 names more.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal \
	--durations 10 --durations-min 3 $(ARGS)
# Names of several versions of numpy: it leaves out those that it, or the machine, does not know.
WITHOUT_AVX512 = NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX \
	AVX512_CNL AVX512_ICL AVX512_SPR"

.PHONY: help train test test-quick test-slow test-portable test-extras docs lint types format bench results notebooks

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into .venv; once, a minute or more ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	@touch $@

$(EXTRAS): $(INSTALLED)
	@echo "Installing what the extras need ..."
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev,atari,bench,metaworld,minigrid,mujoco,optuna,ray,slurm,wandb]"
	@touch $@

$(SITE): $(INSTALLED)
	@$(BIN)/pip install -q -c constraints.txt -e ".[dev,docs]"
	@touch $@

train: $(INSTALLED) ## train an agent; make train ARGS="experiment=..." sets fields
	$(BIN)/python train.py $(ARGS)

test: lint types test-quick ## style, types, the direction of imports, and the quick tests

test-quick: $(INSTALLED) ## the quick tests alone
	$(PYTEST) -m "not slow"

test-slow: test-portable ## agents trained to a threshold, long published figures, other processors
	$(PYTEST) -m slow

test-portable: $(INSTALLED) ## the quick tests of the families, as processors without AVX-512 round
	$(WITHOUT_AVX512) ATEN_CPU_CAPABILITY=avx2 $(PYTEST) -m "not slow" tests/families
	$(WITHOUT_AVX512) ATEN_CPU_CAPABILITY=default $(PYTEST) -m "not slow" tests/families

test-extras: $(EXTRAS) ## what needs optional packages, which this installs
	$(PYTEST) tests/extras

docs: $(SITE) ## build the documentation site into build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --clean

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
