# Every target works on a machine with nothing but python3 (with venv) and make.
PYTHON ?= python3
BIN := .venv/bin
# tests of two files at a time, one thread each: what two cores do best (with two threads each some take seven times as long)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations 15

.PHONY: setup demo quick test mutants check bench fuzz soak gpu clean

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

quick: setup  ## tests that take under 90 seconds together
	$(PYTEST) -m "not slow and not network and not gpu"

test: setup  ## all tests that need neither network nor GPU
	$(PYTEST)

mutants: setup  ## make small mistakes in copies of the code: the quick tests of each room must notice every one
	$(BIN)/python tests/mutants.py --jobs 2

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mkdocs build --strict --quiet

demo: setup  ## label the sample scene
	mkdir -p demo
	$(BIN)/co2s predict sample_data/scene.tif --out demo/landcover.tif --preview demo/landcover.png --overwrite
	$(BIN)/co2s vectorize demo/landcover.tif --out demo/landcover.gpkg --overwrite

bench: setup  ## every benchmark; figures go to benchmarks/RESULTS.md by hand, with machine and date
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

fuzz: setup  ## 2,000 damaged inputs through the real command line; tests/test_fuzz.py runs the first 150 of them
	$(BIN)/python tests/fuzz.py --cases 2000

soak: setup  ## 200 scenes in one process, and commands killed at 30 random moments
	$(BIN)/python tests/soak.py --scenes 200 --kills 30

gpu:  ## check and measure on a GPU, in under 25 minutes, into build/gpu; says so where there is none
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m co2s_cli doctor --gpu --gpu-out build/gpu

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
