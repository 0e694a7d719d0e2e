"""What README and docs publish is what the report derives from the committed results."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from innerloop.core.components import Design
from innerloop.core.intervals import mean_and_interval
from innerloop.methods.catalogue import names
from innerloop.report.material import Material
from innerloop.report.report import document, read_material
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import evaluations
from innerloop.runs.results import EvaluationRow

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import tables  # noqa: E402
from pages import filled  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
METHODS = {
    "FO-MAML": "fomaml",
    "MAML, second order": "maml",
    "MAML++": "mamlpp",
    "transfer": "transfer",
}
ROW = re.compile(
    r"^\| (?P<method>[^|]+) \| Omniglot, (?P<split>[^,|]+), (?P<part>\w+) \| (?P<seed>\d+) \| "
    r"(?P<mode>\w+) \| "
    r"(?P<episodes>\d+) \| (?P<accuracy>[\d.]+ ± [\d.]+) \|",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunDirectory]:
    """The committed results as run directories; their weights are not committed, and a report needs
    only to know."""
    folder = tmp_path_factory.mktemp("published")
    for path in (RESULTS / "accuracy").glob("*/"):
        copy = Path(shutil.copytree(path, folder / path.name))
        if (copy / "validation.jsonl").is_file():
            (copy / "validation.jsonl").rename(copy / "metrics.jsonl")
        (copy / "model.safetensors").write_bytes(save({"weights": np.zeros(1)}))
    return [RunDirectory(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def published_checksums() -> Iterator[None]:
    """Weights are known by their checksums, which are committed."""
    lines = (RESULTS / "accuracy" / "SHA256SUMS").read_text("utf-8").splitlines()
    checksums = {name: checksum for checksum, name in (line.split("  ") for line in lines)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDirectory, "weights_sha256", lambda run: checksums[run.path.name])
        yield


@pytest.fixture(scope="module")
def material(runs, published_checksums) -> Material:
    first = [run.path for run in runs if run.config.data.split == "assignment"]
    others = [run.path for run in runs if run.config.data.split != "assignment"]
    return read_material([*first, *others], RESULTS / "explanation")


def shown(mean: float, half: float) -> str:
    return f"{100 * mean:.2f} ± {100 * half:.2f}"


def of_one(row: EvaluationRow) -> str:
    """An evaluation's accuracy with its interval over episodes and classes."""
    assert row.design.covers_classes
    return shown(*mean_and_interval(np.array(row.query_accuracy_per_episode), row.design))


def test_every_published_row_is_an_evaluation(runs):
    rows = list(ROW.finditer((ROOT / "benchmarks" / "README.md").read_text("utf-8")))
    published = {run.path.name for run in runs}

    assert len(rows) >= 10
    seen = set()
    for row in rows:
        (run,) = [
            run
            for run in runs
            if run.config.method == METHODS[row["method"]]
            and run.config.data.split == row["split"]
            and run.config.training.seed == int(row["seed"])
        ]
        (found,) = [
            evaluation
            for evaluation in evaluations(run, row["part"], int(row["episodes"]))
            if evaluation.batch_norm == row["mode"]
            and evaluation.adaptation == "own"
            and evaluation.inner_steps == 5
            and evaluation.inner_lr == 0.4
        ]
        assert row["accuracy"] == of_one(found), row[0]
        seen.add(run.path.name)
    assert seen == published, "a published run is in the table"


def test_the_table_of_the_readme_is_what_the_report_derives(material, runs):
    page = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(
        r"^\| ([^|]+) \| ([\d.]+ ± [\d.]+) \| ([\d, ]+) \| ([^|]+) \| ([\d-]+) \| `innerloop",
        page,
        re.M,
    )

    assert {METHODS[method] for method, *_ in rows} == {
        row.method for row in material.comparison.rows
    }
    for method, accuracy, seeds, on_test, seed_on_test in rows:
        row = material.row(METHODS[method])
        assert row and accuracy == shown(row.query_accuracy, row.query_accuracy_ci95)
        assert seeds == ", ".join(map(str, row.training_seeds))
        tested = [
            run
            for run in runs
            if run.config.method == METHODS[method] and run.config.data.split == "1100-100-423"
        ]
        found = [
            evaluation
            for run in tested
            for evaluation in evaluations(run, "test", 600)
            if (evaluation.batch_norm, evaluation.adaptation, evaluation.inner_steps)
            == (row.batch_norm, "own", 5)
        ]
        assert [on_test] == ([of_one(evaluation) for evaluation in found] or ["-"])
        assert [seed_on_test] == ([str(run.config.training.seed) for run in tested] or ["-"])


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_what_the_evaluations_give(page):
    text = page.read_text("utf-8")

    assert "<!-- table: " in text
    assert filled(text, tables.tables()) == text


def points(a: str, b: str, seeds: int | None = None) -> str:
    """By how much method A is above method B; of so many seeds, or of all."""
    apart = tables.difference(tables.rows(a)[:seeds], tables.rows(b)[:seeds])
    return shown(apart.mean, apart.ci95)


def of_method(method: str, mode: str | None = None) -> str:
    return tables.accuracy(tables.rows(method, mode))


