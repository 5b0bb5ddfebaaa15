# Two commands do all the set-up: `make demo` shows the main job, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo

.PHONY: demo test lint parity slow clean

demo: $(VENV)/installed
	@$(BIN)/python examples/demo.py $(DEMO)

test: $(VENV)/installed
	$(BIN)/python -m pytest

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Compares with FlagEmbedding and pymilvus-model, in an environment of their own (torch, about 2 GB); there the trainer and
# the torch engine are tested too.
parity: .venv-parity/installed
	.venv-parity/bin/python -m pytest -m parity tests/parity
	.venv-parity/bin/python -m pytest tests/test_training*.py tests/test_torch_engine.py tests/test_engine_selection.py

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv-parity/installed: pyproject.toml
	$(PYTHON) -m venv .venv-parity
	.venv-parity/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-parity/bin/pip install --quiet --disable-pip-version-check FlagEmbedding==1.4.2 pymilvus.model==0.3.4 'pytest>=8' --editable '.[train]'
	touch $@

clean:
	rm -rf $(VENV) .venv-parity build
