import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from innerloop.core.errors import DataError, NonFiniteError
from innerloop.runs.weights import load_weights, save_weights

WEIGHTS = {
    "conv": torch.arange(8, dtype=torch.float32).view(2, 2, 2),
    "count": torch.tensor(3),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A weight file in good order."""
    path = tmp_path / "model.safetensors"
    save_weights(path, WEIGHTS, {"method": "fomaml"})
    return path


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].dtype == wanted[name].dtype and torch.equal(found[name], wanted[name])
        for name in wanted
    )


def header_of(content: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_what_is_saved_is_loaded_bit_for_bit(path):
    assert same(load_weights(path), WEIGHTS)
    assert same(load_weights(path, WEIGHTS), WEIGHTS)


def test_a_view_with_gradient_in_another_memory_layout_is_saved_by_its_values(tmp_path):
    weight = torch.randn(2, 3, 4, 4, requires_grad=True).to(memory_format=torch.channels_last)

    save_weights(tmp_path / "model.safetensors", {"conv": weight, "row": weight[0, 0]})

    assert same(
        load_weights(tmp_path / "model.safetensors"),
        {"conv": weight.detach(), "row": weight[0, 0].detach()},
    )


def test_tied_weights_counts_and_masks_are_saved_each_by_its_name(tmp_path):
    tied = torch.randn(3, 4)
    tensors = {
        "first": tied,
        "second": tied,
        "part": tied[1:],
        "mask": torch.tensor([True, False]),
        "count": torch.tensor(7, dtype=torch.int16),
    }

    save_weights(tmp_path / "model.safetensors", tensors)

    assert same(load_weights(tmp_path / "model.safetensors", tensors), tensors)


def test_other_readers_of_safetensors_can_read_it(path):
    assert same(load(path.read_bytes()), WEIGHTS)
    assert header_of(path.read_bytes())[0]["__metadata__"]["method"] == "fomaml"


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_not_saved(path, value):
    before = path.read_bytes()

    with pytest.raises(
        NonFiniteError, match=r"model.safetensors is not saved: 'head' holds NaN or infinity\."
    ):
        save_weights(path, {"conv": torch.ones(2), "head": torch.tensor([1.0, value])})

    assert path.read_bytes() == before


def test_weights_that_are_not_finite_are_not_loaded(path):
    """With a checksum that is right, as another program could write it."""
    from innerloop.runs.weights import _digest

    broken = {"head": torch.tensor([1.0, torch.nan])}
    path.write_bytes(save(broken, {"sha256": _digest(broken)}))

    with pytest.raises(DataError, match=r"tensor 'head' holds NaN or infinity\."):
        load_weights(path)


def test_a_missing_tensor_is_named(path):
    with pytest.raises(
        DataError, match="lacks tensor 'head': it belongs to another network or method"
    ):
        load_weights(path, WEIGHTS | {"head": torch.zeros(2)})


def test_a_foreign_tensor_is_named(path):
    with pytest.raises(
        DataError, match="holds a foreign tensor 'count': it belongs to another network or method"
    ):
        load_weights(path, {name: WEIGHTS[name] for name in ("conv", "empty")})


def test_a_wrong_shape_is_named_with_both_shapes(path):
    with pytest.raises(
        DataError, match=r"'conv' is \(2, 2, 2\) torch.float32 and the network needs \(8,\)"
    ):
        load_weights(path, WEIGHTS | {"conv": torch.zeros(8)})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32, torch.float8_e4m3fn])
def test_a_foreign_kind_of_number_is_named(path, dtype):
    found = str(dtype).replace(".", r"\.")
    save_to = {"conv": torch.zeros(2).to(dtype)}
    path.write_bytes(save(save_to))

    with pytest.raises(
        DataError, match=rf"'conv' is \(2,\) {found} and the network needs \(2,\) torch\.float32"
    ):
        load_weights(path, {"conv": torch.zeros(2)})


@pytest.mark.parametrize(
    "metadata", [None, {}, {"method": "fomaml"}, {"sha256": ""}, {"sha256": "0" * 64}]
)
def test_a_missing_or_wrong_checksum_is_refused(path, metadata):
    path.write_bytes(save(WEIGHTS, metadata))

    with pytest.raises(
        DataError, match="was changed after it was saved: its checksum does not match its content"
    ):
        load_weights(path)


@pytest.mark.parametrize("change", ["name", "shape", "kind"])
def test_the_checksum_covers_names_shapes_and_kinds(path, change):
    header, data = header_of(path.read_bytes())
    if change == "name":
        header["convolution"] = header.pop("conv")
    else:
        header["conv"] |= {"shape": [4, 2]} if change == "shape" else {"dtype": "I32"}
    path.write_bytes(with_header(header, data))

    with pytest.raises(DataError, match="was changed after it was saved"):
        load_weights(path)


def test_a_flipped_byte_anywhere_is_refused_or_changes_no_tensor(path):
    """The free text of the header may change unseen: nothing is read from it. Tensors may not, nor
    their names."""
    content = path.read_bytes()
    unseen = 0

    for position in range(len(content)):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x11]) + content[position + 1 :]
        )
        try:
            found = load_weights(path)
        except DataError:
            continue
        unseen += 1
        assert same(found, WEIGHTS)

    assert unseen <= len('"method":"fomaml",')


def test_a_file_cut_off_anywhere_is_refused(path):
    content = path.read_bytes()

    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match="is not a safetensors file, or it is damaged"):
            load_weights(path)


def test_bytes_behind_the_end_are_refused(path):
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(DataError, match="is not a safetensors file, or it is damaged"):
        load_weights(path)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9])
def test_a_header_that_claims_to_be_huge_is_refused(path, length):
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])

    with pytest.raises(DataError, match="is not a safetensors file, or it is damaged"):
        load_weights(path)


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_renamed_pickle_is_refused_and_not_run(path, tmp_path, writer):
    with path.open("wb") as file:
        torch.save(Trap(tmp_path / "sprung"), file) if writer == "torch" else pickle.dump(
            Trap(tmp_path / "sprung"), file
        )

    with pytest.raises(
        DataError, match=r"Pickled weights \(.pt, .pth\) are never read, since they can run code"
    ):
        load_weights(path)

    assert not (tmp_path / "sprung").exists()


def test_noise_is_refused(path):
    noise = np.random.default_rng(0)

    for length in range(0, 400, 7):
        path.write_bytes(noise.bytes(length))
        with pytest.raises(DataError, match="is not a safetensors file, or it is damaged"):
            load_weights(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        DataError, match=r"Cannot read the weights .*nowhere.safetensors: No such file"
    ):
        load_weights(tmp_path / "nowhere.safetensors")


def test_a_directory_is_not_a_weight_file(tmp_path):
    with pytest.raises(DataError, match=r"Cannot read the weights .*: Is a directory"):
        load_weights(tmp_path)
