# `make` alone lists the targets.
PYTHON ?= python3
BIN := .venv/bin
DATASET ?= busi
# Tests in two processes, by folder (tests/conftest.py).
SPREAD := -n 2 --dist loadscope --no-loadscope-reorder
CONSTRAINED := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1

.DEFAULT_GOAL := help
.PHONY: help install demo run repro up down status cluster-up cluster-down cluster-status rollback test test-all faults lint format clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(BIN)/.installed ## install into the project's own .venv

$(BIN)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 12) else f"Python 3.11 or 3.12 is needed, this is {v[0]}.{v[1]}: make install PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(CONSTRAINED) $(BIN)/python -m pip install --quiet --editable .
	-$(BIN)/python -m kmunet.ops.cpu.build
	@touch $@

$(BIN)/.installed-cluster: $(BIN)/.installed
	$(CONSTRAINED) $(BIN)/python -m pip install --quiet --editable '.[cluster]'
	@touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(CONSTRAINED) $(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	@touch $@

demo: install ## the main job on the embedded synthetic lesions: data, training, report, registry
	$(BIN)/python -m flows.main

run: install ## the main job on your data: make run DATASET=busi RAW=/path/Dataset_BUSI.zip (or s3://bucket/..., https://...) SET="train.epochs=2"
	$(BIN)/python -m flows.main --dataset $(DATASET) $(if $(RAW),--raw '$(DATASET)=$(RAW)') $(foreach pair,$(SET),--set '$(pair)') $(if $(FORCE),--force)

repro: install ## dvc repro: bring every data set of params.yaml up to date
	$(BIN)/python -m dvc repro

up: install ## start a Prefect and an MLflow server and a worker here [PREFECT_PORT=4200 MLFLOW_PORT=5000]
	$(BIN)/python -m infra.local up $(if $(PREFECT_PORT),--prefect-port $(PREFECT_PORT)) $(if $(MLFLOW_PORT),--mlflow-port $(MLFLOW_PORT))

down: ## stop what `make up` started
	$(BIN)/python -m infra.local down

status: ## say what `make up` started and where it is
	$(BIN)/python -m infra.local status

cluster-up: $(BIN)/.installed-cluster ## start the whole cluster profile here: PostgreSQL, S3, MLflow, Prefect, two Ray nodes, a worker [OPTIONS="--nodes 0"]
	$(BIN)/python -m infra.cluster up $(OPTIONS)

cluster-down: ## stop what `make cluster-up` started; data stay
	$(BIN)/python -m infra.cluster down

cluster-status: ## say what `make cluster-up` started
	$(BIN)/python -m infra.cluster status

rollback: ## put the champion before the present one back: make rollback DATASET=busi
	$(BIN)/python -m pipelines.rollback --dataset $(DATASET)

test: $(BIN)/.installed-dev lint ## install what the tests need and run them, but the slow ones
	$(BIN)/python -m pytest -m "not slow" $(SPREAD)

test-all: $(BIN)/.installed-dev lint ## the slow ones too
	$(BIN)/python -m pytest $(SPREAD)

faults: $(BIN)/.installed-dev ## kill, cut off and starve real parts; write what came of it into docs/operations.md
	KMUNET_FAULTS_TABLE=$(CURDIR)/benchmarks/results/faults.jsonl $(BIN)/python -m pytest tests/faults tests/training/test_space.py
	$(BIN)/python tests/faults/table.py

lint: $(BIN)/.installed-dev ## ruff, mypy, import-linter
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

format: $(BIN)/.installed-dev ## ruff, fixing what it can
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## remove outputs and local state, keep .venv and data/raw
	rm -rf .kmunet .dvc/cache .dvc/tmp data/prepared data/provenance data/splits models reports metrics registered runs
