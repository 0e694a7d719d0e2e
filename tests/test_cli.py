"""The command line: what it does, and what it says and leaves untouched where it refuses."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from innerloop import cli
from innerloop.cli.progress import TrainingProgress
from innerloop.data import omniglot
from innerloop.data.cache import cache_directory
from innerloop.methods.catalogue import find_card, names, settings_of
from innerloop.methods.maml.learner import MAML
from innerloop.runs.directory import RunDirectory
from making import few_strokes, make_run

TINY = [
    "--data",
    "strokes",
    "--filters",
    "4",
    "--image-size",
    "16",
    "--meta-steps",
    "4",
    "--validation-episodes",
    "2",
    "--ways",
    "3",
    "--shots",
    "2",
    "--queries",
    "2",
    "--inner-steps",
    "2",
    "--meta-batch-size",
    "2",
    "--threads",
    "1",
]
PRETRAINING = [option.replace("--meta-batch-size", "--batch-size") for option in TINY]
"""Of transfer, whose outer step is a mini-batch of images."""


@pytest.fixture(scope="module", autouse=True)
def small_data():
    """100 strokes characters, 50 to train and 25 each to validate and test."""
    with few_strokes(), pytest.MonkeyPatch.context() as patch:
        patch.delenv("INNERLOOP_DATA", raising=False)
        yield


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty working directory, and an empty cache elsewhere."""
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(scope="module")
def finished(small_data, tmp_path_factory) -> Path:
    """A finished run; what a test writes into it stays there."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    assert cli.main(["train", "fomaml", *TINY, "--run-dir", str(path), "--json"]) == 0
    return path


@pytest.fixture(scope="module")
def pretrained(small_data, tmp_path_factory) -> Path:
    """A finished run of transfer."""
    path = tmp_path_factory.mktemp("runs") / "pretrained"
    assert cli.main(["train", "transfer", *PRETRAINING, "--run-dir", str(path), "--json"]) == 0
    return path


@pytest.fixture(scope="module")
def paused(small_data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "paused"
    assert (
        cli.main(["train", "fomaml", *TINY, "--run-dir", str(path), "--max-minutes", "0", "--json"])
        == 0
    )
    return path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(arguments: list[str], capsys, code: int, *, untouched: Path | None = None) -> str:
    """The one sentence that refuses; nothing else is said, and nothing written."""
    folders = [Path.cwd(), *([untouched] if untouched else [])]
    before = [files(folder) for folder in folders]

    assert cli.main(arguments) == code

    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"innerloop: [^\n]+([.?]|with: innerloop resume \S+)\n", said.err), said.err
    assert [files(folder) for folder in folders] == before
    return said.err.removeprefix("innerloop: ").strip()


def misuse(arguments: list[str], capsys) -> str:
    """The one sentence on options that cannot be parsed."""
    said = refusal(arguments, capsys, 2)
    assert not list(Path.cwd().iterdir())
    return said


# Help


def help_of(command: str, capsys) -> str:
    arguments = ["train", "mamlpp", "--help-all"] if command == "train" else [command, "--help"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0

    said = capsys.readouterr().out
    assert re.findall(r"^  ([\w-]+) {2,}\S", said, re.MULTILINE) == list(cli.COMMANDS)


def test_no_command_is_a_usage_error_with_the_same_list(capsys):
    assert cli.main([]) == 2

    said = capsys.readouterr()
    assert said.out == "" and "usage: innerloop COMMAND" in said.err


def test_the_version_is_said(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"innerloop \d+\.\d+\.\d+\n", capsys.readouterr().out)


def described_options(text: str) -> dict[str, str]:
    """Option or positional argument -> its help sentence, from a help page, in boxes (a terminal's)
    or plain."""
    found: dict[str, str] = {}
    name = ""
    for row in text.replace("│", " ").splitlines():
        if re.match(r"  (-(?!-{3})|\{|[A-Z]{2,} )", row):
            name, _, sentence = row.strip().partition("  ")
            name = re.split("[, ]", name)[0]
            found[name] = sentence.strip()
        elif name and row.startswith("    "):
            found[name] = f"{found[name]} {row.strip()}".strip()
    return found


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_every_option_has_a_sentence_and_its_default(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    options = described_options(help_of(command, capsys))
    options.pop("-h")

    assert {"--json", "--debug"} <= options.keys()
    without_data = ("report", "methods", "adapt", "predict", "export", "export-metrics")
    assert ("--data-dir" in options) == (command not in without_data), (
        "a report and an export read run directories alone, methods none, a classifier its own"
    )
    for name, sentence in options.items():
        assert re.match(r"(\w|\$).{10,}[.)]$", sentence), (name, sentence)
        assert (
            "default:" in sentence
            or "(required)" in sentence
            or name == "--preset"
            or name == "--config"
        ), name
        assert "None" not in sentence and "``" not in sentence, (name, sentence)


@pytest.mark.parametrize(("method", "rows"), [("transfer", 62), *((name, 72) for name in names())])
def test_the_help_of_a_method_fits_on_a_page_of_80_columns(method, rows, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main(["train", method, "--help"])
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) <= rows
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1].endswith("--help-all shows all of them.")


def test_the_help_of_a_method_is_in_groups_the_most_used_first(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "transfer", "--help"])
    page = capsys.readouterr().out

    titles = re.findall(r"^ (\w.*?) options +$", page, re.MULTILINE)
    groups = ["transfer's own", "episodes and data", "network", "outer loop", "machine"]
    assert titles == groups
    assert page.index("--preset") < page.index("--json") < page.index("--inner-steps")


def test_a_setting_that_is_seldom_used_is_understood_and_told_by_help_all_alone(capsys):
    pages = {}
    for word in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            cli.main(["train", "fomaml", word])
        pages[word] = capsys.readouterr().out

    assert "--image-size" not in pages["--help"] and "--image-size" in pages["--help-all"]
    assert "--help-all shows" not in pages["--help-all"]
    sentence = "image_size must be between 16 and 256: got 8."
    assert refusal(["train", "fomaml", "--image-size", "8"], capsys, 2) == sentence


@pytest.mark.parametrize("method", names())
def test_the_help_of_a_method_names_its_presets(method, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        cli.main(["train", method, "--help"])
    page = capsys.readouterr().out

    known = " or ".join(find_card(method).presets)
    words = f": {known}; options beside it win." if known else "; this method has none."
    assert f"Start from named settings{words}" in page


@pytest.mark.parametrize("method", names())
def test_train_offers_every_setting_of_a_method_and_no_others(method, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", method, "--help-all"])
    options = described_options(capsys.readouterr().out)

    own = {"--" + name.replace("_", "-") for name in settings_of(method).flat()} - {"--method"}
    all_methods = {name for other in names() for name in settings_of(other).flat()}
    others = {"--" + name.replace("_", "-") for name in all_methods} - own
    assert own <= options.keys()
    assert not others & options.keys()


def test_train_alone_lists_the_methods(capsys):
    assert cli.main(["train", "--help"]) == 0

    page = capsys.readouterr().out
    assert re.findall(r"^  (\w+) +\S", page, re.MULTILINE) == names()


PROBE = """
import sys
from innerloop import cli
try:
    cli.main({arguments})
except SystemExit:
    pass
print("torch" in sys.modules, "matplotlib" in sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], *([command, "--help"] for command in cli.COMMANDS)]
)
def test_help_imports_neither_torch_nor_matplotlib(arguments):
    """They take seconds, and help comes at once: how soon, `benchmarks/latency.py` measures."""
    command = [sys.executable, "-c", PROBE.format(arguments=arguments)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr

    assert said.split() == ["False", "False"]


# Typing errors


def test_an_option_before_the_command_is_refused(capsys):
    sentence = "The command comes before its options: got '--json' first. There are: adapt, "
    assert refusal(["--json", "doctor"], capsys, 2).startswith(sentence)


def test_a_mistyped_command_is_answered_with_the_nearest(capsys):
    assert refusal(["trian"], capsys, 2) == "There is no command 'trian'. Did you mean 'train'?"
    assert refusal(["zzz"], capsys, 2).startswith(
        "There is no command 'zzz'. There are: adapt, predict"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["train", "fomal"],
            "There is no method 'fomal'. Did you mean 'fomaml'? One of your own is module:CARD.",
        ),
        (
            ["train", "MAML++"],
            "There is no method 'MAML++'. Did you mean 'mamlpp'? One of your own is module:CARD.",
        ),
        (
            ["train", "fomaml", "--data", "stroke"],
            "There is no data set 'stroke'. Did you mean 'strokes'?",
        ),
        (
            ["train", "fomaml", "--data=strokes", "--split=alphabet"],
            "Data set 'strokes' has no split 'alphabet'. Choose --split alphabets. Did you mean "
            "'alphabets'?",
        ),
        (
            ["train", "fomaml", "--preset", "coarse"],
            "There is no preset 'coarse'. Did you mean 'course'?",
        ),
        (
            ["train", "fomaml", "--preset", "paper"],
            "fomaml has no preset 'paper', mamlpp has. There are: course, paper-5w1s, "
            "paper-5w5s, paper-20w1s, paper-20w5s.",
        ),
        (
            ["train", "mamlpp", "--preset", "authors"],
            "There is no preset 'authors'. Did you mean 'authors-code'?",
        ),
        (
            ["train", "fomaml", "--device", "cdua"],
            "There is no device 'cdua'. Did you mean 'cuda'?",
        ),
        (
            ["data", "info", "--data", "omniglt"],
            "There is no data set 'omniglt'. Did you mean 'omniglot'?",
        ),
        (
            ["data", "show", "--data=strokes", "--split=assignment"],
            "Data set 'strokes' has no split 'assignment'. Choose --split alphabets.",
        ),
        (
            ["reproduce", "--data", "storkes"],
            "There is no data set 'storkes'. Did you mean 'strokes'?",
        ),
    ],
)
def test_a_mistyped_value_is_answered_with_the_nearest(arguments, sentence, capsys):
    if arguments[0] == "reproduce":  # it says its plan first
        arguments = [*arguments, "--json"]
        assert cli.main(arguments) == 2
        assert capsys.readouterr().err.endswith(f"innerloop: {sentence}\n")
    else:
        assert refusal(arguments, capsys, 2) == sentence
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "fomaml", "--ways", "abc"], "--ways must be a whole number: got 'abc'."),
        (["train", "fomaml", "--shots", "5.5"], "--shots must be a whole number: got '5.5'."),
        (
            ["train", "fomaml", "--inner-lr", "0,4"],
            "--inner-lr must be a number: got '0,4'. Write it with a point.",
        ),
        (
            ["train", "fomaml", "--features", "flat"],
            "--features must be one of flatten, mean: got 'flat'. Did you mean 'flatten'?",
        ),
        (["train", "fomaml", "--ways"], "--ways needs a value, and there is none."),
        (["train", "fomaml", "--config"], "--config needs a value, and there is none."),
        (["train", "fomaml", "--metasteps", "3"], "There is no option --metasteps. Did you mean "),
        (["train", "fomaml", "--batch-size", "3"], "Did you mean --meta-batch-size?"),
        (["train", "fomaml", "--image-sise=20"], "Did you mean --image-size?"),
        (["train", "fomaml", "--zzzzz", "20"], "There is no option --zzzzz. See innerloop train "),
        (["train", "fomaml", "--rotations", "yes"], "takes no 'yes'"),
        (
            ["train", "maml", "--preset", "course", "--preset=paper"],
            "--preset is given 2 times: give it once.",
        ),
        (["train", "--config", "a.json", "--config", "b.json"], "--config is given 2 times"),
        (
            ["evaluate", "run", "--shots", "1", "--shots=5"],
            "--shots is given 2 times: give it once, with all its values.",
        ),
        (["report", "run", "--references", "A", "--references", "B"], "--references is given 2"),
        (["train", "fomaml", "extra"], "innerloop train fomaml takes no 'extra': see innerloop"),
        (["train", "--method", "maml", "--method", "fomaml"], "--method is given 2 times"),
        (["explain", "run"], "runs needs 2 values, and there are fewer."),
        (["doctor", "extra"], "innerloop doctor takes no 'extra': see innerloop doctor --help."),
        (["evaluate"], "innerloop evaluate needs PATH: The run directory; or pretrained:NAME, a "),
        (["explain"], "innerloop explain needs PATH PATH: The two run directories; differences "),
        (["data"], "innerloop data needs {show,verify,download,info}: show: a PNG of one episode"),
        (
            ["evaluate", "run", "--part", "tset"],
            "--part must be one of val, test: got 'tset'. Did you mean 'test'?",
        ),
        (
            ["evaluate", "run", "--episodes", "many"],
            "--episodes must be a whole number: got 'many'.",
        ),
        (
            ["data", "shwo"],
            "action must be one of show, verify, download, info: got 'shwo'. Did you mean 'show'?",
        ),
        (
            ["reproduce", "--budget", "quik"],
            "--budget must be one of quick, full: got 'quik'. Did you mean 'quick'?",
        ),
    ],
)
def test_what_cannot_be_parsed_is_one_sentence_with_the_nearest_option(arguments, sentence, capsys):
    assert sentence in misuse(arguments, capsys)


