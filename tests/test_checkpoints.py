import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from innerloop.core.errors import ConfigError, DiskError, NonFiniteError
from innerloop.methods.catalogue import settings_of
from innerloop.runs.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Environment

EXPECTED = {"learner.head": torch.zeros(3), "optimiser.head.step": torch.zeros(())}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(settings_of("fomaml"), Environment(), tmp_path / "run")


def checkpoint(step: int, value: float | None = None) -> Checkpoint:
    head = torch.full((3,), float(step) if value is None else value)
    return Checkpoint(
        step,
        {"learner.head": head, "optimiser.head.step": torch.tensor(float(step))},
        {"elapsed_s": 1.5},
    )


def names(run: RunDirectory) -> list[str]:
    """Everything in ``checkpoints/``, hidden files too."""
    return sorted(path.name for path in (run.path / "checkpoints").iterdir())


def contents(run: RunDirectory) -> dict[str, bytes]:
    parent = run.path / "checkpoints"
    return {
        str(path.relative_to(parent)): path.read_bytes()
        for path in parent.rglob("*")
        if path.is_file()
    }


def newest_step(run: RunDirectory) -> int | None:
    found, _ = load_checkpoint(run.path, EXPECTED)
    return found.step if found else None


def test_what_is_saved_is_loaded(run):
    save_checkpoint(run.path, checkpoint(7))

    found, warnings = load_checkpoint(run.path, EXPECTED)

    assert warnings == []
    assert found and (found.step, found.state) == (7, {"elapsed_s": 1.5})
    assert torch.equal(found.tensors["learner.head"], torch.full((3,), 7.0))


def test_a_folder_of_checkpoints_that_was_deleted_is_made_again(run):
    shutil.rmtree(run.path / "checkpoints", ignore_errors=True)

    save_checkpoint(run.path, checkpoint(7))

    assert newest_step(run) == 7


def test_what_refuses_changed_settings_sees_the_state_and_is_passed_on(run):
    save_checkpoint(run.path, checkpoint(7))
    seen = []

    def refuse(state):
        seen.append(state)
        raise ConfigError("another configuration")

    with pytest.raises(ConfigError, match="another configuration"):
        load_checkpoint(run.path, EXPECTED, refuse)
    assert seen == [{"elapsed_s": 1.5}]


def test_a_new_checkpoint_is_never_dropped_for_damaged_ones_of_later_steps(run):
    for step in (900, 950):
        save_checkpoint(run.path, checkpoint(step))
        (run.path / "checkpoints" / f"step-{step:08d}" / "manifest.json").write_text("{}")

    save_checkpoint(run.path, checkpoint(50))

    assert names(run) == ["step-00000050"]
    assert newest_step(run) == 50


def test_the_newest_two_are_kept(run):
    for step in (1, 2, 9, 10):
        save_checkpoint(run.path, checkpoint(step))

    assert names(run) == ["step-00000009", "step-00000010"]
    assert newest_step(run) == 10


def test_where_there_is_none_there_is_none(run):
    assert load_checkpoint(run.path, EXPECTED) == (None, [])


def test_nothing_in_a_checkpoint_is_a_pickle(run):
    save_checkpoint(run.path, checkpoint(1))

    assert sorted(contents(run)) == [
        f"step-00000001/{name}" for name in ("manifest.json", "state.json", "state.safetensors")
    ]
    assert json.loads(contents(run)["step-00000001/state.json"]) == {"step": 1, "elapsed_s": 1.5}


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "state.safetensors"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing"])
def test_a_damaged_newest_falls_back_to_the_previous_one_and_says_so(run, name, damage):
    for step in (1, 2):
        save_checkpoint(run.path, checkpoint(step))
    path = run.path / "checkpoints" / "step-00000002" / name
    content = path.read_bytes()
    middle = len(content) // 2

    if damage == "missing":
        path.unlink()
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes({"flipped": flipped, "truncated": content[:middle], "empty": b""}[damage])

    found, (warning,) = load_checkpoint(run.path, EXPECTED)
    assert found and found.step == 1
    assert warning.startswith("Checkpoint step-00000002 is damaged and passed over: ")
    assert (
        name in warning or name == "manifest.json"
    )  # a wrong checksum is blamed on the file that it is of


def test_a_flipped_byte_anywhere_in_the_newest_falls_back(run):
    for step in (1, 2):
        save_checkpoint(run.path, checkpoint(step))

    for path in sorted((run.path / "checkpoints" / "step-00000002").iterdir()):
        content = path.read_bytes()
        for position in range(0, len(content), 5):
            path.write_bytes(
                content[:position] + bytes([content[position] ^ 0x11]) + content[position + 1 :]
            )
            assert newest_step(run) == 1, f"{path.name} byte {position}"
        path.write_bytes(content)
    assert newest_step(run) == 2


