# Needs Python 3.11 or later, GNU make and a C++20 compiler (gcc 12, clang 14). Everything else is installed into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
# For example: make test TORCH_FLAGS='--index-url URL-OF-PYTORCH-CPU-WHEELS'
TORCH_FLAGS ?=
# Two workers: the suite is made for two cores. A test that hangs is ended and named; by a thread, since native code that
# hangs hears no signal.
PYTEST_FLAGS ?= -n 2 --timeout 600 --timeout-method thread
BENCH_FLAGS ?=
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)  # make -j alone has no bound
DIST ?= dist
LINTED := engine export tests bench demo .ci

.PHONY: help venv install demo test test-oldest test-scale test-deploy test-slow check format site bench bench-quick bench-server bench-kernels \
        native sanitize emulate test-arm dist lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

venv: $(VENV)/.stamp-venv ## Make the virtual environment

install: $(VENV)/.stamp-export ## Install embedrt with its extras, editable

demo: $(VENV)/.stamp-demo ## Export a real model, compare, embed, search
	@bash demo/run.sh $(BIN) .demo

test: $(VENV)/.stamp-dev ## Run the tests
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-slow: $(VENV)/.stamp-dev ## Run the tests that take minutes or gigabytes
	$(BIN)/python -m pytest -m slow

# An environment of its own, which sees the sources through a .pth file, so that no distribution states requirements.
# transformers 4.48 compiles a function as torch 2.13 would rather not have it done.
OLDEST_WARNINGS := -W 'ignore:`torch.jit.script:DeprecationWarning'
test-oldest: constraints-oldest.txt ## Run the exporter's tests with the oldest libraries that it works with
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet $(TORCH_FLAGS) "$$(grep -E '^torch==' constraints-oldest.txt)"
	.venv-oldest/bin/python -m pip install --quiet --requirement constraints-oldest.txt
	printf '%s\n' "$(CURDIR)/engine" "$(CURDIR)/export" > .venv-oldest/lib/python3.11/site-packages/embedrt_sources.pth
	.venv-oldest/bin/python -m pytest $(PYTEST_FLAGS) $(OLDEST_WARNINGS) tests/export --ignore=tests/export/test_requirements.py

# Over .venv, whose packages it sees through a .pth file: botocore wants an older python-dateutil than the suite has.
SCALE_TESTS := tests/batch tests/datasets
test-scale: $(VENV)/.stamp-dev constraints-scale.txt ## Run the tests of embed-dataset with Ray, Spark (needs Java 17), Lance and S3
	test -x .venv-scale/bin/python || $(BIN)/python -m venv .venv-scale
	.venv-scale/bin/python -m pip install --quiet --no-deps --requirement constraints-scale.txt
	printf '%s\n' "$(CURDIR)/engine" "$(CURDIR)/export" "$(CURDIR)/$$(echo $(VENV)/lib/python3*/site-packages)" \
	  > "$$(echo .venv-scale/lib/python3*/site-packages)/embedrt_sources.pth"
	.venv-scale/bin/python -m pytest -m "slow or not slow" $(SCALE_TESTS)

test-deploy: $(VENV)/.stamp-dev ## Run the tests of deploy/ with helm and Kubernetes' schemas
	test -x .cache/deploy/helm || $(BIN)/python -m tests.deploy.fetch_helm .cache/deploy
	test -d .cache/deploy/lib || $(PIP) install --quiet --no-deps --target .cache/deploy/lib kubernetes-validate==1.37.0
	PATH="$(CURDIR)/.cache/deploy:$$PATH" PYTHONPATH=.cache/deploy/lib $(BIN)/python -m pytest tests/deploy tests/server/test_deploy.py

check: $(VENV)/.stamp-dev ## Lint, check the format and the types
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/mypy

format: $(VENV)/.stamp-dev ## Format the sources
	$(BIN)/ruff check --fix $(LINTED)
	$(BIN)/ruff format $(LINTED)

