import dataclasses
import json
import sys
from typing import Any

import pytest

from innerloop.core.errors import ConfigError
from innerloop.experiments.training import build_learner
from innerloop.settings.run import (
    FORMAT_VERSION,
    LATER_SETTINGS,
    PRESETS,
    RunConfig,
    did_you_mean,
    load_config,
    settings_of,
)

FIELDS = dataclasses.fields(RunConfig)
RANGES = {spec.name: spec.metadata["range"] for spec in FIELDS if "range" in spec.metadata}
COUNTS = [spec.name for spec in FIELDS if spec.type is int]
RATES = [spec.name for spec in FIELDS if spec.type is float]
SWITCHES = [spec.name for spec in FIELDS if spec.type is bool]


def wrong(**settings: Any) -> RunConfig:
    """A configuration with settings that no type checker would let through."""
    return RunConfig(**settings)


def saved(**changes) -> str:
    return json.dumps(json.loads(RunConfig().to_json()) | changes)


# Reading and writing


def test_a_saved_configuration_reads_back_as_it_was():
    config = RunConfig(method="maml", ways=20, inner_lr=0.1, rotations=True, features="flatten")

    assert RunConfig.from_json(config.to_json()) == config


def test_a_saved_configuration_holds_every_setting_and_its_version():
    values = json.loads(RunConfig().to_json())

    assert list(values) == ["format_version", *(spec.name for spec in FIELDS)]
    assert values["format_version"] == FORMAT_VERSION


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().ways = 20  # type: ignore[misc]


def test_replace_checks_again():
    with pytest.raises(ConfigError, match="ways must be between 2 and 1,000: got 1"):
        RunConfig().replace(ways=1)


def test_a_run_is_named_after_its_method_data_shape_and_seed():
    config = RunConfig(method="package.module:Mine", data="strokes", ways=20, shots=1, seed=3)

    assert config.run_name == "mine-strokes-20w1s-s3"


# Wrong settings


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("side", [0, 1], ids=["below", "above"])
def test_a_number_out_of_its_range_is_refused_with_the_range(name, side):
    low, high = RANGES[name]
    value = (low - 1, high + 1)[side]

    with pytest.raises(
        ConfigError, match=f"^{name} must be between {low:,} and {high:,}: got {value}"
    ):
        wrong(**{name: value})


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"^{name} must be between .*: got {value}"):
        wrong(**{name: value})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", ["5", 5.0, True, None, [5]])
def test_a_count_that_is_not_a_whole_number_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"^{name} must be a whole number: got "):
        wrong(**{name: value})


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("value", ["0.1", False, None])
def test_a_rate_that_is_not_a_number_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"^{name} must be a number: got "):
        wrong(**{name: value})


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", [1, "true", None])
def test_a_switch_that_is_not_true_or_false_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"^{name} must be true or false: got "):
        wrong(**{name: value})


@pytest.mark.parametrize("name", ["method", "data", "split", "device"])
def test_a_name_must_be_a_text_and_not_empty(name):
    with pytest.raises(ConfigError, match=f"^{name} must not be empty"):
        wrong(**{name: "  "})
    with pytest.raises(ConfigError, match=f"^{name} must be a text: got 3"):
        wrong(**{name: 3})


def test_a_choice_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError,
        match=r"must be one of stride, max-pool: got 'maxpool'\. Did you mean 'max-pool'\?",
    ):
        wrong(downsample="maxpool")
    with pytest.raises(ConfigError, match=r"^features must be one of flatten, mean: got None\.$"):
        wrong(features=None)


def test_query_batches_must_divide_the_queries():
    with pytest.raises(ConfigError, match="query_batches=4 must divide queries=15"):
        RunConfig(query_batches=4)


def test_a_value_is_shown_short_however_long_or_deep_it_is():
    deep: list = []
    for _ in range(10 * sys.getrecursionlimit()):
        deep = [deep]

    with pytest.raises(ConfigError, match="ways must be a whole number") as error:
        wrong(ways=deep)
    assert len(str(error.value)) < 200
    with pytest.raises(ConfigError, match=r"ways must be a whole number: got 'xx.*\.\.\.") as error:
        wrong(ways="x" * 10_000)
    assert len(str(error.value)) < 200


# Wrong files


