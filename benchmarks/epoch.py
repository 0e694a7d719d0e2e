"""Time of an epoch of transfer's pretraining: innerloop beside a plain PyTorch loop.

Both run in one process, in turn.

The plain loop takes the same mini-batches of float images from memory, in NCHW, with PyTorch's own
batch norm. Ours also makes the mini-batches: rotations, labels, float conversion. Writes JSON.

    python benchmarks/epoch.py [--rounds 15] [--threads 2] [--out benchmarks/results/epoch.json]
"""

import argparse
import json
import platform
import statistics
from pathlib import Path

import torch
from throughput import PlainConv4, seconds
from torch import nn
from torch.nn import functional as F

from innerloop import Conv4, ImageSampler, Transfer, load_dataset
from innerloop.data.splits import find_split

BATCH, BATCHES = 64, 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/epoch.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = load_dataset("omniglot", size=28)
    classes = dataset.class_indices(find_split("assignment", dataset).part("train"))
    sampler = ImageSampler(
        dataset, classes, seed=0, stream_name="benchmark", rotations=True, rotations_as_classes=True
    )
    learner = Transfer(Conv4(sampler.labels))
    plain = PlainConv4("stride")
    plain.head = nn.Linear(64, sampler.labels)
    ours_adam, plain_adam = (
        torch.optim.Adam(module.parameters(), lr=0.001) for module in (learner, plain)
    )
    ready = [sampler.batch(number * BATCH, BATCH) for number in range(BATCHES)]

    def ours() -> None:
        for number in range(BATCHES):
            loss, _ = learner.meta_loss(sampler.batch(number * BATCH, BATCH))
            ours_adam.zero_grad()
            loss.backward()
            ours_adam.step()

    def theirs() -> None:
        for batch in ready:
            loss = F.cross_entropy(plain(batch.images), batch.labels)
            plain_adam.zero_grad()
            loss.backward()
            plain_adam.step()

    ours()
    theirs()
    times = [(seconds(ours), seconds(theirs)) for _ in range(options.rounds)]
    share = len(sampler) / (BATCH * BATCHES)
    result = {
        "what": (
            f"seconds per epoch of {len(sampler)} images, stride 2, mini-batches of {BATCH}; "
            f"{BATCHES} were timed"
        ),
        "command": (
            f"python benchmarks/epoch.py --rounds {options.rounds} --threads {options.threads}"
        ),
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "ours_s": round(share * statistics.median(mine for mine, _ in times), 2),
        "plain_s": round(share * statistics.median(plain for _, plain in times), 2),
        "ratio": round(statistics.median(mine / plain for mine, plain in times), 3),
        "rounds": options.rounds,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