def on_test(method: str, mode: str = "transductive") -> list[EvaluationRow]:
    found = tables.row(tables.runs(method, tables.ON_TEST)[0], mode)
    assert found
    return [found]


def points_on_test(a: str, b: str) -> str:
    first = on_test(a, tables.own_mode(a))
    apart = tables.difference(first, on_test(b, tables.own_mode(b)))
    return shown(apart.mean, apart.ci95)


def points_of_a_glorot_head() -> str:
    glorot = tables.rows("transfer", adaptation="own-glorot")
    apart = tables.difference(tables.rows("fomaml")[:1], glorot)
    return shown(apart.mean, apart.ci95)


def unsigned(row: dict[str, float]) -> str:
    """A difference that is above zero, with its interval in points."""
    return shown(row["mean"], row["ci95"])


def widths(values: np.ndarray, design: Design, whole: float) -> str:
    """Half-widths of an interval over independent episodes, with classes, and with seeds."""
    halves = [mean_and_interval(values)[1], mean_and_interval(values, design)[1], whole]
    return "± {:.2f}, ± {:.2f} and ± {:.2f}".format(*(100 * half for half in halves))


def widths_of_difference(a: str, b: str) -> str:
    first, second = tables.rows(a), tables.rows(b)
    differences = tables.values(first).mean(axis=0) - tables.values(second).mean(axis=0)
    whole = tables.difference(first, second).ci95
    return widths(differences, tables.shared_design([*first, *second]), whole)


def difference_in_words() -> list[str]:
    apart = tables.difference(tables.rows("transfer"), tables.rows("fomaml"))
    counted = f"{apart.won} won, {apart.lost} lost, {apart.tied} tied"
    return [counted, f"{apart.probability:.2f}", f"{apart.effect_size:.2f}"]


EXPLANATION = tables.explanation()
GAP = EXPLANATION["table"]["gap"]
DISJOINT = EXPLANATION["disjoint"]
BY_BATCH = {
    rung["shift"]: rung["runs"]["transfer"]["batch_statistics"] for rung in EXPLANATION["shift"]
}
FASTER = [
    row
    for run in tables.runs("fomaml-003", folder=tables.VARIANTS)
    if (row := tables.row(run, "transductive"))
]
AS_MANY_SEEDS = [
    row
    for row in tables.rows("mamlpp")
    if row.training_seed in {faster.training_seed for faster in FASTER}
]
AGAINST_FASTER = tables.difference(AS_MANY_SEEDS, FASTER)


def of_chosen(method: str) -> str:
    """What was chosen for a method by the same trials, over its seeds."""
    return tables.accuracy(tables.chosen(method))


def points_of_chosen(a: str, b: str) -> str:
    apart = tables.difference(tables.chosen(a), tables.chosen(b))
    return shown(apart.mean, apart.ci95)


SENTENCES = [
    (
        "README.md",
        "transfer has {}, MAML++ {}, MAML {} and FO-MAML {}: transfer is above",
        [of_chosen(method) for method in ("transfer", "mamlpp", "maml", "fomaml")],
    ),
    (
        "docs/tuning.md",
        "MAML minus FO-MAML is {} points, MAML++ minus FO-MAML {}, and MAML++ minus MAML {}.",
        [
            points_of_chosen("maml", "fomaml"),
            points_of_chosen("mamlpp", "fomaml"),
            points_of_chosen("mamlpp", "maml"),
        ],
    ),
    (
        "docs/tuning.md",
        "of FO-MAML by {} points, of MAML by {} and of MAML++ by {}.",
        [points_of_chosen("transfer", method) for method in ("fomaml", "maml", "mamlpp")],
    ),
    (
        "docs/comparison.md",
        "still ahead of FO-MAML, by {} points",
        [points_of_chosen("transfer", "fomaml")],
    ),
    (
        "README.md",
        "of 0.003 FO-MAML has {} (seeds {})",
        [tables.accuracy(FASTER), tables.seeds(FASTER)],
    ),
    (
        "docs/methods/mamlpp.md",
        "{} (seeds {}), and MAML++ minus that is {}.",
        [
            tables.accuracy(FASTER),
            tables.seeds(FASTER),
            shown(AGAINST_FASTER.mean, AGAINST_FASTER.ci95),
        ],
    ),
    (
        "README.md",
        "better than FO-MAML at this budget, by {} points",
        [points("transfer", "fomaml")],
    ),
    ("README.md", "MAML++ is above FO-MAML by {} points", [points("mamlpp", "fomaml")]),
    (
        "docs/methods/mamlpp.md",
        "**{}**, above FO-MAML ({}) by {} points",
        [of_method("mamlpp"), of_method("fomaml"), points("mamlpp", "fomaml")],
    ),
    (
        "docs/methods/mamlpp.md",
        "below transfer ({}) by {}",
        [of_method("transfer"), points("transfer", "mamlpp")],
    ),
    ("docs/methods/mamlpp.md", "above MAML by {}", [points("mamlpp", "maml")]),
    ("docs/methods/maml.md", "above FO-MAML by {} points", [points("maml", "fomaml")]),
    (
        "docs/methods/mamlpp.md",
        "seed 0: {} transductive (support {}, running {}), above FO-MAML's {} by {} points",
        [
            *(
                tables.accuracy(on_test("mamlpp", mode))
                for mode in ("transductive", "support", "running")
            ),
            tables.accuracy(on_test("fomaml")),
            points_on_test("mamlpp", "fomaml"),
        ],
    ),
    (
        "docs/comparison.md",
        "one seed, test part: {} against {}",
        [tables.accuracy(on_test("transfer", "running")), tables.accuracy(on_test("fomaml"))],
    ),
    ("docs/comparison.md", "*below* FO-MAML, by {} points", [points_of_a_glorot_head()]),
    (
        "docs/comparison.md",
        "({}; P(transfer above FO-MAML) = {}, effect size {})",
        difference_in_words(),
    ),
    (
        "docs/comparison.md",
        "transfer minus FO-MAML is {}; MAML++ minus FO-MAML is {}",
        [widths_of_difference("transfer", "fomaml"), widths_of_difference("mamlpp", "fomaml")],
    ),
    ("docs/comparison.md", "So the gap of {} points", [unsigned(GAP["all"])]),
    ("docs/comparison.md", "the gap is {}.", [unsigned(GAP["features, by cosine prototypes"])]),
    (
        "docs/comparison.md",
        "Over {} episodes that share no character, seed 0, the difference is {} points",
        [DISJOINT["episodes"], unsigned(DISJOINT["difference"])],
    ),
    (
        "docs/comparison.md",
        "transfer has {:.1f} % on inverted ink and {:.1f} % on digits",
        [100 * BY_BATCH[name]["mean"] for name in ("inverted ink", "digits")],
    ),
]


