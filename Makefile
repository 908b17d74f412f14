# Every target sets up what it needs: Python 3.11, make and git are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export LITELLM_LOCAL_MODEL_COST_MAP := True

.PHONY: setup test test-enforcement lint check bench demo run lock clean

setup: $(STAMP)

$(BIN)/uv: requirements/uv.txt
	@test -x $(BIN)/python || $$(command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d; set PYTHON=" % sys.version_info[:2])'
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements/uv.txt
	@touch $@

$(STAMP): $(BIN)/uv requirements/dev.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

test: $(STAMP)
	$(BIN)/python -m pytest

test-enforcement: $(STAMP)
	$(BIN)/python -m pytest tests/enforcement

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(STAMP)
	@for benchmark in benchmarks/*.py; do $(BIN)/python $$benchmark || exit 1; done

demo: $(STAMP)
	$(BIN)/permit-router demo $(if $(PROMPTS),--prompts $(PROMPTS))

run: $(STAMP)
	$(BIN)/permit-router demo --serve

lock: $(BIN)/uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--extra test --group dev --output-file requirements/dev.txt pyproject.toml
	echo 'uv' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --output-file requirements/uv.txt -

clean:
	rm -rf $(VENV) build dist *.egg-info
