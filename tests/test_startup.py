"""What a training waits for before its first step."""

import subprocess
import sys

import pytest

from innerloop.methods.catalogue import names

FIRST_STEP = """
import os, sys
from innerloop import cli
from innerloop.cli.progress import TrainingProgress
from innerloop.data import strokes

whole = strokes.generate
strokes.generate = lambda *, size: whole(100, size=size)

def stop(self, step, record):
    print(record["kind"], step, *(name for name in {slow} if name in sys.modules), flush=True)
    os._exit(0)

TrainingProgress.on_step = stop
cli.main({arguments})
"""
SLOW = ("torch._dynamo", "matplotlib")


BUILT = """
import sys
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import names, settings_of

for method in names():
    how = dict(filters=4, image_size=16, device="cpu", engine="reference")
    build_learner(settings_of(method, **how), 1, training_labels=7)
    print(method, *(name for name in {slow} if name in sys.modules), flush=True)
"""


def test_no_learner_imports_a_compiler_or_what_draws():
    said = subprocess.run(
        [sys.executable, "-c", BUILT.format(slow=SLOW)], capture_output=True, text=True, check=True
    ).stdout

    assert said.splitlines() == names()


@pytest.mark.parametrize("method", ["maml", "mamlpp", "imaml", "metaoptnet", "transfer", "tim"])
def test_the_first_step_is_the_first_record_and_waits_for_no_compiler_and_no_drawing(
    method, tmp_path
):
    """Each of the two takes as long to import as the step itself, or longer."""
    options = "--data strokes --filters 4 --image-size 16 --validation-episodes 2 --threads 1"
    code = FIRST_STEP.format(slow=SLOW, arguments=["train", method, *options.split()])

    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout

    assert said.splitlines()[-1] == "train 1"
