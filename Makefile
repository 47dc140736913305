# Every target starts from a bare Python 3.11 or newer and makes .venv by itself. Another one: make test PYTHON=python3.12
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

# What needs a server or a browser, and is left out of the other tests: those that are marked "services".
test-services: $(VENV)/with-dev  ## Run the tests that need a server or a browser
	@$(BIN)/python -m pytest -m services; status=$$?; \
	if [ $$status = 5 ]; then echo "No test needs a server or a browser yet."; else exit $$status; fi

# The tests, which take twice as long then, and the lines that none of them ran.
coverage: $(VENV)/with-dev  ## Run the tests and list the lines that none of them runs
	$(BIN)/python -m pytest --cov -n 3 --dist worksteal

# The tests on every supported interpreter that is found by its name or under pyenv; a missing one is no failure.
test-all:  ## Run the tests on every supported Python that is found
	@status=0; \
	for version in 3.11 3.12 3.13; do \
	  found=; \
	  for python in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
	    if "$$python" -c '' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "Python $$version: not found, not run"; continue; fi; \
	  echo "Python $$version: $$found"; \
	  $(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON="$$found" || status=1; \
	done; \
	exit $$status

# Every operation against 100,000 odd answers; `make test` runs 2,000. One seed again: make fuzz FUZZ="--seed 17"
fuzz: $(VENV)/with-dev  ## Run every operation against 100,000 odd responses
	$(BIN)/python -m tests.fuzz $(FUZZ)

# 200 kills of mass jobs with a ledger, the real command's and the library's, over at least 20 jobs; `make test` does a few.
test-kill: $(VENV)/with-dev  ## Kill 200 bulk jobs and check what ledger and server say
	$(BIN)/python -m tests.kill $(KILL)

# 1,000 power cuts in the middle of mass jobs; `make test` does a few. Other ones: make test-power POWER="--seed 17"
test-power: $(VENV)/with-dev  ## Cut the power of bulk jobs 1,000 times
	$(BIN)/python -m tests.power $(POWER)

# 3,000 flipped bits in ledgers, their logs and key files; `make test` does a few. Others: make test-flips FLIPS="--seed 17"
test-flips: $(VENV)/with-dev  ## Flip 3,000 bits in ledgers and their files
	$(BIN)/python -m tests.flips $(FLIPS)

# 20,000 calls and 20,000 deletions against a server that sends responses too many; `make test` does 1,000 of each.
test-desync: $(VENV)/with-dev  ## Send calls and deletions to a server that sends surplus responses
	$(BIN)/python -m tests.desync $(DESYNC)

# From nothing each time: mutmut keeps what it found of a mutant also where the tests have changed since.
mutate: $(VENV)/with-dev  ## Check that the tests notice changes of three modules
	rm -rf mutants
	$(BIN)/mutmut run --max-children 2
	$(BIN)/python -m tests.mutation_score

# 600 mutants of the ledger and the bulk engine; 50 of others: make mutate-sample SAMPLE="--mutants 50 --seed 17"
mutate-sample: $(VENV)/with-dev  ## Check that they notice 600 changes of the ledger and the engine
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

reference: $(VENV)/with-docs  ## Write the pages and man pages of the commands again
	$(BIN)/python docs/generate.py

linkcheck: $(VENV)/with-docs  ## Check the links of the documentation to other sites
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/linkcheck

wheel: $(VENV)/with-dev  ## Build the source distribution and the wheel into dist
	rm -rf dist
	$(BIN)/python -m build

# The results anew, and the table in docs/explanation; best while nothing else runs. To fail where a bar isn't met:
# make bench BENCH=--check; with a job of 10 million items as well: make bench BENCH=--largest
bench: $(VENV)/with-bench  ## Measure the cost beside other clients
	$(BIN)/python benchmarks/speed.py --results benchmarks/results/speed $(BENCH)

# In about 4 minutes the results anew, and the table in README. To fail where a bar isn't met, at the end:
# make bench-pacing PACING=--check
bench-pacing: $(VENV)/with-bench  ## Measure how near the pacers come to hidden limits
	$(BIN)/python benchmarks/pacing.py --jobs 2 --results benchmarks/results/pacing $(PACING)

# Processes that share what they know, and one of them killed.
bench-shared: $(VENV)/with-cli  ## Measure processes that share a limit
	$(BIN)/python benchmarks/shared_pacing.py

# With 10 million items as well, and to fail where a bar isn't met: make bench-ledger LEDGER="--largest --check"
bench-ledger: $(VENV)/with-cli  ## Measure the cost of a ledger
	$(BIN)/python benchmarks/ledger.py --table benchmarks/results/ledger/table.md $(LEDGER)

# 10 million rows of each format against 10,000; to fail where a bar isn't met: make bench-inputs INPUTS=--check
bench-inputs: $(VENV)/with-parquet  ## Measure the reading of every input format
	$(BIN)/python benchmarks/inputs.py --table benchmarks/results/inputs/table.md $(INPUTS)

clean:  ## Remove everything that make has made
	rm -rf .venv .venv-* dist docs/_build mutants .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The project, editable, with one of its extras; again only when pyproject.toml has changed.
$(VENV)/with-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and '$(PYTHON)' is none; name another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
