r"""Closed forms of random variational circuits: gradients, kernel, fluctuations, dynamics.

Conventions. Circuits U = Π W_ℓ e^{iθ_ℓ X_ℓ} with traceless X_ℓ, X_ℓ² = 1; residual ε = z − O_0;
loss ε²/2; N = 2ⁿ. ``convention="half-angle"`` is for rotations e^{−iθX/2}: every derivative halves.

Liu, Lin & Jiang, "Laziness, barren plateau, and noises in machine learning" (2022) for the
leading orders; what is exact at every N is derived here and held against ensembles in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kadanoff.errors import DomainError
from kadanoff.studies.quantum_laziness.quantum.circuits import CONVENTIONS
from kadanoff.studies.quantum_laziness.quantum.observables import Observable

__all__ = [
    "Predictions",
    "critical_rate",
    "dqntk_std",
    "frozen_law",
    "gradient_variance",
    "haar_moment",
    "noise_law",
    "noise_plateau",
    "noise_time",
    "parameters_needed",
    "predictions",
    "qntk_mean",
    "qntk_std",
    "qntk_std_leading",
    "shot_plateau",
    "state_conditioned_law",
    "state_conditioned_rate",
    "value_variance",
]


def _turn(convention: str) -> float:
    return CONVENTIONS[convention] ** 2


def haar_moment(cycles: Sequence[int], traces: Sequence[float], N: int) -> float:
    """E over Haar states of Π_i ⟨O^{k_i}⟩ for powers k_i of one observable.

    Sum over permutations of the traces of their cycles, over N(N+1)…(N+m−1).

    Parameters
    ----------
    cycles : sequence of int
        Powers k_i, up to four in total.
    traces : sequence of float
        Tr O, Tr O², Tr O³, Tr O⁴.
    """
    from itertools import permutations

    m, total = len(cycles), 0.0
    for order in permutations(range(m)):
        left, term = set(range(m)), 1.0
        while left:
            start = here = left.pop()
            power = cycles[start]
            while (here := order[here]) != start:
                left.discard(here)
                power += cycles[here]
            term *= traces[power - 1]
        total += term
    return total / math.prod(range(N, N + m))


def value_variance(observable: Observable) -> float:
    """Var z over Haar states: (N Tr O² − Tr²O) / (N²(N+1))."""
    N, (t1, t2, _, _) = 2**observable.n_qubits, observable.traces()
    return (N * t2 - t1**2) / (N**2 * (N + 1))


def gradient_variance(observable: Observable, convention: str = "generator") -> float:
    """E[(∂z/∂θ)²] = 2(N Tr O² − Tr²O)/((N−1)(N+1)²) of a gate between two 2-designs, exact.

    About 2 Tr O²/N²; 2^{1−n} for a Pauli word: it halves with each qubit.
    """
    N, (t1, t2, _, _) = 2**observable.n_qubits, observable.traces()
    return _turn(convention) * 2 * (N * t2 - t1**2) / ((N - 1) * (N + 1) ** 2)


def qntk_mean(observable: Observable, L: float, convention: str = "generator") -> float:
    """Mean quantum NTK K̄ = L · E[(∂z)²], about 2 L Tr O²/N²."""
    return L * gradient_variance(observable, convention)


def qntk_std_leading(observable: Observable, L: float, convention: str = "generator") -> float:
    """The paper's ΔK ≈ (√L/N²) √(8 Tr²(O²) + 12 Tr O⁴): independent gates, large N."""
    N, (_, t2, _, t4) = 2**observable.n_qubits, observable.traces()
    return _turn(convention) * math.sqrt(L) / N**2 * math.sqrt(8 * t2**2 + 12 * t4)


def _selberg(gamma: int, a: float) -> float:
    """ln of ∫∫ |x − y|^{2γ} (x(1−x) y(1−y))^{a−1} over the unit square."""
    lg = math.lgamma
    return sum(
        2 * lg(a + j * gamma)
        + lg(1 + (j + 1) * gamma)
        - lg(2 * a + (1 + j) * gamma)
        - lg(1 + gamma)
        for j in (0, 1)
    )