site: $(VENV)/.stamp-site ## Build the documentation into build/site
	$(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.stamp-bench ## Measure ours and the peers on XLM-R-large (two hours or so)
	$(BIN)/python -m bench $(BENCH_FLAGS)

bench-quick: $(VENV)/.stamp-bench ## The same on MiniLM, in about 5 minutes
	$(BIN)/python -m bench --quick $(BENCH_FLAGS)

bench-server: $(VENV)/.stamp-bench ## The server on MiniLM under load, beside a peer, in about 5 minutes
	$(BIN)/python -m bench.server $(BENCH_FLAGS)

native: ## Build the native module into the package, as it lies here
	cmake -S engine/native -B build/native -DCMAKE_BUILD_TYPE=Release -DEMBEDRT_WERROR=ON
	cmake --build build/native --parallel $(CORES)
	cmake --install build/native --prefix engine

# Python is not instrumented, so the sanitizers' libraries are loaded before it. Tests that need torch are left out.
SANITIZED := -p no:cacheprovider --confcutdir=tests/native --ignore=tests/native/test_emitted.py -q \
	-m "not slow and not bench and not exports" -k "not many_loads"
GCC_FILE = $(shell gcc -print-file-name=$(1))
sanitize: $(VENV)/.stamp-dev ## Build the native module with sanitizers (gcc), and run its tests in them
	@for kind in address,undefined thread; do \
	  folder=build/sanitize-$${kind%%,*}; \
	  CXX=g++ cmake -S engine/native -B $$folder -DEMBEDRT_SANITIZE=$$kind -DCMAKE_BUILD_TYPE=RelWithDebInfo -DEMBEDRT_WERROR=ON; \
	  cmake --build $$folder; \
	done
	OPENBLAS_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	  LD_PRELOAD="$(call GCC_FILE,libasan.so) $(call GCC_FILE,libstdc++.so.6)" \
	  EMBEDRT_TEST_LIBRARY=build/sanitize-address/_native.so $(BIN)/python -m pytest $(SANITIZED) tests/native
	OPENBLAS_NUM_THREADS=1 TSAN_OPTIONS=die_after_fork=0 LD_PRELOAD="$(call GCC_FILE,libtsan.so) $(call GCC_FILE,libstdc++.so.6)" \
	  EMBEDRT_TEST_LIBRARY=build/sanitize-thread/_native.so $(BIN)/python -m pytest $(SANITIZED) \
	  tests/native/test_executor.py tests/native/test_lifetime.py tests/native/test_pool.py tests/native/test_specs.py \
	  tests/native/test_tokenizer.py::test_several_threads

# Slow, and only to test: the avx512vnni kernels on a machine without the instructions, and those of AMX on one that has
# AVX512-BF16 without tiles. On one with tiles both kinds must give the same bits.
emulate: $(VENV)/.stamp-dev ## Run the native tests with emulated AVX512 (needs SIMDe, Debian's libsimde-dev) and emulated AMX
	cmake -S engine/native -B build/emulated -DEMBEDRT_EMULATE_AVX512=ON -DEMBEDRT_WERROR=ON
	cmake --build build/emulated --parallel $(CORES)
	cmake -S engine/native -B build/emulated-amx -DEMBEDRT_EMULATE_AMX=ON -DEMBEDRT_WERROR=ON
	cmake --build build/emulated-amx --parallel $(CORES)
	EMBEDRT_TEST_LIBRARY=build/emulated/_native.so $(BIN)/python -m pytest tests/native
	EMBEDRT_TEST_LIBRARY=build/emulated-amx/_native.so $(BIN)/python -m pytest tests/native -k "amx or check or emulated"

test-arm: $(VENV)/.stamp-dev ## Run the native tests as ARM64 processors under qemu (Debian; .ci/test_arm.sh says what it needs)
	.ci/test_arm.sh $(BIN)/python

bench-kernels: $(VENV)/.stamp-dev ## Verify and time the native kernels, and profile whole calls
	$(BIN)/python -m bench.native $(BENCH_FLAGS)

dist: $(VENV)/.stamp-dev ## Build what is published into $(DIST)/
	$(BIN)/python .ci/release.py $(DIST)

lock: $(VENV)/.stamp-dev $(VENV)/.stamp-bench ## Write constraints.txt from what .venv holds
	$(BIN)/python .ci/lock.py constraints.txt

clean: ## Remove .venv, the demo and every cache
	rm -rf $(VENV) .venv-scale .demo .cache $(DIST) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-venv: constraints.txt
	@echo "==> making $(VENV) with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit("embedrt needs Python 3.11 or later" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --upgrade pip
	@touch $@

# First and alone: a free range would fetch a later release with gigabytes of CUDA.
$(VENV)/.stamp-torch: $(VENV)/.stamp-venv
	@echo "==> installing torch"
	@$(INSTALL) $(TORCH_FLAGS) "$$(grep -E '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.stamp-export: $(VENV)/.stamp-torch pyproject.toml $(wildcard engine/native/*)
	@echo "==> installing embedrt[export,parquet,plot,server,otel]"
	@$(INSTALL) --build-constraint constraints.txt --editable '.[export,parquet,plot,server,otel]'
	@touch $@

$(VENV)/.stamp-demo: $(VENV)/.stamp-export
	@echo "==> installing the demo's model"
	@$(INSTALL) --group demo
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-export
	@echo "==> installing what tests and checks need"
	@$(INSTALL) --group test --group check
	@touch $@

$(VENV)/.stamp-site: $(VENV)/.stamp-export
	@echo "==> installing what builds the documentation"
	@$(INSTALL) --group site
	@touch $@
$(VENV)/.stamp-bench: $(VENV)/.stamp-export
	@echo "==> installing the peers of the benchmark"
	@$(INSTALL) --group bench
	@touch $@
