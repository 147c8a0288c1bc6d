# Two commands for a newcomer: `make demo` and `make test`. Both do all the set-up on a fresh Debian-like machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV ?= .venv
PY := $(VENV)/bin/python
PYTEST_ARGS ?=
DEMO_ARGS ?=
# A machine without an NVIDIA GPU needs no CUDA build; with one, the newest torch is taken.
TORCH ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo torch || echo 'torch==2.13.0')
# Root or passwordless sudo may install Debian packages; otherwise what is missing is named and the rest goes on.
SUDO := $(shell [ "$$(id -u)" = 0 ] && echo env || (sudo -n true 2>/dev/null && echo sudo -n env || true))

.PHONY: demo test lint typecheck unit sync clean results

demo: sync
	$(VENV)/bin/pivotgym demo $(DEMO_ARGS)

test: sync lint typecheck unit

sync: $(VENV)/.installed
	@# A strict editable install is a tree of links: it is remade here so that new files are always seen.
	@$(PY) -m pip install -q --no-deps --no-build-isolation -e . --config-settings editable_mode=strict

$(VENV)/.installed: pyproject.toml
	@python=$$(for p in python3.13 python3.12 python3.11 python3; do \
	    command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && { echo $$p; break; }; done); \
	if [ -z "$$python" ] || ! $$python -c 'import venv, ensurepip' 2>/dev/null; then \
	    if [ -n "$(SUDO)" ] && command -v apt-get >/dev/null; then \
	        $(SUDO) apt-get update -qq; \
	        $(SUDO) DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv python3-dev gcc >/dev/null; \
	        python=$${python:-python3}; \
	    else echo "Python >= 3.11 with the venv module is needed: apt-get install python3 python3-venv" >&2; exit 1; fi; fi; \
	echo "Making $(VENV) with $$($$python --version); this takes a few minutes."; \
	[ -x $(PY) ] || $$python -m venv $(VENV)
	$(PY) -m pip install -q --upgrade pip setuptools wheel
	$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install -q '$(TORCH)' || $(PY) -m pip install -q torch
	$(PY) -m pip install -q -e '.[dev,embedded,tau2,mcp]' --config-settings editable_mode=strict
	@touch $@

lint: sync
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

typecheck: sync
	$(VENV)/bin/mypy -p pivotgym

unit: sync
	$(PY) -m pytest $(PYTEST_ARGS)

# The committed learning result: the demo with three seeds (about 45 minutes on 2 cores).
results: sync
	$(VENV)/bin/pivotgym demo --seeds 0 1 2 --out runs/results --json docs/results/demo.json

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
