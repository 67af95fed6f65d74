# Duologue. `make help` lists what there is. Everything is set up on the first use, into .venv and .venv-ml.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
MODELS ?= tiny
SEED ?= 20261123
SPEC ?= examples/campaigns/quickstart.yaml

BIN := .venv/bin
# Of training only the settings and the checks are used here; it runs in .venv-ml.
SLIM := libs/duologue services/campaign services/roleplay services/scoring services/filtering services/training
ML := libs/duologue services/training
PEERS := oumi sdialog curator afterimage

# `make images DOCKER=podman REGISTRY=registry.example/team/ PYTHON_IMAGE=...@sha256:...`
DOCKER ?= docker
REGISTRY ?=
SERVICES := campaign roleplay scoring filtering training
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' libs/duologue/pyproject.toml)
BUILD = $(DOCKER) build $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE))
LABELS = --build-arg REVISION=$(shell git rev-parse HEAD) --build-arg SOURCE=$(shell git remote get-url origin | sed 's#//[^@/]*@#//#')
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help setup run up down test test-faults test-kube lint bench bench-peers docs protos lock clean \
	images image-training-job sbom compose-up compose-down

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: setup ## the whole loop on this machine: services up, a campaign run and watched
	@MODELS=$(MODELS) $(BIN)/duologue up --models $(MODELS)
	@$(BIN)/duologue run $(SPEC)

up: setup ## start the services in the background
	@$(BIN)/duologue up --models $(MODELS)

down: ## stop them
	@test ! -x $(BIN)/duologue || $(BIN)/duologue down

test: setup .venv-mlflow/.ready ## all tests but those on a cluster, fast ones first
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/kube

test-kube: setup ## the chart on the cluster of KUBECONFIG, whose pods must reach this machine; needs kubectl and helm
	$(BIN)/pytest tests/kube

test-faults: setup ## 2,000 dialogues (10,000 with FULL=1) in a storm of faults, 10,000 bad messages a topic; SEED=n
	DUOLOGUE_TEST_DIALOGUES=$(if $(FULL),10000,2000) DUOLOGUE_TEST_MESSAGES=10000 DUOLOGUE_TEST_SEED=$(SEED) \
		$(BIN)/pytest -s --show-capture=no tests/faults/test_storm.py tests/integration/test_mutated_*.py

lint: .venv/.ready ## format, lint, types, import walls, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code
	$(BIN)/python protos/breaking.py

bench: setup ## measurements as ratios, into bench/results.json
	$(BIN)/python bench/roleplay.py
	$(BIN)/python bench/overload.py
	PYTHONPATH=. $(BIN)/python bench/pipeline.py

bench-peers: .venv/.ready ## the role-play engine beside other libraries, into bench/peers/results.json (16 GB in .cache)
	PYTHONPATH=bench $(BIN)/python bench/peers/run.py

setup: .venv/.ready .venv-ml/.ready

.venv/.ready: requirements/uv.txt requirements/slim.txt $(SLIM:=/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Duologue needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf .venv && $(PYTHON) -m venv .venv; } || \
		{ rm -rf .venv; echo "Could not make .venv: on Debian and Ubuntu, install python3-venv first."; exit 1; }
	@echo "Installing the services into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip sync --quiet --python .venv --require-hashes requirements/slim.txt
	@$(BIN)/uv pip install --quiet --python .venv --no-deps --no-build-isolation $(SLIM:%=-e %)
	@touch $@

.venv-ml/.ready: .venv/.ready requirements/ml.txt $(ML:=/pyproject.toml)
	@.venv-ml/bin/python -c '' 2>/dev/null || { rm -rf .venv-ml && $(BIN)/uv venv --quiet --python $(BIN)/python .venv-ml; }
	@echo "Installing training and the local model server into .venv-ml (several GB, once)"
	@$(BIN)/uv pip sync --quiet --python .venv-ml --require-hashes requirements/ml.txt
	@$(BIN)/uv pip install --quiet --python .venv-ml --no-deps --no-build-isolation $(ML:%=-e %)
	@touch $@

.venv-mlflow/.ready: .venv/.ready requirements/mlflow.txt
	@.venv-mlflow/bin/python -c '' 2>/dev/null || { rm -rf .venv-mlflow && $(BIN)/uv venv --quiet --python $(BIN)/python .venv-mlflow; }
	@echo "Installing the MLflow server of the tests into .venv-mlflow"
	@$(BIN)/uv pip sync --quiet --python .venv-mlflow --require-hashes requirements/mlflow.txt
	@touch $@

docs: .venv/.ready ## generate docs/reference and the chart's schema and page from the code
	$(BIN)/python docs/generate.py
	$(BIN)/python helm/generate.py

protos: .venv/.ready ## generate code from protos/
	$(BIN)/python protos/generate.py

images: ## an image of each service; DOCKER=podman REGISTRY=host/team/ PYTHON_IMAGE=its base
	for name in $(SERVICES); do \
		$(BUILD) $(LABELS) -f services/$$name/Dockerfile -t $(REGISTRY)duologue-$$name:$(VERSION) . || exit 1; \
	done

image-training-job: ## the image of a training, with torch (several GB)
	$(BUILD) $(LABELS) -f services/training/job.Dockerfile -t $(REGISTRY)duologue-training-job:$(VERSION) .

sbom: ## what the images hold, as CycloneDX, into dist/sbom
	for name in $(SERVICES); do \
		$(BUILD) -f services/$$name/Dockerfile --target sbom --output type=local,dest=dist/sbom/$$name . || exit 1; \
	done

compose-up: ## the whole of it by docker compose, as deploy/compose/.env says
	cd deploy/compose && $(DOCKER) compose up --detach --wait

compose-down: ## stop that; its volumes stay
	cd deploy/compose && $(DOCKER) compose down

lock: .venv/.ready ## resolve requirements/*.in again
	$(COMPILE) requirements/slim.in -o requirements/slim.txt
	$(COMPILE) requirements/services.in -c requirements/slim.txt -o requirements/services.txt
	$(COMPILE) requirements/tools.in -c requirements/slim.txt -o requirements/tools.txt
	awk '/^[^ ]/ {keep = !/^huggingface-hub==/} keep' requirements/slim.txt > requirements/.shared.txt
	$(COMPILE) requirements/ml.in -o requirements/ml.txt; \
		status=$$?; rm requirements/.shared.txt; exit $$status
	awk '/^[^ ]/ {keep = /^uv==/} keep' requirements/slim.txt > requirements/uv.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements/mlflow.in -o requirements/mlflow.txt
	for peer in $(PEERS); do \
		$(COMPILE) bench/peers/$$peer.in -o bench/peers/$$peer.txt || exit 1; \
	done

clean: down ## remove environments, caches and local state
	rm -rf .venv .venv-ml .venv-mlflow .duologue .cache dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
