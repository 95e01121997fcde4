"""The rules of the house: who imports whom, and what a command may cost before it works."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("stores", "embed", "heads", "benchmarks")
MAY_IMPORT = {
    "stores": {"stores"},
    "embed": {"embed", "stores"},
    "heads": {"heads", "stores"},
    "benchmarks": set(PACKAGES),
}
LIBRARIES = ("torch", "transformers", "accelerate", "distributed", "zarr", "astropy", "scipy", "faiss", "pyarrow")
HEAVY = (*LIBRARIES, "dask", "matplotlib")
COMMANDS = sorted(point for point in entry_points(group="console_scripts") if point.value.split(".")[0] in PACKAGES)


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_data_flows_one_way(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        others = (imported(path) & set(PACKAGES)) - MAY_IMPORT[package]
        assert not others, f"{path.relative_to(ROOT)} imports {others}"


@pytest.mark.parametrize("package", PACKAGES)
def test_types_are_shipped(package: str) -> None:
    assert (ROOT / package / "py.typed").exists()


def test_all_commands_are_there() -> None:
    names = {point.name for point in COMMANDS}
    assert names >= {"stores-ingest", "stores-info", "stores-verify", "stores-export", "stores-search"}
    assert names >= {
        "stores-simulate",
        "embed-pretrain",
        "embed-spectra",
        "embed-probe",
        "heads-train",
        "heads-predict",
    }


@pytest.mark.parametrize("command", COMMANDS, ids=lambda point: point.name)
def test_help_needs_nothing_heavy(command) -> None:  # type: ignore[no-untyped-def]
    program = (
        f"import sys; sys.argv[1:] = ['--help']\nfrom {command.module} import main\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('HEAVY', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "usage: " + command.name in done.stdout
    assert done.stdout.splitlines()[-1] == "HEAVY"


@pytest.mark.parametrize(
    ("module", "arguments", "sentence"),
    [
        ("stores.ingest", ["--out", "x.zarr", "--continuum-width", "-3"], "continuum width -3"),
        ("stores.ingest", ["--out", "x.zarr", "--resolving-power", "-3"], "resolving power -3"),
        ("embed.pretrain", ["x.zarr", "--out", "run", "--steps", "-5"], "--steps"),
        ("embed.pretrain", ["x.zarr", "--out", "run", "--mask-ratio", "1.5"], "--mask-ratio 1.5"),
        ("embed.pretrain", ["x.zarr", "--out", "run", "--seed", "-1"], "--seed -1"),
        ("embed.pretrain", ["x.zarr", "--out", "run", "--stop-after", "0"], "--stop-after"),
        ("stores.search", ["x.zarr", "--spectrum", "a.fits", "--at-rest", "--rv", "b.fits"], "--at-rest and --rv"),
        ("stores.labelling", ["x.zarr", "--catalogue", "saga:x", "--out", "x.parquet", "--radius", "0"], "radius 0"),
        ("embed.pretrain", ["x.zarr", "--out", "README.md"], "is a file"),
        ("heads.predict", ["--head", "x", "--out", "x.parquet", "--limit", "0"], "--limit 0"),
        ("heads.predict", ["--head", "nowhere", "--out", "x.parquet"], "'nowhere' holds no head"),
        ("heads.train", ["--out", "x", "--store", "x.zarr", "--labels", "x.parquet"], "'x.zarr' does not exist"),
        ("heads.train", ["--out", "README.md", "--store", "x.zarr"], "'README.md' is a file"),
        ("heads.train", ["--out", "x", "--targets", ","], "--targets ','"),
        ("embed.probe", ["x.zarr", "--labels", "x.csv", "--folds", "0"], "--folds"),
        (
            "heads.predict",
            ["--out", "x.fits", "--hed", "x"],
            "unknown arguments: --hed, x; perhaps you meant --head or --scheduler;",
        ),
        ("embed.run", ["--store-dtype", "float8"], "--store-dtype cannot be 'float8', but float16 or float32;"),
    ],
)
def test_values_that_cannot_work_are_one_sentence(module: str, arguments: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_files_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 450
    }
    assert not long
