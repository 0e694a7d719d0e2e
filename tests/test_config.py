import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import (
    find_card,
    load_config,
    names,
    read_config,
    settings_of,
)
from innerloop.settings import version1
from innerloop.settings.fields import flag_of, plain_type
from innerloop.settings.presets import COURSE
from innerloop.settings.run import FORMAT_VERSION, RunConfig

CONFIG = settings_of("mamlpp")
FIELDS = {
    flag_of(field): field
    for section in CONFIG.sections.values()
    for field in dataclasses.fields(section)
}
RANGES = {
    name: (meta.ge, meta.le)
    for name, field in FIELDS.items()
    for meta in get_args(field.type)
    if isinstance(meta, msgspec.Meta) and meta.ge is not None and meta.le is not None
}
KINDS = {name: plain_type(field.type) for name, field in FIELDS.items()}
COUNTS = [name for name, kind in KINDS.items() if kind is int]
RATES = [name for name, kind in KINDS.items() if kind is float]
SWITCHES = [name for name, kind in KINDS.items() if kind is bool]
VERSION_1 = Path(__file__).parent / "legacy" / "0.1" / "run" / "config.json"


def wrong(**settings: Any) -> RunConfig:
    """A configuration with settings that no type checker would let through."""
    return CONFIG.replace(**settings)


def saved(section: str = "", **changes: Any) -> str:
    """A configuration of version 2 with changes at its top, or in a section of it."""
    values = json.loads(CONFIG.to_json())
    (values[section] if section else values).update(changes)
    return json.dumps(values)


def saved_1(**changes: Any) -> str:
    """A configuration of version 1, which an earlier innerloop wrote, with changes."""
    return json.dumps(json.loads(VERSION_1.read_text(encoding="utf-8")) | changes)


# Reading and writing


@pytest.mark.parametrize("method", names())
def test_a_saved_configuration_reads_back_as_it_was(method):
    config = settings_of(method, ways=20, outer_lr=0.01, rotations=False, features="flatten")

    assert read_config(config.to_json()) == config


def test_a_saved_configuration_has_sections_and_holds_every_setting_and_its_version():
    values = json.loads(CONFIG.to_json())

    assert list(values) == ["format_version", "method", *CONFIG.sections]
    assert values["format_version"] == FORMAT_VERSION == 2
    assert sum(len(values[name]) for name in CONFIG.sections) == len(FIELDS)


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.episode.ways = 20  # type: ignore[misc]


def test_replace_checks_again_and_knows_no_other_methods_settings():
    with pytest.raises(ConfigError, match="ways must be between 2 and 1,000: got 1"):
        CONFIG.replace(ways=1)
    with pytest.raises(ConfigError, match=r"^transfer has no setting 'fresh_head'\."):
        settings_of("transfer", fresh_head=False)
    with pytest.raises(ConfigError, match=r"no setting 'inner_step'. Did you mean 'inner_steps'"):
        CONFIG.replace(inner_step=3)


def test_a_run_is_named_after_its_method_data_shape_and_seed():
    config = settings_of("fomaml", data="strokes", ways=20, shots=1, seed=3)
    mine = dataclasses.replace(config, method="package.module:Mine")

    assert config.run_name == "fomaml-strokes-20w1s-s3"
    assert mine.run_name == "mine-strokes-20w1s-s3"


# Version 1


def test_a_configuration_of_version_1_is_read_with_the_settings_that_its_method_has():
    old = json.loads(VERSION_1.read_text(encoding="utf-8"))

    config = read_config(json.dumps(old))

    # Version 1 read no folders, whose classes alone can be left out, had one engine and one
    # network, and recorded no steps.
    assert config.flat() == {name: old[name] for name in config.flat() if name in old} | {
        "fewest_images": 0,
        "warps": 0.0,
        "within_groups": False,
        "network": "conv4",
        "widths": "wide",
        "halvings": 4,
        "engine": "reference",
        "precision": "float32",
        "cuda_graph": False,
        "deterministic": False,
    }
    assert json.loads(config.to_json())["format_version"] == 2


