# Every target needs only Python 3.11 or newer and creates .venv. To choose a Python: make test PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: help demo test test-services test-all test-kill test-power test-flips test-desync coverage fuzz mutate mutate-sample lint types docs reference linkcheck wheel bench bench-pacing bench-shared bench-ledger bench-inputs clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help:  ## Print these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1 \2/p' $(firstword $(MAKEFILE_LIST)) | \
	  while read -r target text; do printf '%-15s %s\n' "$$target" "$$text"; done

demo: $(VENV)/with-cli  ## Delete 20,000 profiles from a simulator, in less than a minute
	$(BIN)/adapty-async demo

test: $(VENV)/with-dev  ## Run the tests
	$(BIN)/python -m pytest -n 3 --dist worksteal

# These tests are marked "services" and aren't part of the other targets.
test-services: $(VENV)/with-dev  ## Run the tests that need a server or a browser
	@$(BIN)/python -m pytest -m services; status=$$?; \
	if [ $$status = 5 ]; then echo "No test needs a server or a browser yet."; else exit $$status; fi

# Takes twice as long as the tests alone.
coverage: $(VENV)/with-dev  ## Run the tests and list the lines that none of them runs
	$(BIN)/python -m pytest --cov -n 3 --dist worksteal

# Looks for interpreters by name and under pyenv. A missing one isn't a failure.
test-all:  ## Run the tests on every supported Python that is found
	@status=0; \
	for version in 3.11 3.12 3.13 3.14 3.15; do \
	  found=; \
	  for python in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
	    if "$$python" -c '' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "Python $$version: not found, not run"; continue; fi; \
	  echo "Python $$version: $$found"; \
	  $(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON="$$found" || status=1; \
	done; \
	exit $$status

# `make test` runs 2,000. To repeat a seed: make fuzz FUZZ="--seed 17"
fuzz: $(VENV)/with-dev  ## Run every operation against 100,000 odd responses
	$(BIN)/python -m tests.fuzz $(FUZZ)

# Kills at least 20 jobs with a ledger, of the command and of the library; `make test` makes a few kills.
test-kill: $(VENV)/with-dev  ## Kill bulk jobs 200 times and check ledger and server
	$(BIN)/python -m tests.kill $(KILL)

# `make test` simulates a few power failures. For others: make test-power POWER="--seed 17"
test-power: $(VENV)/with-dev  ## Simulate 1,000 power failures during bulk jobs
	$(BIN)/python -m tests.power $(POWER)

# Flips bits in ledgers, their logs and key files; `make test` flips a few. For others: make test-flips FLIPS="--seed 17"
test-flips: $(VENV)/with-dev  ## Flip 3,000 bits in ledgers and their files
	$(BIN)/python -m tests.flips $(FLIPS)

# Makes 20,000 calls and 20,000 deletions; `make test` makes 1,000 of each.
test-desync: $(VENV)/with-dev  ## Send calls and deletions to a server that sends surplus responses
	$(BIN)/python -m tests.desync $(DESYNC)

# Starts from scratch, because mutmut keeps the results of mutants even if the tests have changed.
mutate: $(VENV)/with-dev  ## Check that the tests notice changes of three modules
	rm -rf mutants
	$(BIN)/mutmut run --max-children 2
	$(BIN)/python -m tests.mutation_score

# For 50 other mutants: make mutate-sample SAMPLE="--mutants 50 --seed 17"
mutate-sample: $(VENV)/with-dev  ## Check that the tests notice 600 changes of the ledger and the engine
	$(BIN)/python -m tests.mutation_sample $(SAMPLE)

lint: $(VENV)/with-dev  ## Check the code with ruff
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/with-dev  ## Check the types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# Works without a network once the packages are installed. The pages are then in docs/_build/html.
docs: $(VENV)/with-docs  ## Build the documentation and run its examples
	$(BIN)/python docs/generate.py --check
	$(BIN)/codespell README.md CHANGELOG.md CONTRIBUTING.md docs adapty_async
	$(BIN)/python -m sphinx -n -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python -m sphinx -n -W --keep-going -q -b doctest docs docs/_build/doctest

reference: $(VENV)/with-docs  ## Regenerate the pages and man pages of the commands
	$(BIN)/python docs/generate.py

linkcheck: $(VENV)/with-docs  ## Check the links of the documentation to other sites
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/linkcheck

wheel: $(VENV)/with-dev  ## Build the source distribution and the wheel into dist
	rm -rf dist
	$(BIN)/python -m build

# Updates the results and the table in docs/explanation; best if nothing else is running. To fail if a target is missed:
# make bench BENCH=--check. To add a job of 10 million items: make bench BENCH=--largest
bench: $(VENV)/with-bench  ## Measure the cost compared with other clients
	$(BIN)/python benchmarks/speed.py --results benchmarks/results/speed $(BENCH)

# Updates the results and the table in docs/explanation, in about 4 minutes. To fail at the end if a target is missed:
# make bench-pacing PACING=--check
bench-pacing: $(VENV)/with-bench  ## Measure how near the pacers come to hidden limits
	$(BIN)/python benchmarks/pacing.py --jobs 2 --results benchmarks/results/pacing $(PACING)

# One of the processes is killed.
bench-shared: $(VENV)/with-cli  ## Measure processes that share a limit
	$(BIN)/python benchmarks/shared_pacing.py

# To add 10 million items and fail if a target is missed: make bench-ledger LEDGER="--largest --check"
bench-ledger: $(VENV)/with-cli  ## Measure the cost of a ledger
	$(BIN)/python benchmarks/ledger.py --table benchmarks/results/ledger/table.md $(LEDGER)

# Compares 10 million rows of each format with 10,000. To fail if a target is missed: make bench-inputs INPUTS=--check
bench-inputs: $(VENV)/with-parquet  ## Measure the reading of every input format
	$(BIN)/python benchmarks/inputs.py --table benchmarks/results/inputs/table.md $(INPUTS)

clean:  ## Remove all files that make has created
	rm -rf .venv .venv-* dist docs/_build mutants .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs the project, editable, with one of its extras. Repeated only if pyproject.toml has changed.
$(VENV)/with-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "'$(PYTHON)' isn't Python 3.11 or newer; choose another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
