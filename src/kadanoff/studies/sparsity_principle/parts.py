"""What the study of the sparsity principle computes, one function a part."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

BONDS = 0.3  # ferromagnetic ring: bond and field, in units of the temperature
FIELD = 0.1

_QUADS = ((0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 1), (0, 1, 1, 1), (1, 1, 1, 1))


def learners(n: int) -> dict[str, Any]:
    """Name → learner for n bits."""
    from kadanoff.architecture import MLP
    from kadanoff.studies.sparsity_principle.hypercube import (
        decision_tree,
        kernel_machine,
        nearest_neighbour,
        neural_network,
    )

    relu = MLP(n, [64, 64], 1, "relu", C_W=2.0)
    return {
        "nearest neighbour": nearest_neighbour(),
        "3 neighbours": nearest_neighbour(3),
        "decision tree": decision_tree(),
        "network (32 ReLU)": neural_network((32,), steps=300),
        "infinite network, NTK": kernel_machine(relu),
        "infinite network, NNGP": kernel_machine(relu, "nngp"),
    }


def free_lunch(n: int, name: str, sets: int, seed: int) -> dict[str, list[Any]]:
    """Off-training accuracy over all and over sparse labelings, averaged over training sets."""
    from fractions import Fraction

    from kadanoff.studies.sparsity_principle.hypercube import (
        all_labelings,
        juntas,
        low_degree,
        off_training,
    )

    rng = np.random.default_rng(seed)
    shown = [np.sort(rng.permutation(1 << n)[: 1 << (n - 1)]) for _ in range(sets)]
    everything = all_labelings(n)
    families = {
        "all": everything,
        "1-juntas": juntas(n, 1),
        "2-juntas": juntas(n, 2),
        "degree ≤ 2": low_degree(n, 2),
    }
    out = {}
    for family, labels in families.items():
        found = [off_training(learners(n)[name], n, train, labels) for train in shown]
        mean = sum((f.accuracy for f in found), Fraction(0)) / sets
        exact = all(f.accuracy == Fraction(1, 2) for f in found)
        values = [float(f.accuracy) for f in found]
        spread = float(np.std(values, ddof=1) / math.sqrt(sets)) if sets > 1 else math.nan
        out[family] = [float(mean), spread, exact, found[0].std, found[0].expected_std, len(labels)]
    return out


def _truth(N: int) -> Any:
    from kadanoff.studies.sparsity_principle.ising import Ising, translation_invariant

    return Ising(translation_invariant((N,)), np.array([FIELD, BONDS]))


def _terms(rung: str, N: int) -> Any:
    from kadanoff.studies.sparsity_principle import ising

    return {
        "generic": lambda: ising.generic(N),
        "2-local": lambda: ising.k_local(N, 2),
        "local": lambda: ising.lattice((N,)),
        "translation invariant": lambda: ising.translation_invariant((N,)),
    }[rung]()


def need(rung: str, N: int, target: float, repeats: int, seed: int) -> list[float]:
    """Couplings, samples needed for a divergence of ``target`` nats, standard error."""
    from kadanoff.studies.sparsity_principle.ising import samples_needed

    terms = _terms(rung, N)
    found = samples_needed(_truth(N), terms, target, repeats=repeats, seed=seed + 17 * N)
    return [terms.free, found.samples, found.stderr]


def energies_needed(N: int, seed: int) -> list[list[Any]]:
    """Smallest number of well-chosen energies that give back the whole Hamiltonian, per rung.

    States are chosen one by one, each the one whose features are furthest from the span of those
    before (QR with column pivoting).
    """
    from scipy.linalg import qr

    from kadanoff.studies.sparsity_principle.hypercube import points
    from kadanoff.studies.sparsity_principle.ising import Ising, fit_energies

    X, rng = points(N), np.random.default_rng(seed)
    rows = []
    for rung in ("generic", "2-local", "local", "translation invariant"):
        terms = _terms(rung, N)
        # all couplings different: a uniform one can be met by luck with an energy missing
        truth = Ising(terms, rng.normal(size=terms.free))
        exact = truth.energy(X)
        pivoted: Any = qr(terms.features(X).T, mode="r", pivoting=True)
        order = pivoted[-1]
        M = terms.free - 1
        errors = []
        while True:
            model, rank = fit_energies(terms, X[order[:M]], exact[order[:M]])
            errors.append(float(np.abs(model.energy(X) - exact).max()))
            if rank == terms.free:
                break
            M += 1
        rows.append([rung, terms.free, M, errors[0], errors[-1]])
    return rows


def big_lattice(side: int, samples: list[int], seed: int) -> list[list[float]]:
    """A sampled side × side lattice: rms error of a coupling, local and translation invariant."""
    from kadanoff.studies.sparsity_principle.ising import Ising, fit, lattice, translation_invariant

    truth = Ising(translation_invariant((side, side)), np.array([0.05, 0.3]))
    states = truth.sample(max(samples), seed=seed, burn_in=300, thin=20, chains=512)
    every = truth.J[np.r_[np.zeros(side**2, int), np.ones(2 * side**2, int)]]
    rows = []
    for M in samples:
        # chains run side by side, so different rows are independent
        sets = [states[k * M : (k + 1) * M] for k in range(max(1, min(32, len(states) // M)))]
        square = [np.mean((fit(truth.terms, s, prior=1.0).J - truth.J) ** 2) for s in sets]
        rms = math.sqrt(np.mean(square))
        spread = np.std(square, ddof=1) / math.sqrt(len(sets)) if len(sets) > 1 else math.nan
        row = [M, rms, float(spread / (2 * rms))]
        if M >= 100:
            free = fit(lattice((side, side)), states[:M], prior=1.0)
            error = (free.J - every) ** 2
            rms = math.sqrt(error.mean())
            row += [rms, float(error.std() / math.sqrt(len(error)) / (2 * rms))]
        else:
            row += [math.nan, math.nan]
        rows.append(row)
    return rows


def one_configuration(side: int, sets: int, seed: int) -> list[float]:
    """Rms error of field and bond from single configurations of a side × side lattice."""
    from kadanoff.studies.sparsity_principle.ising import Ising, fit, translation_invariant

    truth = Ising(translation_invariant((side, side)), np.array([0.05, 0.3]))
    states = truth.sample(sets, seed=seed, burn_in=300, thin=20, chains=sets)
    square = [np.mean((fit(truth.terms, s[None], prior=1.0).J - truth.J) ** 2) for s in states]
    rms = math.sqrt(np.mean(square))
    return [rms, float(np.std(square, ddof=1) / math.sqrt(sets) / (2 * rms))]


def learnt_spectra(n: int, seeds: int, seed: int) -> dict[str, Any]:
    """Walsh spectra of networks before and after training on half of the corners."""
    from kadanoff.studies.sparsity_principle.hypercube import (
        effective_couplings,
        points,
        trained_function,
        walsh,
        weight_by_degree,
    )

    X, half = points(n), 1 << (n - 1)
    rows: dict[str, list[Any]] = {}
    for s in range(seeds):
        rng = np.random.default_rng(seed + s)
        targets = {
            "x1 x2": X[:, 0] * X[:, 1],
            "majority of 3": np.sign(X[:, :3].sum(1)),
            "random labels": np.sign(rng.normal(size=1 << n)),
        }
        shown = rng.permutation(1 << n)[:half]
        labels = np.stack(list(targets.values()))
        before, after = trained_function(labels, shown, seed=seed + s, steps=2000)
        unseen = np.setdiff1d(np.arange(1 << n), shown)
        for i, name in enumerate(targets):
            a, b, t = walsh(before[i]), walsh(after[i]), walsh(labels[i])
            right = float((np.sign(after[i, unseen]) == labels[i, unseen]).mean())
            rows.setdefault(name, []).append(
                {
                    "couplings": [float(effective_couplings(x)) for x in (a, b, t)],
                    "degree": [weight_by_degree(x).tolist() for x in (a, b, t)],
                    "unseen": right,
                }
            )
    return rows


def kernel_by_degree(n: int, depths: list[int]) -> list[list[Any]]:
    """Eigenvalues of infinite networks by degree, and how far from diagonal they are."""
    from kadanoff.architecture import MLP
    from kadanoff.kernels import kernel
    from kadanoff.studies.sparsity_principle.hypercube import kernel_spectrum, points

    rows = []
    for name, C_b, C_W in (("relu", 0.0, 2.0), ("tanh", 0.05, 1.0), ("tanh", 0.05, 3.0)):
        for depth in depths:
            arch = MLP(n, [64] * depth, 1, name, C_b=C_b, C_W=C_W)
            for which in ("nngp", "ntk"):
                gram = kernel(arch)(points(n), points(n), get=which).numpy()
                values, residue = kernel_spectrum(gram)
                rows.append([f"{name}, C_W = {C_W:g}", depth, which, values.tolist(), residue])
    return rows


def densities(widths: list[int], top: int) -> list[Any]:
    """Largest error of the output density at each order, against the exact law."""
    import torch

    from kadanoff.architecture import MLP
    from kadanoff.rgflow import exact_chain, metric_couplings, moment_series, output_density

    rows = []
    for n in widths:
        arch = MLP(1, [n] * 4, 1, "tanh", C_b=0.05, C_W=1.5)
        x = torch.ones(1, 1, dtype=torch.float64)
        series, chain = (
            moment_series(arch, x, order=top),
            exact_chain(arch, x, grid=2048, nodes=100),
        )
        z = np.linspace(0, 4 * math.sqrt(series.K[-1]), 161)
        G, p = chain.grid[1:], chain.density[-1][1:]
        exact = np.exp(-0.5 * z[:, None] ** 2 / G) / np.sqrt(2 * math.pi * G) @ p * (G[1] - G[0])
        error = [float(np.abs(output_density(series, z, k) - exact).max()) for k in range(top + 1)]
        rows.append([n, sum(a * b for a, b in zip(arch.n[1:], arch.n[:-1])), error, exact[0]])
    counts = [metric_couplings(1, k) for k in range(top + 1)]
    return [
        counts,
        rows,
        {"z": z, "exact": exact, "orders": [output_density(series, z, k) for k in range(top + 1)]},
    ]


def two_inputs(n: int, networks: int, seed: int, checkpoint: str) -> dict[str, Any]:
    """⟨z_a z_b z_c z_d⟩ of one output neuron: measured, at order 0 and at order 1/n."""
    import torch

    from kadanoff.architecture import MLP
    from kadanoff.ensembles import ensemble
    from kadanoff.rgflow import flow

    arch = MLP(2, [n] * 3, 1, "tanh", C_b=0.05, C_W=1.5)
    X = torch.tensor([[1.2, 0.3], [-0.4, 1.0]], dtype=torch.float64)
    found = ensemble(
        arch, X, networks, seed=seed, observables=["K", "V"], layers=[4], checkpoint=checkpoint
    )
    theory = flow(arch, X, order=1)
    G, error_G = found.K.value[-1], found.K.stderr[-1]
    V, error_V = found.V.value[-1] / n, found.V.stderr[-1] / n
    K, G1, V1 = theory.K[-1], theory.require("G1")[-1] / n, theory.require("V")[-1] / n

    def wick(A, B):
        return [
            float(A[a, b] * B[c, d] + A[a, c] * B[b, d] + A[a, d] * B[b, c])
            for a, b, c, d in _QUADS
        ]

    def connected(V):
        return [float(V[a, b, c, d] + V[a, c, b, d] + V[a, d, b, c]) for a, b, c, d in _QUADS]

    measured = np.array(wick(G, G)) + connected(V)
    error = np.array(
        [
            math.sqrt(
                sum(float(error_V[p]) ** 2 for p in ((a, b, c, d), (a, c, b, d), (a, d, b, c)))
            )
            + 6 * float(K.max() * error_G.max())
            for a, b, c, d in _QUADS
        ]
    )
    order_0 = np.array(wick(K, K))
    order_1 = order_0 + np.array(wick(G1, K)) + wick(K, G1) + connected(V1)
    return {"measured": measured, "error": error, "order 0": order_0, "order 1": order_1}


def aspect(budget: int, depths: list[int], networks: int, seed: int) -> list[list[float]]:
    """Equal numbers of parameters at different L/n: V/(nK²) of critical ReLU networks.

    Rows: L, n, L/n, order 1/n, exact, measured, its standard error, and the relative error that
    so many networks must have by the exact law.
    """
    import torch

    from kadanoff.architecture import MLP
    from kadanoff.ensembles import ensemble
    from kadanoff.rgflow import flow

    rows = []
    X = torch.ones(1, 4, dtype=torch.float64)
    for L in depths:
        n = max(2, round(math.sqrt(budget / L)))
        arch = MLP(4, [n] * L, 1, "relu", C_W=2.0)
        theory = flow(arch, X, order=1)
        found = ensemble(arch, X, networks, seed=seed, observables=["K", "V"], layers=[L + 1])

        def last(x) -> float:
            return float(x[-1].flatten()[0])

        K = last(theory.K)
        V, error = last(found.V.value), last(found.V.stderr)
        first = last(theory.require("V")) / n / K**2
        scale = n * K**2
        exact, spread = relu_fluctuation(n, L)
        expected = spread / math.sqrt(networks) / exact
        rows.append([L, n, L / n, first, exact, V / scale, error / scale, expected])
    return rows


def relu_fluctuation(n: int, L: int) -> tuple[float, float]:
    """Var Ĝ/K² of L critical ReLU layers of width n, and the spread of one network's square.

    Each layer multiplies Ĝ by the mean of n squares of ReLU(z)·√2, so moments are powers: with
    r the number of active neurons (binomial) and χ² of r degrees of freedom,
    E (Σ 2 z²)^k = Σ_r C(n, r) 2^{k−n} r(r + 2) … (r + 2k − 2).
    """
    from scipy.stats import binom

    r = np.arange(n + 1)
    chance = binom.pmf(r, n, 0.5)

    def moment(k: int) -> float:
        rising = np.prod([r + 2.0 * j for j in range(k)], axis=0)
        return float((chance * rising).sum() * (2.0 / n) ** k) ** L

    second, third, fourth = moment(2), moment(3), moment(4)
    variance = second - 1
    central = fourth - 4 * third + 6 * second - 3
    return variance, math.sqrt(max(0.0, central - variance**2))
