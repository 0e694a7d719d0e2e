"""One network used by several threads at once gives every thread the serial answer, bit for bit."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from innerloop.methods.base import Learner
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.methods.transfer.learner import Transfer
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import random_episodes

EPISODES = random_episodes(2, size=16)
THREADS, ROUNDS = 8, 12


def network() -> Conv4:
    torch.manual_seed(3)
    return Conv4(3, image_size=16, filters=6, head_init="glorot").double()


LEARNERS: dict[str, Callable[[], Learner]] = {
    "maml": lambda: MAML(network()),
    "maml++": lambda: MAMLpp(network(), inner_steps=2).double(),
    "transfer": lambda: Transfer(network()),
    "frozen": lambda: FrozenFeatures(network(), batch_norm_modes=("transductive", "support")),
}


def jobs(learner: Learner) -> list[Callable[[], Tensor]]:
    """A plain call of the model, adaptations, and predictions in every batch-norm mode."""
    model, query = learner.model, EPISODES.query.images
    assert isinstance(model, nn.Module)
    adapted = learner.adapt(EPISODES.support, steps=3)

    def plain() -> Tensor:
        return model(query[0])

    def adapt() -> Tensor:
        adaptation = learner.adapt(EPISODES.support, steps=2)
        return torch.cat([weight.flatten() for weight in adaptation.fast_weights.values()])

    def predict(mode) -> Callable[[], Tensor]:
        # Other images than another thread's, so that nothing kept for one serves another.
        return lambda: learner.predict(adapted, query.clone(), batch_norm=mode)

    predictions = [predict(mode) for mode in learner.batch_norm_modes]
    return ([plain, adapt] + predictions * THREADS)[:THREADS]


@pytest.fixture
def one_thread_each():
    """How many threads a convolution itself takes must not differ between the threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_thread_gets_the_serial_answer_bit_for_bit(name, one_thread_each):
    learner = LEARNERS[name]()
    work = jobs(learner)
    serial = [job().detach() for job in work]
    start, wrong = threading.Barrier(THREADS), []

    def run(number: int) -> None:
        try:
            start.wait()
            for _ in range(ROUNDS):
                if not torch.equal(work[number]().detach(), serial[number]):
                    wrong.append(number)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
