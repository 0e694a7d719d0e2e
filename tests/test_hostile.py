"""Whatever an archive holds, `bundle --check` ends in one sentence, and writes nothing."""

from pathlib import Path

import pytest

from hostile import hostile
from innerloop import cli
from innerloop.assignment import pack
from innerloop.assignment.check import check
from innerloop.core.errors import InnerloopError
from making import make_run

pytestmark = pytest.mark.slow


def test_hostile_archives_end_in_a_sentence_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for method in ("fomaml", "mamlpp", "transfer"):
        make_run(Path("runs"), method)
    # The code is most of the files: a check writes all of them, and does no more than compare them.
    whole = list(pack._code())
    little = [part for part in whole if "/innerloop/" not in part[0] or "/cli/app.py" in part[0]]
    monkeypatch.setattr(pack, "_code", lambda: iter(little))
    assert cli.main(["bundle", "runs", "--name", "A", "--student-number", "1"]) == 0
    archive = Path("A_1_Assignment2.zip").read_bytes()
    # Seconds each; drawing has a net of its own, see `test_bundle.py`.
    monkeypatch.setattr(pack, "results_of", lambda run, suffixes: {})
    monkeypatch.setattr(pack, "report_files", lambda document: {})
    (tmp_path / "in" / "temporary").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "in" / "temporary"))
    before = sorted(tmp_path.rglob("*"))
    faults = {}
    archives = list(hostile(archive))
    for what, data in archives:
        Path("A_1_Assignment2.zip").write_bytes(data)
        try:
            check(Path("A_1_Assignment2.zip"), say=lambda _: None)
        except InnerloopError as error:
            if len(str(error)) > 2000 or not str(error).endswith((".", "?")):
                faults[what] = str(error)[:300]
        except Exception as error:
            faults[what] = f"{type(error).__name__}: {error}"[:300]
        else:
            faults[what] = "passes"
        if sorted(tmp_path.rglob("*")) != before:
            faults[what] = "leaves files behind"

    assert len(archives) >= 120
    assert faults == {}
