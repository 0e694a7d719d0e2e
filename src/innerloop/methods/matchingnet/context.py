"""Full-context embeddings: support and query images embedded in view of the whole support set."""

import torch
from torch import Tensor, nn


class FullContext(nn.Module):
    """Embeddings of Vinyals et al. (2016), appendix A, around features f' = g' of a network.

    g reads the support features as a sequence of n, by one LSTM from its beginning and one from its
    end (A.2)::

        →h_i, →c_i = LSTM(g'(x_i), →h_{i-1}, →c_{i-1})
        ←h_i, ←c_i = LSTM(g'(x_i), ←h_{i+1}, ←c_{i+1})
        g(x_i, S) = →h_i + ←h_i + g'(x_i)

    f reads them K times by attention, with an LSTM whose hidden state is [h, r] (A.1, equations 3
    to 6)::

        r_k = sum over i of  softmax over i of (h_k · g(x_i)) g(x_i)
        ĥ_k, c_k = LSTM(f'(x), [h_{k-1}, r_{k-1}], c_{k-1})
        h_k = ĥ_k + f'(x)
        f(x, S) = h_K

    The LSTM is that of PyTorch: input, forget and output gate by sigmoids, no peepholes. All states
    start at zero, and so does ĥ_0, hence h_0 = f'(x): the paper does not say.

    The paper does not say in which order the sequence is, either. It is read in rounds: with k
    classes and n images in the order of the support set, images 0, n/k, 2n/k, ..., then 1, n/k + 1,
    ... Of a support set that is ordered by class, as episodes are, that is the first image of each
    class, then the second of each: neighbours are of different classes. Another order of the
    support images gives other embeddings, another order of the queries does not.

    Args:
        features: how many the network gives.
        steps: K.
    """

    def __init__(self, features: int, steps: int):
        super().__init__()
        self.steps = steps
        self.forwards = nn.LSTMCell(features, features)
        self.backwards = nn.LSTMCell(features, features)
        # [h, r] is its hidden state: h has the cell's recurrent weights, r is a second input.
        self.reader = nn.LSTMCell(2 * features, features)

    def embed_support(self, features: Tensor, ways: int) -> Tensor:
        """Of support features (n, features) g, the same shape in the same order."""
        order = in_rounds(len(features), ways)
        sequence = [features[i] for i in order]
        ahead = _hidden_states(self.forwards, sequence)
        back = _hidden_states(self.backwards, sequence[::-1])[::-1]
        embedded = [
            of_past + of_future + own
            for of_past, of_future, own in zip(ahead, back, sequence, strict=True)
        ]
        places = sorted(range(len(order)), key=order.__getitem__)
        return torch.stack([embedded[place] for place in places])

    def embed_queries(self, features: Tensor, memory: Tensor) -> Tensor:
        """Of query features (m, features) f, each for itself; ``memory`` is g (n, features)."""
        hidden, cell = features, torch.zeros_like(features)
        for _ in range(self.steps):
            read = (hidden @ memory.T).softmax(dim=-1) @ memory
            output, cell = self.reader(torch.cat([features, read], dim=-1), (hidden, cell))
            hidden = output + features
        return hidden


def in_rounds(count: int, ways: int) -> list[int]:
    """In which order so many support images are read."""
    step = -(-count // ways)
    return [place for start in range(step) for place in range(start, count, step)]


def _hidden_states(cell: nn.LSTMCell, sequence: list[Tensor]) -> list[Tensor]:
    """The LSTM's h after each of a sequence of (features,), from states of zero."""
    state = torch.zeros_like(sequence[0]), torch.zeros_like(sequence[0])
    hidden = []
    for features in sequence:
        state = cell(features, state)
        hidden.append(state[0])
    return hidden
