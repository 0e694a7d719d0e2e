"""The course's report: the order and titles of its questions, and its bar."""

from innerloop.assignment import methods, questions
from innerloop.assignment.bar import BAR, against_bar
from innerloop.methods.catalogue import find_card
from innerloop.report.document import Bullets, Document, Section
from innerloop.report.figures.run import data_name
from innerloop.report.material import Material
from innerloop.report.report import composed
from innerloop.report.sections import account, checklist, commands, results, sources

BESIDES = (
    sources.LAKE,
    "O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra. Matching networks for "
    "one shot learning. NeurIPS 2016. arXiv 1606.04080.",
    "A. Raghu, M. Raghu, S. Bengio, O. Vinyals. Rapid learning or feature reuse? Towards "
    "understanding the effectiveness of MAML. ICLR 2020. arXiv 1909.09157.",
)
"""What the course builds on besides its methods."""


def document(material: Material) -> Document:
    """The report, in the order of the assignment's questions."""
    selection = account.chosen_on(material.runs[0].config.data.split)
    sections = [
        summary(material),
        methods.fomaml(material),
        methods.mamlpp(material),
        methods.maml(material),
        methods.transfer(material),
        questions.comparison(material),
        questions.questions(material),
        results.other_splits(material),
        account.protocol(material, selection),
        account.limits(material),
        commands.section(material),
        checklist.section(material, selection),
        sources.people(material, references(), collaborators_asked=True),
        sources.hyperparameters(material),
    ]
    data = data_name(material.runs[0].config.data.name)
    return composed(f"FO-MAML, MAML++ and transfer learning on {data}", sections, material)


def references() -> list[str]:
    """What the course builds on: the papers of its methods of meta-learning first."""
    papers = (*find_card("fomaml").papers, *find_card("mamlpp").papers)
    return [*map(str, papers), *BESIDES]


def summary(material: Material) -> Section:
    """The results in one table, held against the bar."""
    blocks = results.about_data(material)
    if material.comparison is None:
        blocks.append(results.not_evaluated(material))
    else:
        rows = material.comparison.rows
        verdicts = [
            against_bar(
                row.name, row.query_accuracy, row.query_accuracy_ci95, BAR.accuracy, row.covers
            )
            for row in rows
        ]
        blocks += [results.results_table(rows), Bullets(verdicts)]
        blocks += results.differences(material)
    return Section("Results", [*blocks, *results.other_settings(material)])
