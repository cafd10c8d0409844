# Two commands for a newcomer: `make run` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXAMPLES := own_cnn small_gpt tabular fine_tune loss_hyperparameters clean_data

.DEFAULT_GOAL := help
.PHONY: help install run test slow test-faults lint format smoke docs bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## create .venv and install hypergrad into it

# torch and torchvision are resolved together: with torch missing, a resolver may otherwise pair a
# CPU-only torch with a CUDA-built torchvision, and importing torchvision fails.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"hypergrad needs Python 3.11 or newer, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch torchvision -e '.[dev]'
	@$(BIN)/python -W ignore -c 'import torchvision' || { echo 'torch and torchvision do not fit together: rm -r $(VENV) and try again'; exit 1; }
	@touch $@

run: install  ## improve a schedule on handwritten digits, and confirm it (half a minute)
	$(BIN)/hypergrad run quickstart

test: install  ## the quick tests, in two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

slow: install  ## the slow tests, and those that kill and resume real processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'slow or fault' -n 2 --dist loadfile

test-faults: install  ## those of the slow tests that kill, break off and resume (under 20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m fault

lint: install  ## ruff, pyright, and who may import whom
	$(BIN)/ruff check hypergrad tests benchmarks examples docs/_site
	$(BIN)/ruff format --check hypergrad tests benchmarks examples docs/_site
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: install  ## format the code
	$(BIN)/ruff format hypergrad tests benchmarks examples docs/_site
	$(BIN)/ruff check --fix hypergrad tests benchmarks examples docs/_site

smoke: install  ## every figure at smoke scale, on the embedded digits, and every example, quickly
	$(BIN)/hypergrad run quickstart scale=smoke
	$(BIN)/hypergrad run from_zero scale=smoke
	$(BIN)/hypergrad run fig1 data=digits model=wrn_16_1 scale=smoke
	$(BIN)/hypergrad run fig2 data=digits data.image_size=28 scale=smoke
	$(BIN)/hypergrad run fig3 data=digits data.image_size=28 scale=smoke
	$(BIN)/hypergrad baselines digits scale=smoke --jobs 2
	$(BIN)/hypergrad run table1 scale=smoke jobs=2
	$(BIN)/hypergrad plot
	$(BIN)/hypergrad report --last 3
	for each in $(EXAMPLES); do OMP_NUM_THREADS=1 $(BIN)/python examples/$$each.py --quick || exit 1; done

docs: install  ## the site, into site/: its pages, links and anchors, strictly
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: install  ## speed and memory, beside TorchOpt, higher and code written plainly (about an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[peers]' || echo 'TorchOpt and higher are left out'
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

clean:  ## remove .venv and caches; outputs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache site
