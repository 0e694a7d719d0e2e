"""What adaptshot says of the pictures of `own_pictures.py`; run by it, in adaptshot's environment.

    PYTHON benchmarks/own_pictures_adaptshot.py FOLDER

FOLDER holds pictures, and `tasks.json` with the tasks; `answers.json` is written beside it. All
settings are adaptshot's own. The vector of a picture is kept, so that none is computed twice: what
it says of a picture is the same. Seconds to fit are without those of its network.
"""

import hashlib
import importlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any


def keep_vectors() -> list[float]:
    """Let adaptshot compute the vector of each picture once; the seconds of each are returned."""
    module: Any = importlib.import_module("adaptshot.core.learner")
    original = module.extract_embedding
    known: dict[str, Any] = {}
    seconds: list[float] = []

    def extract(image: Any, *arguments: Any, **options: Any) -> Any:
        key = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
        if key not in known:
            start = time.process_time()
            known[key] = original(image, *arguments, **options)
            seconds.append(time.process_time() - start)
        return known[key].copy()

    module.extract_embedding = extract
    return seconds


def answers(folder: Path, task: dict[str, Any], of_network: list[float]) -> dict[str, Any]:
    """What a learner of the examples says of the other pictures."""
    learner = importlib.import_module("adaptshot").FewShotLearner(verbose=False)
    start, before = time.process_time(), sum(of_network)
    learner.load_support_images([str(folder / name) for name in task["support"]], task["labels"])
    seconds = time.process_time() - start - (sum(of_network) - before)
    parts = {
        part: said([learner.predict(str(folder / name)) for name in task[part]])
        for part in ("tested", "unknown")
    }
    return {"seconds": seconds, **parts}


def said(results: list[Any]) -> dict[str, list]:
    """Of pictures: what they are, how sure it is, and whether they are unknown or in doubt."""
    return {
        "predicted": [of.prediction for of in results],
        "confidence": [float(of.calibrated_confidence) for of in results],
        "unknown": [bool(of.ood_flag) for of in results],
        "doubted": [bool(of.uncertainty_flag) for of in results],
    }


def main() -> None:
    """Answer every task of a folder."""
    folder = Path(sys.argv[1])
    of_network = keep_vectors()
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    found = {}
    for number, (key, task) in enumerate(tasks.items(), start=1):
        found[key] = answers(folder, task, of_network)
        if number % 40 == 0:
            print(f"adaptshot: {number} of {len(tasks)} tasks", flush=True)
    result = {"version": importlib.metadata.version("adaptshot"), "answers": found}
    (folder / "answers.json").write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main()