@pytest.mark.parametrize(("page", "words", "numbers"), SENTENCES)
def test_a_sentence_says_what_the_evaluations_give(page, words, numbers):
    assert words.format(*numbers) in (ROOT / page).read_text("utf-8")


def test_what_the_same_trials_chose_is_above_the_others_or_not_told_from_them():
    """As README and tuning.md say it."""
    for method in ("fomaml", "maml", "mamlpp"):
        apart = tables.difference(tables.chosen("transfer"), tables.chosen(method))
        assert apart.mean > apart.ci95
    for a, b in (("maml", "fomaml"), ("mamlpp", "fomaml"), ("mamlpp", "maml")):
        apart = tables.difference(tables.chosen(a), tables.chosen(b))
        assert abs(apart.mean) <= apart.ci95


@pytest.mark.parametrize("method", ["fomaml", "maml"])
def test_both_engines_train_to_the_same_accuracy(method):
    """Of settings that were trained by each, over the same three seeds."""
    by_reference = tables.of_runs_named(f"{method}-003")
    by_kernels = tables.chosen(method)[:3]

    assert [row.training_seed for row in by_reference] == [0, 1, 2]
    apart = tables.difference(by_kernels, by_reference)
    assert abs(apart.mean) <= apart.ci95 <= 0.005


@pytest.mark.parametrize("method", ["fomaml", "maml"])
def test_these_trainings_differ_in_their_engine_alone(method):
    folders = [
        f"{method}-{name}-omniglot-5w5s-s{seed}" for seed in range(3) for name in ("003", "chosen")
    ]
    settings = [RunDirectory(tables.VARIANTS / name).config.flat() for name in folders]
    for one, other in zip(settings[::2], settings[1::2], strict=True):
        different = {name for name in other if one[name] != other[name]}
        assert different == {"engine", "episodes_per_chunk"}


def test_the_comparison_page_says_what_the_report_derives(material):
    page = (ROOT / "docs" / "comparison.md").read_text("utf-8")
    for method in ("transfer", "fomaml"):
        row = material.row(method)
        assert row and shown(row.query_accuracy, row.query_accuracy_ci95) in page
        assert ", ".join(f"{100 * value:.2f}" for value in row.query_accuracy_of_each_seed) in page
    pair = material.difference("transfer", "fomaml")
    assert pair and pair.difference.covers == "episodes, classes and training seeds"
    assert f"by **{shown(pair.difference.mean, pair.difference.ci95)} points**" in page


def test_the_committed_comparison_is_what_the_files_give(material):
    committed = json.loads((RESULTS / "comparison" / "comparison.json").read_text())
    derived = {row.method: row for row in material.comparison.rows}

    for row in committed["rows"]:
        assert derived[row["method"]].query_accuracy == pytest.approx(
            row["query_accuracy"], abs=1e-9
        )
        assert derived[row["method"]].query_accuracy_ci95 == pytest.approx(
            row["query_accuracy_ci95"], abs=1e-9
        )


def test_a_report_of_the_published_runs_says_their_numbers(material):
    made = document(material)
    words = json.dumps(
        [vars(block) for section in made.sections for block in section.blocks],
        default=str,
        ensure_ascii=False,
    )

    for method in names():
        if row := material.row(method):
            assert shown(row.query_accuracy, row.query_accuracy_ci95) in words
    assert "1100-100-423" in words
