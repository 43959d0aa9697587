"""The theory of any module: its own forward pass, run on the law of its weights.

law.py
    From what distribution a parameter is drawn.
initial.py
    That law for every parameter of a model or of a factory's models.
classes.py
    The laws that the classes of a finished model draw from.
drawing.py, draws.py
    Following the tensors of a model while it is built: what is drawn, from which law.
measured.py
    The law of a parameter as far as its entries tell; whether entries agree with a law.
freshness.py
    Whether a model is fresh or trained, from its weights alone.
matrix.py
    The two conditional laws, and all the questions a matrix has answered.
factor.py
    Rows as combinations of orthonormal ones, also where they repeat each other.
linear.py
    A map that answers by its law, as autograd sees it.
source.py
    One parameter of one network: undrawn where it can be, drawn where it must be.
views.py
    Stand-ins for a parameter transposed, cut into rows, scaled, cast.
mode.py
    The function mode under which a model runs on its law.
operations.py, convolution.py
    The table of operations: how each is answered.
custom.py
    Autograd functions of the user's own.
skeleton.py
    A model without its weights.
batch.py
    What the user hands over, as a model's call and targets.
records.py
    What is kept of one network.
hosts.py
    The same of a module with weights of its own.
plan.py
    One ensemble: everything a worker needs.
pool.py
    Replicas side by side: the infinite-width limit.
finite.py
    What stays random at infinite width.
run.py
    Ensembles of modules.
result.py, comparison.py
    What comes out, and two of them side by side.
front.py
    kadanoff.ensemble and kadanoff.compare: one name for modules and described networks.

``batch``        What the user hands over as a batch, sorted into a model's call and targets
``classes``      The laws that the classes of a finished model draw from
``comparison``   Two ensembles of one module side by side, number by number, in standard errors
``convolution``  Convolutions as linear maps of patches: any stride, padding, dilation and groups
``custom``       Autograd functions of the user's own, which no function mode sees
``drawing``      Following how the tensors of a model come to be: what is drawn, from which law
``draws``        What each tensor operation does to the law of the entries it reads and writes
``factor``       X = L Q with orthonormal rows Q, for rows X that may repeat each other
``finite``       What does not average out as a model gets wide: its kernels stay random
``freshness``    Whether a model is fresh or trained, from its weights alone
``front``        One name for all ensembles: described networks and modules
``hosts``        Who runs the backward passes of a real module
``initial``      The law of every parameter of a model: followed from its construction
``law``          From what distribution a parameter is drawn: kind, mean, standard deviation
``linear``       A linear map whose matrix answers by its law, as autograd sees it
``matrix``       A matrix of independent normal entries
``measured``     The law of a parameter as far as its entries tell
``mode``         A random network without weights
``operations``   The table of operations
``plan``         One ensemble of a module
``pool``         Replicas side by side: each runs the model in a thread of its own
``records``      What is kept of one network: numbers by call and by parameter
``result``       The statistics of a module's ensemble
``run``          Ensembles of any module: run on the law of its weights, with errors and spreads
``skeleton``     A model without its weights: the same modules, buffers in numbers
``source``       One parameter of one random network: undrawn where it can be
``views``        Stand-ins for a parameter seen from another side: transposed, cut into rows
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
    from kadanoff.program.result import ModuleEnsemble as ModuleEnsemble
    from kadanoff.program.result import Quantity as Quantity
    from kadanoff.program.run import expect as expect
    from kadanoff.program.run import module_ensemble as module_ensemble

__getattr__, __dir__, _names = attach(__name__)
__all__ = [*_names]  # pyright: ignore[reportUnsupportedDunderAll]
