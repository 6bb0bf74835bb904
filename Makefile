# Needs Python 3.11 or later with venv, and git. Everything else comes from the hash-pinned locks.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DOCS := .venv-docs
# Processes that share the tests, each with a broker of its own; TESTERS=0 for a debugger. Tests wait a lot: four
# processes keep two cores busy. System tests start many processes of their own.
fast-tests coverage: TESTERS ?= 4
test-all: TESTERS ?= 3
UV_COMPILE := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-strip-extras
PYTEST = $(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadgroup --no-loadscope-reorder
# Tests start hundreds of Python processes: without stored bytecode, each of them compiles this project again.
unexport PYTHONDONTWRITEBYTECODE
CHECKED := platform assets sensors resources definitions.py tests scripts benchmarks

.PHONY: help up shell install test fast-tests test-all lint format faults journeys coverage hooks release audit docs bench figures lock clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

up: $(VENV)/.runtime ## broker, topics, a feed, Dagster's web UI; Ctrl-C stops everything
	@exec $(BIN)/coinstream up $(ARGS)

shell: $(VENV)/.runtime ## a shell in which `coinstream` is a command; leave it with exit
	@PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" exec "$${SHELL:-/bin/sh}"

install: $(VENV)/.dev ## the virtual environment with everything for development

test: $(VENV)/.dev ## lint, types and the fast tests; ARGS="-k name" goes to pytest
	@$(MAKE) --no-print-directory --jobs 2 lint fast-tests

# Beside lint, which keeps one core busy while tests wait for brokers.
fast-tests: $(VENV)/.dev
	$(PYTEST) -m "not system" --durations 20 $(ARGS)

test-all: $(VENV)/.ray ## the system tests, and properties at full depth; takes up to 25 minutes
	$(PYTEST) -m "system or hypothesis" --hypothesis-profile full --durations 30 $(ARGS)

lint: $(VENV)/.dev ## ruff (with its security rules) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(wildcard $(CHECKED))

format: $(VENV)/.dev ## format and fix the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: $(VENV)/.dev ## kill, pause, fill and slow down real brokers and processes, and check what is stored
	$(BIN)/python -m pytest tests/faults $(ARGS)

journeys: $(VENV)/.dev ## what a new user does from end to end, each with its time; takes up to 15 minutes
	JOURNEYS=1 $(BIN)/python -m pytest tests/orchestration/test_journeys.py -rP $(ARGS)

coverage: $(VENV)/.ray ## branch coverage of platform/ by all tests; ARGS='-m "not system"' for the fast ones
	$(PYTEST) --cov --cov-report term:skip-covered $(ARGS)

hooks: $(VENV)/.dev ## git hooks that check code and commit subjects
	$(BIN)/pre-commit install

release: $(VENV)/.dev ## version, changelog section, wheel and sdist, tag; VERSION=1.4.0
	@$(BIN)/python scripts/release.py $(VERSION)

audit: $(VENV)/.dev ## known vulnerabilities of the locked packages; needs the network; ARGS="-s osv" asks OSV
	$(BIN)/python scripts/audit.py requirements.lock requirements-deploy.lock -- $(ARGS)

docs: $(DOCS)/.installed $(VENV)/.runtime ## the documentation site, in site/
	@$(BIN)/python scripts/reference.py docs/reference
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet --site-dir site $(ARGS)

bench: $(VENV)/.dev ## every benchmark, measured beside the bare client in the same run
	$(BIN)/coinstream bench all $(ARGS)

figures: $(VENV)/.dev ## the tables of figures in README and docs, from one run of all benches; ARGS=--quick
	$(BIN)/coinstream bench all --json $(ARGS) > bench.json
	$(BIN)/python scripts/figures.py bench.json

lock: $(VENV)/.dev ## update the locks; ARGS="--upgrade" takes newer versions
	printf 'setuptools>=77\nuv\n' | $(UV_COMPILE) $(ARGS) --no-annotate -o requirements-bootstrap.lock -
	$(UV_COMPILE) $(ARGS) -o requirements.lock pyproject.toml
	$(UV_COMPILE) $(ARGS) --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	$(UV_COMPILE) $(ARGS) --extra deploy -c requirements.lock -o requirements-deploy.lock pyproject.toml
	$(UV_COMPILE) $(ARGS) --extra ray -c requirements.lock -o requirements-ray.lock pyproject.toml
	$(UV_COMPILE) $(ARGS) --group docs -o requirements-docs.lock

clean: ## remove what was made here; data under ~/.coinstream stays
	rm -rf $(VENV) $(DOCS) docs/reference/settings.md docs/reference/commands.md docs/reference/exchanges.md site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis platform/coinstream.egg-info

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and none is on the PATH" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$($(PYTHON) --version) is too old: 3.11 or later is needed; try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.runtime: requirements-bootstrap.lock requirements.lock pyproject.toml scripts/install.py | $(VENV)/bin/python
	@echo "installing Python packages into $(VENV) (once)"
	@$(BIN)/python scripts/install.py requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "installing the packages for development into $(VENV) (once)"
	@$(BIN)/python scripts/install.py requirements-dev.lock
	@touch $@

$(VENV)/.ray: requirements-ray.lock $(VENV)/.dev
	@echo "installing the packages of the extra ray into $(VENV) (once)"
	@$(BIN)/python scripts/install.py requirements-ray.lock
	@touch $@

$(DOCS)/.installed: requirements-docs.lock requirements-bootstrap.lock | $(VENV)/bin/python
	@echo "installing the packages for the documentation into $(DOCS) (once)"
	@$(VENV)/bin/python -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --require-hashes -r requirements-docs.lock
	@touch $@
