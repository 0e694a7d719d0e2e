"""Writes the classifier of this version into tests/legacy, to be read by later ones."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from innerloop import FewShotClassifier
from innerloop.classifier.saving import FORMAT
from picturing import KINDS, drawing


def main() -> None:
    """Fit to the drawings of the tests, and save it with what it says of others."""
    examples = [drawing(kind, seed) for kind in KINDS for seed in range(6)]
    classifier = FewShotClassifier("omniglot").fit(
        examples, [kind for kind in KINDS for _ in range(6)]
    )
    new = [drawing(kind, seed) for kind in KINDS for seed in range(6, 12)]
    path = Path(__file__).parent / f"classifier-{FORMAT}.innerloop"
    classifier.save(path)
    said = {
        "classes": classifier.classes_.tolist(),
        "p": classifier.predict_proba(new).round(6).tolist(),
        "threshold": classifier.threshold_,
    }
    path.with_suffix(".json").write_text(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
