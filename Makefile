# Run `make` for the list of targets: each is told by the comment after its name.
.DEFAULT_GOAL := help
PYTHON ?= python3
PORT ?= 8000
LLM_PORT ?= 8089
DATA_DIR ?= .data
SITE ?= default
NEW ?=
INPUT ?= automation/contrib/content/sample/keywords-400.csv
# Many tests wait for processes, so there may be one more than there are cores.
PYTEST_WORKERS ?= $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)')
PYTEST_ARGS ?=
MINUTES ?= 8
BIN := .venv/bin
SOURCES := backend automation pause_manager tests $(wildcard benchmarks) manage.py
export DATA_DIR
# Where it is set, each of the many processes would compile our modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run up run-llm test test-slow test-touched test-matrix check format reference openapi bench browser pictures

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PORT=8000 DATA_DIR=.data INPUT=my.csv SITE=blog NEW=1 PYTHON=python3.12 PYTEST_ARGS='-k pause'"

run: .venv/.runtime  ## start everything and run the content pipeline once, on http://localhost:8000
	@exec $(BIN)/python manage.py up --port $(PORT) --run-pipeline content --input "$(INPUT)" --site "$(SITE)" \
	  $(if $(NEW),--new-run)

up: .venv/.runtime  ## start everything without a run
	@exec $(BIN)/python manage.py up --port $(PORT)

test: .venv/.dev browser  ## the tests, on a real PostgreSQL and Redis
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup -m "not slow and not quiet" $(PYTEST_ARGS)

test-slow: .venv/.dev browser  ## the slow tests: storms of kills, large state machines, races
	@CHAOS_LONG=1 $(BIN)/python -m pytest -n0 -m slow $(PYTEST_ARGS)

# Changed since CI_BASE, or since the branch left origin/main, or since the last tag.
test-touched: .venv/.dev browser  ## the slow tests that guard what a change touched, as many as fit into MINUTES
	@$(BIN)/python -m tests.guards --minutes $(MINUTES) $(PYTEST_ARGS)

test-matrix: .venv/.dev  ## the drop-in's tests on each Python, Celery and Django that this machine has
	@$(BIN)/python -m tests.matrix $(PYTEST_ARGS)

check: .venv/.dev  ## lint, format, types, import contracts, migrations, OpenAPI drift
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python -m tests.architecture.vocabulary
	$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run --settings backend.settings.test
	@mkdir -p build
	$(BIN)/python manage.py spectacular --settings backend.settings.test --validate --fail-on-warn --file build/openapi.yaml
	@diff -u docs/reference/openapi.yaml build/openapi.yaml || { echo "docs/reference/openapi.yaml is out of date: run 'make openapi'."; exit 1; }

reference: openapi  ## write the generated pages of docs/reference
	$(BIN)/python manage.py write_reference --settings backend.settings.test

openapi: .venv/.dev  ## write docs/reference/openapi.yaml
	$(BIN)/python manage.py spectacular --settings backend.settings.test --validate --file docs/reference/openapi.yaml

format: .venv/.dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pictures: .venv/.dev  ## pictures of every page of the console, from a system that is started for it
	@$(BIN)/python -m tests.support.pictures --port $(PORT)

bench: .venv/.dev  ## the benchmarks
	@$(BIN)/python -m benchmarks

run-llm: .venv/.llm  ## as run, with texts by a small language model on this machine
	@exec $(BIN)/python manage.py up --port $(PORT) --llm-port $(LLM_PORT) --run-pipeline content --input "$(INPUT)" \
	  --site "$(SITE)" --param provider=openai --param api=completion --param words=300 --param ideas_per_cluster=1 \
	  --param timeout=300 $(if $(NEW),--new-run)

# The browser tests use an installed Chromium or Chrome, else the one that Playwright fetches.
browser: .venv/.dev  ## install a browser for the browser tests, if there is none
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium >/dev/null && exit 0; \
	  fi; \
	  $(BIN)/python -m playwright install chromium || echo "No browser could be installed: the browser tests will be skipped."

# The pip of today takes half the time of the one that came with Python, and most modules are never imported: those
# that are, Python compiles then.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Cannot set up: Python 3.11 or later is needed (set PYTHON=), found " + sys.version.split()[0])'
	@$(PYTHON) -m venv --upgrade-deps .venv || { echo "Cannot create .venv: on Debian and Ubuntu, install python3-venv."; exit 1; }

.venv/.runtime: requirements.txt | .venv/bin/python
	@echo "installing requirements.txt into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt requirements-statsd.txt .venv/.runtime
	@echo "installing requirements-dev.txt into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements-dev.txt
	@touch $@

.venv/.llm: requirements-llm.txt .venv/.runtime
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-llm.txt
	@touch $@
