"""What a card must be, told in a sentence before anything else is done with it."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from innerloop.core.errors import ConfigError
from innerloop.methods.card import Card
from innerloop.methods.catalogue import find_card, names, settings_of
from innerloop.settings.method import EpisodicSettings, MethodSettings

WHOLE = Card("mine", "Mine", EpisodicSettings, "nowhere:Learner", "An idea.")


def with_setting(kind: Any, default: Any) -> type[EpisodicSettings]:
    """Settings of one more setting of a kind."""

    @dataclass(frozen=True)
    class Settings(EpisodicSettings):
        mine: kind = default  # type: ignore[valid-type]
        """A setting."""

    return Settings


def refused(**changes: Any) -> str:
    with pytest.raises(ConfigError) as error:
        dataclasses.replace(WHOLE, **changes).refuse_faults()
    return str(error.value)


def test_a_whole_card_is_taken():
    WHOLE.refuse_faults()


@pytest.mark.parametrize("method", names())
def test_the_cards_of_the_package_are_whole(method):
    find_card(method).refuse_faults()


@pytest.mark.parametrize("kind", [int | None, list[int], Literal[1, 2], dict, "NoSuchType"])
def test_a_setting_whose_type_cannot_be_checked_is_refused(kind):
    try:
        sentence = refused(settings=with_setting(kind, None))
    except NameError:
        assert kind == "NoSuchType"
    else:
        assert "mine" in sentence


def test_settings_that_are_no_dataclass_of_their_own_are_refused():
    class Bare(EpisodicSettings):
        more: int = 3

    assert "lack @dataclass(frozen=True)" in refused(settings=Bare)


def test_settings_that_do_not_answer_are_refused():
    @dataclass(frozen=True)
    class Mute(MethodSettings):
        pass

    assert "EpisodicSettings or PretrainingSettings" in refused(settings=Mute)


def test_annotations_that_are_texts_are_resolved():
    settings = with_setting("int", 3)

    assert settings.kinds()["mine"] is int
    dataclasses.replace(WHOLE, settings=settings).refuse_faults()


@pytest.mark.parametrize(("method", "order"), [("fomaml", False), ("maml", True)])
def test_a_method_of_the_other_order_is_the_other_method(method, order):
    with pytest.raises(ConfigError, match="a method of its own: train that"):
        settings_of(method, first_order=order)


@pytest.mark.parametrize("method", names())
def test_a_card_says_what_a_support_set_changes(method):
    assert find_card(method).adapts
