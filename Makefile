# make run    set up and serve on the embedded default: 127.0.0.1:5353, API on 127.0.0.1:8053
# make test   set up and run every check and every test; TESTS=tests/unit runs some of them
# make coverage  the same, and which lines and branches no test takes
# make check  the checks alone: formatting, lint, types, import directions
# make soak   the whole product under load for long, while it is hurt in all sorts of ways; SOAK="--queries 500000" for less
# make fuzz   what reads octets from the network, by a coverage-guided fuzzer; FUZZ="--seconds 600 lookups" for one target
# make bench  ours beside Unbound and dnsmasq, as ratios; make bench-lists: the same with five million names
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest --numprocesses 3 --dist loadfile

.PHONY: run test coverage check soak fuzz bench bench-lists lock clean

run: $(VENV)/.ready
	$(BIN)/hallmonitor serve

test: check
	$(PYTEST) $(TESTS)

coverage: check
	$(PYTEST) --cov --cov-report term:skip-covered $(TESTS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

soak: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.soak $(SOAK)

fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz.atheris_wire $(FUZZ)

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

$(VENV)/.fuzz: requirements-fuzz.lock $(VENV)/.dev
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	touch $@

# Renews the lock files from the ranges in pyproject.toml.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-emit-index-url --no-header --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	uv pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-emit-index-url --no-header --extra fuzz -c requirements.lock pyproject.toml -o requirements-fuzz.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