# Wrong settings of a training


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--ways", "51"],
            "Cannot sample 51-way episodes: there are 50 classes to sample from. Choose ways <= 50",
        ),
        (["--ways", "26"], "Cannot sample 26-way episodes: there are 25 classes"),
        (["--ways", "1"], "ways must be between 2 and 1,000: got 1."),
        (["--shots", "0"], "shots must be between 1 and 1,000: got 0."),
        (
            ["--shots", "19"],
            "Cannot sample 19 shots and 2 queries per class: data set 'strokes' has 20 drawings",
        ),
        (["--queries", "-3"], "queries must be between 1 and 1,000: got -3."),
        (["--meta-steps", "0"], "meta_steps must be between 1 and 10,000,000: got 0."),
        (["--meta-batch-size", "-1"], "meta_batch_size must be between 1 and 10,000: got -1."),
        (
            ["--validation-episodes", "1"],
            "validation_episodes must be between 2 and 100,000: got 1.",
        ),
        (["--inner-steps", "-1"], "inner_steps must be between 0 and 1,000: got -1."),
        (["--inner-lr", "nan"], "inner_lr must be between 0.0 and 1,000.0: got nan."),
        (["--outer-lr", "inf"], "outer_lr must be between 0.0 and 1,000.0: got inf."),
        (["--outer-lr=-0.1"], "outer_lr must be between 0.0 and 1,000.0: got -0.1."),
        (["--averaging", "1"], "averaging must be between 0.0 and 0.99999: got 1.0."),
        (["--query-batches", "4"], "query_batches=4 must divide queries=2."),
        (["--seed", "-1"], "seed must be between 0 and 2,147,483,647: got -1."),
        (["--image-size", "8"], "image_size must be between 16 and 256: got 8."),
        (
            ["--split", "assignment"],
            "Data set 'strokes' has no split 'assignment'. Choose --split alphabets.",
        ),
        (
            ["--device", "nonsense"],
            "There is no device 'nonsense'. There are: auto, cpu, cuda, mps.",
        ),
        (["--device", "meta"], "There is no device 'meta'."),
        (["--device", "cpu:3"], "There is no device 'cpu:3'. Did you mean 'cpu'?"),
        (
            ["--device", "cuda:99"],
            "Device 'cuda:99' cannot be used on this machine: choose --device cpu or auto.",
        ),
        (
            ["--max-minutes", "nan"],
            "--max-minutes must be a number of minutes, at least 0: got nan.",
        ),
        (["--max-minutes=-1"], "--max-minutes must be a number of minutes, at least 0: got -1.0."),
        (["--run-dir", "."], "--run-dir must end in a name of its own: got '.'."),
        (["--run-dir", ".."], "--run-dir must end in a name of its own: got '..'."),
        (
            ["--config", "none.json"],
            "Cannot read the configuration none.json: No such file or directory.",
        ),
        (["--config", ""], "Cannot read the configuration .: Is a directory."),
        (
            ["--preset", "course", "--config", "a.json"],
            "--config and --preset are each a complete set of settings",
        ),
        (["--method", "maml"], "Give one method: here are 'fomaml' and --method 'maml'."),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence_and_nothing_is_written(options, sentence, capsys):
    assert refusal(["train", "fomaml", *TINY, *options], capsys, 2).startswith(sentence)


