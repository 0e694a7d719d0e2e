"""An outer step that is recorded once and then replayed, as a CUDA graph."""

from collections.abc import Callable, Hashable, Iterable

import torch
from torch import Tensor

from innerloop.core.errors import ConfigError, first_line, is_lost_device, is_out_of_memory

Compute = Callable[[], None]
"""Operations that read and write tensors alone, always the same ones."""
Record = Callable[[Compute], Compute]
"""Makes a replay of operations; what these change on the way is put back by the caller."""

WARM_UPS = 3
"""Times that a step is computed before it is recorded, so that libraries have set themselves up."""


def cuda_graph(device: str, compute: Compute) -> Compute:
    """Record operations on a CUDA device; the replay is one launch for all of them."""
    with torch.cuda.device(torch.device(device)):
        here, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        # Not in the default stream, in which nothing can be recorded.
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                compute()
        here.wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            compute()
    return graph.replay


class Recorder:
    """Computes a step, by replaying it where it was recorded.

    A step that cannot be recorded is computed by its operations one by one, and it is said why,
    once.

    Args:
        record: makes a replay; None: nothing is recorded.
        state: gives all tensors that the step changes for good.
        say: told why nothing is recorded.
    """

    def __init__(
        self,
        record: Record | None,
        state: Callable[[], Iterable[Tensor]],
        say: Callable[[str], None],
    ):
        self._record, self._state, self._say = record, state, say
        self._replay: Compute | None = None
        self._signature: Hashable | None = None

    def run(self, compute: Compute, signature: Hashable | None) -> None:
        """Compute a step.

        Args:
            compute: the step.
            signature: see `Learner.step_signature`; a step of another one is recorded anew.
        """
        if self._record is not None and signature is None:
            self._give_up("the method does not say what its steps follow from")
        if self._record is not None and (self._replay is None or signature != self._signature):
            self.forget()  # first, so that its memory serves the next
            self._signature = signature
            self._replay = self._recorded(compute)
        (self._replay or compute)()

    def forget(self) -> None:
        """Record the next step anew."""
        self._replay = None

    @torch.no_grad()
    def _recorded(self, compute: Compute) -> Compute | None:
        """A replay, with everything that recording changed as it was before."""
        if self._record is None:
            return None
        before = [value.clone() for value in self._state()]
        replay = None
        try:
            with torch.enable_grad():
                replay = self._record(compute)
        except (RuntimeError, ConfigError) as error:
            cause = _first_of(error)
            if is_out_of_memory(cause) or is_lost_device(cause):
                raise cause from None
            self._give_up(first_line(cause))
        finally:
            for value, former in zip(self._state(), before, strict=True):
                value.copy_(former)
        return replay

    def _give_up(self, because: str) -> None:
        self._record = None
        self._say(f"Outer steps are not recorded as a CUDA graph, because {because}.")


def _first_of(error: BaseException) -> BaseException:
    """What failed first: the end of a recording fails, too, after anything within it did."""
    while error.__context__ is not None:
        error = error.__context__
    return error
