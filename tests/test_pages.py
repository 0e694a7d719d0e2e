"""The report as a page and a PDF: what is in it follows from the files, and what is missing is
said."""

import dataclasses
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pypdf
import pytest

from innerloop.assignment.document import document
from innerloop.cli import main
from innerloop.core.errors import ConfigError, DataError
from innerloop.methods.card import Card, DiagnosticFigure, Paper
from innerloop.methods.catalogue import find_card, settings_of
from innerloop.report import report
from innerloop.report.document import Document, Missing, Table, code, plain, spans
from innerloop.report.figures.run import figures_of
from innerloop.report.figures.style import band, canvas
from innerloop.report.hyperparameters import hyperparameters
from innerloop.report.model_card import model_card
from innerloop.report.render.pages import boxes
from innerloop.report.render.svg import drawn
from innerloop.report.report import read_material, write_report
from innerloop.report.sections.adaptation import over_shots
from innerloop.report.sections.methods import train_command
from innerloop.report.words import describe_row, table_of_rows
from innerloop.runs.directory import RunDirectory
from innerloop.settings.method import EpisodicSettings
from making import evaluate, explanation_of_made_runs, make_run

REPOSITORY = Path(__file__).parents[1]
EXPLANATION = explanation_of_made_runs()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    made = [
        make_run(folder, "fomaml", 0, evaluated=0.97),
        make_run(folder, "fomaml", 1, evaluated=0.97),
        make_run(folder, "maml", evaluated=0.96),
        make_run(folder, "mamlpp", evaluated=0.975),
        make_run(folder, "transfer", evaluated=0.985),
    ]
    return [run.path for run in made]


def of(runs: list[Path], *, explanation: Path | None = None, **people) -> Document:
    """The course's report."""
    return document(read_material(runs, explanation, **people))


def general(runs: list[Path], *, explanation: Path | None = None) -> Document:
    """The report of any runs."""
    return report.document(read_material(runs, explanation))


def text_of(made: Document) -> str:
    """Every word of a report."""
    words = []
    for section in made.sections:
        words.append(section.title)
        for block in section.blocks:
            for value in vars(block).values():
                words.append(json.dumps(value, ensure_ascii=False, default=str))
    return plain("\n".join(words).replace("\\u0002", "").replace("\\u0003", ""))


def test_a_whole_report_misses_nothing_but_what_was_not_measured(runs):
    made = of(runs, explanation=EXPLANATION, collaborators=["Ada, everything"])

    assert [section.title for section in made.sections][:7] == [
        "Results",
        "FO-MAML",
        "MAML++",
        "MAML, second order",
        "Transfer learning",
        "Transfer learning against FO-MAML: better or worse, and why?",
        "Questions",
    ]
    assert made.missing == ["Accuracy for every K from 1 to 10 was not measured."]
    assert {
        "validation-fomaml",
        "stability-fomaml",
        "stability-mamlpp",
        "validation-transfer",
        "why-shift",
        "learned-rates-mamlpp",
        "inner-steps",
        "sensitivity",
    } <= {one.name for one in made.pictures}


def test_characters_that_no_font_has_are_known():
    assert boxes("Ada Лавлейс, Ἀδα") == ""  # in the PDF's own fonts, and those of the figures
    assert boxes("Ada \U000e0041 \ufdd0") == "\ufdd0\U000e0041"


def test_results_and_verdict_follow_the_evaluations(tmp_path):
    first, second = (
        make_run(tmp_path, "fomaml", evaluated=0.7),
        make_run(tmp_path, "transfer", evaluated=0.95),
    )
    before = text_of(of([first.path, second.path]))
    evaluate(first, 0.97)
    after = text_of(of([first.path, second.path]))

    assert (
        "FO-MAML is below the bar of 80 %" in before and "FO-MAML is above the bar of 80 %" in after
    )
    assert "Of these networks alone: Transfer is better than FO-MAML: +25.00" in before
    assert "Of these networks alone: Transfer is worse than FO-MAML: -2.00" in after


