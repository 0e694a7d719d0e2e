"""Paired comparison: the numbers against closed forms, and what is refused."""

import io
import json
import math
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from innerloop.analysis.compared import Pair, sentence
from innerloop.analysis.comparison import compare
from innerloop.core.components import Design
from innerloop.core.errors import ConfigError, DataError
from innerloop.core.intervals import (
    independent_difference,
    mean_and_interval,
    paired_difference,
)
from innerloop.methods.catalogue import settings_of
from innerloop.report.comparison import cells, draw_accuracy, draw_rows, write_comparison
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment, Protocol
from innerloop.settings.run import RunConfig

EPISODES = 4
SETTINGS: dict[str, Any] = dict(
    data="omniglot", split="assignment", device="cpu", threads=1, episodes_per_chunk=1
)
CONFIG = settings_of("fomaml", **SETTINGS)


def run_with(
    path: Path,
    accuracies: list[float],
    config: RunConfig = CONFIG,
    *,
    finished: bool = True,
    **changes,
) -> RunDirectory:
    """A run directory with one evaluation, as training and evaluating leave it."""
    run = RunDirectory.create(
        config, Environment(data_fingerprint="abc", trains_on="episodes"), path
    )
    run.append_metrics(
        {
            "step": 0,
            "kind": "validation",
            "query_accuracy": 0.2,
            "query_accuracy_ci95": 0.01,
            "elapsed_s": 0.0,
            "episodes": 30,
            "batch_norm": "transductive",
            "inner_steps": 5,
        }
    )
    run.append_metrics(
        {
            "step": 1000,
            "kind": "validation",
            "query_accuracy": 0.9,
            "query_accuracy_ci95": 0.01,
            "elapsed_s": 60.0,
            "episodes": 30,
            "batch_norm": "transductive",
            "inner_steps": 5,
        }
    )
    if finished:
        run.weights_path.write_bytes(b"weights")
    add_evaluation(run, accuracies, **changes)
    return run


def add_evaluation(
    run: RunDirectory, accuracies: list[float], *, name: str = "evaluation-1.json", **changes
) -> None:
    config = run.config
    row = {
        "data": "omniglot",
        "data_fingerprint": "abc",
        "split": config.data.split,
        "part": "val",
        "ways": 5,
        "shots": 5,
        "queries": 15,
        "query_batches": 1,
        "rotations": False,
        "stream": "episodes/val",
        "episode_seed": 0,
        "episodes": len(accuracies),
        "method": config.method,
        "training_seed": config.training.seed,
        "adaptation": "own",
        "inner_lr": 0.4,
        "inner_steps": 5,
        "batch_norm": "transductive",
        "query_accuracy": float(np.mean(accuracies)),
        "query_accuracy_ci95": 0.01,
        "query_accuracy_per_step": [0.2, 0.5, 0.7, 0.8, 0.9, float(np.mean(accuracies))],
        "query_accuracy_per_episode": accuracies,
    } | changes
    (run.path / name).write_text(json.dumps(row))


def test_a_paired_difference_in_closed_form():
    difference = paired_difference(np.array([0.9, 0.8, 0.7, 1.0]), np.array([0.8, 0.8, 0.8, 0.7]))

    deltas = [0.1, 0.0, -0.1, 0.3]
    mean = sum(deltas) / 4
    spread = math.sqrt(sum((delta - mean) ** 2 for delta in deltas) / 3)
    assert difference.mean == pytest.approx(mean)
    assert difference.ci95 == pytest.approx(3.182446 * spread / 2)
    assert (difference.won, difference.lost, difference.tied) == (2, 1, 1)
    assert difference.probability == pytest.approx(2.5 / 4)
    assert difference.effect_size == pytest.approx(mean / spread)


def test_pairing_finds_what_independent_means_do_not():
    random = np.random.default_rng(0)
    hardness = random.normal(0.8, 0.1, 200)
    a, b = hardness + 0.01 + random.normal(0, 0.01, 200), hardness

    assert paired_difference(a, b).verdict == "better"
    assert independent_difference(a, b).verdict == "not distinguishable"
    assert independent_difference(a, b).ci95 == pytest.approx(
        1.971957 * math.sqrt(a.var(ddof=1) / 200 + b.var(ddof=1) / 200)
    )


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    random, covered = np.random.default_rng(1), 0
    for _ in range(2000):
        b = random.normal(0.8, 0.1, 100)
        difference = paired_difference(b + random.normal(0.02, 0.05, 100), b)
        covered += abs(difference.mean - 0.02) <= difference.ci95

    assert 0.93 < covered / 2000 < 0.965


