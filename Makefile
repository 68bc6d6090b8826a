# Everything here works from a fresh clone with Python 3.11 or newer and make. Environment, caches and temporary files
# stay inside the clone; only pip's own download cache is the user's.
#
#   make demo    start the server on the shipped bundle, translate samples, stop it again; with MODEL=SOURCE on a model
#                that is imported first (SENTENCES=FILE if it does not read English, IMPORT_ARGS=...)
#   make serve   run the server on the shipped bundle (LISTEN=HOST:PORT HTTP=HOST:PORT WEB=HOST:PORT)
#   make soak    half an hour of random work, and of many callers: memory stays, and a leak is found (SOAK_SECONDS=60)
#   make fuzz    random bytes, options, manifests and Unicode against a server (FUZZ_EXAMPLES=100000 a target)
#   make chaos   10,000 mixed calls, hostile clients, 100 reloads, hanging models (docs/reliability.md)
#   make load    a minute of load on a fresh server: report, curve, knee (LOAD_ARGS=...; docs/load-testing.md)
#   make load-overhead    what the server adds to the engine, and what TLS, tokens and traces cost (docs/reliability.md)
#   make quality  scores by source and length, robustness and speed of a bundle (QUALITY_ARGS=...; needs the corpora)
#   make test    all tests
#   make families         train, export, serve and ask a tiny model of every family; a row of figures for each
#   make gpu-check  tests and benchmark on a GPU (GPU_SITE=folder of unpacked wheels GPU_ARGS=...; docs/gpu.md)
#   make image   build a container image (IMAGE=serving-cpu; docs/deploying.md has the others) and print its size
#   make sbom    what a server consists of, as CycloneDX: build/sbom.json (SBOM_EXTRAS=cpu)
#   make image-test       build every image, run them strictly, start the compose file
#   make scale-test       replicas behind HAProxy and a balancing client: restarts, kill -9, a second core; Ray
#   make monitoring-test  a real Prometheus on a real server: dashboard and alerts
#   make check   what CI runs: lint, types, import rules, proto lint, tests

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first that runs and is new enough; 3.11 first, since that is what CI runs.
PYTHON ?= $(shell for python in python3.11 python3.12 python3 python3.13; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then command -v $$python; break; fi; done)

VENV := .venv
BIN := $(VENV)/bin
CACHE := $(CURDIR)/.cache
LISTEN ?= 127.0.0.1:50051
HTTP ?= 127.0.0.1:8080
WEB ?= 127.0.0.1:8000
MODELS ?= models
MODEL ?=
SENTENCES ?=
IMPORT_ARGS ?=
PYTEST_ARGS ?=
LOAD_ARGS ?=
GPU_SITE ?=
GPU_ARGS ?=
FAMILIES ?=
QUALITY_ARGS ?=

# pip is run without XDG_CACHE_HOME, so that it finds the user's download cache.
PIP := $(BIN)/python -m pip --disable-pip-version-check
# ONNX Runtime would otherwise report its use to its makers, and keep a device id in the user's cache for it.
RUN := XDG_CACHE_HOME=$(CACHE) MPLCONFIGDIR=$(CACHE)/matplotlib TMPDIR=$(CACHE)/tmp PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: help
help:
	@sed -n 's/^#   //p' Makefile

# --- environment ---------------------------------------------------------------------------------------------------

# A stamp for each set of dependencies: an unchanged pyproject.toml and constraints.txt install nothing again.
SERVING := $(VENV)/.installed-serving
LOADING := $(VENV)/.installed-loading
DEVELOPMENT := $(VENV)/.installed-development

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
		exit 1; fi
	"$(PYTHON)" -m venv $(VENV)

$(SERVING): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[cpu]'
	@mkdir -p $(CACHE)/tmp
	@touch $@

$(LOADING): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[cpu,load,peer]'
	@mkdir -p $(CACHE)/tmp
	@touch $(SERVING) $@

$(DEVELOPMENT): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet -c constraints.txt -e '.[cpu,train,datasets,export,load,peer,dev]'
	@mkdir -p $(CACHE)/tmp
	@touch $(SERVING) $(LOADING) $@

.PHONY: install install-dev
install: $(SERVING)
install-dev: $(DEVELOPMENT)

# --- run -----------------------------------------------------------------------------------------------------------

.PHONY: demo serve
ifdef MODEL
demo: $(DEVELOPMENT)
	@rm -rf $(CACHE)/demo
	@$(RUN) dragoman-import "$(MODEL)" $(CACHE)/demo --name demo \
		$(if $(SENTENCES),--sentences "$(SENTENCES)") $(IMPORT_ARGS) > /dev/null
	@$(RUN) python -m scripts.demo --models $(CACHE)/demo $(if $(SENTENCES),--texts "$(SENTENCES)")
else
demo: $(SERVING)
	@$(RUN) python -m scripts.demo --models $(MODELS)
endif

serve: $(SERVING)
	@exec env $(RUN) python -m serving --models $(MODELS) --listen $(LISTEN) --http $(HTTP) --web "$(WEB)"

# --- load ----------------------------------------------------------------------------------------------------------

# Each starts a fresh server on a free port, writes to runs/, and fails when a threshold is broken.
.PHONY: load load-spike load-overload load-overhead load-peer
load: $(LOADING)
	@$(RUN) python -m loadtests.service.load --models $(MODELS) $(LOAD_ARGS)

load-spike: $(LOADING)
	@$(RUN) python -m loadtests.service.spike --models $(MODELS) $(LOAD_ARGS)

load-overload: $(LOADING)
	@$(RUN) python -m loadtests.service.overload --models $(MODELS) $(LOAD_ARGS)

load-overhead: $(DEVELOPMENT)
	@$(RUN) python -m loadtests.service.overhead --models $(MODELS) $(LOAD_ARGS)

