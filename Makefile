# Targets set up .venv by themselves. PYTHON is any Python 3.11.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
TESTS := $(if $(K),-k "$(K)",-n auto --dist loadfile)

.PHONY: demo demo-material test test-slow conformance onnx-conformance check fix lint types docs golden bench models clean

$(STAMP): pyproject.toml tests/constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not installed; name a Python 3.11: make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c tests/constraints.txt -e '.[torch,tensorflow,onnx,dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/python sample_models/demo.py build/demo

# The material of the README: a network in a fragment shader, drawn here. Half a minute.
demo-material: $(STAMP)
	@$(BIN)/python sample_models/demo_material.py build/material

test: $(STAMP)
	$(BIN)/python -m pytest -q $(TESTS)

# Networks from outside: transformers and keras.applications, with random weights.
$(VENV)/installed-outside: $(STAMP)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c tests/constraints.txt -e '.[torch,tensorflow,onnx,dev,outside]'
	@touch $@

test-slow: $(VENV)/installed-outside
	$(BIN)/python -m pytest -q -m slow $(TESTS)

# coremltools' own tests, with the executor in Core ML's place. CONFORMANCE_ONE_IN=400 takes two minutes.
conformance: $(STAMP)
	$(BIN)/python -m tests.conformance $(ARGS)

# onnx's own backend cases: ONNX, MIL, package on disk, executor. ONNX_ONE_IN=20 takes half a minute.
onnx-conformance: $(STAMP)
	$(BIN)/python -m tests.onnx_conformance $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tests.readme --check
	$(BIN)/python -m pytest -q $(TESTS)

fix: $(STAMP)
	$(BIN)/ruff check --fix -q .
	$(BIN)/ruff format .

docs: $(STAMP)
	$(BIN)/python -m tests.readme

golden: $(STAMP)
	$(BIN)/python -m pytest -q tests/commands tests/shader --rewrite-golden

bench: $(VENV)/installed-outside
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

models: $(STAMP)
	$(BIN)/python sample_models/make_models.py

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
