# `make help` lists what can be made. The first target that needs it sets up .venv, which takes a few minutes, once.

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Where MLflow keeps its runs, unless you name a server.
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help setup repro ci test lint format bench ui clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(VENV)/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; run make PYTHON=python3.11"; exit 1; }
	@echo "Setting up $(VENV): 6.5 GB, some 6 minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@python -m pip install --progress-bar off --disable-pip-version-check --requirement requirements.txt
	@python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

setup: $(VENV)/ready ## set up .venv, and nothing else

repro: $(VENV)/ready ## run the pipeline: what has changed, and nothing else
	@thaw repro
	@thaw sync || true
	@echo "Read reports/comparison.md or open reports/comparison.html; \`make ui\` shows the runs."

ci: $(VENV)/ready ## run the pipeline as CI does: twice, with a report, and a look at the committed dvc.lock
	@python tools/ci_pipeline.py run
	@python tools/ci_pipeline.py report
	@python tools/ci_pipeline.py lock

# Two workers with two threads each share what may be two cores: threads that wait must not spin.
test: $(VENV)/ready ## run the tests
	@OMP_WAIT_POLICY=passive pytest

lint: $(VENV)/ready ## check format, style, types, and CI's workflows
	@ruff format --check .
	@ruff check .
	@mypy
	@zizmor --offline --quiet .github

format: $(VENV)/ready ## format the code and mend what can be mended
	@ruff format .
	@ruff check --fix .

bench: $(VENV)/ready ## measure speed and memory; prints ratios
	@for benchmark in bench/bench_*.py; do python $$benchmark || exit 1; done

ui: $(VENV)/ready ## compare the runs in MLflow, at http://127.0.0.1:5000
	@echo "Bringing MLflow in line with the runs, which takes some seconds"
	@thaw sync || true
	@case "$$MLFLOW_TRACKING_URI" in \
		http*) ;; \
		*) MLFLOW_BACKEND_STORE_URI="$$MLFLOW_TRACKING_URI" mlflow ui ;; \
	esac

# What the stages write; tests/test_architecture.py compares it with dvc.yaml.
OUTPUTS := $(addprefix data/,raw images images.sha256 images.odd.csv clean splits.csv features.safetensors \
	backbone.safetensors code cost diagnosis history models predictions) \
	$(addprefix reports/,comparison.md comparison.html comparison.json summary.json figures metrics)
# What a kill leaves of one that was being written lies beside it.
UNFINISHED := $(foreach output,$(OUTPUTS),$(addprefix $(dir $(output)).$(notdir $(output)),.partial .old))

clean: ## delete what the stages wrote; your own files, DVC's cache, MLflow's runs and .venv stay
	@git clean -fdXq -- $(OUTPUTS) $(UNFINISHED)
	@git ls-files --others --directory data reports | sed 's/^/kept, since no stage writes it: /'
