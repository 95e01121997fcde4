"""What the README and the docs say is so: commands exist, options exist, tables are those of the code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from stores.catalogues import load_catalogues
from stores.flags import REASONS, Flag
from stores.grid import GRIDS
from stores.prepare import Preparation
from stores.surveys import load_surveys

ROOT = Path(__file__).resolve().parents[1]
CARDS = [*sorted((ROOT / "embed/models").glob("*/README.md")), *sorted((ROOT / "stores/simulate/data").glob("*.md"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *CARDS]
TEXT = {str(page.relative_to(ROOT)).removeprefix("docs/"): page.read_text() for page in PAGES}
# as declared: an installation may be older than the checkout
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
SCRIPTS = {name: place.split(":")[0] for name, place in DECLARED.items()}


COMMAND = r"(stores|embed|heads)-\w+ |accelerate launch|python -m (stores|embed|heads|benchmarks)"


def commands() -> list[tuple[str, str]]:
    """Every command line in a code block of the docs, with its page."""
    found = []
    for page, text in TEXT.items():
        for block in re.findall(r"```(?:\w*)\n(.*?)```", text, flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.split("#")[0].strip()
                if re.match(
                    r"(stores|embed|heads)-\w+ |accelerate launch|python -m (stores|embed|heads|benchmarks)", line
                ):
                    found.append((page, line))
    return found


@cache
def help_of(module: str) -> str:
    program = f"import sys; sys.argv[1:] = ['--help']\nfrom {module} import main\nmain()"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_and_options_exist(page: str, line: str) -> None:
    words = line.split()
    if words[0] == "accelerate":
        script = next(word for word in words if word.endswith(".py"))
        assert (ROOT / script).is_file()
        module, words = script.removesuffix(".py").replace("/", "."), words[words.index(script) :]
    elif words[0] == "python":
        module, words = words[2], words[2:]
        if (ROOT / module.replace(".", "/")).is_dir():
            module += ".__main__"
    else:
        assert words[0] in SCRIPTS, f"{page}: {words[0]} is no command"
        module = SCRIPTS[words[0]]
    text = help_of(module)
    for word in words:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text), f"{page}: {line}: no option {word}"


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 10


def test_flags_are_documented() -> None:
    for flag in Flag:
        assert f"| {flag.bit_length() - 1} | {flag.name} | {REASONS[flag]} |" in TEXT["stores.md"]
    assert set(REASONS) == set(Flag)


def test_surveys_grids_and_options_are_documented() -> None:
    for name in load_surveys():
        assert f"| `{name}` |" in TEXT["README.md"]
    for name in GRIDS:
        assert f"`{name}`" in TEXT["preparation.md"]
    assert f"σ = {Preparation().continuum_width:.0f} km/s" in TEXT["preparation.md"]


def test_catalogues_and_cuts_are_documented() -> None:
    cuts = set()
    for name, kind in load_catalogues().items():
        assert f"| `{name}` |" in TEXT["labels.md"]
        cuts |= {f"| `{name}.{cut}` | {sentence} |" for cut, sentence in kind.cuts.items()}
    assert cuts == set(re.findall(r"^\| `\w+\.\w+` \|.*$", TEXT["labels.md"], flags=re.MULTILINE))


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readers_example_works(tmp_path: Path) -> None:
    """The reader of docs/adding-a-survey.md, run on a file made for it."""
    import numpy as np
    from astropy.io import fits

    from stores.surveys import SURVEYS, ReadOptions

    code = re.search(r"```python\n(.*?)```", TEXT["adding-a-survey.md"], flags=re.DOTALL)
    assert code is not None
    before = dict(SURVEYS)
    try:
        exec(compile(code.group(1), "adding-a-survey.md", "exec"), {})
        targets = fits.BinTableHDU.from_columns(
            [
                fits.Column("ID", "K", array=[2**62 + 1, 5]),
                *(fits.Column(name, "D", array=[1.0, 2.0]) for name in ("RA", "DEC", "RV")),
            ],
            name="TARGETS",
        )
        images = {"WAVELENGTH": 4000.0 + np.arange(50), "FLUX": np.ones((2, 50)), "IVAR": np.ones((2, 50))}
        images["FLUX"][1, 3] = np.nan
        path = tmp_path / "mine.fits"
        hdus = [fits.PrimaryHDU(), targets, *(fits.ImageHDU(data, name=name) for name, data in images.items())]
        fits.HDUList(hdus).writeto(path)
        mine = SURVEYS["mysurvey"]
        batch = mine.read(path, ReadOptions())
        assert batch.id.tolist() == mine.ids(path).tolist() == [2**62 + 1, 5]
        assert batch.ivar[1, 3] == 0
        assert batch.rv.tolist() == [1.0, 2.0]
    finally:
        SURVEYS.clear()
        SURVEYS.update(before)


def test_the_catalogues_example_works(tmp_path: Path) -> None:
    """The reader of docs/labels.md, run on a file made for it."""
    from stores.catalogues import CATALOGUES, read_catalogue

    code = re.findall(r"```python\n(.*?)```", TEXT["labels.md"], flags=re.DOTALL)[-1]
    before = dict(CATALOGUES)
    try:
        exec(compile(code, "labels.md", "exec"), {})
        path = tmp_path / "mine.csv"
        path.write_text(
            f"star_id,gaia,ra,dec,snr,metallicity,error\na,{2**62 + 1},1,2,31,-1.5,0.1\nb,5,3,4,30,-1,0.1\n"
        )
        read = read_catalogue("mysurvey", path)
        assert read.gaia is not None
        assert (read.gaia.tolist(), read.values["feh"].tolist()) == ([2**62 + 1], [-1.5])
        assert read.cuts == (("snr above 30", 1),)
    finally:
        CATALOGUES.clear()
        CATALOGUES.update(before)


def test_adapters_inputs_and_columns_are_documented() -> None:
    from heads.adapters import load_adapters
    from heads.inputs import INPUTS
    from heads.predict import catalogue_columns

    text = TEXT["heads.md"]
    for name, strategy in load_adapters().items():
        told = (type(strategy).__doc__ or "").strip().splitlines()[0]
        assert f"| `{name}` | {told} |" in text
    for name in INPUTS:
        assert f"| `{name}` |" in text
    for column in catalogue_columns(["X"]):
        assert re.search(rf"^\| (.*, )?`{column}`", text, flags=re.MULTILINE), column
    for flag in (Flag.OUT_OF_DISTRIBUTION, Flag.OUTSIDE_LABELS):
        assert f"| {flag.bit_length() - 1} | {flag.name} | {REASONS[flag]} |" in text


def test_the_numbers_about_heads_are_those_of_the_code() -> None:
    from heads import TrainOptions
    from heads.calibration import FEWEST, RICH
    from heads.head import OUTSIDE_MARGIN
    from heads.novelty import COMPONENTS, NEIGHBOURS, SHARE
    from heads.scaling import LIMIT
    from heads.score import LEAST
    from heads.training import BALANCE, FOLDS
    from stores.stars import SAME_STAR

    text = " ".join(TEXT["heads.md"].split())
    assert (TrainOptions().widths, TrainOptions().seeds, FOLDS, RICH, BALANCE) == ((1024, 512, 64), 5, 5, -1.0, 0.5)
    assert f"at least {FEWEST} of them were held out" in text
    assert f"the {NEIGHBOURS} nearest training spectra, in their {COMPONENTS} strongest directions" in text
    assert f"that of {SHARE:.0%}".replace("%", " per cent") in text
    assert f"a margin of {OUTSIDE_MARGIN:.0%}".replace("%", " per cent") in text
    assert f"kept within ±{LIMIT:.0f}" in text
    assert f"Groups of fewer than {LEAST} stars have no numbers" in text
    assert f"stars within {SAME_STAR:.0f} arcsec are one" in text


def test_the_examples_about_heads_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/heads.md: a head is trained and taken to another survey, then by the adapter made there."""
    from heads_made import SMALL, TARGETS, make_labels, make_sample, make_stores, make_truth
    from stores_made import make_ids

    from heads import Head, adapt_head, train_head
    from heads.adapters import ADAPTERS

    for survey, labels in (("desi", "labels"), ("lamost", "lamost-labels")):
        for kind, path in make_stores(tmp_path / survey, 60).items():
            path.rename(tmp_path / (f"{survey}.zarr" if kind == "spectra" else f"{survey}-embeddings.zarr"))
        make_labels(make_ids(60), make_truth(60)).save(tmp_path / f"{labels}.parquet")
    use, own = re.findall(r"```python\n(.*?)```", TEXT["heads.md"], flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(use, "heads.md", "exec"), {})
    assert Head.from_pretrained("lamost-fused").adapter == "kriging"
    before = dict(ADAPTERS)
    try:
        exec(compile(own, "heads.md", "exec"), {})
        base = train_head(make_sample(40), {"input": "embedding"}, SMALL).head
        outcome = adapt_head(base, make_sample(40, seed=1), "shift", SMALL)
        assert outcome.trained == len(TARGETS)
        outcome.head.save_pretrained("shifted")
        assert Head.from_pretrained("shifted").fingerprint == outcome.head.fingerprint != base.fingerprint
    finally:
        ADAPTERS.clear()
        ADAPTERS.update(before)
