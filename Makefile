# Every target sets up what it needs in .venv; PYTHON=python3.12 chooses another interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV ?= .venv
VENV_BEAM ?= .venv-beam
VENV_AOT ?= .venv-aot
VENV_AOT_CUDA ?= .venv-aot-cuda
VENV_NEWEST ?= .venv-newest
VENV_DOCS ?= .venv-docs
BIN := $(VENV)/bin
OUT ?= demo_output

# what shows whether a machine or a version computes and decodes the same
NUMERIC := tests/model/test_discretize.py tests/model/test_fast.py tests/model/test_fusion.py tests/model/test_vtd_clip.py \
  tests/clip/test_towers.py tests/train/test_step.py tests/experiments/test_golden.py
# tests/README.md says which tests run where
JOBS ?= 2
PYTEST := python -m pytest -n $(JOBS) --dist worksteal
UNTYPED := VTD_JAX_TESTS_UNTYPED=1
FAST := --fast

.PHONY: help demo results test test-all slow mesh numeric fuzz parity mteb beam aot aot-cuda browser notebook newest any-cpu docs lint format setup environments clean

help:
	@echo "make demo    the main job on rendered videos: videos -> records -> training -> base/novel table (OUT=$(OUT))"
	@echo "make results the pages whose numbers are stored results (docs/results.md, published.md, scenes/), from docs/measured/"
	@echo "make test    the fast tests, offline, on a CPU (JOBS=$(JOBS) processes)"
	@echo "make test-all every test that needs nothing beyond $(VENV) (20 to 60 minutes on 2 cores), which are:"
	@echo "make test, make slow, make mesh (eight simulated devices), make numeric (compiled as for users)"
	@echo "make fuzz    thousands of damaged and hostile files of every kind (FUZZ_COUNT=$(FUZZ_COUNT) of each; FUZZ_SEED=N again)"
	@echo "make parity  the same numbers from PyTorch, transformers, open_clip, timm and OpenAI's tokenizer (installs PyTorch)"
	@echo "make mteb    MTEB, the benchmark of embeddings, on made tasks (installs PyTorch and MTEB)"
	@echo "make beam    building records with Apache Beam on this machine (an environment of its own, .venv-beam)"
	@echo "make aot     compiling for TPUs on this machine (an environment of its own, .venv-aot, with libtpu)"
	@echo "make aot-cuda compiling for NVIDIA's GPUs on this machine (.venv-aot-cuda, 4.3 GB, with the CUDA compiler; no GPU is needed)"
	@echo "make notebook  notebooks/quickstart.ipynb, cell by cell (installs ipykernel)"
	@echo "make browser the report's pages and vtd app's in headless Chromium (installs Selenium; Chromium and its driver must be there)"
	@echo "make newest  the fast tests with the newest versions that pip finds (.venv-newest), and scores against the pinned ones"
	@echo "make any-cpu the numeric tests with the instructions of an older processor (ISA=AVX2 or SSE4_2)"
	@echo "make docs    the documentation as a site, docs/_build/html/index.html (.venv-docs); a link that leads nowhere fails it"
	@echo "make lint    style, format and types; make format applies what it can"
	@echo "make setup   the environment with the development tools, $(VENV)"
	@echo "make clean   removes the environments and the demo's results"

define check_python
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
  { echo "error: $(PYTHON) is not Python 3.11 to 3.13; name one with PYTHON=python3.12"; exit 2; }
endef

$(VENV)/.installed: requirements.txt pyproject.toml
	$(check_python)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -e '.[train,figures]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[dev]'
	@touch $@

# the `parity` extra without torchvision, which all but torch ask for and our comparisons do not need
$(VENV)/.installed-parity: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt 'torch==2.13.0'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'clip-anytorch==2.6.0' 'open_clip_torch==3.3.0' 'timm==1.0.31'
	@touch $@

# the torch of parity: without the pin, pip takes one with CUDA, 5 GB
$(VENV)/.installed-mteb: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt 'torch==2.13.0' 'mteb==2.26.24'
	@touch $@

$(VENV)/.installed-browser: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[browser]'
	@touch $@

$(VENV)/.installed-notebook: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[notebook]'
	@touch $@

# Beam cannot use protobuf 7
$(VENV_BEAM)/.installed: requirements.txt pyproject.toml
	$(check_python)
	$(PYTHON) -m venv $(VENV_BEAM)
	$(VENV_BEAM)/bin/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[beam,train,figures,dev]'
	@touch $@

# with libtpu, JAX looks for a TPU wherever it starts
$(VENV_AOT)/.installed: requirements.txt pyproject.toml
	$(check_python)
	$(PYTHON) -m venv $(VENV_AOT)
	$(VENV_AOT)/bin/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[aot,train,figures,dev]'
	@touch $@