WITHOUT_EFFECT = [
    ("metaoptnet --solver ridge --cost 5", "--cost", "solver is svm, and that is ridge"),
    ("metaoptnet --ridge-penalty 3", "--ridge-penalty", "solver is ridge, and that is svm"),
    ("matchingnet --reading-steps 9", "--reading-steps", "full_context is on, and that is off"),
    ("protonet --initial-scale 77", "--initial-scale", "distance is cosine, and that is euclidean"),
    (
        "mamlpp --no-multi-step-loss --multi-step-fraction 0.2",
        "--multi-step-fraction",
        "multi_step_loss is on, and that is off",
    ),
    (
        "mamlpp --no-derivative-order-annealing --first-order-fraction 0.2",
        "--first-order-fraction",
        "derivative_order_annealing is on, and that is off",
    ),
    (
        "mamlpp --preset paper-5w1s --no-cosine-annealing --outer-lr-floor 0.2",
        "--outer-lr-floor",
        "cosine_annealing is on, and that is off",
    ),
    *(
        (f"{method} --head-init glorot", "--head-init", "here every episode's is new")
        for method in ("maml", "fomaml", "anil", "mamlpp", "reptile", "imaml", "protomaml")
    ),
]


@pytest.mark.parametrize(("arguments", "option", "reason"), WITHOUT_EFFECT)
def test_an_option_that_would_decide_nothing_is_refused(arguments, option, reason, here, capsys):
    sentence = refusal(["train", *arguments.split()], capsys, 2)

    assert sentence.startswith(f"{option} would decide nothing: it is ")
    assert sentence.endswith(f"{reason}.")


