# Two commands do everything: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := 2.13.0
CONSTRAINTS := constraints.txt

# Python keeps what it has compiled, whatever the environment says (containers often tell it not to): compiling
# PyTorch and diffusers anew takes each process ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test pytest check matrix bench test-lowest test-pythons setup clean

demo: setup
	@$(BIN)/perf build --jobs 2
	@$(BIN)/perf render "A teddy* sailing in a teapot*" --count 6 --out out --sheet out/teddy-in-teapot.png --force

# Lint and types beside the tests, since both leave a core idle at times. While editing: pytest -m "not slow".
test: setup
	@$(MAKE) --no-print-directory --jobs 2 check pytest

# A process more than there are cores, since tests wait at times, and one thread in each.
pytest: setup
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 ))

check: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

# Every architecture beside models that are edited by hand: two minutes, and docs/matrix.md.
matrix: setup
	@TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.matrix --page docs/matrix.md

# What things cost, each beside its baseline: ten minutes of a machine that does nothing else, and docs/bench.md.
bench: setup
	@TQDM_DISABLE=1 $(BIN)/python -m benchmarks.bench --page docs/bench.md --json docs/bench.json

# By hand before a release, since they download much: the oldest packages that pyproject.toml allows, as uv finds them,
# and newer Pythons.
test-lowest:
	@command -v uv >/dev/null || { echo "test-lowest needs uv: pip install uv"; exit 1; }
	@mkdir -p out
	@uv pip compile pyproject.toml --extra all --extra storybook --resolution lowest-direct --no-deps --no-emit-package perfusion-storybook --python $(PYTHON) --quiet --output-file out/lowest.txt
	@$(MAKE) pytest VENV=.venv-lowest CONSTRAINTS=out/lowest.txt TORCH=$$(sed -n 's/^torch==//p' out/lowest.txt)

test-pythons:
	@for version in 3.12 3.13; do $(MAKE) pytest VENV=.venv-$$version PYTHON=python$$version || exit 1; done

setup: $(READY)

# Where there is no NVIDIA GPU, take PyTorch's CPU build: the default one on Linux brings gigabytes of CUDA. Some
# package indexes carry it themselves; PyTorch's own index always does. Most of their 16,000 files are never imported:
# Python compiles the others when they are (--no-compile).
# perfusion-storybook, the base that ships, is a distribution of its own, and lies in this checkout.
$(READY): pyproject.toml perfusion-storybook/pyproject.toml $(CONSTRAINTS)
	@echo "Setting up $(VENV): a few minutes, mostly downloads"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "perf needs Python 3.11 or newer; try make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
		$(BIN)/pip install -q --no-compile "torch==$(TORCH)+cpu" 2>/dev/null \
		|| $(BIN)/pip install -q --no-compile --index-url https://download.pytorch.org/whl/cpu "torch==$(TORCH)+cpu" 2>/dev/null \
		|| echo "PyTorch's CPU build is not to be had here: taking the default one, of some gigabytes"; \
	fi
	@$(BIN)/pip install -q --no-compile -c $(CONSTRAINTS) -e ./perfusion-storybook -e ".[dev]"
	@touch $(READY)

clean:
	rm -rf $(VENV) out
