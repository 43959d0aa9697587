"""The theory of any module: its own forward pass, run on the law of its weights.

``law``            From what distribution a parameter is drawn
``initial``        That law for every parameter of a model or of a factory's models
``classes``        The laws that the classes of a finished model draw from
``drawing``, ``draws``  Following the tensors of a model while it is built: what is drawn, and how
``measured``  The law of a parameter as far as its entries tell; whether entries agree with a law
``freshness``      Whether a model is fresh or trained, from its weights alone
``matrix``         The two conditional laws, and all the questions a matrix has answered
``orthogonal``     The same of a matrix with orthonormal rows or columns
``maps``           Rows through a parameter used as a matrix: answered undrawn, or why not
``linear``         A map that answers by its law, as autograd sees it
``source``         One parameter of one network: undrawn where it can be, drawn where it must be
``views``          Stand-ins for a parameter transposed, cut into rows, scaled, cast
``mode``           The function mode under which a model runs on its law
``operations``, ``convolution``  The table of operations: how each is answered
``recurrent``      Recurrent layers, fused or by the cell, as the linear maps they consist of
``custom``         Autograd functions of the user's own
``bare``           A model without its weights
``batch``          What the user hands over, as a model's call and targets
``records``        What is kept of one network
``hosts``          The same of a module with weights of its own
``plan``           One ensemble: everything a worker needs
``pool``           Replicas side by side: the infinite-width limit
``finite``         What stays random at infinite width
``run``            Ensembles of modules
``sizes``          How large each parameter's gradient is, and its power of width or depth
``result``, ``comparison``  What comes out, and two of them side by side
``module_kernel``  Infinite-width kernels of a module as a function of data sets
``pooled``         Kernels by pooled sampling: what neither kernels nor draws of channels tell
``front``  kadanoff.ensemble, compare, kernel, predict: one name for modules and described networks
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.program.comparison import ModuleComparison as ModuleComparison
    from kadanoff.program.comparison import compare_modules as compare_modules
    from kadanoff.program.freshness import Freshness as Freshness
    from kadanoff.program.freshness import looks_trained as looks_trained
    from kadanoff.program.initial import Built as Built
    from kadanoff.program.initial import Laws as Laws
    from kadanoff.program.initial import build as build
    from kadanoff.program.initial import laws as laws
    from kadanoff.program.law import Law as Law
    from kadanoff.program.mode import Network as Network
    from kadanoff.program.module_kernel import ModuleKernel as ModuleKernel
    from kadanoff.program.result import ModuleEnsemble as ModuleEnsemble
    from kadanoff.program.result import Quantity as Quantity
    from kadanoff.program.run import expect as expect
    from kadanoff.program.run import module_ensemble as module_ensemble
    from kadanoff.program.sizes import GradientPower as GradientPower
    from kadanoff.program.sizes import GradientSize as GradientSize
    from kadanoff.program.sizes import gradient_powers as gradient_powers
    from kadanoff.program.sizes import gradient_sizes as gradient_sizes
    from kadanoff.program.sizes import power_fit as power_fit

__getattr__, __dir__, _names = attach(__name__)
__all__ = [*_names]  # pyright: ignore[reportUnsupportedDunderAll]