@pytest.mark.parametrize(
    ("method", "first_order"), [("fomaml", True), ("maml", False)], ids=["fomaml", "maml"]
)
def test_the_order_of_a_run_of_version_1_follows_from_its_method(method, first_order):
    assert read_config(saved_1(method=method)).own.first_order == first_order


@pytest.mark.parametrize("name", version1.LATER)
def test_a_setting_younger_than_the_file_is_as_it_was_then(name):
    values = json.loads(saved_1(**version1.LATER))
    whole = read_config(json.dumps(values))
    del values[name]

    assert read_config(json.dumps(values)) == whole


def test_a_file_of_this_version_that_names_no_precision_is_of_float32():
    values = json.loads(settings_of("maml").to_json())
    assert values["machine"].pop("precision") == "auto"

    assert read_config(json.dumps(values)).machine.precision == "float32"


def test_a_file_of_this_version_that_names_no_engine_is_of_the_one_that_there_was():
    values = json.loads(settings_of("maml").to_json())
    assert values["machine"].pop("engine") == "auto"

    assert read_config(json.dumps(values)).machine.engine == "reference"


def test_turned_images_were_one_class_before_there_was_a_setting_for_it():
    values = json.loads(saved_1(method="transfer"))
    values.pop("rotations_as_classes")

    assert read_config(json.dumps(values)).own.rotations_as_classes is False
    assert settings_of("transfer").own.rotations_as_classes is True


@pytest.mark.parametrize("name", [name for name in version1.NAMES if name not in version1.LATER])
def test_a_setting_that_version_1_lacks_is_named(name):
    values = json.loads(saved_1())
    del values[name]

    with pytest.raises(
        ConfigError, match=f"setting '{name}' is missing; a saved configuration is complete"
    ):
        read_config(json.dumps(values))


def test_a_setting_of_version_1_that_there_is_no_longer_is_refused():
    with pytest.raises(
        ConfigError, match=r"^old: there is no setting 'inner_rate'\. Did you mean 'inner_lr'\?$"
    ):
        read_config(saved_1(inner_rate=3), source="old")


def test_a_wrong_value_in_version_1_is_refused():
    with pytest.raises(ConfigError, match=r"^old: ways must be between 2 and 1,000: got 0\.$"):
        read_config(saved_1(ways=0), source="old")


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


@pytest.mark.parametrize("name", ["data", "split", "device"])
def test_a_name_must_be_a_text_and_not_empty(name):
    with pytest.raises(ConfigError, match=f"^{name} must not be empty"):
        wrong(**{name: "  "})
    with pytest.raises(ConfigError, match=f"^{name} must be a text: got 3"):
        wrong(**{name: 3})


def test_a_method_must_be_a_text_and_not_empty():
    with pytest.raises(ConfigError, match="mine: method must not be empty"):
        read_config(saved(method=" "), source="mine")
    with pytest.raises(ConfigError, match="mine: method must be a text: got 3"):
        read_config(saved(method=3), source="mine")


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
        wrong(query_batches=4)


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
        read_config(saved("own", inner_steeps=3), source="mine")
    with pytest.raises(ConfigError, match=r"no section 'epsode'. Did you mean 'episode'"):
        read_config(saved(epsode={}), source="mine")


def test_a_setting_of_another_method_is_unknown():
    with pytest.raises(ConfigError, match="there is no setting 'batch_size'"):
        read_config(saved("own", batch_size=64))


@pytest.mark.parametrize("section", CONFIG.sections)
def test_a_missing_section_or_setting_is_named(section):
    values = json.loads(saved())
    name, _ = values[section].popitem()
    with pytest.raises(ConfigError, match=f"setting '{name}' is missing"):
        read_config(json.dumps(values))

    del values[section]
    with pytest.raises(ConfigError, match=f"section '{section}' is missing"):
        read_config(json.dumps(values))