def test_a_model_card_tells_evaluations_as_in_training_from_those_of_other_shapes(tmp_path):
    run = make_run(tmp_path, "fomaml", evaluated=None)
    evaluate(run, 0.9, ways=20, shots=1)
    evaluate(run, 0.4, ways=20, shots=5, adaptation="head")
    evaluate(run, 0.3, ways=20, shots=5, rotations=True)
    before = model_card(run)
    evaluate(run, 0.97)
    after = model_card(run)

    command = f"innerloop evaluate {run.path.name}"
    assert f"Not evaluated yet on episodes as in training: `{command}`." in before
    assert "| 20-way 1-shot, 15 | val | transductive | 8 | 90." in before
    assert before.count(" | val | ") == 1
    assert "Not evaluated" not in after and "\n| val | transductive | 8 | 97." in after
    assert "| 20-way 1-shot, 15 | val | transductive | 8 | 90." in after


def test_every_missing_run_is_said_with_the_command_that_makes_it(tmp_path):
    run = make_run(tmp_path, "fomaml", evaluated=None)
    made = of([run.path])
    commands = [
        line
        for section in made.sections
        for block in section.blocks
        if isinstance(block, Missing)
        for line in block.commands
    ]

    for method in ("mamlpp", "maml", "transfer"):
        assert f"innerloop train {method} --data omniglot --split assignment" in commands
    assert f"innerloop evaluate {run.path}" in commands
    assert any(line.startswith("innerloop explain") for line in commands)


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, ""),
        ({"queries": 6}, " --queries 6"),
        ({"ways": 3}, " --ways 3 --shots 5"),
        ({"shots": 1, "queries": 2}, " --ways 5 --shots 1 --queries 2"),
    ],
)
def test_a_printed_training_is_on_the_episodes_of_the_report(changes, options, tmp_path):
    run = make_run(tmp_path, "fomaml", **changes)

    command = train_command(read_material([run.path]), "maml")

    assert command == f"innerloop train maml --data omniglot --split assignment{options}"
    config = settings_of("maml").replace(**changes)
    assert config.episode == run.config.episode


def test_an_unfinished_run_is_said_and_its_curve_is_drawn(tmp_path):
    made = of([make_run(tmp_path, "fomaml", evaluated=None, finished=False).path])

    assert "fomaml-s0 is not finished." in made.missing
    assert "validation-fomaml" in {one.name for one in made.pictures}


def test_a_run_without_any_validation_is_no_error(tmp_path):
    run = make_run(tmp_path, "fomaml", evaluated=None, finished=False)
    (run.path / "metrics.jsonl").write_text("")

    assert "fomaml-s0 is not finished." in of([run.path]).missing


def test_runs_of_another_split_stand_apart(runs, tmp_path):
    other = make_run(tmp_path, "fomaml", evaluated=None, name="other")
    config = json.loads((other.path / "config.json").read_text())
    config["data"]["split"] = "1100-100-423"
    (other.path / "config.json").write_text(json.dumps(config))
    evaluate(other, 0.9, part="test", stream="episodes/test")
    made = of([*runs, other.path])
    (section,) = [
        section for section in made.sections if section.title == "Other data, splits and episodes"
    ]

    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert table.rows[0][:3] == ["FO-MAML", "omniglot, 1100-100-423", "test"]
    assert "other (8 episodes)" in text_of(made)


def test_shots_from_1_to_10_fill_their_place(tmp_path):
    run, other = make_run(tmp_path, "fomaml"), make_run(tmp_path, "transfer")
    for shots in range(1, 11):
        evaluate(run, 0.4 + shots / 20, shots=shots, queries=10)

    made = of([run.path, other.path], explanation=EXPLANATION)

    assert not any("K from 1 to 10" in what for what in made.missing)
    assert "with 10 support images a class: more is better at every step." in text_of(made)


