"""Studies: the central results of papers around the theory, run again with this library.

A study is one package that states a paper's claims as data (:class:`Claim`), computes what is
needed with public parts of the library, and decides each claim with numbers and uncertainty. The
physics that only one paper needs lives in its study.

``claims``     a claim, the criterion that decides it, and the numbers
``verdicts``   one function judges: from criteria and numbers to verdicts
``lab``        the bench a study works on: parts that survive a kill, figures, decisions
``study``      a paper, its claims, and the function that decides them
``runner``     runs a study, keeps its results
``registry``   the studies there are
``page``       a result as one HTML page

``diffusion_surrogates``  Deep-learning surrogates for the diffusion equation
``edge_of_chaos``         The edge of chaos, in depth and in time
``effective_theories``    Structures of neural network effective theories
``exact_priors``          Exact priors of finite networks (Zavatone-Veth & Pehlevan, 2021)
``lazy_neurons``          Lazy neurons: trained Transformers fire few hidden units (Li et al., 2022)
``learnt_sparsity``       The flow of a trained classifier: how sparse is what was learnt?
``ntk_diagrams``          The finite-width NTK from Feynman diagrams (Guillen et al., 2025)
``principles``            The principles of deep learning theory: criticality, L/n, the NTK
``quantum_laziness``      Laziness, barren plateaus and noise in variational circuits
``sparsity_principle``    The sparsity principle: why is AI hard and physics simple?
``transformers_at_initialisation``  Effective theory of Transformers at initialisation

>>> import kadanoff as kd
>>> kd.studies.get("exact-priors").paper
'zavatone2021'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.studies.claims import Claim as Claim
    from kadanoff.studies.lab import Lab as Lab
    from kadanoff.studies.registry import all as all
    from kadanoff.studies.registry import get as get
    from kadanoff.studies.runner import keep as keep
    from kadanoff.studies.runner import run as run
    from kadanoff.studies.study import Study as Study

__getattr__, __dir__, __all__ = attach(__name__)