@pytest.mark.parametrize("value", [None, 3, "x", [], [{}]])
def test_a_section_that_is_no_object_is_refused(value):
    with pytest.raises(ConfigError, match="section 'episode' must be an object, not"):
        read_config(saved(episode=value))


def test_half_of_a_file_is_refused():
    text = CONFIG.to_json()
    with pytest.raises(ConfigError, match="is not JSON"):
        read_config(text[: len(text) // 2])


@pytest.mark.parametrize("version", [0, 3, "1", "2", True, None, [1], 1.0, 2.0])
def test_another_version_is_refused(version):
    with pytest.raises(
        ConfigError,
        match=r"has format version .* and this innerloop reads 2 and 1: use the innerloop that",
    ):
        read_config(saved(format_version=version))


def test_a_wrong_setting_is_refused_with_the_name_of_the_file():
    with pytest.raises(
        ConfigError, match=r"^old/config\.json: ways must be between 2 and 1,000: got 0\.$"
    ):
        read_config(saved("episode", ways=0), source="old/config.json")


@pytest.mark.parametrize("text", ["", "{", "[1, 2", '{"ways": }', "[" * 100_000, "1" * 5000])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ConfigError, match=r"config\.json is not JSON"):
        read_config(text)


@pytest.mark.parametrize(
    ("text", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType"), ('"a"', "str")]
)
def test_json_that_is_not_an_object_is_refused(text, kind):
    with pytest.raises(ConfigError, match=f"config.json must hold one JSON object, not a {kind}"):
        read_config(text)


def test_nan_in_a_file_is_refused():
    with pytest.raises(ConfigError, match=r"inner_lr must be between 0\.0 and 1,000\.0: got nan"):
        read_config(saved().replace("0.4", "NaN"))


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

    assert (course.own.batch, course.own.query_batches) == (20, 3)
    assert course.training.averaging == 0.0
    assert settings_of("transfer", "course").own.batch == 25


def test_the_course_preset_undoes_what_is_a_methods_own_on_episodes():
    fomaml = settings_of("fomaml", "course")

    assert fomaml.network.feature_scale == 1.0
    assert (fomaml.training.outer_lr, fomaml.training.clip_gradient) == (0.001, 0.0)
    for method in ("maml", "mamlpp"):
        other = settings_of(method, "course").flat()
        same = {name: value for name, value in fomaml.flat().items() if name in other}
        same.pop("method")
        same.pop("first_order", None)
        assert same.items() <= other.items(), method


COURSE_OF_ALL = dict(
    inner_steps=5,
    inner_lr=0.4,
    data="auto",
    split="auto",
    fewest_images=0,
    rotations=False,
    warps=0.0,
    within_groups=False,
    image_size=28,
    ways=5,
    shots=5,
    queries=15,
    network="conv4",
    filters=64,
    widths="wide",
    downsample="stride",
    halvings=4,
    features="flatten",
    last_relu=True,
    feature_norm=False,
    feature_scale=1.0,
    conv_bias=True,
    conv_init="glorot",
    head_init="glorot",
    meta_steps=1000,
    outer_lr=0.001,
    seed=0,
    clip_gradient=0.0,
    averaging=0.0,
    validation_every=50,
    validation_episodes=100,
    checkpoint_every=50,
    device="auto",
    engine="auto",
    precision="auto",
    threads=0,
    cuda_graph=True,
    deterministic=False,
    episodes_per_chunk=0,
)
COURSE_OF_EPISODES = COURSE_OF_ALL | dict(meta_batch_size=20, fresh_head=False, query_batches=3)
COURSE_OF_EACH = {
    "maml": COURSE_OF_EPISODES | dict(first_order=False),
    "fomaml": COURSE_OF_EPISODES | dict(first_order=True),
    "mamlpp": COURSE_OF_EPISODES
    | dict(
        multi_step_loss=True,
        multi_step_fraction=0.1,
        derivative_order_annealing=True,
        first_order_fraction=1 / 3,
        per_step_statistics=True,
        per_step_affine=True,
        learned_rates="layer",
        cosine_annealing=True,
        outer_lr_floor=0.01,
    ),
    "transfer": COURSE_OF_ALL
    | dict(
        batch_size=25,
        rotations_as_classes=True,
        meta_steps=4800,
        validation_every=300,
        checkpoint_every=300,
    ),
}


@pytest.mark.parametrize("method", COURSE_OF_EACH)
def test_the_course_preset_of_a_method_is_all_of_this(method):
    assert settings_of(method, "course").flat() == COURSE_OF_EACH[method] | {"method": method}


def test_what_the_methods_share_of_the_course_preset_is_a_setting_of_every_method():
    for method in names():
        assert COURSE.keys() <= settings_of(method).flat().keys()
        own = find_card(method).settings.flags().keys()
        assert not COURSE.keys() & own


def test_an_unknown_preset_is_refused_with_the_nearest():
    shapes = ["paper-5w1s", "paper-5w5s", "paper-20w1s", "paper-20w5s"]
    assert list(find_card("mamlpp").presets) == ["course", "paper", "authors-code", *shapes]
    with pytest.raises(ConfigError, match=r"There is no preset 'cours'\. Did you mean 'course'\?"):
        settings_of("fomaml", "cours")


def test_a_name_near_none_is_answered_with_all_of_them():
    assert did_you_mean("FOMALM", ["fomaml", "maml"]) == " Did you mean 'fomaml'?"
    assert did_you_mean("zebra", ["fomaml", "maml"]) == " There are: fomaml, maml."


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *((method, dict(inner_steps=0)) for method in ("maml", "fomaml", "anil")),
        *((method, dict(inner_lr=0.0)) for method in ("maml", "fomaml", "anil", "imaml")),
        ("reptile", dict(inner_lr=0.0, fresh_head=False)),
        ("mamlpp", dict(multi_step_fraction=0.004)),
        ("protonet", dict(training_ways=1)),
        ("r2d2", dict(training_ways=1)),
    ],
)
def test_a_training_that_could_learn_nothing_is_refused(method, changes):
    with pytest.raises(
        ConfigError, match=r"learn nothing|learns from|less than one of|nothing to tell apart"
    ):
        settings_of(method, **changes)


