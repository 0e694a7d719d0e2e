"""Inner rates that are learnt, for every step and layer or tensor."""

from typing import Any

from torch import nn

from innerloop.core.errors import ConfigError
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.methods.keys import key_of, name_of
from innerloop.methods.mamlpp.norms import PerStepNorms


class LearntRates(PerStepNorms):
    """MAML with learnt inner rates; more steps than N take the last ones again.

    Args:
        model: as in `MAML`.
        learned_rates: ``layer``, ``tensor`` or None; see `MAMLpp`.
        settings: those of `PerStepNorms`.

    Raises:
        ConfigError: if it is another word.
    """

    def __init__(self, model: nn.Module, *, learned_rates: str | None, **settings: Any):
        # Batch norm's sets come first: it is the order of the optimiser's parameters.
        super().__init__(model, **settings)
        if learned_rates not in (None, "layer", "tensor"):
            raise ConfigError(
                f"learned_rates must be layer, tensor or None: got {learned_rates!r}."
            )
        self._rate_of = self._rate_names(learned_rates) if learned_rates else {}
        self.rates = nn.ParameterDict()
        like = next(self.model.parameters())
        for key in dict.fromkeys(self._rate_of.values()):
            rates = like.new_full((self.inner_steps,), float(self.inner_lr))
            self.rates[key] = nn.Parameter(rates)

    def _rate_names(self, unit: str) -> dict[str, str]:
        """Name of each tensor that takes inner steps -> key of its rates."""
        names = [
            name
            for name in [*self.params, *self._fresh]
            if self._adapted is None or name in self._adapted
        ]
        if unit == "tensor":
            return {name: key_of(name) for name in names}
        return {name: key_of(name.rpartition(".")[0] or name) for name in names}

    def _stepped(
        self, network: Network, adapted: FastWeights, gradients: FastWeights, index: int
    ) -> FastWeights:
        if not self.rates:
            return super()._stepped(network, adapted, gradients, index)
        stepped = {}
        for name, weight in adapted.items():
            key = self._rate_of[name]
            rates = network.share(f"rates of {key}", self.rates[key], len(weight))
            rate = rates[:, self._set(index)].reshape(-1, *[1] * (weight.ndim - 1))
            stepped[name] = weight - rate * gradients[name]
        return stepped

    def diagnostics(self) -> dict[str, Any]:
        """Learnt rates by tensor or layer and step, beside those of the batch norms."""
        rates = {name_of(key): rates.tolist() for key, rates in self.rates.items()}
        return {"learned_rates": rates} | super().diagnostics()