def qntk_std(observable: Observable, L: float, convention: str = "generator") -> float:
    r"""Standard deviation of the QNTK of Haar circuits, exact for every N and L.

    Notes
    -----
    Given the output state φ, the pulled-back generators are independent Haar rotations of
    diag(±1), and g = Tr(X̃ i[O, φφ†]) with a rank-two commutator of eigenvalues ±s,
    s² = Var_φ(O). Hence, with the difference δ of the two eigenvalues of a 2 × 2 block of a random
    half-rank projector (Jacobi ensemble),

    .. math:: \mathrm E[g^2|\varphi] = \tfrac43\,\mathrm E[\delta^2]\, s^2, \quad
              \mathrm E[g^4|\varphi] = \tfrac{16}5\,\mathrm E[\delta^4]\, s^4, \quad
              \mathrm{Var}\,K = L\,\bigl(\mathrm E g^4 - \mathrm E\,\mathrm E[g^2|\varphi]^2\bigr)
              + L^2\,\mathrm{Var}\,\mathrm E[g^2|\varphi].

    The last term does not average out: ΔK/K̄ tends to the spread of Var_φ(O) when L grows at
    fixed n, and only goes to zero with n.
    """
    N, traces = 2**observable.n_qubits, observable.traces()
    if N == 2:
        d2 = d4 = 1.0  # a rank-one projector: δ = 1
    else:
        d2 = math.exp(_selberg(2, N / 2 - 1) - _selberg(1, N / 2 - 1))
        d4 = math.exp(_selberg(3, N / 2 - 1) - _selberg(1, N / 2 - 1))
    s2 = haar_moment((2,), traces, N) - haar_moment((1, 1), traces, N)
    s4 = (
        haar_moment((2, 2), traces, N)
        - 2 * haar_moment((2, 1, 1), traces, N)
        + haar_moment((1, 1, 1, 1), traces, N)
    )
    second, fourth = 4 / 3 * d2, 16 / 5 * d4
    variance = L * s4 * (fourth - second**2) + (L * second) ** 2 * (s4 - s2**2)
    return _turn(convention) * math.sqrt(max(variance, 0.0))


def dqntk_std(observable: Observable, L: float, convention: str = "generator") -> float:
    """The paper's Δμ ≈ √32 L Tr(O²)^{3/2}/N³ of the dQNTK, whose mean is zero: leading order.

    Its diagonal part −4zK/2 adds coherently; with it the leading order is √48 in place of √32.
    """
    N, (_, t2, _, _) = 2**observable.n_qubits, observable.traces()
    return _turn(convention) ** 2 * math.sqrt(32) * L * t2**1.5 / N**3


def parameters_needed(observable: Observable, eta: float, convention: str = "generator") -> float:
    """L at which ηK̄ = 1, the fastest stable training; N/(2η) for a Pauli word at large N."""
    return 1 / (eta * gradient_variance(observable, convention))


def critical_rate(K: float) -> float:
    """The learning rate 2/K above which gradient descent diverges."""
    if not K > 0:
        raise DomainError(f"A kernel of {K} does not train.")
    return 2 / K


def frozen_law(eta: float, K: float, epsilon0: float, t: int) -> float:
    """ε(t) = (1 − ηK)ᵗ ε(0)."""
    return (1 - eta * K) ** t * epsilon0


def noise_plateau(eta: float, K: float, sigma: float) -> float:
    """Late loss σ_θ²/(2η(2 − ηK)) under Gaussian noise of every angle at every step."""
    _stable(eta, K)
    return sigma**2 / (2 * eta * (2 - eta * K))


def noise_law(eta: float, K: float, sigma: float, epsilon0: float, t: int) -> float:
    """E[ε²(t)] under angle noise: the frozen decay above twice the plateau."""
    floor = 2 * noise_plateau(eta, K, sigma)
    return (1 - eta * K) ** (2 * t) * (epsilon0**2 - floor) + floor