def test_shots_are_compared_over_as_many_episodes_each(tmp_path):
    run = make_run(tmp_path, "fomaml")
    for shots, episodes in ((1, 8), (5, 8), (10, 8), (5, 40), (2, 40)):
        name = f"evaluation-{shots}-{episodes}.json"
        over = dict(episodes=episodes, query_accuracy_per_episode=[0.9] * episodes)
        evaluate(run, 0.9, shots=shots, queries=10, query_accuracy=0.9, name=name, **over)

    assert [row.shots for row in over_shots(run)] == [1, 5, 10]


def test_what_one_training_says_of_its_method_names_its_seed(tmp_path):
    first = make_run(tmp_path, "fomaml", 0, evaluated=0.95)
    # On more episodes than the other seed has: the table's are those of both.
    over = dict(episodes=40, query_accuracy=0.99, query_accuracy_per_episode=[0.99] * 40)
    evaluate(first, 0.99, support_accuracy=0.123, name="evaluation-more.json", **over)
    alone = text_of(general([first.path]))
    both = text_of(general([first.path, make_run(tmp_path, "fomaml", 1, evaluated=0.95).path]))

    assert "After adaptation FO-MAML has 12.3 % on the support" in alone
    assert "After adaptation FO-MAML (training seed 0) has 99.9 % on the support" in both


def test_an_evaluation_at_other_steps_is_no_row_of_shots(tmp_path):
    run = make_run(tmp_path, "fomaml")
    evaluate(run, 0.9, shots=5, queries=10)
    evaluate(run, 0.5, shots=5, queries=10, inner_steps=20, name="evaluation-other.json")

    assert [row.shots for row in over_shots(run)] == [5]


def test_an_explanation_of_other_runs_is_not_taken(tmp_path):
    folder = tmp_path / "runs"
    runs = [make_run(folder, "fomaml", 1), make_run(folder, "transfer", 1)]
    shutil.copytree(EXPLANATION, folder / "explanation")

    assert "Why was not measured." in of([run.path for run in runs]).missing
    with pytest.raises(ConfigError, match="explains other runs than these"):
        read_material([run.path for run in runs], EXPLANATION)
    explained = [make_run(folder, "fomaml").path, make_run(folder, "transfer").path]
    assert "Why was not measured." not in of(explained).missing


@pytest.mark.parametrize("text", ["{}", "[]", '{"subjects": 3}', "torn"])
def test_a_damaged_explanation_is_a_sentence(text, runs, tmp_path):
    (tmp_path / "explanation.json").write_text(text)

    with pytest.raises(DataError, match=r"explanation\.json"):
        read_material([runs[0]], tmp_path)


def test_two_settings_of_one_method_are_told_apart(tmp_path):
    made = [
        make_run(tmp_path, "fomaml"),
        make_run(tmp_path, "fomaml", name="other", inner_lr=0.1, evaluated=0.9),
        make_run(tmp_path, "transfer"),
    ]
    words = text_of(of([run.path for run in made]))

    assert "FO-MAML was also run with other settings (other)" in words
    assert (
        "Transfer is better than FO-MAML (fomaml-s0)" in words
        or "FO-MAML (fomaml-s0) is better" in words
        or "FO-MAML (fomaml-s0) are not distinguishable" in words
    )
    assert "FO-MAML: 1 seed" in words


MINE = dataclasses.replace(find_card("fomaml"), name="mine", title="Mine")
"""The card of a method of one's own."""


def test_a_method_of_ones_own_is_reported_too(tmp_path):
    run = make_run(tmp_path, "fomaml")
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(config | {"method": "test_pages:MINE"}))
    row = next(run.path.glob("evaluation-*.json"))
    row.write_text(json.dumps(json.loads(row.read_text()) | {"method": "test_pages:MINE"}))
    words = text_of(of([run.path]))

    assert "Training seeds: Mine 0." in words and "Mine: 1 seed" in words
    assert "Mine is above the bar" in words


