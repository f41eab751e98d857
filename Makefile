# Entry points: `make demo` and `make test` do all the set-up on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin

JOBS ?= 2
SLOW ?= tests
PYTEST := $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-slow test-machines check docs pictures bench clean

demo: .venv/xstilts  ## install, then run the main job on the built-in world
	$(BIN)/xstilts run quickstart

test: .venv/ready  ## install, then run the tests but for slow ones; those on real data are skipped where it is absent
	$(PYTEST) -m "not slow"

test-slow: .venv/ready  ## the slow ones; SLOW="tests --deselect FILE" leaves some out
	$(PYTEST) -m slow $(SLOW)

test-machines: .venv/ready  ## half an hour: the tests on one machine as if it were several others
	$(BIN)/python tests/machines.py

check: .venv/ready  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/ready  ## the documentation site, in build/docs; a dead link is an error; the rows of a study in docs/ get their report
	$(BIN)/zensical build --clean --strict
	cd build/docs && for mark in */store.json; do \
	  $(abspath $(BIN))/xstilts report $${mark%/store.json} --format html || exit 1; done

pictures: .venv/ready  ## the pictures of README and docs; needs Chromium and Graphviz (apt-get install chromium graphviz)
	$(BIN)/python tests/pictures.py
	$(BIN)/python tests/study_page.py

bench: .venv/ready  ## measure, about half an hour, and write docs/benchmarks.md; needs the data folder (XSTILTS_DATA)
	$(BIN)/pip install --quiet --constraint constraints.txt --group bench
	$(BIN)/python benchmarks/train_throughput.py --write docs/benchmarks.md
	for name in evaluation roofline word_table features retrieval translation; do \
	  $(BIN)/python benchmarks/$$name.py --write docs/benchmarks.md || exit 1; done

.venv/xstilts: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/ready: .venv/xstilts  # with what the tests need
	$(BIN)/pip install --quiet --constraint constraints.txt --group dev --editable .
	-npm install --prefix .venv --no-save --no-audit --no-fund --silent axe-core@4.14.1
	touch $@

clean:
	rm -rf .venv build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
