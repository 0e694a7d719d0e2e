"""What a saved classifier says of itself, for who finds the file."""

from innerloop.classifier.state import State
from innerloop.classifier.words import how
from innerloop.core.texts import printable
from innerloop.core.version import __version__


def card(state: State, backbone: str | None) -> str:
    """A page in Markdown."""
    counts = [int((state.kept.labels == place).sum()) for place in range(len(state.classes))]
    rows = "\n".join(
        f"| {_cell(str(name))} | {count} |"
        for name, count in zip(state.classes.tolist(), counts, strict=True)
    )
    unknown = (
        "It takes everything to be of one of its classes."
        if state.threshold is None
        else "What is less similar than "
        f"{state.threshold:.3f} to every example (1 is the same) it calls unknown; many things "
        "that are of none of its classes are more similar than that."
    )
    return f"""# A few-shot classifier

Made by innerloop {__version__} from {sum(counts)} examples of {len(counts)} classes.
It tells them apart by {how(state.head.kind, backbone)}.
{unknown}

    innerloop predict THIS-FILE-OR-FOLDER PICTURES...

| class | examples |
|---|---|
{rows}

It knows these examples and nothing else: how good it is on other pictures depends on how much they
look like these. It says nothing of people, and must not decide about any.
"""


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|").replace("\n", " ")
