"""What a grid plans, and that what is wrong in it plans nothing."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from gridding import grid_text, planned, sweep_of
from innerloop.core.errors import ConfigError, DataError
from innerloop.methods.catalogue import load_config, settings_of
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.sample import Choices, Range, Sample


def test_a_grid_is_every_combination_of_methods_settings_and_seeds_seed_by_seed(tmp_path):
    text = grid_text(
        "[grid]\nouter_lr = [0.001, 0.003]\n"
        "start = [{conv_init = 'pytorch', clip_gradient = 0.0}, "
        "{conv_init = 'kaiming', clip_gradient = 0.3}]\n",
        methods='["fomaml", "transfer"]',
        seeds="[4, 5]",
    )

    configs = planned(tmp_path, text).configs

    found = [
        (
            config.training.seed,
            config.method,
            config.training.outer_lr,
            config.network.conv_init,
            config.training.clip_gradient,
        )
        for config in configs.values()
    ]
    starts = [("pytorch", 0.0), ("kaiming", 0.3)]
    expected = itertools.product((4, 5), ("fomaml", "transfer"), (0.001, 0.003), starts)
    assert found == [(seed, method, rate, *start) for seed, method, rate, start in expected]
    assert list(configs)[:1] + list(configs)[-1:] == ["00000-fomaml-s4", "00015-transfer-s5"]


def test_every_planned_run_is_a_file_with_complete_settings(tmp_path):
    sweep = sweep_of(tmp_path, grid_text("[grid]\nouter_lr = [0.001, 0.01]\n"))

    configs = [load_config(sweep.planned(name)) for name in sweep.plan.runs]

    common = {
        "data": "strokes",
        "image_size": 16,
        "filters": 4,
        "ways": 2,
        "shots": 1,
        "queries": 2,
        "inner_steps": 1,
        "meta_steps": 3,
        "validation_every": 3,
        "validation_episodes": 2,
        "checkpoint_every": 1,
        "device": "cpu",
        "meta_batch_size": 2,
        "threads": 1,
    }
    assert configs == [settings_of("fomaml", **common, outer_lr=rate) for rate in (0.001, 0.01)]
    assert sweep.plan.varied == ["outer_lr"]


def test_what_a_grid_leaves_open_is_the_split_on_which_settings_are_chosen(tmp_path):
    (config,) = planned(tmp_path, "methods = ['maml']").configs.values()

    assert (config.data.name, config.data.split) == ("omniglot", "background-heldout")
    assert config.machine.threads == 1


def test_a_preset_is_what_the_settings_start_from(tmp_path):
    text = "methods = ['maml', 'mamlpp']\npreset = 'course'\n[method.mamlpp]\npreset = 'paper'\n"

    maml, mamlpp = planned(tmp_path, text).configs.values()

    assert maml.own == settings_of("maml", "course").own
    assert mamlpp.own == settings_of("mamlpp", "paper").own


@pytest.mark.parametrize("name", ["preset", "method", "self"])
@pytest.mark.parametrize("place", ["settings", "method.maml.settings"])
def test_what_is_no_setting_is_refused_among_the_settings(place, name, tmp_path):
    with pytest.raises(ConfigError, match=f"has no setting '{name}'"):
        planned(tmp_path, f"methods = ['maml']\n[{place}]\n{name} = 'course'\n")


RANGES = """
[sample]
kind = "{kind}"
size = {size}
[sample.ranges]
outer_lr = {{low = 0.0001, high = 0.1, scale = "log"}}
inner_steps = {{low = 1, high = 4}}
conv_init = ["pytorch", "kaiming"]
"""


@pytest.mark.parametrize("kind", ["random", "sobol"])
def test_a_sample_is_of_the_stated_size_in_the_stated_ranges_and_the_same_for_every_method(
    kind, tmp_path
):
    text = grid_text(RANGES.format(kind=kind, size=11), methods='["fomaml", "transfer"]')
    text = text.replace("inner_steps = 1\n", "")

    configs = list(planned(tmp_path, text).configs.values())

    drawn = [
        (config.training.outer_lr, config.own.adaptation_steps, config.network.conv_init)
        for config in configs
    ]
    assert len(configs) == 22 and drawn[:11] == drawn[11:]
    assert all(0.0001 <= rate <= 0.1 and steps in (1, 2, 3, 4) for rate, steps, _ in drawn)
    assert {start for _, _, start in drawn} == {"pytorch", "kaiming"}


@pytest.mark.parametrize("kind", ["random", "sobol"])
def test_a_larger_sample_begins_with_the_smaller_one(kind, tmp_path):
    text = grid_text().replace("inner_steps = 1\n", "")

    few = planned(tmp_path, text + RANGES.format(kind=kind, size=5)).configs
    many = planned(tmp_path, text + RANGES.format(kind=kind, size=16)).configs

    assert list(many.values())[:5] == list(few.values())


def test_a_sobol_sample_has_one_point_in_each_part_of_each_axis():
    """The first 2^m points of a scrambled Sobol sequence are stratified in every coordinate."""
    sample = Sample("sobol", 16, 0, {"outer_lr": Range(0.0, 16.0), "filters": Range(0.0, 16.0)})

    points = sample.points({"outer_lr": float, "filters": float})

    for name in ("outer_lr", "filters"):
        assert sorted(math.floor(point[name]) for point in points) == list(range(16))


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_whole_numbers_have_equal_shares_of_the_range_or_of_its_logarithm(scale):
    shares = np.linspace(0, 1, 10_000, endpoint=False)
    axis = Range(1, 7, scale)

    values = [axis.value(share, int) for share in shares]

    edges = np.arange(1, 9)
    lengths = np.diff(np.log(edges) if scale == "log" else edges)
    expected = lengths / lengths.sum()
    measured = [values.count(number) / len(values) for number in range(1, 8)]
    assert measured == pytest.approx(expected.tolist(), abs=2e-4)


def test_choices_have_equal_shares():
    axis = Choices(("a", "b", "c"))

    assert [axis.value(share, str) for share in (0.0, 0.33, 0.34, 0.66, 0.67, 0.999)] == [*"aabbcc"]


def test_points_that_come_again_are_planned_once(tmp_path):
    text = grid_text("[sample]\nsize = 20\nranges = {inner_steps = {low = 1, high = 2}}\n")
    plan = planned(tmp_path, text.replace("inner_steps = 1\n", ""))

    assert (len(plan.configs), plan.drawn_twice) == (2, 18)


WRONG = {
    "methods = []": "methods must be a list with at least one value: got [].",
    "methods = 'maml'": "methods must be a list with at least one value: got 'maml'.",
    "methods = ['mamal']": "There is no method 'mamal'. Did you mean 'maml'?",
    "methods = ['maml', 'maml']": "methods lists 'maml' twice: list it once.",
    "methods = ['maml']\nseedz = [1]": "there is no key 'seedz'. Did you mean 'seeds'?",
    "methods = ['maml']\nseeds = [0.5]": "seeds must be a whole number: got 0.5.",
    "methods = ['maml']\nseeds = [-1]": "seeds must be between 0 and 2,147,483,647: got -1.",
    "methods = ['maml']\nattempts = 0": "attempts must be between 1 and 100: got 0.",
    "methods = ['maml']\nsettings = 3": "settings must be a table: got 3.",
    "methods = ['maml']\npreset = 'curse'": "There is no preset 'curse'. Did you mean 'course'?",
    "methods = ['maml']\n[settings]\nouter_rl = 1.0": "maml has no setting 'outer_rl'. Did you",
    "methods = ['maml']\n[settings]\nouter_lr = -1.0": "outer_lr must be between 0.0 and 1,000.0",
    "methods = ['maml']\n[settings]\nseed = 1": "Give training seeds as seeds = [...], not as a ",
    "methods = ['maml']\n[settings]\nsplit = 'assigment'": "Data set 'omniglot' has no split "
    "'assigment'. Did you mean 'assignment'?",
    "methods = ['maml']\n[settings]\ndata = 'omniglott'": "There is no data set ",
    "methods = ['maml']\n[settings]\ndevice = 'cdua'": "There is no device 'cdua'. Did you mean ",
    "methods = ['maml']\n[grid]\nouter_lr = 0.1": "outer_lr must be a list with at least one",
    "methods = ['maml']\n[grid]\nouter_lr = [0.1, 0.1]": "outer_lr lists 0.1 twice: list it once.",
    "methods = ['maml']\n[grid]\nouter_lr = [0.1, 'a']": "outer_lr must be a number: got 'a'.",
    "methods = ['maml']\n[grid]\nouter_rate = [0.1]": "maml has no setting 'outer_rate'.",
    "methods = ['maml']\n[grid]\nstart = [{outer_rate = 1.0}]": "maml has no setting 'outer_rate'.",
    "methods = ['maml']\n[grid]\nthreads = [1, 2]": "threads decides nothing that a sweep ",
    "methods = ['maml']\n[grid]\nqueries = [15, 7]\nquery_batches = [3]": "query_batches=3 must "
    "divide queries=7.",
    "methods = ['maml']\n[settings]\nways = 3\n[grid]\nways = [3]": "ways of maml is given in two",
    "methods = ['maml']\n[method.fomaml]\npreset = 'course'": "there is no method among those of",
    "methods = ['maml']\n[method.maml]\ngird = {}": "there is no key of method maml 'gird'. Did ",
    "methods = ['maml']\n[sample]\nranges = {ways = [3, 4]}": "sample must say its size: how many",
    "methods = ['maml']\n[sample]\nsize = 3": "sample.ranges must be a table with a range of at",
    "methods = ['maml']\n[sample]\nsize = 3\nsise = 4": "there is no key of sample 'sise'. Did ",
    "methods = ['maml']\n[sample]\nsize = 3\nkind = 'sobl'\nranges = {ways = [3, 4]}": "kind must "
    "be one of random, sobol: got 'sobl'. Did you mean 'sobol'?",
    "methods = ['maml']\n[sample]\nsize = 3\nranges = {ways = 3}": "The range of ways must be a ",
    "methods = ['maml']\n[sample]\nsize = 3\nranges = {ways = {low = 3}}": "The range of ways must "
    "say its high.",
    "methods = ['maml']\n[sample]\nsize = 3\nranges = {ways = {low = 3, hihg = 4}}": "there is no "
    "key in the range of ways: 'hihg'. Did you mean 'high'?",
    "methods = ['maml']\n[sample]\nsize = 3\nranges = {ways = {low = 5, high = 3}}": "The range of "
    "ways must rise: got 5 to 3.",
    "methods = ['maml']\n[sample]\nsize = 3\nranges = {ways = {low = 2, high = 2000}}": "ways must "
    "be between 2 and 1,000: got 2000.",
    "methods = ['maml']\n[sample]\nsize = 3\nranges = {outer_lr = {low = 0, high = 1, "
    "scale = 'log'}}": "A range by logarithms begins above 0: outer_lr begins at 0.",
    "methods = ['maml']\nseeds = [0, 1]\n[sample]\nsize = 90000\nranges = {outer_lr = "
    "{low = 0, high = 1}}": "This grid has 180,000 runs, and a sweep at most 100,000.",
    "methods = ['maml'": "is not TOML",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text.replace("\n", "; ")[-60:])
def test_what_is_wrong_in_a_grid_is_a_sentence_and_nothing_is_planned(text, tmp_path):
    with pytest.raises(ConfigError) as refusal:
        sweep_of(tmp_path, text)

    sentence = str(refusal.value)
    assert WRONG[text] in sentence and "grid.toml" in sentence and "\n" not in sentence
    assert [path.name for path in tmp_path.iterdir()] == ["grid.toml"]


def test_a_grid_that_is_not_there_is_a_sentence(tmp_path):
    from innerloop.runs.sweeps.grid import read_grid

    with pytest.raises(ConfigError, match=r"Cannot read the grid .*: No such file or directory"):
        read_grid(tmp_path / "grid.toml")


def test_planning_again_changes_nothing_and_another_grid_is_refused(tmp_path):
    sweep = sweep_of(tmp_path, grid_text())
    before = {path: path.read_bytes() for path in sweep.path.rglob("*") if path.is_file()}

    sweep_of(tmp_path, grid_text())
    with pytest.raises(ConfigError, match="holds another sweep: choose another directory"):
        sweep_of(tmp_path, grid_text(seeds="[1]"))

    assert before == {path: path.read_bytes() for path in sweep.path.rglob("*") if path.is_file()}


def test_planning_again_mends_a_planned_run_that_is_damaged(tmp_path, capsys):
    sweep = sweep_of(tmp_path, grid_text(seeds="[0, 1]"))
    first, second = (sweep.planned(name) for name in sweep.plan.runs)
    whole = first.read_text("utf-8")
    first.write_text(whole.replace('"filters": 4', '"filters": 8'), "utf-8")
    second.unlink()

    sweep_of(tmp_path, grid_text(seeds="[0, 1]"))

    assert first.read_text("utf-8") == whole and second.is_file()
    assert capsys.readouterr().out.count("was missing or damaged, and is written again.") == 2


def test_a_directory_with_something_else_is_refused_and_an_empty_one_is_taken(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(ConfigError, match="holds something that is no sweep"):
        sweep_of(tmp_path, grid_text(), name="full")

    assert sweep_of(tmp_path, grid_text(), name="empty").plan.runs == ["00000-fomaml-s0"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"format_version": 1, "runs": 3}', "is damaged: .* Plan it again"),
        ("{", "is not JSON"),
        ('{"format_version": 7}', "has format version 7 and this innerloop reads 1"),
    ],
)
def test_a_damaged_plan_is_refused(content, sentence, tmp_path):
    sweep = sweep_of(tmp_path, grid_text())
    (sweep.path / "sweep.json").write_text(content, "utf-8")

    with pytest.raises((ConfigError, DataError), match=sentence):
        SweepDirectory(sweep.path)


def test_a_plan_that_names_files_elsewhere_is_refused(tmp_path):
    sweep = sweep_of(tmp_path, grid_text())
    file = sweep.path / "sweep.json"
    file.write_text(file.read_text("utf-8").replace("00000-fomaml-s0", "../../elsewhere"), "utf-8")

    with pytest.raises(DataError, match="names runs that are no names"):
        SweepDirectory(sweep.path)


@pytest.mark.parametrize(
    "module", ["plan", "grid", "sample", "directory", "claims", "queue", "status", "templates"]
)
def test_planning_and_status_need_no_torch(module):
    code = f"import sys, innerloop.runs.sweeps.{module}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert said == "False\n"
