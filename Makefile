# make book       environment, then the book from the results that the repository holds
# make test       environment, then the tests
# make test-whole   tests of wholes: chapters from parameters to page, killed workers, kernels, two ranks, a cluster
# make page NOTEBOOK=mine.ipynb   a rerun as a page of a copy of the book, beside its chapter
# make pdf        the whole book as book/_build/book.pdf, printed by a headless browser
# make lab        JupyterLab on the chapters' notebooks (installs it first)
# make browser    the book, then its tests in a real browser (playwright install chromium brings one)
# make release    the book and the results as one file in dist/, with checksums and a manifest; before that, the version
#                 of pyproject.toml in CITATION.cff and over the changelog
# make results    all long runs whose results are missing; goes on with what was interrupted; DEVICE=cuda on a GPU
# make notebooks  executes the chapters in place, from the results, and draws the README's picture
# make test-slow  checks on real data that take minutes (MNIST-5k in $SUBSPACE_DATA or downloaded); all examples
# make sweep RUNS="seed=0,1,2 k=5,10"   all combinations, several at a time; SCHEDULER=tcp://host:8786 for a Dask cluster
# make soak       500 SIGKILLs at random moments over quick runs, each table compared (under 30 minutes)
# make benchmark  the price over plain SGD, our solver beside others: results/benchmark.json (several hours on one core)
# make lint       ruff and mypy

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
TESTS = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile
PEERS = .venv-benchmark
SITE = book/_build/html
PAGE = $(SITE)/index.html
# make PIP_OPTIONS="--extra-index-url ADDRESS" for PyTorch's CPU-only packages, half a gigabyte in place of five;
# the README says where the address stands
PIP_OPTIONS ?=
INSTALL = -m pip install --quiet --disable-pip-version-check
# make LOCKED=1: every package, also those that others need, as requirements.lock has it, by its hash
WANTED = $(if $(LOCKED),--require-hashes -r requirements.lock,-r requirements.txt)

.PHONY: book page pdf lab browser release test test-whole test-slow soak sweep results notebooks benchmark lint

book: $(READY)
	@test -L book/_toc.yml || { echo "book/_toc.yml is not a symbolic link: check the repository out with symbolic links (git config core.symlinks true)."; exit 1; }
	$(BIN)/jupyter-book build book -W -n --keep-going --quiet
	@echo "The book is at $(PAGE)"

page: $(READY)
	@test -n "$(NOTEBOOK)" || { echo "Name the rerun: make page NOTEBOOK=mine.ipynb, which papermill has written."; exit 1; }
	@$(BIN)/python -m subspace_lib.book.page '$(NOTEBOOK)'

pdf: $(READY)
	@$(BIN)/python -m subspace_lib.book.pdf

lab: $(READY)
	$(BIN)/python $(INSTALL) -r requirements-lab.txt
	$(BIN)/jupyter lab notebooks

browser: book
	SUBSPACE_BOOK=$(SITE) $(BIN)/python -m pytest tests/test_browser.py

# The version first: it stands in the pages too.
release: $(READY)
	@$(BIN)/python -m subspace_lib.book.version
	@$(MAKE) --no-print-directory book
	@$(BIN)/python -m subspace_lib.book.release $(SITE)

# One thread a process: two that share the cores by threads as well wait for each other.
test: $(READY)
	$(TESTS) -m 'not slow and not whole'

test-whole: $(READY)
	$(TESTS) -m 'whole and not slow'

test-slow: $(READY)
	SUBSPACE_EXAMPLES=full $(BIN)/python -m pytest -m 'slow or hypothesis' --timeout=7200 -s

soak: $(READY)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/soak.py

sweep: $(READY)
	@test -n "$(RUNS)" || { echo 'Name the runs: make sweep RUNS="dataset=digits k=5 steps=200 seed=0,1,2".'; exit 1; }
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m subspace_lib.results.grid $(RUNS) $(if $(SCHEDULER),--scheduler '$(SCHEDULER)')

results: $(READY)
	$(BIN)/python -m subspace_lib.chapters $(if $(DEVICE),--device '$(DEVICE)')

notebooks: $(READY)
	$(BIN)/jupytext --quiet --sync notebooks/*.py
	SUBSPACE_UNFINISHED=quick $(BIN)/jupyter execute --inplace notebooks/*.ipynb
	$(BIN)/jupytext --quiet --sync notebooks/*.py
	$(BIN)/python -m subspace_lib.book.card book/_static/figure_1.png

benchmark: $(PEERS)/.ready
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(PEERS)/bin/python -m subspace_lib.benchmark

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy subspace_lib $(wildcard examples)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; say make PYTHON=python3.12, for example."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) $(PIP_OPTIONS) $(WANTED)
	$(BIN)/python $(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

# The peers' own environment, laid over the first one. PRIMME is compiled: without a C compiler and the
# BLAS headers it is left out, and the benchmark says so.
$(PEERS)/.ready: requirements-benchmark.txt $(READY)
	$(PYTHON) -m venv $(PEERS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	grep -v '^primme' requirements-benchmark.txt > $(PEERS)/peers.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r $(PEERS)/peers.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^primme' requirements-benchmark.txt)" || echo "PRIMME could not be built; install a C compiler and the BLAS headers (Debian: libopenblas-dev), remove $(PEERS) and try again."
	touch $@
