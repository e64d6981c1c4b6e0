# Two commands on a fresh machine with Python 3.11 to 3.13: make train, make test.
PYTHON ?= python3
# Options for pip, such as an index with CPU-only torch (see README).
PIP_FLAGS ?=
# Your data: a folder with dataset.json, cases.csv, or images/ and labels/. Without it, phantoms.
DATA ?=
# configs/method/NAME, such as supervised where all of the data is labelled. Without it, the bundle's pseudo_label.
METHOD ?=
# Further overrides of the config: make train ARGS="--max_minutes 30 --labelled 9"
ARGS ?=

BIN := .venv/bin
CONFIG := bundles/unet3d/configs/train.yaml
ifneq ($(METHOD),)
CONFIG := "['$(CONFIG)','configs/method/$(METHOD).yaml']"
endif

.PHONY: train test lint format bench docs figures clean

train: .venv/installed
ifeq ($(DATA),)
	$(BIN)/medseg data phantoms runs/phantoms
endif
	PYTHONWARNINGS="ignore:parsing config_file:UserWarning" \
	$(BIN)/python -m monai.bundle run training --config_file $(CONFIG) $(if $(DATA),--dataset_dir "$(DATA)") $(ARGS)
	@echo "      (in a shell in which you have run: source $(BIN)/activate)"

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed-dev
	$(BIN)/python scripts/bench_losses.py $(ARGS)

# The pages of docs/ with what they take from the code, links checked: site/index.html.
docs: .venv/installed-dev
	$(BIN)/mkdocs build

# The figures of docs/losses.md and of label efficiency, made anew.
figures: .venv/installed-dev
	$(BIN)/python scripts/figure_losses.py
	$(BIN)/python scripts/figure_labels.py

clean:
	rm -rf .venv

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt torch
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet $(PIP_FLAGS) -c constraints.txt -e ".[dev]"
	touch $@