FORGETFUL = dataclasses.replace(
    find_card("mamlpp"),
    name="forgetful",
    title="Forgetful <MAML>",
    idea="It forgets what it was told.",
    papers=(Paper("A. Nobody", "How to forget", "Nowhere", 1999),),
    parts=("multi_step_loss", "cosine_annealing"),
    figures=(DiagnosticFigure("learned_rates", "rates", "Rates it forgets", "rate", "each rate"),),
)
"""The card of another one, with parts and a figure."""


def rename(run: RunDirectory, card: str) -> Path:
    """Let a run be of the method whose card has that name in this file."""
    method = f"{__name__}:{card}"
    for file in (run.path / "config.json", *run.path.glob("evaluation-*.json")):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"method": method}))
    return run.path


def section_of(whole: Document, title: str) -> str:
    """Every word of one section."""
    (section,) = [section for section in whole.sections if section.title == title]
    return text_of(dataclasses.replace(whole, sections=[section]))


def test_the_general_report_has_a_section_for_each_method_from_its_card(tmp_path):
    forgetful = make_run(tmp_path, "mamlpp", name="one", multi_step_loss=False)
    runs = [rename(forgetful, "FORGETFUL"), make_run(tmp_path, "transfer").path]

    whole = general(runs)
    words = section_of(whole, "Forgetful <MAML>")

    assert whole.title == "Transfer and Forgetful <MAML> on Omniglot"
    assert [section.title for section in whole.sections] == [
        "Results",
        "Transfer",
        "Forgetful <MAML>",
        "Protocol",
        "Limits",
        "Commands and environment",
        "Checklist",
        "References",
        "Hyperparameters",
    ]
    assert "It forgets what it was told." in words
    assert "Parts that are on: cosine_annealing. Off: multi_step_loss." in words
    assert "A. Nobody. How to forget. Nowhere 1999." in words
    assert "Each rate of Forgetful <MAML> over the training" in words
    assert "rates-test-pages-forgetful" in {picture.name for picture in whole.pictures}
    references = section_of(whole, "References")
    assert "How to forget" in references and "B. Lake" in references
    assert "How to train your MAML" not in references, "nobody of these was trained by it"


def test_an_explanation_is_recommended_of_methods_that_can_be_explained(tmp_path):
    fomaml, plus_plus, transfer, learnt = (
        make_run(tmp_path, "fomaml"),
        make_run(tmp_path, "mamlpp"),
        make_run(tmp_path, "transfer"),
        make_run(tmp_path, "maml", fresh_head=False),
    )
    whole = general([plus_plus.path, fomaml.path, transfer.path, learnt.path])
    refused = general([plus_plus.path, fomaml.path, learnt.path])

    assert f"innerloop explain {fomaml.path} {transfer.path}" in section_of(whole, "Causes")
    assert "Causes" not in [section.title for section in refused.sections]


STEPLESS = Card(
    name="stepless",
    title="Stepless",
    settings=EpisodicSettings,
    learner="nowhere:Stepless",
    idea="It takes none.",
    figures=(DiagnosticFigure("spread", "spread", "Spread", "distance", "how far URLs are"),),
)
"""The card of a method without a rate."""


def make_stepless(folder: Path, name: str = "stepless", **changes: Any) -> Path:
    """A run of it, as its own training and evaluation leave it."""
    run = make_run(folder, "maml", name=name, evaluated=None, **changes)
    values = json.loads((run.path / "config.json").read_text())
    values["own"] = {"meta_batch_size": 4}
    values["data"] |= {"name": "strokes", "split": "alphabets"}
    (run.path / "config.json").write_text(json.dumps(values))
    rename(run, "STEPLESS")
    file = run.path / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "validation":
            line["inner_steps"] = 1
            line["diagnostics"] = {"spread": 0.1 * line["step"]}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run.path


def evaluate_stepless(path: Path) -> None:
    evaluate(RunDirectory(path), 0.9, data="strokes")


def words_of_page(whole: Document, folder: Path) -> str:
    """The page, and the words of its figures."""
    write_report(whole, folder)
    texts = [html.unescape((folder / "report.html").read_text(encoding="utf-8"))]
    texts += [file.read_text(encoding="utf-8") for file in folder.glob("figures/*.svg")]
    return "\n".join(texts)


