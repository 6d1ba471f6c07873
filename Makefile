# Everything sets itself up: `make demo` and `make test` work in a fresh clone.
# What the system must have is checked first, all at once (scripts/check_system.py).

PYTHON ?= python3
VENV ?= .venv
# pytest-xdist: "auto" is one worker per core.
WORKERS ?= auto
PYTEST_ARGS ?=

BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
BUILD := build/native
# An editable installation knows where packages are, so it is renewed with them.
PACKAGES := $(shell find mpcc -name __init__.py 2>/dev/null)
NATIVE_SOURCES := $(shell find runtime_native -type f -not -path '*/corpus/*' 2>/dev/null)
# What `make bench` times over networks too, and at 31 bits and in Z_2^32; of two rows of one
# measurement the later file's counts.
LINK_CASES := A1 A128 B1 B128 C1 C128
BITS_CASES := $(LINK_CASES) relu1e6 maxpool112
BENCH_RESULTS := out/ours.json out/bits31.json out/ring32.json out/links.json out/peers.json
# Version of `make test-tensorflow`, beside the one of the extra.
TF ?= 2.20.0
# Hours of `make fuzz`, all targets together.
HOURS ?= 1
SANITIZED := build/asan-ubsan
TSAN := build/tsan
CXX_SOURCES := $(filter %.h %.cc %.cpp,$(NATIVE_SOURCES)) $(wildcard benchmarks/*.cc)
PY_SOURCES := $(wildcard mpcc) scripts examples benchmarks tests

# The environment of an activated virtual environment, without activating it: the build finds
# cmake and ninja of the environment, the tests find mpcc.
export PATH := $(abspath $(BIN)):$(PATH)
unexport PYTHONPATH PYTHONHOME

.DELETE_ON_ERROR:
# The steps install into one environment; the compiler runs in parallel by itself.
.NOTPARALLEL:
.PHONY: help setup native native-tests demo test test-fast test-tensorflow test-sanitize fuzz lint format bench
.PHONY: clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMPS)/native ## virtual environment in .venv, mpcc in it (editable), native code built

native: $(STAMPS)/native ## rebuild the native code where it changed

native-tests: $(STAMPS)/native-tests ## build the native test programs

demo: $(STAMPS)/demo ## a real face detector on a photograph that no party sees
	@$(BIN)/python -m examples.blazeface.demo

test: $(STAMPS)/dev $(STAMPS)/tensorflow $(STAMPS)/native-tests $(STAMPS)/sanitized $(STAMPS)/browser ## all tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

test-fast: $(STAMPS)/dev $(STAMPS)/native-tests $(STAMPS)/browser ## the quick tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow and not tensorflow" $(PYTEST_ARGS)

test-tensorflow: $(STAMPS)/dev $(STAMPS)/tensorflow ## the TensorFlow engine in another version: TF=2.20.0
	@test -d .cache/tensorflow/$(TF) || $(PIP) install --no-deps --target .cache/tensorflow/$(TF) \
	  "tensorflow-cpu==$(TF)" "protobuf>=6.31.1,<7"
	@PYTHONPATH=.cache/tensorflow/$(TF) $(BIN)/python -m pytest -n 0 tests/runtime/test_tensorflow.py

test-sanitize: $(STAMPS)/sanitized $(STAMPS)/tsan ## native tests, short fuzzing under sanitizers
	@ctest --test-dir $(SANITIZED) --output-on-failure
	@ctest --test-dir $(TSAN) --output-on-failure --tests-regex '^net$$'

fuzz: $(STAMPS)/venv ## long fuzzing: HOURS=8 (see docs/fuzzing.md)
	@$(BIN)/python scripts/fuzz.py --hours $(HOURS)

lint: $(STAMPS)/dev ## ruff, strict types, clang-format
	@$(BIN)/ruff check $(PY_SOURCES)
	@$(BIN)/ruff format --check $(PY_SOURCES)
	@$(BIN)/mypy $(PY_SOURCES)
	@$(BIN)/clang-format --dry-run -Werror $(CXX_SOURCES)

format: $(STAMPS)/dev ## rewrite sources in the common format
	@$(BIN)/ruff check --fix --quiet $(PY_SOURCES) || true
	@$(BIN)/ruff format $(PY_SOURCES)
	@$(BIN)/clang-format -i $(CXX_SOURCES)

bench: $(STAMPS)/bench $(STAMPS)/demo ## time everything, and peers beside it (hours; see docs/benchmarks.md)
	@mkdir -p out
	-@$(BIN)/python -m benchmarks.run --json out/ours.json
	-@$(BIN)/python -m benchmarks.run --bits 31 --json out/bits31.json $(BITS_CASES)
	-@$(BIN)/python -m benchmarks.run --ring 32 --json out/ring32.json $(BITS_CASES)
	-@$(BIN)/python -m benchmarks.run --link lan --link wan --json out/links.json $(LINK_CASES)
	-@$(BIN)/python -m benchmarks.peers --ours --json out/peers.json
	@$(BIN)/python -m benchmarks.table $(BENCH_RESULTS) --docs

clean: ## remove what was built; keeps .venv and fetched models
	rm -rf build out .hypothesis .pytest_cache .ruff_cache .cache/mypy
	rm -f $(addprefix $(STAMPS)/,native native-tests sanitized tsan)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## also remove .venv and fetched models
	rm -rf $(VENV) .cache

# --- set-up, one stamp per step --------------------------------------------------------------

$(STAMPS)/venv: scripts/check_system.py
	@$(PYTHON) scripts/check_system.py --install
	@echo "== virtual environment and build tools"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(PIP) install "scikit-build-core>=0.10" "nanobind>=2.4" "cmake>=3.21" "ninja>=1.10"
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/native: $(STAMPS)/venv pyproject.toml $(PACKAGES) $(NATIVE_SOURCES)
	@echo "== mpcc and its native code (the first build takes some minutes)"
	@$(PIP) install --no-build-isolation --editable .
	@touch $@

# The same build tree with the test programs switched on: what is compiled already stays.
$(STAMPS)/native-tests: $(STAMPS)/native
	@echo "== native tests"
	@cmake -S runtime_native -B $(BUILD) -DMPCC_BUILD_TESTS=ON > $(BUILD)/configure-tests.log \
	  || (cat $(BUILD)/configure-tests.log && false)
	@cmake --build $(BUILD) -- --quiet
	@touch $@

# The native tests and fuzz targets again, under AddressSanitizer and UndefinedBehaviorSanitizer.
$(STAMPS)/sanitized: $(STAMPS)/venv $(NATIVE_SOURCES)
	@echo "== native tests and fuzz targets under sanitizers (some minutes)"
	@mkdir -p $(SANITIZED)
	@(cd runtime_native && cmake --preset asan-ubsan) \
	  > $(SANITIZED)/configure.log || (cat $(SANITIZED)/configure.log && false)
	@cmake --build $(SANITIZED) --target mpcc_checks -- --quiet
	@touch $@

# Pages are tested in it; where none can be had those tests are skipped.
$(STAMPS)/browser: $(STAMPS)/venv
	@$(PYTHON) scripts/check_system.py --install --browser
	@touch $@

# What runs in several threads, under ThreadSanitizer.
$(STAMPS)/tsan: $(STAMPS)/venv $(NATIVE_SOURCES)
	@echo "== network tests under ThreadSanitizer"
	@mkdir -p $(TSAN)
	@(cd runtime_native && cmake --preset tsan) \
	  > $(TSAN)/configure.log || (cat $(TSAN)/configure.log && false)
	@cmake --build $(TSAN) --target mpcc_test_net -- --quiet
	@touch $@

# mpcc is installed already, so pip takes its extras from there.
$(STAMPS)/bench $(STAMPS)/demo $(STAMPS)/dev $(STAMPS)/tensorflow: pyproject.toml | $(STAMPS)/native
	@echo "== packages for $(@F)"
	@$(PIP) install "mpcc[$(@F)]"
	@touch $@