def test_a_file_in_place_of_a_checkpoint_is_passed_over(run):
    save_checkpoint(run.path, checkpoint(1))
    (run.path / "checkpoints" / "step-00000002").write_text("not a directory")

    assert newest_step(run) == 1


def test_where_both_are_damaged_there_is_none_and_two_sentences(run):
    for step in (1, 2):
        save_checkpoint(run.path, checkpoint(step))
        (run.path / "checkpoints" / f"step-{step:08d}" / "manifest.json").unlink()

    found, warnings = load_checkpoint(run.path, EXPECTED)

    assert found is None
    assert [warning[:24] for warning in warnings] == [
        "Checkpoint step-00000002",
        "Checkpoint step-00000001",
    ]


def test_a_damaged_checkpoint_is_replaced_by_the_same_step(run):
    for step in (1, 2):
        save_checkpoint(run.path, checkpoint(step))
    (run.path / "checkpoints" / "step-00000002" / "state.json").write_text("{}")

    save_checkpoint(run.path, checkpoint(2))

    assert newest_step(run) == 2
    assert names(run) == ["step-00000001", "step-00000002"]


def test_what_a_kill_left_half_written_is_passed_over_and_cleared_by_the_next_saving(run):
    save_checkpoint(run.path, checkpoint(1))
    shutil.copytree(
        run.path / "checkpoints" / "step-00000001", run.path / "checkpoints" / ".step-00000002.tmp"
    )

    assert newest_step(run) == 1
    save_checkpoint(run.path, checkpoint(3))

    assert names(run) == ["step-00000001", "step-00000003"]


def test_a_checkpoint_is_whole_before_it_has_its_name_and_its_name_is_synced_after(
    run, monkeypatch
):
    """What a power cut at any moment may leave follows from the order of these three calls."""
    parent = run.path / "checkpoints"
    final = parent / "step-00000003"
    calls: list[tuple[str, bool]] = []

    def watch(function: str) -> None:
        real = getattr(os, function)

        def watched(*arguments):
            name = function
            if function == "fsync" and os.path.samestat(os.fstat(arguments[0]), parent.stat()):
                name = "fsync of the folder"
            calls.append((name, final.exists()))
            return real(*arguments)

        monkeypatch.setattr(os, function, watched)

    for function in ("fsync", "replace", "rename"):
        watch(function)
    save_checkpoint(run.path, checkpoint(3))

    of_a_file = [("fsync", False), ("replace", False)]
    after = [("rename", False), ("fsync of the folder", True)]
    assert calls == [*of_a_file * 3, *after]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_that_is_not_finite_is_never_saved(run, value):
    for step in (1, 2):
        save_checkpoint(run.path, checkpoint(step))
    before = contents(run)

    with pytest.raises(NonFiniteError, match=r"is not saved: 'learner.head' holds NaN or infinity"):
        save_checkpoint(run.path, checkpoint(3, value))

    assert contents(run) == before
    assert names(run) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("nth_call", range(5))
@pytest.mark.parametrize("function", ["fsync", "replace", "rename"])
def test_a_disk_that_refuses_leaves_the_previous_checkpoints_as_they_were(
    run, monkeypatch, function, nth_call, number
):
    """Whichever call fails: either the saving says so and nothing has changed, or it is
    complete."""
    for step in (1, 2):
        save_checkpoint(run.path, checkpoint(step))
    before, real, calls = contents(run), getattr(os, function), []

    def refuse(*arguments):
        calls.append(arguments)
        if len(calls) == nth_call + 1:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(os, function, refuse)
    failed = False
    try:
        save_checkpoint(run.path, checkpoint(3))
    except DiskError as error:
        failed = True
        assert os.strerror(number) in str(error)
        assert "What was saved before is intact" in str(error)
    monkeypatch.undo()

    assert failed == (len(calls) > nth_call)
    assert all(name.startswith("step-") for name in names(run))
    if failed:
        assert {name: before[name] for name in before} == {
            name: contents(run)[name] for name in before
        }
    assert newest_step(run) in ((2, 3) if failed else (3,))


def test_a_read_only_directory_is_a_sentence(run):
    save_checkpoint(run.path, checkpoint(1))
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (run.path / "checkpoints").chmod(0o555)

    with pytest.raises(
        DiskError, match=r"Cannot write the checkpoint .*step-00000002: Permission denied"
    ):
        save_checkpoint(run.path, checkpoint(2))

    (run.path / "checkpoints").chmod(0o755)
    assert newest_step(run) == 1
