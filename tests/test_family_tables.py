"""What pages say of the benchmark of all methods follows from its files by rule."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import family
import family_protocol
import family_tables

from innerloop.core.errors import DataError
from innerloop.methods.catalogue import names
from innerloop.runs.directory import RunDirectory
from making import evaluate, make_run

ACCURACIES = {"maml": 0.99, "protonet": 0.985, "transfer": 0.97, "tim": 0.995}
MODES = {
    "maml": "transductive",
    "protonet": "transductive",
    "transfer": "running",
    "tim": "running",
}
SECONDS = {"maml": 300.0, "protonet": 100.0, "transfer": 50.0, "tim": 200.0}


def row(method: str, accuracy: float, mode: str) -> dict:
    return {
        "method": method,
        "adaptation": "own",
        "batch_norm": mode,
        "query_accuracy": accuracy,
        "query_accuracy_ci95": 0.006,
    }


def comparison() -> dict:
    """Four methods; differences of less than a point are not told apart."""
    pairs = []
    for a in ACCURACIES:
        for b in ACCURACIES:
            if a < b:
                apart = ACCURACIES[a] - ACCURACIES[b]
                verdict = "not distinguishable" if abs(apart) < 0.008 else "told apart"
                pairs.append({"a": a, "b": b, "mean": apart, "ci95": 0.008, "verdict": verdict})
    return {
        "rows": [row(name, ACCURACIES[name], MODES[name]) for name in ACCURACIES],
        "other_rows": [
            row("protonet", 0.98, "support"),
            row("transfer", 0.999, "running") | {"adaptation": "own-untrained"},
        ],
        "pairs": pairs,
    }


def seconds(shape: str, method: str) -> float:
    """Transfer's same training took twice as long once."""
    return SECONDS[method] * (2 if (shape, method) == ("5w1s", "transfer") else 1)


@pytest.fixture
def four(monkeypatch):
    """The benchmark, had it found this of four methods in every setting."""
    monkeypatch.setattr(family_tables, "settled", lambda: list(family_tables.SHAPES))
    monkeypatch.setattr(family_tables, "compared", lambda shape: comparison())
    monkeypatch.setattr(family_tables, "seconds", seconds)
    monkeypatch.setattr(family_tables, "has_costs", lambda: True)
    monkeypatch.setattr(family_tables, "TRIALS", dict.fromkeys(ACCURACIES, ()))


def test_leaders_are_the_best_and_what_is_not_told_apart_from_it(four):
    assert family_tables.leaders("5w5s") == ["tim", "maml"]


def test_a_difference_has_the_sign_of_what_is_asked(four):
    one = family_tables.difference("5w5s", "transfer", "maml")
    other = family_tables.difference("5w5s", "maml", "transfer")

    assert one["mean"] == -other["mean"] == pytest.approx(-0.02)
    assert one["apart"] and other["apart"]
    with pytest.raises(KeyError, match="were not compared"):
        family_tables.difference("5w5s", "maml", "anil")


def test_the_quick_one_is_near_the_best_and_takes_the_least(four):
    # Transfer takes less, and is two and a half points below.
    assert family_tables.which_quick() == (
        "3 of 4 methods come within a point of the best at 5-way 5-shot. With the least training: "
        "ProtoNet and TIM (transductive), 1.7 to 3.3 minutes of one core, which are not ranked; "
        "the same training, measured once in each setting, took up to 100 % longer. With the most: "
        "MAML, 5.0 minutes."
    )


def test_what_judges_a_query_image_alone_is_not_transductive_in_any_way(four):
    first, *_ = family_tables.which_alone().splitlines()

    assert first == "- **5-way 1-shot**: ProtoNet, batch norm support, 98.00 ± 0.60 %."


def test_the_order_is_by_the_mean_over_the_settings(four):
    assert family_tables.ranked() == ["tim", "maml", "protonet", "transfer"]
    assert family_tables.which_overall() == (
        "Over these settings the highest means have TIM (transductive) (99.50 %), MAML (99.00 %), "
        "ProtoNet (98.50 %). Never told apart from the best in any of them: TIM (transductive) and "
        "MAML."
    )


def test_published_orders_that_come_out_the_other_way_are_named(four, monkeypatch):
    published = {
        "transfer": ("99", "99", "99", "-", ""),
        "maml": ("98", "98.5", "-", "98", ""),
        "tim": ("97", "97", "97", "97", ""),
    }
    monkeypatch.setattr(family_tables, "PUBLISHED", published)

    assert family_tables.orders().splitlines() == [
        # MAML and TIM are not told apart here.
        "- **5-way 1-shot**: 2 of 3 pairs: Transfer below MAML; Transfer below TIM (transductive).",
        "- **5-way 5-shot**: 2 of 3 pairs: Transfer below MAML; Transfer below TIM (transductive).",
        "- **20-way 1-shot**: 1 of 1 pairs: Transfer below TIM (transductive).",
        "- **20-way 5-shot, one seed**: 0 of 1 pairs.",
    ]


