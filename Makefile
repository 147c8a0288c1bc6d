# Two commands for a newcomer: `make demo` and `make test`. Both do all the set-up on a fresh Debian-like machine.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
VENV ?= .venv
PY := $(VENV)/bin/python
# One process a core, one thread each: several threads a process only get in each other's way.
PYTEST_ARGS ?= -n auto --dist loadfile
PYTEST_MARKS ?= -m "not slow and not vllm"
VLLM_VENV ?= .venv-vllm
DEMO_ARGS ?=
# With an NVIDIA GPU the newest torch is taken; without one a version that is known to work on CPUs.
TORCH ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo torch || echo 'torch==2.13.0')
# Root or passwordless sudo may install Debian packages; otherwise what is missing is named and the rest goes on.
SUDO := $(shell [ "$$(id -u)" = 0 ] && echo env || (sudo -n true 2>/dev/null && echo sudo -n env || true))

.PHONY: demo test test-all system lint typecheck unit unit-vllm sync clean results benchmarks results-terminal results-repo results-browser results-compare results-tuning results-forgetting

demo: sync
	$(VENV)/bin/pivotgym demo $(DEMO_ARGS)

test: sync system lint typecheck unit unit-vllm

# The exhaustive tests too: every recording, every law on Docker (about an hour on 2 cores).
test-all: PYTEST_MARKS = -m "not vllm"
test-all: test

# Programs that tasks use in sandboxes, and a Docker daemon.
system:
	@.ci/system

sync: $(VENV)/.installed
	@# A strict editable install is a tree of links: it is remade here so that new files are always seen.
	@$(PY) -m pip install -qq --no-deps --no-build-isolation -e . --config-settings editable_mode=strict

# A Python that is new enough and can make virtual environments.
FIND_PYTHON = for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && { echo $$p; break; }; done

$(VENV)/.installed: pyproject.toml
	@python=$$($(FIND_PYTHON)) || true; \
	if [ -z "$$python" ] && [ -n "$(SUDO)" ] && command -v apt-get >/dev/null; then \
	    echo "Installing Python with the venv module (Debian packages)."; \
	    $(SUDO) apt-get update -qq; \
	    $(SUDO) DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3 python3-venv python3-dev gcc >/dev/null; \
	    python=$$($(FIND_PYTHON)) || true; fi; \
	if [ -z "$$python" ]; then \
	    echo "Python >= 3.11 with the venv module is needed: apt-get install python3 python3-venv" >&2; exit 1; fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$($$python --version); the installation takes a few minutes."; \
	    rm -rf $(VENV); $$python -m venv $(VENV); fi
	$(PY) -m pip install -qq --upgrade pip setuptools wheel
	$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install -qq '$(TORCH)' || $(PY) -m pip install -qq torch
	$(PY) -m pip install -qq -e '.[browser,dev,datasets,docker,embedded,lm-eval,mcp,ray,repo,search,swebench,tau2,terminal-bench]' --config-settings editable_mode=strict
	@touch $@

lint: sync
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

typecheck: sync
	$(VENV)/bin/mypy -p pivotgym.containers -p pivotgym.envs -p pivotgym.harness -p pivotgym.verifiers

unit: sync
	OMP_NUM_THREADS=1 $(PY) -m pytest $(PYTEST_MARKS) $(PYTEST_ARGS)

# vLLM has an environment of its own. Where pip cannot have it, its tests are left out with a line; on CI that fails.
unit-vllm: sync
	@if .ci/vllm $(VLLM_VENV) $(PY); then \
	    OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest -m vllm tests/harness/test_vllm.py; \
	elif [ "$${CI:-}" = true ]; then echo "vLLM could not be installed" >&2; exit 1; \
	else echo "vLLM could not be installed here: its tests are left out"; fi

# The committed learning result: the demo with three seeds (about 45 minutes on 2 cores).
results: sync
	$(VENV)/bin/pivotgym demo --seeds 1 2 3 --out runs/results --json docs/results/demo.json

# The measurements of docs/results anew: medians of one run each (about 15 minutes on 2 cores).
benchmarks: sync system
	for what in tools sandbox repo browser verifiers train; do $(VENV)/bin/pivotgym bench $$what --json docs/results/$$what.json; done
	$(VENV)/bin/pivotgym bench verifiers --domains browser_tuned browser_held_out browser_hard --json docs/results/browser_verifiers.json
	$(VENV)/bin/python tests/support/bench_pages.py

# A training run on sandboxes, its figures in place of the committed ones: the opening turns of some tasks' first
# instances are imitated, those of their last instances profiled and trained on (about 20 minutes each on 2 cores).
results-terminal: TASKS = text.top_clients text.regional_sales
results-repo: TASKS = ratelimit ledger inverter router intervals configstack
results-browser: TASKS = shop.critic shop.lower_rating shop.weigh shop.write_review
results-terminal results-repo results-browser: results-%: sync system
	mkdir -p runs/$*
	cd runs/$* && ../../$(VENV)/bin/pivotgym convert bundled:$* --tasks $(TASKS:=-[01]) --turns 1 --out imitated.jsonl
	cd runs/$* && ../../$(VENV)/bin/pivotgym convert bundled:$* --tasks $(TASKS:=-2) --turns 1 --out others.jsonl
	cd runs/$* && ../../$(VENV)/bin/pivotgym train imitated.jsonl --method sft --policy embedded --lora.rank 8 --epochs 6 --batch 2 --lr 5e-4 --options '{"pack_tokens": 4096}' --out sft
	cd runs/$* && ../../$(VENV)/bin/pivotgym profile others.jsonl --policy embedded+sft/final --max-tokens 96 --out run/profile.jsonl
	cd runs/$* && ../../$(VENV)/bin/pivotgym filter run/profile.jsonl --max-mean 0.95 --heldout 0 --out run/pivots.jsonl
	cd runs/$* && ../../$(VENV)/bin/pivotgym train run/pivots.jsonl --policy embedded --lora.rank 8 --warm-start sft/final --max-tokens 96 --steps 8 --batch 2 --group 8 --lr 3e-4 --out run/train
	cd runs/$* && ../../$(VENV)/bin/pivotgym report run --json ../../docs/results/$*_run.json

# The committed comparisons of methods and of rewards, and what was forgotten, tables and plots beside them
# (an hour each on 2 cores; resumable).
results-forgetting: sync system
	$(VENV)/bin/pivotgym demo --seed 1 --out runs/demo
	$(VENV)/bin/pivotgym forget --base embedded --policies embedded+harness/policies/warm_start embedded+runs/demo/train/final \
		--out runs/demo/forgetting --json docs/results/forgetting.json
	$(VENV)/bin/python tests/support/compare_pages.py

results-compare: sync system
	$(VENV)/bin/pivotgym compare docs/compare/service_desk.toml --out runs/compare --json docs/results/compare.json
	$(VENV)/bin/pivotgym compare docs/compare/rewards.toml --out runs/rewards --json docs/results/compare_rewards.json
	$(VENV)/bin/python tests/support/compare_pages.py

# The learning rates that service_desk.toml has, tried on its start with another seed and other tasks.
results-tuning: TUNINGS = tuning-60 tuning-150
results-tuning: sync
	for what in $(TUNINGS); do \
	    $(VENV)/bin/pivotgym compare docs/compare/$$what.toml --out runs/$$what --json runs/$$what/result.json; done
	$(VENV)/bin/python tests/support/compare_pages.py --tuning $(TUNINGS:%=runs/%/result.json)

clean:
	rm -rf $(VENV) $(VLLM_VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