def test_the_sentence_flips_with_the_data():
    a, b = np.array([0.9, 0.95, 0.92, 0.94]), np.array([0.8, 0.82, 0.83, 0.81])

    assert "A is better than B: +11" in sentence("A", "B", paired_difference(a, b))
    assert "A is worse than B: -11" in sentence("A", "B", paired_difference(b, a))
    assert "A and B are not distinguishable: +0.00 ± 0.00" in sentence(
        "A", "B", paired_difference(a, a)
    )
    assert "(4 won, 0 lost, 0 tied; P(A > B) = 1.00" in sentence("A", "B", paired_difference(a, b))


def test_many_small_wins_against_few_large_losses_are_said():
    often = np.array([0.01] * 40 + [-0.2] * 5 + [0.0] * 5)

    assert sentence("A", "B", paired_difference(often, 0 * often)).endswith(
        "; A wins clearly more episodes than B, which the mean does not show."
    )
    assert "; B wins clearly more episodes than A" in sentence(
        "A", "B", paired_difference(0 * often, often)
    )
    # Who wins more and is better has nothing more said, whichever way it is asked.
    for a, b in [(np.abs(often), 0 * often), (0 * often, np.abs(often))]:
        assert "wins clearly" not in sentence("A", "B", paired_difference(a, b))


def test_independent_means_are_said_not_to_be_paired():
    apart = independent_difference(np.array([0.9, 0.8, 0.7]), np.array([0.8, 0.7, 0.6]))

    assert sentence("A", "B", apart).endswith(
        "over episodes (not the same episodes, so not paired)."
    )


def test_equal_accuracies_have_no_effect_size():
    assert paired_difference(np.ones(3), np.ones(3)).effect_size is None
    assert paired_difference(np.full(3, 0.9), np.full(3, 0.8)).effect_size is None
    assert "effect size none)." in sentence("A", "B", paired_difference(np.ones(3), np.ones(3)))


def test_a_pair_as_json_is_flat_and_says_its_sentence():
    pair = Pair("A", "B", paired_difference(np.array([0.9, 0.8, 0.7]), np.array([0.8, 0.8, 0.8])))

    assert pair.to_json() == {
        "a": "A",
        "b": "B",
        **pair.difference.to_json(),
        "sentence": pair.sentence,
    }


def test_two_methods_are_two_rows_and_a_pair(tmp_path):
    a = run_with(tmp_path / "a", [0.9, 0.8, 0.9, 1.0])
    b = run_with(tmp_path / "b", [0.8, 0.8, 0.8, 0.8], settings_of("maml", **SETTINGS))

    compared = compare([a, b], episodes=EPISODES)

    assert [row.name for row in compared.rows] == ["fomaml", "maml"]
    (pair,) = compared.pairs
    assert (pair.a, pair.b, pair.difference.won, pair.difference.tied) == ("fomaml", "maml", 3, 1)
    assert pair.difference.mean == pytest.approx(0.1)
    assert compared.learning_curves[0].image_passes == (0, 1000 * 4 * (5 * 25 + 75))
    assert compared.learning_curves[0].seconds == (0.0, 60.0)
    assert compared.learning_curves[0].machine == a.machine


def test_a_row_of_learnt_rates_says_so(tmp_path):
    learnt = run_with(tmp_path / "a", [0.9] * 4, settings_of("mamlpp", **SETTINGS))
    fixed = run_with(tmp_path / "b", [0.8] * 4)

    rows = compare([learnt, fixed], episodes=EPISODES).rows

    assert {row.method: row.learned_rates for row in rows} == {"mamlpp": True, "fomaml": False}


def test_a_pair_is_found_either_way_and_every_part_is_in_the_file_by_its_name(tmp_path):
    a = run_with(tmp_path / "a", [0.9, 0.8, 0.7, 0.8])
    b = run_with(tmp_path / "b", [0.8, 0.8, 0.6, 0.6], settings_of("maml", **SETTINGS))
    found = compare([a, b], episodes=EPISODES)

    assert found.pair("fomaml", "maml") == found.pairs[0]
    assert found.pair("maml", "fomaml") == found.pairs[0].reversed()
    assert found.pair("maml", "maml") is found.pair("maml", "transfer") is None
    written = found.to_json()
    assert [row["name"] for row in written["rows"]] == ["fomaml", "maml"]
    assert written["pairs"] == [found.pairs[0].to_json()]
    assert [curve["name"] for curve in written["learning_curves"]] == ["fomaml", "maml"]
    assert (written["other_rows"], written["differing_fields"]) == ([], {})


