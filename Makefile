# Everything runs in .venv, which `make` sets up by itself; all it needs is Python 3.11 or newer.
# A CPU-only torch where PyPI would bring the CUDA one:
#   make test PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test slow kernels lint format types docs clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOG := $(VENV)/install.log

TRITON := triton==3.9.0
KERNEL_TESTS := $(addprefix tests/test_,fused.py gpu_step.py kernel_adam.py flow_gpu.py gpu_i3d.py)

# Which Python makes .venv: the first of these that is 3.11 or newer.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
PIP_FLAGS ?=
# More for pytest, such as ARGS="tests/test_cli.py -k evaluate".
ARGS ?=

IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## install dgam and its tools into .venv (the targets below do so when needed)

demo: $(STAMP)  ## see it work: simulate, train, localise, evaluate, draw (a minute or two)
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/dgam demo

test: $(STAMP)  ## the test suite but for its slow part
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow' $(ARGS)

slow: $(STAMP)  ## the slow part of the test suite
	@OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m slow $(ARGS)

# Triton comes with PyTorch for CUDA only; whatever GPU there is, kernels are interpreted here.
kernels: $(STAMP)  ## kernels for GPUs in Triton's interpreter, without a GPU (brings Triton, 1 GB)
	@$(BIN)/python -c 'import triton' 2>/dev/null \
	  || $(BIN)/python -m pip install --disable-pip-version-check --no-input -q $(PIP_FLAGS) $(TRITON)
	@CUDA_VISIBLE_DEVICES= TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(KERNEL_TESTS) $(ARGS)

lint: $(STAMP)  ## style and likely mistakes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(STAMP)  ## put the style right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(STAMP)  ## strict type check
	@$(BIN)/mypy

docs: $(STAMP)  ## the documentation site, as build/docs/index.html; any warning is an error
	@$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/docs
	@echo "The documentation is in build/docs/index.html"

clean:  ## remove .venv and what the tools leave behind
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@for python in $(PYTHON); do \
	  if command -v "$$python" >/dev/null && "$$python" $(IS_NEW_ENOUGH) 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
	  echo "dgam needs Python 3.11 or newer; tried $(PYTHON)." >&2; \
	  echo "Install one from https://www.python.org or your system's packages, or name it: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	if ! "$$found" -m venv $(VENV); then \
	  rm -rf $(VENV); \
	  echo "$$found cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; \
	fi

# One install, done again only after pyproject.toml or constraints.txt changed.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@if ! $(BIN)/python $(IS_NEW_ENOUGH); then \
	  echo "$(VENV) holds a Python older than 3.11. Remove it (make clean) and call make again." >&2; exit 1; \
	fi
	@echo "Installing dgam into $(VENV), about a minute; details in $(LOG)"
	@set -o pipefail; \
	if ! PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
	    $(PIP_FLAGS) -c constraints.txt -e '.[dev]' 2>&1 | tee $(LOG) \
	    | awk '/^ *(Collecting|Processing|Requirement already)/ { printf "."; fflush() } END { print "" }'; then \
	  tail -n 20 $(LOG) >&2; \
	  echo "The installation failed; the whole story is in $(LOG)." >&2; exit 1; \
	fi
	@touch $(STAMP)