def test_relations_that_come_out_the_other_way_are_named_where_they_are_said(four, monkeypatch):
    relations = [
        family_tables.Relation("transfer", "maml", "above"),
        family_tables.Relation("protonet", "transfer", "below, 5-way 5-shot", -1, ("5w5s",)),
        # As it is said, and not told apart.
        family_tables.Relation("transfer", "protonet", "below", -1),
        family_tables.Relation("maml", "tim", "above"),
    ]
    monkeypatch.setattr(family_tables, "RELATIONS", relations)

    assert family_tables.reversed_relations().splitlines() == [
        "- **5-way 1-shot**: 1 of 3: Transfer below MAML.",
        "- **5-way 5-shot**: 2 of 4: Transfer below MAML; ProtoNet above Transfer.",
        "- **20-way 1-shot**: 1 of 3: Transfer below MAML.",
        "- **20-way 5-shot, one seed**: 1 of 3: Transfer below MAML.",
    ]


def test_a_setting_is_told_once_it_is_whole(four, monkeypatch):
    monkeypatch.setattr(family_tables, "settled", lambda: ["5w5s"])

    assert [line[:20] for line in family_tables.which_accurate().splitlines()] == [
        "- **5-way 5-shot**: "
    ]
    head, *_ = family_tables.of_family().splitlines()
    assert head == "| method | in an episode adapts | 5-way 5-shot | minutes |"
    monkeypatch.setattr(family_tables, "has_costs", lambda: False)
    head, *_ = family_tables.of_family().splitlines()
    assert head == "| method | in an episode adapts | 5-way 5-shot |"


def test_a_setting_is_whole_once_its_comparison_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(family_tables, "RESULTS", tmp_path)
    with pytest.raises(DataError, match="No setting"):
        family_tables.settled()

    (tmp_path / "20w1s.json").write_text("{}")
    (tmp_path / "5w5s.json").write_text("{}")

    assert family_tables.settled() == ["5w5s", "20w1s"]


def test_links_are_from_where_the_table_is(four):
    assert family_tables.linked("maml") == "[MAML](methods/maml.md)"
    assert family_tables.linked("maml", "") == "[MAML](docs/methods/maml.md)"


def evaluated_run(folder: Path) -> RunDirectory:
    """A run of MAML, evaluated on 8 test episodes before its training and after it."""
    run = make_run(folder, "maml", evaluated=None)
    evaluate(run, 0.9, name="evaluation-1100-100-423-test-own.json", part="test")
    before = {"part": "test", "adaptation": "own-untrained"}
    evaluate(run, 0.6, name="evaluation-1100-100-423-test-untrained.json", **before)
    return run


def test_what_is_kept_appears_whole_and_in_the_place_of_what_was_there(tmp_path, monkeypatch):
    monkeypatch.setattr(family, "EPISODES", 8)
    run = evaluated_run(tmp_path)
    target = tmp_path / "kept" / "maml-s0"
    for name in (".maml-s0", ".maml-s0-former", "maml-s0"):
        (tmp_path / "kept" / name).mkdir(parents=True)
        (tmp_path / "kept" / name / "left-over").touch()

    assert family.evaluated(target) == set()  # its settings are not there
    family.keep(run, target)

    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["maml-s0"]
    assert not (target / "left-over").exists()
    assert family.evaluated(target) == family.evaluated(run.path) == {"own", "own-untrained"}


def test_what_training_gives_is_the_paired_difference_to_initial_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(family_tables, "RESULTS", tmp_path)
    monkeypatch.setattr(family_tables, "TRIALS", {"maml": ()})
    family_tables.beside_untrained.cache_clear()
    with pytest.raises(DataError, match="not there yet"):
        family_tables.of_untrained()

    family.keep(evaluated_run(tmp_path), tmp_path / "5w5s" / "maml-s0")
    _, _, line = family_tables.of_untrained().splitlines()

    gain = family_tables.gained("maml")
    assert gain.mean == pytest.approx(0.3, abs=0.01)
    assert line.startswith("| MAML | 6") and line.endswith(f" | +30.00 ± {100 * gain.ci95:.2f} |")
    family_tables.beside_untrained.cache_clear()


def shifted(rows: int) -> dict:
    """The file of shifts with so many rows of a domain's four, two seeds of two methods."""
    right = {"maml": [[3, 4, 3, 4], [4, 4, 3, 4]], "tim": [[1, 2, 1, 1], [1, 1, 2, 1]]}
    measured = [
        {"domain": "digits", "method": method, "seed": seed, "right": right[method][seed]}
        for method in right
        for seed in (0, 1)
    ]
    classes = [[0, 1], [2, 3], [0, 2], [1, 3]]
    return {
        "episodes": 4,
        "ways": 2,
        "queries": 2,
        "domains": {"digits": {"classes": classes}},
        "rows": measured[:rows],
    }


@pytest.fixture
def shifts_file(tmp_path, monkeypatch):
    monkeypatch.setattr(family_tables, "SHIFTS", tmp_path / "shifts.json")
    monkeypatch.setattr(family_tables, "TRIALS", {"maml": (), "tim": ()})
    monkeypatch.setattr(family_tables, "KINDS", {"a kind": ("maml", "tim")})
    family_tables.shifts.cache_clear()
    yield tmp_path / "shifts.json"
    family_tables.shifts.cache_clear()