def test_seeds_of_a_method_are_one_row_with_their_spread_apart(tmp_path):
    runs = [
        run_with(tmp_path / f"a{seed}", accuracies, CONFIG.replace(seed=seed))
        for seed, accuracies in enumerate([[0.9, 0.8, 0.9, 1.0], [0.7, 0.8, 0.9, 1.0]])
    ]
    runs.append(run_with(tmp_path / "b", [0.8, 0.8, 0.8, 0.8], settings_of("maml", **SETTINGS)))

    row, other = compare(runs, episodes=EPISODES).rows

    assert row.training_seeds == (0, 1)
    assert row.query_accuracy == pytest.approx(np.mean([0.8, 0.8, 0.9, 1.0]))
    # The seeds differ in one episode of four, and no more in their means than that explains.
    of_episodes = 3.182446 * np.std([0.8, 0.8, 0.9, 1.0], ddof=1) / 2
    assert row.query_accuracy_ci95 == pytest.approx(of_episodes)
    assert (row.covers, other.covers) == ("episodes and training seeds", "episodes")
    assert row.query_accuracy_of_each_seed == pytest.approx([0.9, 0.85])
    assert row.query_accuracy_sd_over_seeds == pytest.approx(np.std([0.9, 0.85], ddof=1))
    assert other.query_accuracy_sd_over_seeds is None


def test_other_settings_of_a_method_are_a_row_of_their_own_named_by_the_run(tmp_path):
    a = run_with(tmp_path / "narrow", [0.9] * 4, CONFIG.replace(filters=32))
    b = run_with(tmp_path / "wide", [0.8] * 4)

    assert [row.name for row in compare([a, b], episodes=EPISODES).rows] == [
        "fomaml (narrow)",
        "fomaml (wide)",
    ]


def test_other_adaptations_are_shown_and_not_paired(tmp_path):
    a = run_with(tmp_path / "a", [0.9] * 4)
    b = run_with(tmp_path / "b", [0.8] * 4, settings_of("maml", **SETTINGS))
    add_evaluation(
        a,
        [0.7] * 4,
        name="evaluation-2.json",
        adaptation="head-cosine",
        inner_lr=None,
        inner_steps=1,
    )
    add_evaluation(a, [0.6] * 4, name="evaluation-3.json", batch_norm="support")

    compared = compare([a, b], episodes=EPISODES)

    assert len(compared.rows) == 2 and len(compared.pairs) == 1
    assert {(row.adaptation, row.batch_norm) for row in compared.other_rows} == {
        ("head-cosine", "transductive"),
        ("own", "support"),
    }


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("split", {"split": "background-heldout"}),
        ("ways", {"ways": 4}),
        ("shots", {"shots": 1}),
        ("queries", {"queries": 10}),
        ("data", {"data": "strokes"}),
    ],
)
def test_runs_over_other_episodes_are_refused_by_field(field, changes, tmp_path):
    a = run_with(tmp_path / "a", [0.9] * 4)
    b = run_with(tmp_path / "b", [0.8] * 4, CONFIG.replace(**changes), **changes)

    with pytest.raises(
        ConfigError, match=f"cannot be compared: {field} differs .*--allow-different"
    ):
        compare([a, b], episodes=EPISODES)
    compared = compare([a, b], episodes=EPISODES, allow_different=True)

    assert list(compared.differing_fields) == [field]
    assert len({row.name for row in compared.rows}) == 2
    assert compared.pairs[0].difference.paired is False
    assert "not paired" in compared.pairs[0].sentence


def test_other_data_is_refused_though_its_name_is_the_same(tmp_path):
    a, b = (
        run_with(tmp_path / "a", [0.9] * 4),
        run_with(tmp_path / "b", [0.8] * 4, CONFIG.replace(seed=1)),
    )
    (b.path / "env.json").write_text(json.dumps({"data_fingerprint": "other"}))

    with pytest.raises(ConfigError, match="data_fingerprint differs"):
        compare([a, b], episodes=EPISODES)


def test_evaluations_of_other_episodes_do_not_count(tmp_path):
    a = run_with(tmp_path / "a", [0.9] * 4)
    b = run_with(tmp_path / "b", [0.8] * 4, CONFIG.replace(seed=1), episode_seed=7)

    with pytest.raises(ConfigError, match="b was not evaluated on 4 episodes of part val"):
        compare([a, b], episodes=EPISODES)


