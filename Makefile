# Two commands do all the set-up: `make demo` shows the main job, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
# Everything at the versions that constraints/ lists for this Python, hatchling in pip's build environment included; a
# Python without a list gets the newest.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
listed = $(wildcard constraints/$(1)-$(PYTHON_VERSION).txt)
install = PIP_CONSTRAINT='$(call listed,$(1))' PIP_BUILD_CONSTRAINT='$(call listed,$(1))' \
	$(2)/bin/pip install --quiet --disable-pip-version-check

.PHONY: demo page docs test lowest lint parity integration slow newest constraints clean

demo: $(VENV)/installed
	@$(BIN)/python examples/demo.py $(DEMO)

# The search page on the demo's collection, until Ctrl-C.
page: demo
	$(BIN)/trivec serve nano --uri $(DEMO)/milvus.db --collection demo

# The site, in both languages, into build/site; then what can be said of it only once it is built. Its pages open from the
# folder, its search needs a server: `python3 -m http.server --directory build/site`. Needs no network once installed.
docs: .venv-docs/installed
	SOURCE_DATE_EPOCH=0 NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict
	.venv-docs/bin/python -m pytest --noconftest -m docs tests/test_site_build.py

test: $(VENV)/installed
	$(BIN)/python -m pytest

# What depends on the processor, as one with AVX2 and nothing newer chooses it.
lowest: $(VENV)/installed
	TRIVEC_PROCESSOR_CLASS=avx2 $(BIN)/python -m pytest tests/cli
	TRIVEC_PROCESSOR_CLASS=avx2 $(BIN)/python -m pytest tests/engines tests/checkpoint/test_converted_cache.py \
		tests/test_embedding_function.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Compares with FlagEmbedding and pymilvus-model, in an environment of their own (torch, about 2 GB); there the trainer and
# the torch engine are tested too, and what the reference reader of safetensors says.
parity: .venv-parity/installed
	.venv-parity/bin/python -m pytest -m parity tests/parity
	.venv-parity/bin/python -m pytest tests/training tests/engines tests/support/test_forks.py \
		tests/checkpoint/test_safetensors_file.py
	.venv-parity/bin/python -m pytest -m slow -k train tests/test_documentation.py

# Runs the clients that people have, unchanged, against the server: openai, pymilvus.model, huggingface_hub, LangChain,
# LlamaIndex and Milvus Lite; and trivec.integrations in each framework. Four environments, as pymilvus 2 and 3 are needed
# (no torch, about 1 GB each; most of it is never imported, so that compiling it would only take time). Then a Ray cluster
# and an object store.
clients := integration langchain llama-index haystack
integration: $(clients:%=.venv-%/installed) .venv-ray/installed
	.venv-integration/bin/python -m pytest -m integration tests/integration
	.venv-langchain/bin/python -m pytest -m integration tests/integration/test_integrations_langchain.py
	.venv-llama-index/bin/python -m pytest -m integration tests/integration/test_integrations_llama_index.py
	.venv-haystack/bin/python -m pytest -m integration tests/integration/test_integrations_haystack.py
	.venv-ray/bin/python -m pytest -m integration tests/cluster

slow: $(VENV)/installed
	$(BIN)/python -m pytest -m slow

# The suite against the newest releases of everything trivec depends on, so that a break is seen before a user sees it.
newest:
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet --disable-pip-version-check '.[eval,milvus,parquet]' pytest pandas mypy
	.venv-newest/bin/python -m pytest

# Writes constraints/ anew from what pip installs today; then `make test parity integration` shows whether it holds.
constraints:
	$(PYTHON) tools/constraints.py

# What an installation is made of besides Python: it compiles the native engine's kernels.
built = pyproject.toml hatch_build.py $(wildcard src/trivec/engines/native/*.[ch])

$(VENV)/installed: $(built) $(call listed,dev)
	$(PYTHON) -m venv $(VENV)
	$(call install,dev,$(VENV)) --editable '.[dev]'
	touch $@

.venv-docs/installed: constraints/docs.in $(call listed,docs)
	$(PYTHON) -m venv .venv-docs
	$(call install,docs,.venv-docs) --requirement constraints/docs.in
	touch $@

.venv-parity/installed: $(built) constraints/parity.in $(call listed,parity)
	$(PYTHON) -m venv .venv-parity
	$(call install,parity,.venv-parity) --requirement constraints/parity.in --editable '.[train]'
	touch $@

.SECONDEXPANSION:
$(clients:%=.venv-%/installed): .venv-%/installed: $(built) constraints/%.in $$(call listed,$$*)
	$(PYTHON) -m venv .venv-$*
	$(call install,$*,.venv-$*) --no-compile --requirement constraints/$*.in --editable '.[server]'
	touch $@

.venv-ray/installed: $(built) constraints/ray.in $(call listed,ray)
	$(PYTHON) -m venv .venv-ray
	$(call install,ray,.venv-ray) --no-compile --requirement constraints/ray.in --editable '.[ray]'
	touch $@

clean:
	rm -rf $(VENV) .venv-docs .venv-parity $(clients:%=.venv-%) .venv-ray .venv-newest build
