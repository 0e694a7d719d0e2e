"""Publish finished, evaluated runs: their files into `results/`, checksums beside them.

A run that is named with a pretrained network goes into the package too, without what only its
training used.

    python benchmarks/publish.py runs/maml-omniglot-5w5s-s0=maml-omniglot runs/maml-omniglot-5w5s-s1
    python benchmarks/publish.py --to variants runs/maml-plain-omniglot-5w5s-s0
    python benchmarks/publish.py --to strongest runs/strongest-s0=omniglot
"""

import argparse
import json
import re
import shutil
from pathlib import Path

from innerloop.core.files import write_atomic
from innerloop.methods.catalogue import find_learner
from innerloop.report.model_card import model_card
from innerloop.runs.directory import RunDirectory
from innerloop.runs.weights import load_weights, save_weights

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGE = ROOT / "src" / "innerloop" / "experiments" / "pretrained"
WITH_PLACES = ("env.json", "hyperparameters.md")
LARGEST_METRICS = 300_000  # bytes: of a longer file the validations alone are published


def begin(run: RunDirectory, target: Path) -> None:
    """An empty folder, with what every published run has."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copy(run.path / "config.json", target)
    for file in WITH_PLACES:
        write_atomic(target / file, without_places(run.path / file))


def publish(run: RunDirectory, target: Path, *, whole: bool) -> None:
    """Copy settings, environment, evaluations, and metrics; of a whole run the figure too.

    Of one that is not whole, and of a long one, only the validations among the metrics.
    """
    begin(run, target)
    for evaluation in run.path.glob("evaluation-*.json"):
        shutil.copy(evaluation, target)
    if whole:
        shutil.copy(run.path / "figures" / "validation.png", target)
    metrics = run.path / "metrics.jsonl"
    if whole and metrics.stat().st_size <= LARGEST_METRICS:
        shutil.copy(metrics, target)
    else:
        lines = [json.dumps(record) for record in run.read_metrics("validation")]
        write_atomic(target / "validation.jsonl", "\n".join(lines) + "\n")


def without_places(file: Path) -> str:
    """A file of a run, without where its machine kept the run and the data."""
    text = re.sub(r" --run-dir [^\s\"]+", "", file.read_text("utf-8"))
    text = re.sub(r"sweep work [^\s\"]+", "sweep work FOLDER", text)
    return re.sub(r"[^\s\"]*/(\w+), named by", r"\1, named by", text)


def publish_weights(run: RunDirectory, target: Path) -> None:
    """Write the run's network into the package."""
    begin(run, target)
    shutil.copy(run.path / "status.json", target)
    unused = find_learner(run.config.method).training_only
    weights = {
        name: tensor
        for name, tensor in load_weights(run.weights_path).items()
        if not name.startswith(unused)
    }
    metadata = {"method": run.config.method, "config": run.config_text}
    file = target / "model.safetensors"
    save_weights(file, weights, metadata)
    write_atomic(target / "MODEL_CARD.md", model_card(run, file))


def note_checksum(file: Path, name: str, checksum: str) -> None:
    """Put a run's line into a file of checksums, in the order of names."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    known = {line.split("  ")[1]: line.split("  ")[0] for line in lines}
    known[name] = checksum
    write_atomic(file, "".join(f"{known[name]}  {name}\n" for name in sorted(known)))


def main() -> None:
    """Publish what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="RUN, or RUN=NAME of a pretrained network")
    parser.add_argument("--to", choices=("accuracy", "variants", "strongest"), default="accuracy")
    arguments = parser.parse_args()
    folder = RESULTS / arguments.to
    for text in arguments.runs:
        path, _, name = text.partition("=")
        run = RunDirectory(Path(path))
        publish(run, folder / run.path.name, whole=arguments.to != "variants")
        note_checksum(folder / "SHA256SUMS", run.path.name, run.weights_sha256())
        if name:
            publish_weights(run, PACKAGE / name)
            checksum = RunDirectory(PACKAGE / name).weights_sha256()
            note_checksum(PACKAGE / "SHA256SUMS", f"{name}/model.safetensors", checksum)


if __name__ == "__main__":
    main()
