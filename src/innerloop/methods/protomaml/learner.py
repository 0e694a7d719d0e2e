"""ProtoMAML: MAML whose head starts from the prototypes of the support set."""

from typing import Any, ClassVar

from torch import nn

from innerloop.methods.maml.learner import MAML
from innerloop.methods.parts import refuse_fixed


class ProtoMAML(MAML):
    """ProtoMAML (Triantafillou et al., 2020, arXiv 1903.03096, section 3).

    Let θ be the body's parameters, f_θ(x) the features of an image, and c_j the mean of f_θ over
    the support images of class j. The squared distances of a prototypical network are the logits of
    a linear head, but for a number common to all classes::

        −‖f_θ(x) − c_j‖² = 2 c_j · f_θ(x) − ‖c_j‖² + const.

    so that in each episode φ_0 is θ and this head, and all of φ takes inner steps::

        W_j = 2 c_j,   b_j = −‖c_j‖²
        φ_{k+1} = φ_k − α ∇_φ L(φ_k; support)                k = 0 ... K − 1    (inner loop)
        minimise over θ:  mean over episodes of L(φ_K; query)                   (outer loop)

    The outer gradient goes through the prototypes: θ is where the body starts, and what the head is
    made of. With K = 0 this is a prototypical network. Ways and shots are those of the episode.
    With ``first_order=True`` the inner gradients are constants, and the prototypes still are not:
    the paper's "fo-Proto-MAML".

    Deviation: that of `MAML`.

    Args:
        model: its logits are ``head(embed(images))``, and the head is linear.
        settings: those of `MAML` without its head's.

    Raises:
        ConfigError: as `MAML`; or if the model has no ``embed`` or no linear ``head``.
    """

    computes_as_maml: ClassVar[bool] = True

    def __init__(self, model: nn.Module, **settings: Any):
        refuse_fixed("ProtoMAML", settings, "fresh_head", "fresh_head_init")
        super().__init__(model, fresh_head="head", fresh_head_init="prototypes", **settings)
