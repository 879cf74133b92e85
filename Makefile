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
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
# Files in the order of their directories: what waits most comes first, and what only computes fills in at the end.
PYTEST := $(BIN)/pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

# What is loaded hundreds of times is compiled once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test loaded coverage check soak fuzz bench bench-lists lock clean

run: $(VENV)/.ready
	$(BIN)/hallmonitor serve

test: $(VENV)/.dev
	$(MAKE) --no-print-directory --jobs 2 --output-sync check loaded
	$(PYTEST) $(TESTS)

# Tests are compiled by one process, and kept for the others; what can't be loaded is told by the tests' own run.
loaded: $(VENV)/.dev
	@$(BIN)/pytest --collect-only -qqq $(TESTS) >/dev/null 2>&1 || true

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

# A pip of its own: Debian's python3-venv isn't needed then, and one of today takes half the time of Debian 12's.
$(BIN)/pip: requirements-pip.lock
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --require-hashes -r requirements-pip.lock
	touch $@

$(VENV)/.ready: requirements.lock pyproject.toml $(BIN)/pip
	$(PIP) -r requirements.lock
	$(PIP:--require-hashes=--no-deps) --editable .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.ready
	$(PIP) -r requirements-dev.lock
	touch $@

$(VENV)/.fuzz: requirements-fuzz.lock $(VENV)/.dev
	$(PIP) -r requirements-fuzz.lock
	touch $@

# Renews the lock files from the ranges in pyproject.toml.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-strip-extras --generate-hashes --no-emit-index-url --no-header

lock:
	echo 'pip>=26,<27' | $(COMPILE) --no-annotate - -o requirements-pip.lock
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(COMPILE) --extra fuzz -c requirements.lock pyproject.toml -o requirements-fuzz.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
