# Needs make and Python 3.11 or newer (PYTHON=python3.12 chooses one). Everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
ARGS ?=
PYTEST := $(BIN)/python -m pytest
# For what waits on real sockets, processes and clocks: a neighbour's load may spoil one run, so a failure is tried once
# more after a pause, and listed (RERUN) even if it passes then. What only computes gets no second chance.
AGAIN := --reruns 1 --reruns-delay 3 -raR
# Status 5: ARGS chose no test of this part, which is as it should be.
OR_NONE := || [ $$? -eq 5 ]

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test soak evaluate bench check lint format docs venv clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## set up and watch the shipped targets, without root (ARGS="--listen 127.0.0.1:9912" adds options)
	@exec $(BIN)/prober run $(ARGS)

test: $(VENV)/.dev ## set up and run all tests but the long ones (ARGS="-k dns" chooses; CI=true as root installs what they need)
	@bash .ci/packages
	@$(PYTEST) -m "computes and not soak" -n auto --maxprocesses 4 --dist worksteal $(ARGS) $(OR_NONE)
	@$(PYTEST) -m "waits and not soak" $(AGAIN) -n 4 --dist loadfile --no-loadscope-reorder $(ARGS) $(OR_NONE)
	@$(PYTEST) -m "not computes and not waits and not soak" $(AGAIN) $(ARGS) $(OR_NONE)

soak: $(VENV)/.dev ## run the tests that take longer than CI should
	@bash .ci/packages
	@$(PYTEST) -m soak $(ARGS)

evaluate: $(VENV)/.dev ## try the judgement on known truths, write docs/evaluation.md (long; ARGS=--quick takes a minute)
	@$(BIN)/python -m tests.evaluate $(ARGS)

bench: $(VENV)/.dev ## what a probe costs, beside the peers; writes docs/performance.md (root, 25 minutes, more on a busy machine; ARGS=--quick takes two)
	@bash .ci/packages
	@$(BIN)/python -m tests.bench $(ARGS)

check: lint test ## format, lint, types and tests: what CI runs

lint: $(VENV)/.dev ## format, lint and types, without the tests
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

format: $(VENV)/.dev ## format the code and fix what can be fixed
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

docs: $(VENV)/.dev ## write what follows from the code: references in docs/, and the dashboards from grafana/source
	@$(BIN)/python -m docs.generate
	@$(BIN)/python -m grafana.generate

venv: $(VENV)/.dev ## set up .venv and no more

clean: ## remove .venv, caches and build results; data/ stays
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps depend on pyproject.toml alone: once set up, nothing here needs the network again until that changes.
$(VENV)/.runtime: pyproject.toml | $(VENV)/.made
	@echo "setting up $(VENV) (once; needs the network)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.made
	@echo "setting up $(VENV) with the test tools (once; needs the network)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "prober needs Python 3.11 or newer; $(PYTHON) is older or missing. Try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