load-peer: $(LOADING)
	@$(RUN) python -m loadtests.peer.compare --models $(MODELS) $(LOAD_ARGS)

.PHONY: quality
quality: $(DEVELOPMENT)
	@$(RUN) python -m loadtests.quality --models $(MODELS) $(QUALITY_ARGS)

# Installs nothing: it is for machines that reach no package registry.
.PHONY: gpu-check
gpu-check:
	PYTHONPATH="$(GPU_SITE):$(CURDIR)" ORT_DISABLE_TELEMETRY=1 "$(PYTHON)" -m scripts.gpu_check $(GPU_ARGS)

# --- containers and monitoring -------------------------------------------------------------------------------------

IMAGE ?= serving-cpu
# All on Debian's base: CUDA's needs a registry.
TESTED_IMAGES := serving-cpu serving-cpu-baked serving-gpu models load training

.PHONY: image image-test prometheus monitoring-test
image:
	@deploy/docker/build $(IMAGE)

# Of a fresh environment with what an image has. The tool has an environment of its own, so that it lists not itself.
SBOM_EXTRAS ?= cpu
.PHONY: sbom
sbom:
	rm -rf $(CACHE)/sbom
	@mkdir -p build
	for part in server tool; do "$(PYTHON)" -m venv $(CACHE)/sbom/$$part; done
	$(CACHE)/sbom/server/bin/pip --disable-pip-version-check install --quiet -c constraints.txt '.[$(SBOM_EXTRAS)]'
	$(CACHE)/sbom/tool/bin/pip --disable-pip-version-check install --quiet cyclonedx-bom==7.5.0
	$(CACHE)/sbom/tool/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
		-o build/sbom.json $(CACHE)/sbom/server/bin/python

# Installs podman, and what it makes a base image with, where there is no engine and root may install.
image-test: $(DEVELOPMENT) prometheus
	@ENGINE=$$(deploy/docker/engine --install); export ENGINE; \
	for image in $(TESTED_IMAGES); do BASE=debian:bookworm-slim TAG=test deploy/docker/build $$image; done; \
	IMAGE_TAG=test $(RUN) python -m pytest tests/deploy/test_serving_image.py tests/deploy/test_gpu_and_training_images.py tests/deploy/test_compose.py

prometheus:
	@deploy/monitoring/install

monitoring-test: $(DEVELOPMENT) prometheus
	$(RUN) python -m pytest tests/deploy/test_monitoring.py tests/deploy/test_prometheus.py

# --- several replicas ----------------------------------------------------------------------------------------------

SCALE_OUT ?= runs/scale

# Two replicas on a core each, in network namespaces where the machine allows it; bulk translation on two Ray workers;
# training on two nodes. Installs HAProxy where there is none and root may install.
.PHONY: scale-test haproxy
scale-test: $(DEVELOPMENT) haproxy
	@$(PIP) install --quiet -c constraints.txt -e '.[ray]'
	@failed=0; \
	$(RUN) python -m loadtests.replicas --models $(MODELS) --output $(SCALE_OUT) || failed=1; \
	SCALE_TEST=1 $(RUN) python -m pytest tests/scale || failed=1; \
	exit $$failed

haproxy:
	@PATH="$$PATH:/usr/sbin" command -v haproxy >/dev/null || apt-get install --yes -qq haproxy >/dev/null || { \
		echo "HAProxy is missing and could not be installed: install it (Debian: apt-get install haproxy)" >&2; exit 1; }

# --- faults --------------------------------------------------------------------------------------------------------

FUZZ_EXAMPLES ?= 100000

.PHONY: fuzz chaos soak
fuzz: $(DEVELOPMENT)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(RUN) python -m pytest tests/fuzz -o timeout=0

SOAK_SECONDS ?= 1800

soak: $(DEVELOPMENT)
	SOAK_SECONDS=$(SOAK_SECONDS) KEEPALIVE_SECONDS=240 $(RUN) python -m pytest -s tests/integration/test_memory_growth.py \
		tests/integration/test_soak.py tests/integration/test_keepalive.py

chaos: $(DEVELOPMENT)
	CALLS=10000 IDLE_CONNECTIONS=1000 CHURNED_CONNECTIONS=10000 STREAMS=1000 CRAWLING_CONNECTIONS=500 ANSWERED_CALLS=200 \
		RELOADS=100 $(RUN) python -m pytest -s -o timeout=0 tests/integration/test_conservation.py \
		tests/integration/test_hostile_clients.py tests/integration/test_admin.py tests/integration/test_process.py \
		tests/unit/serving/engine/test_watchdog.py

# --- checks --------------------------------------------------------------------------------------------------------

.PHONY: check lint types imports proto-lint test format
check: lint types imports proto-lint
	@$(MAKE) --no-print-directory prometheus || echo "no Prometheus: the tests that need it are skipped" >&2
	@$(MAKE) --no-print-directory test

lint: $(DEVELOPMENT)
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(DEVELOPMENT)
	$(RUN) mypy

imports: $(DEVELOPMENT)
	$(RUN) lint-imports --cache-dir $(CACHE)/import-linter

proto-lint: $(DEVELOPMENT)
	$(RUN) buf lint

test: $(DEVELOPMENT)
	$(RUN) python -m pytest $(PYTEST_ARGS)

format: $(DEVELOPMENT)
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

# FAMILIES="cho bahdanau" builds some only. tests/system/test_families.py checks all of them.
.PHONY: families
families: $(DEVELOPMENT)
	@$(RUN) python -m scripts.families $(FAMILIES)

# --- generated code ------------------------------------------------------------------------------------------------

.PHONY: protos
protos: $(DEVELOPMENT)
	$(RUN) scripts/stubs

.PHONY: clean
clean:
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