def without_meanings(text: str, run: RunDirectory) -> str:
    """Without what is said of the settings that every method has."""
    meanings = run.config.descriptions()
    for name in ("split", "feature_norm"):
        assert meanings[name]
        text = text.replace(meanings[name], "")
    return text


def test_the_report_of_a_method_without_a_rate_speaks_of_no_steps_and_no_course(tmp_path):
    paths = [make_stepless(tmp_path, f"seed-{seed}", seed=seed) for seed in (0, 1)]
    for path in paths:
        evaluate_stepless(path)
    runs = [RunDirectory(path) for path in paths]
    whole = general(paths)
    words = words_of_page(whole, tmp_path / "out")
    texts = [words, hyperparameters(runs[0]), model_card(runs[0])]
    texts.append(describe_row(runs[0].evaluations()[0]))
    texts.append(table_of_rows(runs[0].evaluations()))
    texts = [without_meanings(text, runs[0]) for text in texts]
    drawn_figures = [Path(name).stem for name in figures_of(runs[0], ["png"])]

    for phrase in (
        *("no rate", "inner step", "gradient descent", "inner optimiser", "80 %", "published"),
        *("assignment", "collaborator", "background-heldout", "frozen"),
    ):
        assert [phrase for text in texts if phrase in text.replace("_", " ").lower()] == []
    assert "a head found in one go" in words and "How far URLs are of Stepless" in words
    assert "spread-test-pages-stepless" in {picture.name for picture in whole.pictures}
    assert drawn_figures == ["validation", "loss"]
    assert "differences are paired" not in words


def test_the_report_of_a_run_that_was_never_evaluated_claims_no_results(tmp_path):
    path = make_stepless(tmp_path)
    values = json.loads((path / "config.json").read_text())
    values["data"]["name"] = "mine"
    (path / "config.json").write_text(json.dumps(values))
    unvalidated = make_run(tmp_path, "maml", evaluated=None, finished=False, name="empty").path
    (unvalidated / "metrics.jsonl").write_text("")
    for file in (unvalidated / "config.json",):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"data": values["data"]}))
    whole = general([path, unvalidated])
    protocol, checklist = section_of(whole, "Protocol"), section_of(whole, "Checklist")

    assert whole.missing.count("stepless was not evaluated on validation episodes.") == 1
    assert "paired" not in protocol and "Results are over" not in protocol
    assert "Training seeds: Stepless 0. A seed" in protocol, "MAML has none yet"
    assert "Classes of one part" not in protocol, "of these data it is not known"
    assert '["Do results have intervals?", "nothing was evaluated"]' in checklist
    assert '["Are the splits disjoint?", "not known"]' in checklist
    assert '["Is the licence of the data clear?", "not known"]' in checklist
    write_report(whole, tmp_path / "out")


def test_where_defaults_were_chosen_is_quoted_from_the_card(runs):
    words = section_of(general([runs[2], runs[4]]), "Protocol")

    assert f"Defaults of MAML: {find_card('maml').reason}" in words
    assert "The held-out classes of background-heldout are training classes here." in words
    assert "not known" in section_of(general([runs[0]]), "Protocol")


def test_a_training_that_was_not_measured_to_its_end_never_has_a_never(tmp_path):
    runs = [make_run(tmp_path, "fomaml", seed, curve=(0.5, 0.92, 0.9, 0.91)) for seed in (0, 1)]
    file = runs[1].path / "metrics.jsonl"
    file.write_text(file.read_text().replace('"query_accuracy": 0.91', '"query_accuracy": null'))
    (section,) = [
        section
        for section in general([run.path for run in runs]).sections
        if section.title == "Stability of the training"
    ]
    (table,) = [block for block in section.blocks if isinstance(block, Table)]

    assert [row[6:] for row in table.rows] == [["10", "never"], ["-", "-"]]