@pytest.mark.parametrize("field", [spec.name for spec in fields(Protocol)])
def test_every_field_of_the_protocol_is_looked_at_in_the_evaluation(field, tmp_path):
    a = run_with(tmp_path / "a", [0.9] * 4)
    b = run_with(tmp_path / "b", [0.8] * 4, CONFIG.replace(seed=1))
    value = asdict(b.evaluations()[0].protocol)[field]
    another = {str: "another", int: 3, bool: True}[type(value)]
    add_evaluation(b, [0.8] * (another if field == "episodes" else 4), **{field: another})

    with pytest.raises(ConfigError, match="was not evaluated"):
        compare([a, b], episodes=EPISODES)


def test_one_run_a_run_twice_and_an_unfinished_run_are_refused(tmp_path):
    a = run_with(tmp_path / "a", [0.9] * 4)
    unfinished = run_with(tmp_path / "b", [0.9] * 4, finished=False)

    with pytest.raises(ConfigError, match="at least two runs"):
        compare([a])
    with pytest.raises(ConfigError, match="at least 2 episodes: got 1"):
        compare([a, a], episodes=1)
    with pytest.raises(ConfigError, match="a is given twice"):
        compare([a, a])
    with pytest.raises(ConfigError, match=r"b has no final weights: .*innerloop resume"):
        compare([a, unfinished])


def test_a_damaged_evaluation_is_named(tmp_path):
    a, b = (
        run_with(tmp_path / "a", [0.9] * 4),
        run_with(tmp_path / "b", [0.9] * 4, CONFIG.replace(seed=1)),
    )
    add_evaluation(b, [0.9] * 3, episodes=4)

    with pytest.raises(DataError, match="does not hold the accuracy of each of its 4 episodes"):
        compare([a, b], episodes=EPISODES)