def test_training_without_a_method_is_refused(capsys):
    sentence = (
        "Say which method, before the options: innerloop train METHOD. There are: "
        f"{', '.join(names())}."
    )
    assert refusal(["train"], capsys, 2) == sentence
    assert refusal(["train", "--data", "strokes", "fomaml"], capsys, 2) == sentence
    assert refusal(["train", "--method"], capsys, 2) == sentence


@pytest.mark.parametrize("method", [":CARD", ".relative:CARD", "no_such_module:CARD", "json:CARD"])
def test_a_method_that_cannot_be_imported_is_refused(method, capsys):
    assert refusal(["train", method, *TINY], capsys, 2).startswith(
        f"The card of method {method!r} cannot be imported from {method}: "
    )


def test_a_method_that_is_no_card_is_refused(capsys):
    sentence = "Method 'json:JSONDecoder': json:JSONDecoder is not an innerloop Card."
    assert refusal(["train", "json:JSONDecoder", *TINY], capsys, 2) == sentence


SAVED = settings_of("fomaml").to_json()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ways: 5\n", "old.json is not JSON: "),
        (b"\x89PNG\x00\xff", "old.json is not JSON: it is not even UTF-8 text."),
        (b"[]", "old.json must hold one JSON object, not a list."),
        (SAVED.replace('version": 2', 'version": 3').encode(), "has format version 3 and this "),
        (SAVED.replace('"ways"', '"wasy"').encode(), "no setting 'wasy'. Did you mean 'ways'?"),
        (SAVED.replace('    "ways": 5,\n', "").encode(), "setting 'ways' is missing"),
        (
            SAVED.replace('"ways": 5', '"ways": "5"').encode(),
            "ways must be a whole number: got '5'.",
        ),
        (SAVED.replace('"ways": 5', '"ways": 0').encode(), "old.json: ways must be between 2 and"),
        (SAVED[:300].encode(), "old.json is not JSON: "),
        (SAVED.replace('"fomaml"', '"gone"').encode(), "old.json: There is no method 'gone'. "),
    ],
)
def test_a_wrong_configuration_file_is_refused_in_a_sentence(content, words, capsys):
    Path("old.json").write_bytes(content)

    assert words in refusal(["train", "--config", "old.json"], capsys, 2)


# A training


