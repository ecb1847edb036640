# make demo: train on the embedded task.  make test: linters, types and quick tests.
# make slow: whole runs, notebooks, experiments, wheels, a browser.  CI runs both, parity, plan and tunix.
# Another interpreter for the virtual environment: make PYTHON=python3.12 test

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
METADATA := setup.cfg pyproject.toml
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
# Compiled programs are kept between runs, small ones too; exported values win.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

.PHONY: demo test slow parity tunix plan short

demo: $(VENV)/.installed
	$(BIN)/rvpo train --workdir runs/demo

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy rvpo_jax
	$(PYTEST) -m 'not plan and not slow'

slow: $(VENV)/.installed-test
	$(PYTEST) tests -m slow

# Against the original implementations, torch and a gigabyte of others: make parity VENV=.venv-parity
parity: $(VENV)/.installed-parity
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 -W default tests/peers

# Inside the installed Tunix, which wants versions of its own: make tunix VENV=.venv-in-tunix
tunix: $(VENV)/.installed-tunix
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -W default tests/peers/test_tunix.py

# With the TPU compiler, minutes: make plan VENV=.venv-plan
plan: $(VENV)/.installed-plan
	$(BIN)/python -m pytest tests/test_plan.py

# Three steps and a resumed fourth, for a second interpreter: make short VENV=.venv-3.13 PYTHON=python3.13
short: $(VENV)/.installed
	rm -rf $(VENV)/run
	$(BIN)/rvpo train --workdir $(VENV)/run --steps 3 --eval.num-prompts 16
	$(BIN)/rvpo train --workdir $(VENV)/run --steps 4 --eval.num-prompts 16

comma := ,
# uv installs in ten seconds what pip installs in a hundred.
install = if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python -e '$(1)'; \
	else $(BIN)/python -m pip install --quiet -e '$(1)'; fi

$(VENV)/.installed: $(METADATA) | $(VENV)/.created
	@echo "Installing rvpo-jax into $(VENV): up to two minutes the first time."
	@$(call install,.)
	@touch $@

$(VENV)/.installed-test: $(METADATA) | $(VENV)/.created
	@echo "Installing rvpo-jax with its test tools into $(VENV): up to two minutes the first time."
	@$(call install,.[test])
	@touch $(VENV)/.installed $@

$(VENV)/.installed-parity: $(METADATA) | $(VENV)/.created
	@echo "Installing rvpo-jax, torch and transformers into $(VENV): some minutes the first time."
	@$(call install,.[parity])
	@touch $@

$(VENV)/.installed-tunix: $(METADATA) | $(VENV)/.created
	@echo "Installing rvpo-jax and Tunix into $(VENV): some minutes the first time."
	@$(call install,.[test$(comma)tunix])
	@touch $@

$(VENV)/.installed-plan: $(METADATA) | $(VENV)/.created
	@echo "Installing rvpo-jax and the TPU compiler into $(VENV): some minutes the first time."
	@$(call install,.[test$(comma)plan])
	@touch $@

# An environment that works already is kept.
$(VENV)/.created:
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "PYTHON must be Python 3.11 or newer, got $(PYTHON): $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "  Name another interpreter, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	    exit 1; \
	  fi; \
	  $(PYTHON) -m venv $(VENV); \
	fi
	@touch $@
