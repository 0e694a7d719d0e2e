"""Whatever is done to a file, one of innerloop's own errors comes out, or the file's own
content."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutations import (
    TENSORS,
    check_config,
    check_weights,
    damaged_configs,
    damaged_weights,
    weight_file,
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="session")
def good(folder) -> bytes:
    return weight_file(folder)


@given(content=damaged_configs())
@settings(max_examples=300, deadline=None)
def test_a_damaged_configuration_is_refused_in_a_sentence_or_is_whole(content, folder):
    check_config(content, folder / "config.json")


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_weights_are_refused_in_a_sentence_or_are_the_saved_ones(data, good, folder):
    content = data.draw(damaged_weights(good))

    check_weights(
        content, folder / "damaged.safetensors", data.draw(st.sampled_from([None, TENSORS]))
    )


@given(content=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_as_weights_and_as_a_configuration(content, folder):
    assert check_weights(content, folder / "any.safetensors", TENSORS) == "DataError"
    assert check_config(content, folder / "any.json") == "ConfigError"
