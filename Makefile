# make run    set up and serve on the embedded default: 127.0.0.1:5353, API on 127.0.0.1:8053
# make test   set up and run every check and every test; TESTS=tests/unit runs some of them
# make check  the checks alone: formatting, lint, types, import directions
# make bench  ours beside Unbound and dnsmasq, as ratios; make bench-lists: the same with five million names
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check bench bench-lists lock clean

run: $(VENV)/.ready
	$(BIN)/hallmonitor serve

test: check
	$(BIN)/pytest --numprocesses 2 --dist loadfile --cov --cov-report term:skip-covered $(TESTS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks

bench-lists: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.lists --postgres

# pip installs into the environment from outside, so that Debian's python3-venv isn't needed.
$(VENV)/bin/python:
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/.ready: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.ready
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

# Renews both lock files from the ranges in pyproject.toml.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-emit-index-url --no-header --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