def test_an_unknown_setting_is_refused_with_the_nearest():
    with pytest.raises(
        ConfigError,
        match=r"mine: there is no setting 'inner_steeps'\. Did you mean 'inner_steps'\?",
    ):
        RunConfig.from_json(saved(inner_steeps=3), source="mine")


@pytest.mark.parametrize("name", LATER_SETTINGS)
def test_a_setting_younger_than_the_file_has_its_default(name):
    values = json.loads(saved())
    del values[name]

    assert RunConfig.from_json(json.dumps(values)) == RunConfig()


@pytest.mark.parametrize("name", [spec.name for spec in FIELDS if spec.name not in LATER_SETTINGS])
def test_a_missing_setting_is_named(name):
    values = json.loads(saved())
    del values[name]

    with pytest.raises(
        ConfigError, match=f"setting '{name}' is missing; a saved configuration is complete"
    ):
        RunConfig.from_json(json.dumps(values))


@pytest.mark.parametrize("version", [0, 2, "1", True, None, [1]])
def test_another_version_is_refused(version):
    with pytest.raises(
        ConfigError,
        match=r"has format version .* and this innerloop reads 1: use the innerloop that",
    ):
        RunConfig.from_json(saved(format_version=version))


def test_a_wrong_setting_is_refused_with_the_name_of_the_file():
    with pytest.raises(
        ConfigError, match=r"^old/config\.json: ways must be between 2 and 1,000: got 0\.$"
    ):
        RunConfig.from_json(saved(ways=0), source="old/config.json")


@pytest.mark.parametrize("text", ["", "{", "[1, 2", '{"ways": }', "[" * 100_000, "1" * 5000])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        RunConfig.from_json(text)


@pytest.mark.parametrize(
    ("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType"), ('"a"', "str")]
)
def test_json_that_is_not_an_object_is_refused(text, kind):
    with pytest.raises(ConfigError, match=f"config.json must hold one JSON object, not a {kind}"):
        RunConfig.from_json(text)


def test_nan_in_a_file_is_refused():
    with pytest.raises(ConfigError, match=r"inner_lr must be between 0\.0 and 1,000\.0: got nan"):
        RunConfig.from_json(saved().replace("0.4", "NaN"))


def test_a_file_that_is_missing_a_folder_or_binary_is_refused(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00")

    with pytest.raises(
        ConfigError,
        match=r"Cannot read the configuration .*none\.json: No such file or directory\.$",
    ):
        load_config(tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r"Cannot read the configuration .*: Is a directory\.$"):
        load_config(tmp_path)
    with pytest.raises(
        ConfigError, match=r"picture\.png is not JSON: it is not even UTF-8 text\.$"
    ):
        load_config(tmp_path / "picture.png")


# Presets


def test_the_course_preset_is_exactly_the_courses_network():
    """Four 3x3 convolutions of 64 channels with bias and batch norm, 2 x 2 positions left, a linear
    layer to 5."""
    block = 64 * 64 * 9 + 64 + 2 * 64
    expected = (64 * 9 + 64 + 2 * 64) + 3 * block + (4 * 64 + 1) * 5

    learner = build_learner(settings_of("fomaml", "course").replace(device="cpu"), channels=1)

    assert sum(weight.numel() for weight in learner.parameters()) == expected == 113_221


def test_the_course_preset_has_the_courses_batches():
    course = settings_of("fomaml", "course")

    assert (course.meta_batch_size, course.query_batches, course.averaging) == (20, 3, 0.0)


def test_the_course_preset_undoes_what_is_a_methods_own_on_episodes():
    fomaml = settings_of("fomaml", "course")

    assert (fomaml.feature_scale, fomaml.outer_lr, fomaml.clip_gradient) == (1.0, 0.001, 0.0)
    for method in ("maml", "mamlpp"):
        assert settings_of(method, "course") == fomaml.replace(method=method), method


def test_an_unknown_preset_is_refused_with_the_nearest():
    assert list(PRESETS) == ["course", "paper", "authors-code"]
    with pytest.raises(ConfigError, match=r"There is no preset 'cours'\. Did you mean 'course'\?"):
        settings_of("fomaml", "cours")


def test_a_name_near_none_is_answered_with_all_of_them():
    assert did_you_mean("FOMALM", ["fomaml", "maml"]) == " Did you mean 'fomaml'?"
    assert did_you_mean("zebra", ["fomaml", "maml"]) == " There are: fomaml, maml."