def test_steps_that_stay_are_taken_where_something_else_is_learnt():
    for method in ("maml", "fomaml", "anil"):
        assert settings_of(method, inner_steps=0, fresh_head=False).own.inner_steps == 0
        assert settings_of(method, inner_lr=0.0, fresh_head=False).own.inner_lr == 0
    assert settings_of("mamlpp", inner_lr=0.0).own.learns_rates
    assert settings_of("protomaml", inner_steps=0).own.inner_steps == 0
    # Reptile's training takes its own steps, however evaluation adapts.
    assert settings_of("reptile", eval_inner_steps=0).own.adaptation_steps == 0


@pytest.mark.parametrize("method", names())
def test_only_a_head_from_zero_is_at_chance_before_a_step(method):
    config = settings_of(method)
    at_chance = method not in ("boil", "metasgd", "protomaml", "baselinepp")

    assert config.own.starts_at_chance(config) == at_chance


@pytest.mark.parametrize(
    ("method", "setting", "value", "words"),
    [
        ("metaoptnet", "solver", "svm", "a support vector machine of cost 0.1"),
        ("metaoptnet", "solver", "ridge", "a ridge regression of penalty 50"),
        ("simpleshot", "transform", "un", "class means of features, transform un"),
    ],
)
def test_main_settings_say_which_variant_was_trained(method, setting, value, words):
    own = settings_of(method, **{setting: value}).own

    assert own.inner_loop_in_words == f"no gradient steps: {words}"
