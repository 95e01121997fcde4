# make demo   sets up .venv, embeds the built-in sample, reads stellar parameters from it, compares heads
# make test   sets up .venv and runs the tests
# make check  lint, format and types
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow check clean

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("spectrabridge needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/.ready
	$(BIN)/embed-spectra --survey desi --out demo/embeddings.zarr
	$(BIN)/stores-verify demo/embeddings.zarr
	$(BIN)/stores-search demo/embeddings.zarr --id 327857943212982272 -k 5
	$(BIN)/stores-export demo/embeddings.zarr --out demo/embeddings.parquet --overwrite
	$(BIN)/heads-predict --survey lamost --out demo/parameters.parquet --overwrite
	$(BIN)/heads-bench --out demo/bench

test: .venv/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile

slow: .venv/.ready
	$(BIN)/python -m pytest -m slow

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv demo