def test_a_median_is_spoken_of_where_it_is_drawn(tmp_path):
    runs = [make_run(tmp_path, "maml", seed).path for seed in (0, 1)]
    runs += [make_run(tmp_path, "fomaml", 0).path]
    runs += [make_run(tmp_path, "fomaml", 1, curve=(0.6, 0.9), finished=False).path]

    def caption(paths: list[Path]) -> str:
        pictures = general(paths).pictures
        (picture,) = [picture for picture in pictures if picture.name == "stability-1"]
        return picture.caption

    assert "every seed thin and the median bold." in caption(runs[:2])
    assert "every seed thin and the median of MAML bold." in caption(runs)
    assert "every seed thin. All" in caption(runs[2:])


@pytest.mark.parametrize("methods", [("fomaml", "transfer"), ("mamlpp", "maml")])
def test_the_general_report_knows_no_course(methods, tmp_path):
    runs = [make_run(tmp_path, method).path for method in methods]
    for file in tmp_path.rglob("*.json"):  # a split whose name is another word
        file.write_text(file.read_text().replace('"assignment"', '"1100-100-423"'))
    whole = general(runs)
    write_report(whole, tmp_path)
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    names_of_splits = RunDirectory(runs[0]).config.descriptions()["split"]
    assert names_of_splits in page
    texts = [file.read_text(encoding="utf-8") for file in tmp_path.glob("figures/*.svg")]
    assert len(texts) == len(whole.pictures) > 6
    texts.append(page.replace(names_of_splits, ""))

    for word in ("assignment", "course", "80 %", "the bar", "published", "collaborator"):
        assert [word for text in texts if word in text.lower()] == []


def test_the_general_report_explains_any_two_methods(runs):
    whole = general(runs, explanation=EXPLANATION)
    words = section_of(whole, "Transfer against FO-MAML")

    assert "Transfer is better than FO-MAML: +1.12" in words
    assert "Of the gap, Transfer minus FO-MAML" in words
    assert {"why-shift", "sensitivity"} <= {picture.name for picture in whole.pictures}


def test_the_general_report_shows_methods_of_several_seeds_side_by_side(tmp_path):
    runs = [make_run(tmp_path, "mamlpp", seed).path for seed in (0, 1)]
    runs += [make_run(tmp_path, "transfer", seed).path for seed in (0, 1)]
    runs.append(make_run(tmp_path, "maml").path)
    whole = general(runs)
    (picture,) = [picture for picture in whole.pictures if picture.name == "stability-1"]
    panels = picture.draw().axes

    assert [panel.get_title() for panel in panels] == [
        "MAML++ (batch norm transductive)",
        "Transfer (batch norm running)",
    ]
    assert len({panel.get_xlim() + panel.get_ylim() for panel in panels}) == 1
    assert "MAML++: 0 of 2 seeds diverged" in section_of(whole, "Stability of the training")


def test_sections_whose_titles_are_alike_have_anchors_of_their_own(tmp_path):
    runs = [make_run(tmp_path, method).path for method in ("maml", "mamlpp")]
    write_report(general(runs), tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)

    assert {"maml", "maml-2"} <= set(ids) and len(ids) == len(set(ids))


def test_what_is_not_finite_is_no_error(tmp_path):
    run = make_run(tmp_path, "fomaml")
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-11])
    assert last["kind"] == "validation"
    lines[-11] = json.dumps(
        last | {"query_loss": None, "query_accuracy": None, "query_accuracy_ci95": None}
    )
    (run.path / "metrics.jsonl").write_text("\n".join(lines[:-10]) + "\n")

    made = of([run.path])

    assert "to not finite" in text_of(made)
    for picture in made.pictures:
        picture.draw()


def test_settings_chosen_on_the_reported_classes_are_said(tmp_path):
    run = make_run(tmp_path, "fomaml", evaluated=None)
    config = json.loads((run.path / "config.json").read_text())
    config["data"]["split"] = "background-heldout"
    (run.path / "config.json").write_text(json.dumps(config))

    assert "on the very classes that are reported here" in text_of(of([run.path]))