def test_a_training_leaves_a_whole_run_and_says_its_result_with_all_it_depends_on(finished, capsys):
    assert cli.main(["train", "fomaml", *TINY]) == 0

    said = capsys.readouterr()
    (run,) = [path for path in Path("runs").iterdir()]
    assert run.name == "fomaml-strokes-3w2s-s0"
    assert re.search(
        r"fomaml: \d+\.\d\d ± \d+\.\d\d % query accuracy after 2 inner steps at 0\.4 "
        r"\(.* % before\), strokes, split alphabets, part val, 3-way 2-shot, 2 queries, "
        r"batch norm transductive, query batches 1, rotations off, "
        r"2 episodes of seed 0, training seed 0; 95 % interval over episodes",
        said.out,
    )
    assert "step 4/4  loss " in said.err and "nan" not in said.err
    names = {path.name for path in run.iterdir()}
    assert {
        "config.json",
        "env.json",
        "metrics.jsonl",
        "status.json",
        "model.safetensors",
        "hyperparameters.md",
    } <= names
    assert (run / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_a_run_directory_is_never_overwritten(finished, capsys):
    before = files(finished)

    assert cli.main(["train", "fomaml", *TINY, "--run-dir", str(finished), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["run"] == f"{finished}-2"
    assert files(finished) == before


def test_a_runs_own_configuration_gives_the_same_run_again(finished, capsys):
    assert (
        cli.main(
            ["train", "--config", str(finished / "config.json"), "--run-dir", "again", "--json"]
        )
        == 0
    )

    for name in ("config.json", "model.safetensors"):
        assert Path("again", name).read_bytes() == (finished / name).read_bytes()
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["state"] == "finished"


@pytest.mark.parametrize("start", [["--config"], ["--preset", "course"]])
def test_options_beside_a_configuration_or_preset_win(start, finished, capsys):
    start = [*start, str(finished / "config.json")] if start == ["--config"] else start
    tiny = [
        *TINY[: TINY.index("--queries")],
        "--queries",
        "3",
        "--seed",
        "7",
        "--inner-steps",
        "1",
        "--threads",
        "1",
    ]

    assert cli.main(["train", "maml", *start, *tiny, "--meta-batch-size", "2", "--json"]) == 0

    config = RunDirectory(Path(json.loads(capsys.readouterr().out)["run"])).config
    assert (
        config.method,
        config.training.seed,
        config.episode.queries,
        config.own.meta_batch_size,
    ) == ("maml", 7, 3, 2)
    assert config.network.conv_bias == (start[0] == "--preset")
    assert config.own.query_batches == (3 if start[0] == "--preset" else 1)


def test_the_method_may_be_an_option(capsys):
    assert cli.main(["train", "--method", "maml", *TINY, "--max-minutes", "0", "--json"]) == 0
    assert RunDirectory(Path(json.loads(capsys.readouterr().out)["run"])).config.method == "maml"


def test_a_time_limit_pauses_and_says_how_to_go_on(finished, capsys):
    assert cli.main(["train", "fomaml", *TINY, "--run-dir", "run", "--max-minutes", "0"]) == 0
    assert (
        "Paused after 0 minutes and saved. Go on with: innerloop resume run\n"
        in capsys.readouterr().out
    )

    assert cli.main(["resume", "run"]) == 0
    assert cli.main(["resume", "run"]) == 0

    assert capsys.readouterr().out.endswith("run is finished; nothing is left to do.\n")
    assert (
        Path("run/model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_sets_the_exit_code(number, code, finished, capsys, monkeypatch):
    on_step = TrainingProgress.on_step

    def send(self, step, record):
        on_step(self, step, record)
        if step == 2 and record["kind"] == "train":
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_step", send)
        assert cli.main(["train", "fomaml", *TINY, "--run-dir", "run"]) == code

    assert (
        f"Interrupted by {number.name} and saved. Go on with: innerloop resume run"
        in capsys.readouterr().out
    )
    assert RunDirectory(Path("run")).status.step == 2
    assert cli.main(["resume", "run", "--json"]) == 0
    assert (
        Path("run/model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    )


def test_ctrl_c_elsewhere_is_a_sentence_too(finished, capsys, monkeypatch):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("innerloop.cli.actions.evaluate_run", interrupt)

    assert refusal(["evaluate", str(finished)], capsys, 130, untouched=finished) == "Interrupted."


def test_a_run_that_stops_being_finite_exits_with_3(capsys):
    options = [
        "--outer-lr",
        "1000",
        "--inner-lr",
        "1000",
        "--feature-scale",
        "1e6",
        "--no-feature-norm",
        "--no-fresh-head",
        "--inner-steps",
        "9",
        "--meta-steps",
        "30",
    ]

    assert cli.main(["train", "fomaml", *TINY, *options, "--run-dir", "run"]) == 3

    assert re.search(
        r"innerloop: Outer step \d+: the loss is .* "
        r"Lower --outer-lr, or --inner-lr where the method has it, and train again\.\n$",
        capsys.readouterr().err,
    )
    assert RunDirectory(Path("run")).status.state == "failed"


def test_a_run_that_cannot_be_written_exits_with_4(capsys):
    Path("file").touch()

    sentence = refusal(["train", "fomaml", *TINY, "--run-dir", "file/run"], capsys, 4)
    assert sentence.startswith("Cannot write the run directory file/run: ")


def test_data_that_is_not_there_exits_with_5(capsys):
    arguments = ["train", "fomaml", "--data", "omniglot", "--data-dir", "nowhere"]
    assert "nowhere" in refusal(arguments, capsys, 5)


def test_debug_shows_the_traceback_with_the_same_exit_code(capsys):
    assert cli.main(["train", "fomaml", *TINY, "--ways", "1", "--debug"]) == 2

    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last)")
    assert said.endswith("\ninnerloop: ways must be between 2 and 1,000: got 1.\n")


# Resume and evaluate


def test_what_was_written_beside_runs_is_passed_over_by_a_pattern(finished, tmp_path, capsys):
    runs = tmp_path / "runs"
    for name in ("a", "b"):
        shutil.copytree(finished, runs / name)
        text = (runs / name / "config.json").read_text("utf-8")
        (runs / name / "config.json").write_text(text.replace('"seed": 0', f'"seed": {ord(name)}'))
    (runs / "comparison").mkdir()
    (runs / "comparison" / "comparison.json").write_text("{}")

    (runs / "a" / "report.html").touch()

    assert cli.main(["report", *map(str, sorted(runs.iterdir())), "--out", "page"]) == 0
    said = capsys.readouterr().out
    assert f"{runs / 'comparison'} is what innerloop wrote of runs, and is passed over." in said
    assert said.count("passed over") == 1


def test_an_adaptation_that_ends_in_no_numbers_is_said_and_nothing_of_it_is_right(
    finished, monkeypatch, capsys
):
    predict = MAML.predict
    monkeypatch.setattr(MAML, "predict", lambda *of, **how: predict(*of, **how) * math.nan)

    assert cli.main(["evaluate", str(finished), "--episodes", "2", "--shots", "3"]) == 0
    said = capsys.readouterr().out
    assert "3-shot support: adaptation ended in no numbers in some of the episodes" in said
    assert "   0.00 ± 0.00 %" in said


@pytest.mark.parametrize("command", ["resume", "evaluate"])
def test_what_is_no_run_is_refused(command, capsys):
    Path("file").touch()

    for name in ("nowhere", "file", "."):
        sentence = f"{name} is not a run directory: it holds no config.json."
        assert refusal([command, name], capsys, 2) == sentence


def test_an_unfinished_run_is_not_evaluated(paused, capsys):
    sentence = refusal(["evaluate", str(paused)], capsys, 2, untouched=paused)
    assert (
        sentence
        == f"{paused} has no final weights: it is not finished. Go on with: innerloop resume "
        f"{paused}"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--episodes", "0"], "An interval needs at least 2 episodes: got 0."),
        (["--episodes", "1"], "An interval needs at least 2 episodes: got 1."),
        (["--episodes=-5"], "An interval needs at least 2 episodes: got -5."),
        (["--ways", "0"], "--ways must be at least 2, or there is nothing to tell apart: got 0."),
        (["--ways", "1"], "--ways must be at least 2, or there is nothing to tell apart: got 1."),
        (["--ways", "26"], "Cannot sample 26-way episodes: there are 25 classes"),
        (["--shots", "0"], "shots must be at least 1: got 0."),
        (["--shots", "1", "0"], "shots must be at least 1: got 0."),
        (
            ["--shots", "19"],
            "Cannot sample 19 shots and 2 queries per class: data set 'strokes' has 20 drawings",
        ),
        (["--queries", "0"], "queries must be at least 1: got 0."),
        (["--inner-steps=-1"], "--inner-steps must be between 0 and 1000: got -1."),
        (
            ["--inner-steps", "1000000000"],
            "--inner-steps must be between 0 and 1000: got 1000000000.",
        ),
        (
            ["--batch-norm", "running"],
            "fomaml predicts under batch norm transductive or support, not running.",
        ),
        (["--head", "cosine"], "A cosine head is found on frozen features: it needs --adapt head."),
        (
            ["--adapt", "head", "--head", "logistic", "--inner-lr", "0.1"],
            "A logistic head takes no inner steps",
        ),
        (["--inner-lr=-1"], "inner_lr must be between 0.0 and 1,000.0: got -1"),
        (
            ["--adapt", "head", "--head", "logistic", "--penalty=0"],
            "penalty must be between 1e-12 and 1,000,000.0: got 0",
        ),
        (
            ["--adapt", "head", "--head", "cosine", "--inner-steps", "3"],
            "A cosine head takes no inner steps: leave --inner-steps out.",
        ),
        (["--penalty", "5"], "--penalty is of a logistic head: add --adapt head --head logistic."),
    ],
)
def test_a_wrong_evaluation_is_refused_and_nothing_is_written(options, sentence, finished, capsys):
    assert refusal(["evaluate", str(finished), *options], capsys, 2, untouched=finished).startswith(
        sentence
    )


@pytest.mark.parametrize("steps", ["0", "20"])
@pytest.mark.parametrize("method", ["protonet", "tim"])
def test_inner_steps_of_a_method_without_are_refused_before_anything_is_opened(
    method, steps, tmp_path, capsys
):
    run = make_run(tmp_path, method, curve=(0.5, 0.9)).path

    assert refusal(["evaluate", str(run), "--inner-steps", steps], capsys, 2) == (
        f"{method} takes no inner steps: leave --inner-steps out, or say what takes them, by "
        "--adapt."
    )


def test_what_cannot_be_explained_is_refused_before_anything_is_evaluated(tmp_path, capsys):
    runs = [make_run(tmp_path, method, curve=(0.5, 0.9)).path for method in ("maml", "boil")]

    assert refusal(["explain", *map(str, runs)], capsys, 2).startswith(
        "boil-s0 cannot be explained: boil is adapted in its own way alone."
    )


def test_a_part_that_the_split_lacks_is_refused(finished, capsys, monkeypatch):
    from innerloop.data.splits import Split, find_split

    def without_test(name, dataset):
        split = find_split(name, dataset)
        return Split(
            split.name, {part: names for part, names in split.parts.items() if part != "test"}
        )

    monkeypatch.setattr("innerloop.experiments.experiment.find_split", without_test)
    # Another list of classes is refused before that.
    monkeypatch.setattr("innerloop.experiments.experiment.refuse_other_classes", lambda *_: None)

    sentence = "Split 'alphabets' has no part 'test'; it has: train, val."
    assert (
        refusal(["evaluate", str(finished), "--part", "test"], capsys, 2, untouched=finished)
        == sentence
    )


def test_an_evaluation_prints_a_table_and_writes_every_episode(finished, capsys):
    assert (
        cli.main(
            ["evaluate", str(finished), "--episodes", "3", "--shots", "1", "2", "--part", "test"]
        )
        == 0
    )

    said = capsys.readouterr().out
    assert said.count("part test, 3-way 1-shot, 10 queries") == 2
    assert re.search(r"^    1  support  +\d+\.\d\d %", said, re.MULTILINE)
    saved = json.loads(
        (
            finished / "evaluation-alphabets-test-3w1s10q-2steps-transductive-3episodes.json"
        ).read_text()
    )
    assert len(saved["query_accuracy_per_episode"]) == 3


def test_json_is_one_object_alone_on_standard_output(finished, capsys):
    assert (
        cli.main(
            ["evaluate", str(finished), "--episodes", "2", "--batch-norm", "support", "--json"]
        )
        == 0
    )

    said = capsys.readouterr()
    (line,) = said.out.splitlines()
    (row,) = json.loads(line)["rows"]
    assert row["batch_norm"] == "support" and "query accuracy after 2 inner steps" in said.err


@pytest.mark.parametrize(
    ("options", "rate"),
    [([], "rates learnt from 0.4 on"), (["--learned-rates", "off"], "0.4")],
)
def test_an_accuracy_by_learnt_rates_says_so_wherever_it_is_quoted(options, rate, capsys):
    assert cli.main(["train", "mamlpp", *TINY, *options]) == 0
    (run,) = Path("runs").iterdir()
    assert cli.main(["evaluate", str(run), "--episodes", "2", "--batch-norm", "support"]) == 0

    said = capsys.readouterr().out
    assert said.count(f"query accuracy after 2 inner steps at {rate} (") == 2, (
        "of the training, and of the evaluation"
    )
    assert (
        f"Query accuracy after 2 inner steps at {rate}, 3-way"
        in (run / "MODEL_CARD.md").read_text()
    )


# Transfer


def test_transfer_says_what_it_trains_on_and_is_judged_by_running_statistics(capsys):
    assert cli.main(["train", "transfer", *PRETRAINING]) == 0

    said = capsys.readouterr().out
    # 50 classes, each in four rotations; 32 images of an epoch of 1,000
    assert (
        "transfer on strokes, split alphabets, 4 outer steps of 2 images of 200 classes (0.0 "
        "epochs)" in said
    )
    assert re.search(r"transfer: .* after 2 inner steps at 0\.4 .*batch norm running", said)
    page = next(Path("runs").glob("*/hyperparameters.md")).read_text()
    assert "the body and its statistics are frozen in adaptation" in page


def test_transfers_weights_hold_body_statistics_and_classification_layer(pretrained):
    from innerloop.runs.weights import load_weights

    tensors = load_weights(pretrained / "model.safetensors")

    assert tensors["model.head.weight"].shape == (200, 4)
    assert tensors["model.norms.0.running_mean"].shape == (4,)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--adapt", "head", "--head", "logistic"], ["1steps-{mode}-head-logistic-l2_0.1"]),
        (["--adapt", "head", "--head", "cosine"], ["1steps-{mode}-head-cosine"]),
        (["--adapt", "all", "--inner-lr", "0.1"], ["2steps-{mode}-all-at-0.1"]),
        (["--adapt", "body"], ["2steps-{mode}-body-at-0.4"]),
        (["--head-init", "glorot", "--inner-steps", "7"], ["7steps-{mode}-own-glorot-at-0.4"]),
        (["--untrained"], ["2steps-{mode}-own-untrained-at-0.4"]),
    ],
)
@pytest.mark.parametrize("method", ["transfer", "fomaml"])
def test_every_adaptation_is_a_row_of_its_own(method, options, names, finished, pretrained, capsys):
    run = pretrained if method == "transfer" else finished
    before = (run / "model.safetensors").read_bytes()

    assert cli.main(["evaluate", str(run), "--episodes", "2", *options]) == 0

    assert f"{method}, adapting " in capsys.readouterr().out
    for mode in ["running"] if method == "transfer" else ["transductive", "support"]:
        for name in names:
            assert (
                run / f"evaluation-alphabets-val-3w2s2q-{name.format(mode=mode)}-2episodes.json"
            ).is_file()
    assert (run / "model.safetensors").read_bytes() == before


def test_transfer_has_no_other_batch_norm(pretrained, capsys):
    sentence = refusal(
        ["evaluate", str(pretrained), "--batch-norm", "support"], capsys, 2, untouched=pretrained
    )
    assert sentence == "transfer predicts under batch norm running, not support."


def test_weights_of_another_network_are_refused(pretrained, finished, tmp_path, capsys):
    import shutil

    strange = tmp_path / "strange"
    shutil.copytree(pretrained, strange)
    shutil.copy(finished / "model.safetensors", strange / "model.safetensors")

    sentence = refusal(["evaluate", str(strange)], capsys, 5, untouched=strange)
    assert "holds the weights of fomaml, and the run is one of transfer" in sentence


# Compare and explain


def test_compare_evaluates_what_is_missing_and_says_who_is_better(
    finished, pretrained, tmp_path, capsys
):
    out = tmp_path / "comparison"
    arguments = ["compare", str(pretrained), str(finished), "--episodes", "3", "--out", str(out)]

    assert cli.main(arguments) == 0

    said = capsys.readouterr().out
    assert f"{pretrained} is evaluated on 3 episodes." in said
    assert re.search(
        r"^- Of these networks alone: transfer .*fomaml.*; over the same 3 episodes",
        said,
        re.MULTILINE,
    )
    assert json.loads((out / "comparison.json").read_text())["pairs"][0]["b"] == "fomaml"
    assert cli.main([*arguments, "--json"]) == 0
    said = capsys.readouterr()
    assert "is evaluated" not in said.err
    assert len(json.loads(said.out)["rows"]) == 2


def test_runs_over_other_episodes_are_not_compared(finished, tmp_path, capsys):
    other = tmp_path / "other"
    assert cli.main(["train", "fomaml", *TINY, "--shots", "3", "--run-dir", str(other)]) == 0
    capsys.readouterr()

    for command in ("compare", "explain"):
        sentence = refusal([command, str(finished), str(other)], capsys, 2, untouched=other)
        assert sentence.startswith(
            f"These runs cannot be compared: shots differs ({finished} 2, {other} 3)."
        )
    allowed = [
        "compare",
        str(finished),
        str(other),
        "--episodes",
        "2",
        "--allow-different",
        "--out",
        str(tmp_path / "c"),
    ]
    assert cli.main(allowed) == 0
    assert "These evaluations differ in: shots (2, 3)." in capsys.readouterr().out


@pytest.mark.parametrize("command", ["compare", "explain"])
def test_what_cannot_be_compared_is_refused(command, finished, paused, capsys):
    assert (
        refusal([command, str(finished), str(finished)], capsys, 2) == f"{finished} is given twice."
    )
    sentence = refusal([command, str(finished), str(paused)], capsys, 2, untouched=paused)
    assert (
        sentence
        == f"{paused} has no final weights: it is not finished. Go on with: innerloop resume "
        f"{paused}"
    )
    assert refusal([command, str(finished), "nowhere"], capsys, 2).startswith(
        "nowhere is not a run directory"
    )
    sentence = refusal([command, str(finished), str(paused), "--episodes", "1"], capsys, 2)
    assert sentence == "An interval needs at least 2 episodes: got 1."


def test_a_comparison_of_one_run_is_refused(finished, capsys):
    assert refusal(["compare", str(finished)], capsys, 2) == "A comparison needs at least two runs."


@pytest.mark.slow
def test_explain_writes_page_figures_and_numbers(tmp_path, capsys):
    runs = [tmp_path / method for method in ("transfer", "fomaml")]
    for run, options in zip(runs, (PRETRAINING, TINY), strict=True):
        settings = [option if option != "16" else "28" for option in options]
        assert cli.main(["train", run.name, *settings, "--run-dir", str(run)]) == 0
    out = tmp_path / "explanation"

    assert (
        cli.main(
            [
                "explain",
                *map(str, runs),
                "--episodes",
                "3",
                "--few-episodes",
                "2",
                "--out",
                str(out),
            ]
        )
        == 0
    )

    said = capsys.readouterr().out
    assert "# Why transfer and fomaml differ" in said and "A ladder of shift." in said
    assert json.loads((out / "explanation.json").read_text())["verdict"][0] in said
    assert len(list((out / "figures").glob("*.png"))) == 6


# Data


def test_data_show_draws_an_episode_and_names_its_characters(capsys):
    assert cli.main(["data", "show", "--data", "strokes", "--part", "val", "--rotations"]) == 0

    assert "episode.png: episode 0 of strokes, split alphabets, part val" in capsys.readouterr().out
    assert Path("episode.png").read_bytes().startswith(b"\x89PNG")


def test_data_info_says_what_is_there(capsys):
    assert cli.main(["data", "info", "--data", "strokes", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said["parts"] == {"train": 50, "val": 25, "test": 25} and said["drawings"] == 20


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["show", "--episode", "-1"], 2, "--episode must be between 0 and 2,147,483,647: got -1."),
        (
            ["show", "--episode", "9" * 30],
            2,
            "--episode must be between 0 and 2,147,483,647: got 999",
        ),
        (["show", "--seed", "-1"], 2, "--seed must be between 0 and 2,147,483,647: got -1."),
        (
            ["show", "--out", "nowhere/sheet.png"],
            4,
            "Cannot write nowhere/sheet.png: No such file or directory.",
        ),
        (["show", "--out", "."], 4, "Cannot write .: Is a directory."),
        (
            ["verify", "--data", "omniglot", "--data-dir", "nowhere"],
            5,
            "There is no archive nowhere",
        ),
        (
            ["verify", "--data", "strokes"],
            2,
            "Only Omniglot's archives can be verified: got --data strokes.",
        ),
        (["info", "--data", "omniglot", "--data-dir", "nowhere"], 5, ""),
    ],
)
def test_a_wrong_data_command_is_refused(options, code, sentence, capsys):
    options = (
        [*options[:1], "--data", "strokes", *options[1:]] if "--data" not in options else options
    )
    assert refusal(["data", *options], capsys, code).startswith(sentence)


def test_data_download_goes_where_it_is_told(capsys, monkeypatch):
    asked = []
    monkeypatch.setattr(omniglot, "download", asked.append)

    assert cli.main(["data", "download", "--data-dir", "elsewhere"]) == 0
    assert cli.main(["data", "download"]) == 0

    assert asked == [Path("elsewhere"), cache_directory()]
    assert "elsewhere: Omniglot's two archives are here and verified." in capsys.readouterr().out


# Doctor


def test_doctor_says_versions_device_threads_data_and_disk(capsys):
    assert cli.main(["doctor"]) == 0

    said = dict(re.findall(r"^(\w+(?: \w+)?) {2,}(.+)$", capsys.readouterr().out, re.MULTILINE))
    assert said.keys() == {
        "innerloop",
        "python",
        "torch",
        "device",
        "engine",
        "threads",
        "processor",
        "omniglot",
        "strokes",
        "free disk",
    }
    assert said["torch"].startswith(torch.__version__)
    assert re.match(r"\d+ of \d+ processors", said["threads"])
    assert said["omniglot"].startswith("not found: Omniglot is not on this machine")
    assert re.match(r"\d+\.\d GB here", said["free disk"])
    assert not list(Path.cwd().iterdir())


def test_doctor_notices_a_cuda_build_without_a_gpu(capsys, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert cli.main(["doctor", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert "a CUDA 13.0 build on a machine where no GPU can be used" in said["torch"]
    assert said["device"] == "cpu"


def test_doctor_warns_of_a_full_disk_and_of_a_folder_without_data(capsys, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 5e8}))

    assert cli.main(["doctor", "--data-dir", "nowhere", "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert said["free disk"] == "0.5 GB here; a run needs up to 0.1 GB"
    assert said["omniglot"].startswith("not found: ") and "nowhere" in said["omniglot"]


# One whole use, as a stranger types it


@pytest.mark.slow
def test_the_installed_command_trains_and_evaluates_from_end_to_end(here):
    def innerloop(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "innerloop.cli", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    trained = innerloop("train", "fomaml", *TINY, "--json")
    run = json.loads(trained.stdout)["run"]
    evaluated = innerloop("evaluate", run, "--episodes", "2")
    refused = innerloop("evaluate", "nowhere")

    assert (trained.returncode, evaluated.returncode, refused.returncode) == (0, 0, 2)
    assert "query accuracy after 2 inner steps" in evaluated.stdout
    assert refused.stderr == "innerloop: nowhere is not a run directory: it holds no config.json.\n"