def test_a_learning_curve_is_the_runs_validations_field_by_field(tmp_path):
    """Every number of a record is another, so that each shows which field it came from."""
    a = run_with(tmp_path / "a", [0.9] * 4)
    b = run_with(tmp_path / "b", [0.8] * 4, settings_of("maml", **SETTINGS))
    record = {
        "kind": "validation",
        "query_accuracy_before": 0.21,
        "query_accuracy_before_ci95": 0.022,
        "query_loss": 0.31,
        "support_accuracy": 0.99,
        "inner_steps": 5,
    }
    numbers = [(0, 0.5, 0.051, 1.5, 7), (500, 0.6, 0.052, 2.5, 8), (1000, 0.7, 0.053, 3.5, 9)]
    protocols = [(28, "support"), (29, "running"), (30, "transductive")]
    rows = [
        record
        | {"step": step, "query_accuracy": accuracy, "query_accuracy_ci95": half}
        | {"elapsed_s": seconds, "image_passes": passes}
        | {"episodes": episodes, "batch_norm": mode}
        for (step, accuracy, half, seconds, passes), (episodes, mode) in zip(
            numbers, protocols, strict=True
        )
    ]
    (b.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    curve = compare([a, RunDirectory(b.path)], episodes=EPISODES).learning_curves[1]

    assert asdict(curve) == {
        "name": "maml",
        "run": "b",
        "method": "maml",
        "training_seed": 0,
        "step": (0, 500, 1000),
        "image_passes": (7, 8, 9),
        "seconds": (1.5, 2.5, 3.5),
        "machine": b.machine,
        "query_accuracy": (0.5, 0.6, 0.7),
        "query_accuracy_ci95": (0.051, 0.052, 0.053),
        "episodes": 30,
        "batch_norm": "transductive",
        "covers": "episodes",
    }


def test_seeds_are_averaged_step_by_step(tmp_path):
    runs = [
        run_with(tmp_path / f"a{seed}", [0.9] * 4, CONFIG.replace(seed=seed)) for seed in (0, 1)
    ]
    for run, curve in zip(runs, ([0.2, 0.4, 0.8], [0.2, 0.6, 0.9]), strict=True):
        add_evaluation(run, [0.9] * 4, query_accuracy_per_step=[*curve, 0.9, 0.9, 0.9])

    (row,) = compare(runs, episodes=EPISODES).rows

    assert row.query_accuracy_per_step == pytest.approx((0.2, 0.5, 0.85, 0.9, 0.9, 0.9))
    assert row.runs == ("a0", "a1")


def test_a_row_says_that_its_method_is_transductive(tmp_path):
    one = run_with(tmp_path / "fomaml", [0.9, 0.8, 0.9, 1.0])
    tim = settings_of("tim", **SETTINGS)
    other = run_with(
        tmp_path / "tim", [0.9] * 4, tim, inner_steps=1, inner_lr=None, transductive=True
    )

    comparison = compare([one, other], episodes=EPISODES)

    assert [row.transductive for row in comparison.rows] == [False, True]
    assert [cells(row)[1] for row in comparison.rows] == ["own", "own (transductive)"]
    assert [row["transductive"] for row in comparison.to_json()["rows"]] == [False, True]
    labels = draw_accuracy(comparison).axes[0].get_yticklabels()
    assert labels[1].get_text().endswith("; transductive method")


def test_a_comparison_is_written_whole(tmp_path):
    a, b = (
        run_with(tmp_path / "a", [0.9, 0.8, 0.9, 1.0]),
        run_with(tmp_path / "b", [0.8] * 4, CONFIG.replace(seed=1)),
    )
    c = run_with(tmp_path / "c", [0.5, 0.5, 0.6, 0.6], settings_of("maml", **SETTINGS))

    write_comparison(compare([a, b, c], episodes=EPISODES), tmp_path / "out")

    assert (
        json.loads((tmp_path / "out" / "comparison.json").read_text())["pairs"][0]["verdict"]
        == "better"
    )
    assert (
        "Of these networks alone: fomaml is better than maml"
        in (tmp_path / "out" / "comparison.md").read_text()
    )
    for name in ("accuracy", "learning-curves", "inner-steps"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 10_000


def test_seeds_of_one_method_alone_make_a_row_and_no_pair(tmp_path):
    runs = [
        run_with(tmp_path / f"a{seed}", [0.9] * 4, CONFIG.replace(seed=seed)) for seed in (0, 1)
    ]
    compared = compare(runs, episodes=EPISODES)

    write_comparison(compared, tmp_path / "out")

    assert len(compared.rows) == 1 and compared.pairs == ()


def test_the_same_seed_twice_is_no_second_seed(tmp_path):
    runs = [run_with(tmp_path / name, [0.9] * 4) for name in ("a", "copy")]

    with pytest.raises(
        ConfigError, match="with training seeds 0, 0: the same seed twice is no second seed"
    ):
        compare(runs, episodes=EPISODES)


def test_runs_of_the_same_directory_name_are_told_apart(tmp_path):
    for parent in ("one", "other"):
        (tmp_path / parent).mkdir()
    a = run_with(tmp_path / "one" / "run", [0.9] * 4, CONFIG.replace(filters=32))
    b = run_with(tmp_path / "other" / "run", [0.8] * 4)

    assert len({row.name for row in compare([a, b], episodes=EPISODES).rows}) == 2


def test_a_run_without_validations_is_refused(tmp_path):
    a, b = (
        run_with(tmp_path / "a", [0.9] * 4),
        run_with(tmp_path / "b", [0.8] * 4, CONFIG.replace(seed=1)),
    )
    (b.path / "metrics.jsonl").write_text("")

    with pytest.raises(DataError, match=r"b/metrics\.jsonl holds no validation"):
        compare([a, b], episodes=EPISODES)


def test_a_comparison_reads_each_file_once(tmp_path, monkeypatch):
    a = run_with(tmp_path / "a", [0.9] * 4)
    b = run_with(tmp_path / "b", [0.8] * 4, settings_of("maml", **SETTINGS))
    add_evaluation(a, [0.6] * 4, name="evaluation-2.json", batch_norm="support")
    # Making the runs has read their settings.
    for run in (a, b):
        (run.path / "config.json").write_text(run.config_text + "\n")
    reads: Counter[Path] = Counter()
    real = io.open

    def counting(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "r" in mode and isinstance(path, Path):
            reads[path] += 1
        return real(path, mode, *arguments, **options)

    monkeypatch.setattr(io, "open", counting)
    compare([RunDirectory(a.path), RunDirectory(b.path)], episodes=EPISODES)

    names = ("config.json", "env.json", "metrics.jsonl", "evaluation-1.json")
    expected = [run.path / name for run in (a, b) for name in names]
    assert reads == Counter([*expected, a.path / "evaluation-2.json"])


CLASSES = [[0, 1, 2, 3, 4], [0, 1, 5, 6, 7], [2, 3, 5, 6, 8], [4, 7, 8, 9, 0]]


def test_rows_that_name_their_classes_are_compared_over_classes_and_seeds(tmp_path):
    runs = []
    for name, config in (("a", CONFIG), ("b", settings_of("maml", **SETTINGS))):
        for seed, accuracies in enumerate([[0.9, 0.8, 0.9, 1.0], [0.7, 0.8, 0.9, 1.0]]):
            each = [value - 0.5 * (name == "b") for value in accuracies]
            runs.append(
                run_with(
                    tmp_path / f"{name}{seed}",
                    each,
                    config.replace(seed=seed),
                    episode_classes=CLASSES,
                )
            )

    compared = compare(runs, episodes=EPISODES)

    assert {row.covers for row in compared.rows} == {"episodes, classes and training seeds"}
    a = np.array([[0.9, 0.8, 0.9, 1.0], [0.7, 0.8, 0.9, 1.0]])
    design = Design(4, np.array(CLASSES))
    assert compared.rows[0].query_accuracy_ci95 == pytest.approx(mean_and_interval(a, design)[1])
    (pair,) = compared.pairs
    assert pair.sentence.startswith("fomaml is better than maml: +50.00 ± 0.00 points")
    assert "95 % interval over episodes, classes and training seeds" in pair.sentence
    write_comparison(compared, tmp_path / "out")
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "± is the 95 % interval over episodes, classes and training seeds, of the mean" in page


def test_a_method_with_one_seed_is_spoken_of_as_a_network(tmp_path):
    runs = [
        run_with(tmp_path / f"a{seed}", [0.9, 0.8, 0.9, 1.0], CONFIG.replace(seed=seed))
        for seed in (0, 1)
    ]
    one = run_with(tmp_path / "b", [0.1, 0.2, 0.1, 0.1], settings_of("maml", **SETTINGS))

    compared = compare([*runs, one], episodes=EPISODES)

    (pair,) = compared.pairs
    assert pair.difference.covers == "episodes"
    assert pair.sentence.startswith("Of these networks alone: fomaml is better than maml")
    write_comparison(compared, tmp_path / "out")
    page = (tmp_path / "out" / "comparison.md").read_text()
    assert "over episodes and training seeds (fomaml), over episodes (maml)" in page


def test_rows_that_name_no_classes_are_compared_over_episodes_alone(tmp_path):
    a = run_with(tmp_path / "a", [0.9, 0.8, 0.9, 1.0], episode_classes=CLASSES)
    b = run_with(tmp_path / "b", [0.8, 0.8, 0.8, 0.8], settings_of("maml", **SETTINGS))

    compared = compare([a, b], episodes=EPISODES)

    assert [row.covers for row in compared.rows] == ["episodes and classes", "episodes"]
    assert compared.pairs[0].difference.covers == "episodes"


def test_other_classes_for_the_same_episodes_are_refused(tmp_path):
    a = run_with(tmp_path / "a", [0.9, 0.8, 0.9, 1.0], episode_classes=CLASSES)
    b = run_with(
        tmp_path / "b",
        [0.8] * 4,
        settings_of("maml", **SETTINGS),
        episode_classes=[*CLASSES[1:], CLASSES[0]],
    )

    with pytest.raises(DataError, match="fomaml and maml name other classes for the same episodes"):
        compare([a, b], episodes=EPISODES)


@pytest.mark.parametrize(
    "classes", [CLASSES[1:], [*CLASSES[1:], [1, 2, 3]], [*CLASSES[1:], [1, 1, 2, 3, 4]]]
)
def test_classes_that_are_not_those_of_the_episodes_are_refused(classes, tmp_path):
    a = run_with(tmp_path / "a", [0.9, 0.8, 0.9, 1.0], episode_classes=classes)
    b = run_with(tmp_path / "b", [0.8] * 4, settings_of("maml", **SETTINGS))

    with pytest.raises(DataError, match="does not hold the 5 classes of each of its 4 episodes"):
        compare([a, b], episodes=EPISODES)


def test_an_axis_of_accuracies_ends_where_they_do(tmp_path):
    seeds = [
        run_with(tmp_path / str(seed), of_seed, settings_of("fomaml", **SETTINGS, seed=seed))
        for seed, of_seed in enumerate(([0.2] * 4, [0.9] * 4))
    ]
    compared = compare(seeds, episodes=EPISODES)
    assert compared.rows[0].query_accuracy_ci95 > 1

    axes = Figure().subplots()
    draw_rows(axes, compared.rows)
    low, high = axes.get_xlim()
    assert low == 0 and 100 <= high <= 101