def noise_time(eta: float, K: float, sigma: float, epsilon0: float) -> float:
    """Steps until noise dominates: the frozen decay has come down to the plateau."""
    floor = 2 * noise_plateau(eta, K, sigma)
    rate = 2 * math.log(abs(1 - eta * K)) if eta * K != 1 else -math.inf
    return max(0.0, math.log(floor / epsilon0**2) / rate)


def shot_plateau(eta: float, K: float, shots: int, variance: float = 1.0) -> float:
    """Late loss ηK Var(O)/(2S(2 − ηK)) when z is measured with S shots a step."""
    _stable(eta, K)
    return eta * K * variance / (2 * shots * (2 - eta * K))


def _stable(eta: float, K: float) -> None:
    if not 0 < eta * K < 2:
        raise DomainError(
            f"eta K = {eta * K:g} lies outside (0, 2): gradient descent diverges.",
            f"Use a learning rate below {2 / K:g}." if K > 0 else "",
        )


def state_conditioned_rate(observable: Observable, L: int, convention: str = "generator") -> float:
    """c in K(t) ≈ c · Var_φ(O): the kernel given the output state, 2NL/(N²−1)."""
    N = 2**observable.n_qubits
    return _turn(convention) * 2 * N * L / (N**2 - 1)


def state_conditioned_law(
    eta: float, c: float, target: float, epsilon0: float, steps: int
) -> list[float]:
    """ε(0 … steps) of ε ← ε(1 − ηc(1 − (O_0 + ε)²)), for an observable with O² = 1.

    Targets inside the spectrum are reached exponentially, at its edge as 1/t, and outside the
    kernel dies first: ε freezes at |O_0| − 1.
    """
    out = [epsilon0]
    for _ in range(steps):
        epsilon = out[-1]
        out.append(epsilon * (1 - eta * c * (1 - min(1.0, abs(target + epsilon)) ** 2)))
    return out


@dataclass(frozen=True)
class Predictions:
    """What theory says of one training; see :func:`predictions`.

    Attributes
    ----------
    K, K_std, K_std_leading : float
        Mean kernel, its exact and its leading-order fluctuation.
    eta_K, critical_rate : float
    move : float
        Laziness: rms change of one angle in the first step, η|ε|√(K/L).
    drift, noise : float
        Change of z by the first step, and its standard deviation by angle noise.
    plateau, noise_time : float
        Late loss under angle noise, and when it is reached; 0 and infinity without noise.
    shots : float
        Shots that resolve one gradient component (unit signal to noise): 2/E[(∂z)²].
    parameters_needed : float
    """

    K: float
    K_std: float
    K_std_leading: float
    eta_K: float
    critical_rate: float
    move: float
    drift: float
    noise: float
    plateau: float
    noise_time: float
    shots: float
    parameters_needed: float


def predictions(
    observable: Observable,
    L: int,
    eta: float,
    *,
    epsilon0: float = 1.0,
    sigma: float = 0.0,
    convention: str = "generator",
) -> Predictions:
    """All predictions for a random circuit of L gates trained at rate η from residual ε(0).

    Raises
    ------
    DomainError
        ηK̄ ≥ 2: training diverges.
    """
    K = qntk_mean(observable, L, convention)
    _stable(eta, K)
    return Predictions(
        K=K,
        K_std=qntk_std(observable, L, convention),
        K_std_leading=qntk_std_leading(observable, L, convention),
        eta_K=eta * K,
        critical_rate=critical_rate(K),
        move=eta * abs(epsilon0) * math.sqrt(K / L),
        drift=eta * K * abs(epsilon0),
        noise=math.sqrt(K) * sigma,
        plateau=noise_plateau(eta, K, sigma),
        noise_time=noise_time(eta, K, sigma, epsilon0) if sigma else math.inf,
        shots=2 / gradient_variance(observable, convention),
        parameters_needed=parameters_needed(observable, eta, convention),
    )