def test_who_survives_a_shift_is_told_with_an_interval(shifts_file):
    shifts_file.write_text(json.dumps(shifted(rows=4)))

    _, accuracies = family_tables.shifts()["digits"]

    assert accuracies["maml"].tolist() == [[0.75, 1, 0.75, 1], [1, 1, 0.75, 1]]
    assert family_tables.survivors("digits")[0] == "maml"
    assert family_tables.which_survives().startswith("- **digits**: MAML, 90.6 ± ")
    assert family_tables.which_survives().endswith("Means of the kinds: a kind 60.9.")


@pytest.mark.parametrize("rows", [0, 3])
def test_a_domain_that_lacks_networks_is_not_told(shifts_file, rows):
    shifts_file.write_text(json.dumps(shifted(rows)))

    assert family_tables.texts()["which survives"] == "Not measured yet."


def test_costs_that_lack_trainings_are_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr(family_tables, "RESULTS", tmp_path)
    half = {"shapes": {"5w5s": {"maml": {"seconds": 1.0, "steps": 1, "episodes": 4}}}}
    (tmp_path / "cost.json").write_text(json.dumps(half))
    family_tables.costs.cache_clear()

    assert family_tables.texts()["family costs"] == "Not measured yet."


@pytest.mark.parametrize("method", names())
def test_training_gives_every_method_fifteen_points_and_more(method):
    """By the published evaluations, 5-way 5-shot, of trainings of 1000 outer steps and more."""
    steps = family_tables.training(method).config.training.meta_steps
    beside = [family_protocol.BESIDE] if steps < family_protocol.LONGER else []
    for name in ("5w5s", *beside):
        gain = family_tables.gained(method, name)
        assert gain.mean - gain.ci95 > 0.15
    last = family_tables.training(method, *beside).config.training.meta_steps
    assert last >= family_protocol.LONGER


def test_both_scales_of_features_are_told_of_both_methods_on_the_same_episodes():
    """By plain means of what is kept, in 20-way 1-shot."""
    rows = [line.split(" | ") for line in family_tables.of_scales().splitlines()[2:]]
    assert [row[1] for row in rows] == ["0.3", "1.0", "0.3", "1.0"]
    of_scale = {
        "0.3": ("20w1s-scale/maml-s0", "20w1s/mamlpp-s0"),
        "1.0": ("20w1s/maml-s0", "20w1s-scale/mamlpp-s0"),
    }
    for row in rows[:2]:
        means = []
        for folder in of_scale[row[1]]:
            (path,) = (family_tables.RESULTS / folder).glob("*-transductive.json")
            kept = json.loads(path.read_text())["query_accuracy_per_episode"]
            means.append(100 * sum(kept) / len(kept))
        assert [cell.split()[0] for cell in row[2:4]] == [f"{mean:.2f}" for mean in means]
        assert row[4].split()[0] == f"{means[1] - means[0]:+.2f}"


def test_what_is_told_apart_by_batch_norm_alone_is_said():
    """5-way 5-shot: MAML is above MatchingNet by own norms, and below by the support set's."""
    _, line, *_ = family_tables.by_one_norm().splitlines()
    assert line.startswith("- **5-way 5-shot**: 4 of 27 pairs: ")
    assert "; MAML above MatchingNet;" in line
    assert "Reptile above ProtoNet" not in line

    def mean(method: str, mode: str) -> float:
        ends = f"5w5s/{method}-s?/*steps-{mode}.json"
        rows = [json.loads(path.read_text()) for path in family_tables.RESULTS.glob(ends)]
        each = [value for row in rows for value in row["query_accuracy_per_episode"]]
        assert len(each) == 2 * 600
        return sum(each) / len(each)

    assert mean("maml", "transductive") > mean("matchingnet", "running")
    assert mean("maml", "support") < mean("matchingnet", "support")
    assert mean("reptile", "support") > mean("protonet", "support")


def test_a_near_method_is_never_said_to_be_the_other_way_round():
    near = [relation for relation in family_tables.RELATIONS if not relation.sign]

    assert [(relation.a, relation.b) for relation in near] == [("fomaml", "maml")]
    assert "FO-MAML" not in family_tables.reversed_relations()


def test_every_method_is_of_one_kind_and_has_as_many_trials_as_the_others():
    of_kinds = [name for methods in family_tables.KINDS.values() for name in methods]

    assert sorted(of_kinds) == sorted(names()) == sorted(family_protocol.TRIALS)
    assert {len(starts) for starts in family_protocol.TRIALS.values()} == {3}


def test_a_method_whose_best_trial_has_another_solver_says_so_wherever_it_is_named():
    assert family_tables.titled("metaoptnet") == "MetaOptNet (ridge)"
    assert family_tables.titled("maml") == "MAML"
    assert "[MetaOptNet (ridge)](methods/metaoptnet.md)" in family_tables.of_family()


def test_every_method_is_of_one_kind():
    assert sorted(name for of in family_tables.KINDS.values() for name in of) == sorted(
        family_tables.TRIALS
    )