def test_a_smaller_budget_and_a_divergence_are_said(tmp_path):
    run = make_run(tmp_path, "fomaml", meta_batch_size=2)
    run.set_status("finished", 30, "The training diverged: at once.")
    words = text_of(of([run.path]))

    assert "meta_batch_size 2 instead of 4" in words and "Results are over 8 episodes" in words
    assert "The training diverged: at once." in words


def test_the_report_is_one_file_and_names_are_text(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    run = make_run(tmp_path, "fomaml", name=evil.replace("/", ""))
    assert (
        main(
            [
                "report",
                str(run.path),
                "--out",
                str(tmp_path / "out"),
                "--collaborators",
                "$x$ & <b>Ada</b>",
            ]
        )
        == 0
    )
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    assert "<img" not in page and "<b>" not in page and html.escape(evil, quote=False) in page
    assert not re.search(r'(?:src|href)="(?!#|data:)[^"]*"|@import|url\((?!#)', page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert all(f'id="{name}"' in page for name in re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert len(page) < 3_000_000


def test_the_pdf_has_text_pages_and_the_numbers(runs, tmp_path):
    arguments = [
        "report",
        *map(str, runs),
        "--out",
        str(tmp_path),
        "--explanation",
        str(EXPLANATION),
    ]
    assert main(arguments) == 0
    reader = pypdf.PdfReader(tmp_path / "report.pdf")
    words = "\n".join(page.extract_text() for page in reader.pages)
    row = next(row for row in of(runs).sections[0].blocks if isinstance(row, Table)).rows[0]

    assert row[5].split(" ± ")[0] in words and "1 / " in words and "FO-MAML" in words
    assert "query accuracy, %" in words, "the words of figures are text too"
    assert reader.root_object["/Lang"] == "en"


def test_json_names_what_was_written(runs, tmp_path, capsys):
    arguments = ["report", str(runs[0]), "--assignment", "--out", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)

    assert Path(said["html"]).is_file() and Path(said["pdf"]).is_file()
    assert all((tmp_path / "out" / "figures" / f"{name}.svg").is_file() for name in said["figures"])
    assert "MAML++ was not trained." in said["missing"]


def test_without_the_flag_the_report_asks_for_no_method(runs, tmp_path, capsys):
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "out"), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)

    assert written["missing"] == []
    assert "validation-fomaml" in written["figures"]


def test_wrong_input_is_a_sentence(runs, tmp_path, capsys):
    with pytest.raises(ConfigError, match="at least one run"):
        read_material([])
    with pytest.raises(ConfigError, match="is given twice"):
        read_material([runs[0], runs[0]])
    with pytest.raises(ConfigError, match=r"holds no explanation\.json"):
        read_material([runs[0]], tmp_path)
    assert main(["report", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")]) == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_series_carry_their_values_and_bands_their_names():
    def draw():
        figure, axes = canvas("Title", "subtitle")
        band(axes, [0, 10], [0.5, 0.75], [0.1, 0.1], "after <5> steps", "#0072B2")
        axes.set_xlabel("outer step")
        axes.set_ylabel("accuracy, %")
        return figure

    drawing = drawn(draw)
    element = drawing.on_page("name", 'a "line"')
    points = json.loads(html.unescape(re.search(r'data-points="([^"]+)"', element)[1]))  # type: ignore[index]

    assert [point[2:] for point in points] == [
        ["outer step 0", "accuracy, % 50"],
        ["outer step 10", "accuracy, % 75"],
    ]
    assert element.count('data-series="after &lt;5&gt; steps"') == 2  # the line and its band
    assert 'aria-label="a &quot;line&quot;"' in element and "#0072b2" not in element.lower()
    assert points[0][0] < points[1][0] and points[0][1] > points[1][1], "to the right, and up"


def test_code_in_a_sentence():
    assert list(spans(f"type {code('a b')} now")) == [
        ("type ", False),
        ("a b", True),
        (" now", False),
    ]
    assert plain(f"type {code('a b')} now") == "type a b now"
