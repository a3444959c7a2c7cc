# `make book` and `make test` work from nothing but Python 3.11 or newer; everything they install goes into .venv.
SHELL := /bin/bash -o pipefail
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# Whatever the locale says: the files here are UTF-8, and so may be the name of the folder.
export PYTHONUTF8 := 1

PYTHON ?= python3
BIN := .venv/bin
CHAPTERS := $(sort $(wildcard notebooks/*.ipynb))
NOTEBOOKS := $(sort $(wildcard book/*.ipynb)) $(CHAPTERS) # the scoreboard, which takes longest, is among the first
EXECUTED := $(NOTEBOOKS:%=_build/%) _build/front_demo.json _build/playground/manifest.json
PACKAGE := $(wildcard helpers/*.py helpers/*/*.py helpers/data/* helpers/weights/*)
# Two builds in one folder take turns.
LOCKED := $(PYTHON) tools/site/run_locked.py
# The run that `make nbval` compares becomes the site's.
KEEP := -p tools.site.save_executed
# Two workers with two threads each would fight for two cores.
ONE := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
# As tools/site/execute.py sets them, which says why.
RUN := HELPERS_DARK_FIGURES=1 TQDM_DISABLE=1 MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296
SITE_TOOLS := $(addprefix tools/site/,address.py atlas_page.py build_site.py demos.py demos.js exercise_numbers.py front_page.py place_figures.py playground.py playground.html raw_anchors.py standalone_notebooks.py) $(wildcard helpers/demos/widget.*)
PAGES := $(wildcard book/*.md book/*.bib book/*.tar book/assets/* book/assets/playground/*)

.PHONY: help book test setup packages address execute site pdf slides lint unit seeds nbval browser benchmark colab lowest portable links release-check refresh student serve clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

book: site ## Set up, run the chapters, build the site
	@echo "The site is at file://$(CURDIR)/_build/html/index.html"

test: lint unit nbval browser ## Set up, then every check: code, chapters, site
	@echo "All checks passed."

setup: .venv/installed ## Make .venv with the pinned packages

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11)' 2>/dev/null \
	  || { echo "Python 3.11 or newer is needed: make book PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "Python's venv module is not complete. On Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing into .venv (several gigabytes with PyTorch; some minutes) …"
	@$(LOCKED) .venv.lock $(MAKE) --no-print-directory packages
	@touch $@

# Also after a run that was killed: pip goes on where it was.
packages:
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .

node_modules/installed: package.json package-lock.json .npmrc | .venv/installed
	@echo "Installing what the site takes from npm …"
	PATH="$(CURDIR)/$(BIN):$$PATH" $(LOCKED) _build/npm.lock npm ci --loglevel=error
	@touch $@

execute: .venv/installed ## Run the chapters that changed, two at a time
	@$(ONE) $(MAKE) --no-print-directory --jobs 2 $(EXECUTED)

_build/%.ipynb: %.ipynb $(PACKAGE) tools/site/execute.py .venv/installed
	$(BIN)/python tools/site/execute.py $< $@

_build/front_demo.json: tools/site/front_demo.py $(PACKAGE) .venv/installed
	TQDM_DISABLE=1 $(BIN)/python $< $@

_build/playground/manifest.json: tools/export_onnx.py $(PACKAGE) .venv/installed
	TQDM_DISABLE=1 $(BIN)/python $< $(@D)

site: execute ## Run what changed and build the site
	@$(MAKE) --no-print-directory _build/html/.built

# What the buttons and links of the site lead to: another remote, or another commit, makes another site.
_build/address: address
	@mkdir -p _build
	@$(BIN)/python tools/site/address.py > $@.$$$$; cmp -s $@.$$$$ $@ && rm $@.$$$$ || mv $@.$$$$ $@

address: .venv/installed

# Always a complete Sphinx run: an incremental one forgets the warnings of the pages that it does not read again.
_build/html/.built: $(EXECUTED) _build/address $(PAGES) _config.yml _toc.yml $(SITE_TOOLS) node_modules/installed
	@$(LOCKED) _build/site.lock $(BIN)/python tools/site/build_site.py
	@touch $@

pdf: site ## Print the book as one PDF; the site's pages then link to it
	@$(MAKE) --no-print-directory _build/html/visualizing-cnns.pdf

_build/html/visualizing-cnns.pdf: _build/html/.built tools/site/pdf.py tools/site/print.css tools/site/offered.py
	$(BIN)/python tools/release/install_browser.py
	$(BIN)/python tools/site/pdf.py $@

slides: site ## Make a deck of slides of each chapter; the site's pages then link to them
	@$(MAKE) --no-print-directory _build/html/slides/.built

_build/html/slides/.built: _build/html/.built $(addprefix tools/site/,slides.py slides.html slides.css slides.js offered.py)
	$(BIN)/python tools/site/slides.py
	@touch $@

lint: .venv/installed ## Check format and style of the code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

unit: .venv/installed ## Test the package
	$(ONE) $(BIN)/python -m pytest -q -n 2 --dist worksteal --ignore-glob "tests/test_site*.py"

seeds: .venv/installed ## Run the tests of random outcomes with twenty seeds
	$(ONE) $(BIN)/python -m pytest -q -n 2 --dist worksteal -m random --seeds 20 tests

nbval: .venv/installed ## Run every notebook without a network, compare its numbers, keep the run for the site
	$(ONE) $(RUN) $(BIN)/python tools/release/offline.py $(BIN)/python -m pytest -q --nbval-lax --nbval-cell-timeout 600 \
	  -p tools.release.compare_numbers $(KEEP) \
	  -n 2 --dist loadfile --no-loadscope-reorder $(NOTEBOOKS)

browser: site slides pdf ## Test the site, its slides and its PDF in a headless browser
	$(BIN)/python tools/release/install_browser.py
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/test_site.py tests/test_site_atlas.py tests/test_site_demos.py tests/test_site_front.py tests/test_site_pdf.py tests/test_site_playground.py tests/test_site_slides.py
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/test_site_conditions.py # later, as it would slow the pages

benchmark: .venv/installed ## Time our methods beside other libraries
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks

colab: .venv/installed ## Run the chapters in what stands in for Colab (half an hour, needs a network)
	$(BIN)/python tools/release/run_in_environment.py colab

lowest: .venv/installed ## Run the chapters with the lowest versions that are allowed (likewise)
	$(BIN)/python tools/release/run_in_environment.py lowest

portable: .venv/installed ## Run unit tests and notebooks as on other CPUs, and say which numbers move (an hour)
	$(BIN)/python tools/release/portable.py

links: .venv/installed ## Check the links that lead out of the book (needs a network)
	$(BIN)/python tools/release/links.py --check

release-check: test colab lowest portable ## Everything that a release needs
	$(BIN)/python tools/release/release_check.py

refresh: execute ## Write the outputs of a fresh run back into notebooks/
	$(BIN)/python tools/site/normalise.py $(NOTEBOOKS)
	@touch $(EXECUTED) # the run is still that of these sources

student: .venv/installed ## Write the student edition into student/
	$(BIN)/python tools/site/student_edition.py

serve: site ## Show the site at http://localhost:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

clean: ## Remove what was built (not .venv)
	rm -rf _build node_modules
