"""What a classifier's report says, for a person."""

from collections.abc import Sequence

from innerloop.classifier.pictures import short_name
from innerloop.classifier.quality import AHEAD, Quality

HEADS = {
    "prototypes": "each class's mean",
    "ridge": "ridge regression",
    "logistic": "logistic regression",
}
"""What heads are called in a sentence."""
NAMED = 5
"""Pictures that are named in a sentence, at most."""


def sentences(report: Quality) -> list[str]:
    """A sentence for each thing that it says."""
    lines = []
    pictures = sum(report.counts)
    lines.append(f"{len(report.classes)} classes, {pictures} examples.")
    if report.empty:
        lines.append(_empty(report.empty))
    if not report.tested:
        lines.append(
            "No class has two examples, so nothing can be said of its accuracy: add a second "
            "example of each class."
        )
        return lines
    low, high = report.interval
    lines.append(
        f"Of {report.tested} examples {100 * report.accuracy:.0f} % are right when left out, one "
        f"of each class at a time (95 % interval {100 * low:.0f} to {100 * high:.0f} %)."
    )
    few = [str(name) for name, n in zip(report.classes, report.counts, strict=True) if n == 1]
    if few:
        lines.append(f"Classes with a single example are not in that: {', '.join(few)}.")
    if report.mislabelled:
        first = report.mislabelled[0]
        lines.append(
            f"{len(report.mislabelled)} may be labelled wrong, {short_name(first.name)} first: it "
            f"looks like {first.predicted}."
        )
    between = [pair for pair in report.duplicates if pair.labels[0] != pair.labels[1]]
    if between:
        one, other = map(short_name, between[0].names)
        same = "are the same" if between[0].identical else "look the same"
        lines.append(f"{one} and {other} {same} and are of different classes.")
    inside = len(report.duplicates) - len(between)
    if inside:
        lines.append(
            f"Within a class {inside} {'pair looks' if inside == 1 else 'pairs look'} the same: "
            "copies teach nothing, and make the accuracy look better than it is."
        )
    if report.outlook is not None:
        lines.append(_ahead(report.accuracy, report.outlook))
    return lines


def _empty(names: Sequence[str]) -> str:
    """That pictures show nothing, and which."""
    named = ", ".join(map(short_name, names[:NAMED]))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    one = len(names) == 1
    return (
        f"{len(names)} {'picture is' if one else 'pictures are'} empty, all of one colour: {named}"
        f"{more}. Remove or replace {'it' if one else 'them'}; what is white on a transparent "
        "ground needs a dark ground, since transparent parts are laid on white."
    )


def how(kind: str, backbone: str | None) -> str:
    """How a classifier tells its classes apart."""
    seen = f"what the network {backbone} sees in a picture" if backbone else "vectors"
    return f"{HEADS[kind]} on {seen}"


def shortened(text: str, length: int) -> str:
    """A text in so many letters: the middle is left out, since names often differ at the end."""
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[-end:]}"


def _ahead(accuracy: float, outlook: float) -> str:
    """What more pictures would bring, where that is anything."""
    if accuracy == 1:
        return "As far as these examples tell, no more are needed: all are right when left out."
    now, then = (f"{100 * of:.0f} %" for of in (accuracy, outlook))
    if now == then:
        return (
            f"As far as these examples tell, {AHEAD} more a class would bring no more than {now}."
        )
    return (
        f"{AHEAD} more pictures a class would bring about {then}, if errors go on falling as they "
        "did."
    )
