# Every target sets up what it needs: Python 3.11, make and git are enough.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The oldest LiteLLM, the one that is locked for everything, the newest; each but the locked one has an environment.
LITELLM_VERSIONS := 1.101.6 1.106.2 1.109.1
LOCKED := 1.106.2
OTHERS := $(filter-out $(LOCKED),$(LITELLM_VERSIONS))
VERSIONS ?= $(LITELLM_VERSIONS)
# What LiteLLM itself must keep: its names, its routes, and what the enforcement suite tries on it.
CONTRACT := tests/proxy/test_litellm_contract.py tests/proxy/test_litellm_app.py tests/proxy/test_route_inventory.py
ENFORCEMENT := tests/enforcement $(CONTRACT)
# What else starts proxies, on the locked version.
PROXIED := tests/proxied tests/testing/test_proxy_process.py
# Faults of the store under load: these run alone.
CHAOS_TESTS := tests/chaos/test_chaos_store.py tests/chaos/test_chaos_ends.py
# The enforcement suite is run in two halves of about the same length; the second is whatever is not in the first.
HALVES := first second
FIRST := $(patsubst %,tests/enforcement/test_%.py, \
	concurrency egress foreign_places hostile_callbacks keys_and_teams opened_paths)
first = $(FIRST)
second = $(ENFORCEMENT) $(addprefix --ignore=,$(FIRST))
# So many halves run side by side; each writes its output and its rows of the side doors' table into RUNS.
JOBS ?= 3
RUNS := .runs
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url
# $(call venv,VERSION) is the environment's folder, $(call stamp,VERSION) what says that it is installed.
venv = $(if $(filter $(LOCKED),$(1)),$(VENV),.venv-$(1))
stamp = $(call venv,$(1))/.installed
export LITELLM_LOCAL_MODEL_COST_MAP := True

.PHONY: setup test test-enforcement test-contract run-proxied run-others run-chaos inventory lint check bench soak chaos demo run lock clean

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

# --no-deps: the lock is complete, and a release's own pins are not asked again where an override stood in for them.
.venv-%/.installed: requirements/litellm-%.txt $(BIN)/uv pyproject.toml
	$(BIN)/uv venv --quiet --clear --no-project --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --no-deps --require-hashes --requirement $<
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

# The enforcement suite on every version; `test` runs the rest beside it, on the locked one. VERSIONS="1.101.6 1.109.1"
# runs a part; a version without a lock is an error.
test: FIRST_OF_ALL := run-proxied
test: ALSO := run-others
test test-enforcement: $(STAMP) $(foreach version,$(VERSIONS),$(call stamp,$(version)))
	@mkdir -p $(RUNS) && rm -f $(RUNS)/*.json $(RUNS)/failed
	@$(MAKE) --no-print-directory --jobs=$(JOBS) --keep-going --output-sync=target \
		$(FIRST_OF_ALL) $(foreach version,$(VERSIONS),$(HALVES:%=run-$(version)-%)) $(ALSO) || touch $(RUNS)/failed
	@for version in $(VERSIONS); do \
		echo "Side doors on LiteLLM $$version"; \
		$(BIN)/python tests/enforcement/battery.py $(HALVES:%=$(RUNS)/$$version-%.json) || touch $(RUNS)/failed; \
	done; \
	test ! -e $(RUNS)/failed

# $(call logged,NAME,COMMAND) keeps the output in a file, and prints it whole where the command fails.
define logged
@mkdir -p $(RUNS); began=$$(date +%s); ended=passed; \
$(2) -o cache_dir=$(RUNS)/$(1).cache >$(RUNS)/$(1).txt 2>&1 || { ended=FAILED; cat $(RUNS)/$(1).txt; }; \
echo "$(1) $$ended after $$(($$(date +%s) - began)) s: $$(tail -n 1 $(RUNS)/$(1).txt)"; \
test $$ended = passed
endef

# run-VERSION-HALF
run-%:
	$(call logged,$*,$(call venv,$(word 1,$(subst -, ,$*)))/bin/python -m pytest \
		$($(word 2,$(subst -, ,$*))) --battery=$(RUNS)/$*.json)

# These wait for proxies more than they compute, so they go beside what computes.
run-proxied:
	$(call logged,proxied,$(BIN)/python -m pytest $(PROXIED))

run-others:
	$(call logged,others,$(BIN)/python -m pytest tests $(addprefix --ignore=,$(ENFORCEMENT) $(CHAOS_TESTS) $(PROXIED)))

# Not a part of `test`: a busy machine looks like a store that is lost, and these judge what that does.
run-chaos: $(STAMP)
	$(call logged,chaos,$(BIN)/python -m pytest $(CHAOS_TESTS))

# What the plugin takes of LiteLLM alone, in seconds.
test-contract: $(foreach version,$(VERSIONS),$(call stamp,$(version)))
	@for version in $(VERSIONS); do \
		python=$(BIN)/python; test $$version = $(LOCKED) || python=.venv-$$version/bin/python; \
		echo "Contract with LiteLLM $$version"; \
		$$python -m pytest $(CONTRACT) || exit 1; \
	done

# Writes what tests/proxy/test_route_inventory.py compares with: read the difference before it is committed.
inventory: $(foreach version,$(VERSIONS),$(call stamp,$(version)))
	@for version in $(VERSIONS); do \
		python=$(BIN)/python; test $$version = $(LOCKED) || python=.venv-$$version/bin/python; \
		$$python tests/proxy/route_inventory.py --write || exit 1; \
	done

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(STAMP)
	@for benchmark in $(filter-out benchmarks/soak.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$benchmark || exit 1; done

# An hour, beside LiteLLM alone, unless SOAK says otherwise: SOAK="--seconds 600 --rate 5".
soak: $(STAMP)
	$(BIN)/python benchmarks/soak.py $(SOAK)

# Every fault of the list under load, at full length, and one table; CHAOS="--only C03 C12" runs a part.
chaos: $(STAMP)
	$(BIN)/python tests/chaos/chaos_table.py $(CHAOS)

demo: $(STAMP)
	$(BIN)/permit-router demo $(if $(PROMPTS),--prompts $(PROMPTS))

run: $(STAMP)
	$(BIN)/permit-router demo --serve

# An overrides file says where an index may lag behind a release's own pins; what it gave is in the lock.
lock: $(BIN)/uv
	echo 'litellm==$(LOCKED)' | $(COMPILE) --custom-compile-command 'make lock' --extra test --group dev \
		--output-file requirements/dev.txt pyproject.toml -
	@for version in $(OTHERS); do \
		overrides=requirements/overrides-$$version.txt; test -e $$overrides || overrides=; \
		echo "litellm==$$version" | $(COMPILE) --custom-compile-command 'make lock' --extra test --group build \
			$${overrides:+--override $$overrides} \
			--output-file requirements/litellm-$$version.txt pyproject.toml - || exit 1; \
	done
	echo 'uv' | $(COMPILE) --no-header --output-file requirements/uv.txt -

clean:
	rm -rf $(VENV) .venv-* $(RUNS) build dist *.egg-info