# with the CUDA plugin, JAX looks for a GPU wherever it starts
$(VENV_AOT_CUDA)/.installed: requirements.txt pyproject.toml
	$(check_python)
	$(PYTHON) -m venv $(VENV_AOT_CUDA)
	$(VENV_AOT_CUDA)/bin/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[aot-cuda,train,figures,dev]'
	@touch $@

# no constraints: what a user of the wheel gets
NEWEST_PYTHON ?= $(PYTHON)
$(VENV_NEWEST)/.installed: requirements.txt pyproject.toml
	$(check_python)
	$(NEWEST_PYTHON) -m venv $(VENV_NEWEST)
	$(VENV_NEWEST)/bin/pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager -e '.[train,figures,dev]'
	@touch $@

$(VENV_DOCS)/.installed: requirements.txt pyproject.toml
	$(check_python)
	$(PYTHON) -m venv $(VENV_DOCS)
	$(VENV_DOCS)/bin/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[docs,train,figures]'
	@touch $@

setup: $(VENV)/.installed-dev

environments: $(VENV_BEAM)/.installed $(VENV_AOT)/.installed $(VENV_NEWEST)/.installed

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.demo --out=$(OUT)

results: $(VENV)/.installed
	$(BIN)/python docs/generate.py

test: $(VENV)/.installed-dev
	$(BIN)/$(PYTEST) $(FAST)

test-all: test slow mesh numeric

slow: $(VENV)/.installed-dev
	$(UNTYPED) $(BIN)/$(PYTEST) -m "slow or command or hosts or killed" --durations=15

mesh: $(VENV)/.installed-dev
	$(UNTYPED) $(BIN)/$(PYTEST) --mesh

numeric: $(VENV)/.installed-dev
	$(UNTYPED) $(BIN)/$(PYTEST) --optimize $(NUMERIC)

# minutes; what is found is printed with its seed, and kept in fuzz_failures/
FUZZ_COUNT ?= 2000
FUZZ_KINDS ?=
fuzz: $(VENV)/.installed-dev
	FUZZ_COUNT=$(FUZZ_COUNT) FUZZ_SEED=$(FUZZ_SEED) PYTHONPATH=.:tests $(BIN)/python -m hostile.fuzzing $(FUZZ_KINDS)

# the largest models run in one process: two of them at once are most of a machine's memory
parity: $(VENV)/.installed-parity
	$(BIN)/$(PYTEST) --dist loadgroup tests/parity

mteb: $(VENV)/.installed-mteb
	$(UNTYPED) $(BIN)/python -m pytest tests/leaderboard

beam: $(VENV_BEAM)/.installed
	$(VENV_BEAM)/bin/$(PYTEST) tests/beam

aot: $(VENV_AOT)/.installed
	$(VENV_AOT)/bin/python -m pytest tests/aot

aot-cuda: $(VENV_AOT_CUDA)/.installed
	$(VENV_AOT_CUDA)/bin/python -m pytest tests/aot_cuda

browser: $(VENV)/.installed-browser
	@$(BIN)/python tests/browser/chromium.py
	$(BIN)/python -m pytest tests/browser

notebook: $(VENV)/.installed-notebook
	$(BIN)/python -m pytest tests/notebook

newest: $(VENV_NEWEST)/.installed $(VENV)/.installed-dev
	@$(VENV_NEWEST)/bin/pip list 2>/dev/null | grep -iE '^(av|flax|jax|jaxlib|numpy|orbax-checkpoint) '
	$(UNTYPED) JAX_REMAT3=True $(VENV_NEWEST)/bin/$(PYTEST) $(FAST)
	$(UNTYPED) JAX_REMAT3=True $(VENV_NEWEST)/bin/$(PYTEST) -m slow tests/train/test_step.py tests/model/test_vtd_clip.py
	$(VENV_NEWEST)/bin/python tests/support/versions.py $(VENV_NEWEST)/scores.npz
	VTD_JAX_OTHER_SCORES=$(VENV_NEWEST)/scores.npz $(BIN)/python -m pytest tests/evaluate/test_versions.py

# offline, once its environment is there
docs: $(VENV_DOCS)/.installed
	$(VENV_DOCS)/bin/python -m sphinx --quiet --fail-on-warning --keep-going --builder html docs docs/_build/html
	@echo "wrote docs/_build/html/index.html"

ISA ?= SSE4_2
any-cpu: $(VENV)/.installed-dev
	$(UNTYPED) XLA_FLAGS=--xla_cpu_max_isa=$(ISA) $(BIN)/$(PYTEST) $(NUMERIC)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# discard: fewer findings than are recorded are no failure (the stubs of an extra may be absent), new ones are
	$(BIN)/basedpyright --pythonpath $(BIN)/python --baselinemode=discard

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV_BEAM) $(VENV_AOT) $(VENV_AOT_CUDA) $(VENV_NEWEST) $(VENV_DOCS) docs/_build $(OUT)
