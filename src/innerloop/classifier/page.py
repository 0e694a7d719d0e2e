"""A page about a classifier: how good it is, what it mixes up, which pictures to look at again."""

import numpy as np

from innerloop.classifier import figures
from innerloop.classifier.backbones import DRAWINGS, PHOTOS
from innerloop.classifier.calibration import probabilities
from innerloop.classifier.pictures import short_name
from innerloop.classifier.quality import DRAWS, SURE, Quality
from innerloop.classifier.state import State
from innerloop.classifier.words import how, sentences, shortened
from innerloop.report.document import (
    Block,
    Bullets,
    Document,
    Paragraph,
    Picture,
    Section,
    Table,
    code,
)
from innerloop.report.figures.drawing import in_usual_style
from innerloop.report.render.pages import boxes, html_page
from innerloop.report.render.svg import drawn

SEEN: dict[str | None, str] = {
    PHOTOS: " The network sees the middle square of each.",
    DRAWINGS: " The network sees what is drawn, cut out and laid in the middle of a square.",
}
"""What a network sees of a picture, where that is ours to say."""
TITLE = "How sure it is, and how often it is right"
PART = 18
"""Letters of a folder's and of a file's name in a table."""
LISTED = 30
"""Rows of a table, at most."""


def page(state: State, report: Quality, title: str, backbone: str | None) -> str:
    """The page, as one HTML file."""
    written = Document(
        title,
        f"{len(report.classes)} classes, {sum(report.counts)} pictures, "
        f"{how(state.head.kind, backbone)}",
        [
            section
            for section in (
                _summary(report),
                _pictures(state, backbone),
                _mistakes(state, report),
                _confusion(report),
                _curve(report),
                _trust(state, report),
            )
            if section
        ],
        made_from="the pictures that it was given alone",
    )
    return html_page(written, {picture.name: drawn(picture.draw) for picture in written.pictures})


def contact_sheet(state: State) -> bytes:
    """The pictures as a PNG."""
    return in_usual_style(lambda: figures.sheet(state), ("png",))["png"]


def _summary(report: Quality) -> Section:
    rows = [
        (str(name), str(count), _share(report, place))
        for place, (name, count) in enumerate(zip(report.classes, report.counts, strict=True))
    ]
    blocks: list[Block] = [
        Bullets(sentences(report)),
        Table(
            "Each class: its pictures, and how many of them are right when left out",
            ("class", "pictures", "right when left out"),
            rows,
        ),
    ]
    if report.tested:
        blocks.append(
            Paragraph(
                "They are left out one of each class at a time; where a class has more than "
                "twenty, several. With a fifth of each class left out at a time "
                f"{100 * report.five_folds:.0f} % are right. Both judge a classifier "
                "with fewer examples than this one, which matters with two or three of each class."
            )
        )
    if missing := boxes(" ".join(map(str, report.classes))):
        blocks.append(
            Paragraph(
                f"Figures show boxes for {missing}: no font of the machine that drew them has "
                "these. With one that does, make the report again."
            )
        )
    return Section("How good it is", blocks)


def _path(name: str) -> str:
    """A picture's folder and file, so short that two of them stand beside each other."""
    return code("/".join(shortened(part, PART) for part in short_name(name).split("/")))


def _share(report: Quality, place: int) -> str:
    tested = int(report.confusion[place].sum())
    if not tested:
        return "not known: it is the only one"
    return f"{int(report.confusion[place, place])} of {tested}"


def _pictures(state: State, backbone: str | None) -> Section | None:
    if not all(state.kept.thumbnails) or not state.kept.thumbnails:
        return None
    return Section(
        "The pictures",
        [
            Picture(
                "pictures",
                lambda: figures.sheet(state),
                "Small pictures, a row for each class.",
                f"Up to {figures.SHOWN} pictures of each of up to {figures.ROWS} classes, whole."
                f"{SEEN.get(backbone, '')}",
            )
        ],
    )


def _mistakes(state: State, report: Quality) -> Section | None:
    blocks: list[Block] = []
    if report.mistakes:
        if state.kept.thumbnails and all(state.kept.thumbnails):
            blocks.append(
                Picture(
                    "mistakes",
                    lambda: figures.mistakes_sheet(state, report),
                    "Small pictures with their class and what they are taken for.",
                    "Taken for another class when left out, the surest first, with the probability "
                    "of that class.",
                )
            )
        blocks.append(
            Table(
                "Taken for another class when left out; where that is "
                f"{100 * SURE:.0f} % sure, the label may be wrong",
                ("picture", "class", "taken for", "probability"),
                [
                    (
                        _path(of.name),
                        str(of.label),
                        str(of.predicted),
                        f"{100 * of.probability:.0f} %",
                    )
                    for of in report.mistakes[:LISTED]
                ],
            )
        )
    if report.duplicates:
        blocks.append(
            Table(
                "Pairs that look the same, those of two classes first",
                ("one", "other", "classes", "similarity"),
                [
                    (
                        _path(of.names[0]),
                        _path(of.names[1]),
                        " and ".join(dict.fromkeys(map(str, of.labels))),
                        "identical" if of.identical else f"{of.cosine:.3f}",
                    )
                    for of in report.duplicates[:LISTED]
                ],
            )
        )
    return Section("Pictures to look at again", blocks) if blocks else None


def _confusion(report: Quality) -> Section | None:
    if not report.tested:
        return None
    return Section(
        "What it mixes up",
        [
            Picture(
                "confusion",
                lambda: figures.confusion(report),
                "A square of counts, classes by what they are taken for.",
                "Rows are the classes, columns what their pictures are taken for when left out.",
            )
        ],
    )


def _curve(report: Quality) -> Section | None:
    if len(report.curve) < 2:
        return None
    return Section(
        "Would more pictures help?",
        [
            Picture(
                "curve",
                lambda: figures.curve(report),
                "Accuracy rises with the number of pictures a class.",
                "Accuracy with so many pictures a class, chosen at random, on the others; the band "
                f"is one standard deviation over {DRAWS} choices, cut off at 0 and 100 %.",
            )
        ],
    )


def _trust(state: State, report: Quality) -> Section | None:
    if not report.tested:
        return None
    told = state.told
    p = probabilities(state.left_out, state.temperature)[told]
    right = p.argmax(axis=1) == state.kept.labels[told]
    unknown = (
        ""
        if state.threshold is None
        else f" What is less similar than {state.threshold:.3f} to every picture it calls unknown: "
        "a tenth of its own pictures would be. Many things of none of its classes are more "
        "similar than that, so this is a hint and no guard."
    )
    return Section(
        "Can its probabilities be believed?",
        [
            Picture(
                "reliability",
                lambda: figures.reliability(np.max(p, axis=1), right, TITLE),
                "How often it is right against how sure it is.",
                "How often it is right when it is so and so sure, pictures left out. The "
                "temperature was fitted to the same pictures, so the next ones lie further away.",
            ),
            Paragraph(
                "Probabilities are scaled so that, of the pictures left out that it is 90 % sure "
                f"of, about 90 % are right (temperature {state.temperature:.3f}).{unknown}"
            ),
        ],
    )
