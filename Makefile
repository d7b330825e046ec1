# Every target sets up what it needs in .venv; PYTHON=python3.12 chooses another interpreter (3.11 to 3.13).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo_output

.PHONY: help demo test parity lint format setup clean

help:
	@echo "make demo    the main job on a made-up data set: videos -> records -> training -> base/novel table (OUT=$(OUT))"
	@echo "make test    all tests, offline, on a CPU"
	@echo "make parity  the same numbers from PyTorch, transformers and OpenAI's tokenizer (installs PyTorch)"
	@echo "make lint    ruff"

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: $(PYTHON) is not Python 3.11 to 3.13; name one with PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[dev]'
	@touch $@

# the `parity` extra without torchvision, which clip-anytorch asks for and our comparison does not need
$(VENV)/.installed-parity: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c requirements.txt 'torch==2.13.0'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'clip-anytorch==2.6.0'
	@touch $@

setup: $(VENV)/.installed-dev

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.demo --out=$(OUT)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

parity: $(VENV)/.installed-parity
	$(BIN)/python -m pytest tests/parity

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OUT)
