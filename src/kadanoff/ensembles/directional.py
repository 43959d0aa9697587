"""Directional derivatives along gradients: first, second and third tangents of every node.

Tangents of the preactivations go forward through W, tangents of the gradients go back through
Wᵀ, so the code is the same for drawn and for implicit matrices.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.ensembles.trunk import Trunk

__all__ = ["Tangents", "Triples"]


@dataclass(frozen=True)
class Triples:
    """Triples (q, r, s) of functionals, and where the pairs of each are.

    Attributes
    ----------
    members : three lists of int
        q, r and s of every triple.
    others : three lists of int
        The pair (r, s), (q, s) and (q, r) among the second tangents.
    """

    members: list[list[int]]
    others: list[list[int]]


class Tangents:
    """Gradients of functionals of one node, and tangents of every node along them.

    ``back[j]`` is Wᵀδ of the map above node j, before σ'; ``delta[j]`` the derivative with respect
    to z of node j. Functional k is taken at input ``samples[k]``.
    """

    def __init__(self, trunk: Trunk, top: int, delta: Tensor, samples: list[int]) -> None:
        self.trunk, self.top, self.samples = trunk, top, samples
        # what is learnt of W here must not bias other layers' passes, which know only σ and z
        self.op = {j: copy.copy(trunk.matrix(j)) for j in range(1, top + 1)}
        self.back: list[Tensor] = []
        self.delta = [delta]
        skipped: dict[int, Tensor] = {}
        for j in range(top, 0, -1):
            m = trunk.maps[j]
            self.back.insert(0, self.op[j].transpose(self.delta[0]))
            if m.gamma:
                skipped[j - m.back] = m.gamma * self.delta[0]
            below = trunk.d[j - 1][:, samples] * self.back[0]
            self.delta.insert(0, below + skipped.pop(j - 1) if j - 1 in skipped else below)

    def scale(self, j: int) -> float:
        """λ_W / n of the map into node j."""
        return self.trunk.maps[j].lambda_W / self.trunk.maps[j].n_in

    def push(self, j: int, x: Tensor, z: list[Tensor]) -> Tensor:
        """Through the map into node j, and its skip: W x + γ z[j − back]; x (S, ..., n).

        Parameters
        ----------
        j : int
            Node.
        x : Tensor, shape (S, ..., n)
            What enters the map.
        z : list of Tensor
            Tangents of the nodes before, for the skip.
        """
        S, n = x.shape[0], x.shape[-1]
        found = self.op[j].apply(x.reshape(S, -1, n)).view(*x.shape[:-1], -1)
        m = self.trunk.maps[j]
        return found + m.gamma * z[j - m.back] if m.gamma else found

    def first(self) -> list[Tensor]:
        """∂_q z at every node and input: (S, k, N, n)."""
        trunk = self.trunk
        out: list[Tensor] = []
        for j in range(self.top + 1):
            t = trunk.direct[j][:, self.samples][..., None] * self.delta[j][:, :, None]
            if j:
                t = t + self.push(j, trunk.d[j - 1][:, None] * out[-1], out)
            out.append(t)
        return out

    def inner(self, j: int, q: list[int], x: Tensor) -> Tensor:
        """σ_{a_q}(node j) · x, where x is (S, p, N, n): (S, p, N).

        Parameters
        ----------
        j : int
            Node.
        q : list of int, length p
            Functionals.
        x : Tensor, shape (S, p, N, n)
        """
        return torch.einsum("spn,spNn->spN", self.trunk.s[j][:, [self.samples[i] for i in q]], x)

    def bent(
        self, j: int, first: list[Tensor], q: list[int], r: list[int], plain: Tensor
    ) -> Tensor:
        """∂_q ∂_r σ(z) at node j from ∂_q ∂_r z there.

        Parameters
        ----------
        j : int
            Node.
        first : list of Tensor, shape (S, k, N, n)
            First tangents.
        q, r : list of int, length p
            Functionals of each pair.
        plain : Tensor, shape (S, p, N, n)
            Second tangents of z there.
        """
        curve = self.trunk.derivative(j, 2)[:, None] * first[j][:, q] * first[j][:, r]
        return curve + self.trunk.d[j][:, None] * plain

    def second(
        self, first: list[Tensor], q: list[int], r: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """∂_q ∂_r z at every node for the listed pairs (S, p, N, n), and ∂_q ∂_r σ(z) below the
        top.

        Parameters
        ----------
        first : list of Tensor, shape (S, k, N, n)
            First tangents.
        q, r : list of int, length p
            Functionals of each pair.
        """
        plain = [torch.zeros_like(first[0][:, q])]
        sigma: list[Tensor] = []
        for j in range(1, self.top + 1):
            sigma.append(self.bent(j - 1, first, q, r, plain[-1]))
            d = self.trunk.d[j - 1][:, None]
            below_q, below_r = d * first[j - 1][:, q], d * first[j - 1][:, r]
            # ∂_q W ∂_r σ and ∂_r W ∂_q σ, the gradient by W being δ σᵀ
            turned_q = self.delta[j][:, q, None] * self.inner(j - 1, q, below_r)[..., None]
            turned_r = self.delta[j][:, r, None] * self.inner(j - 1, r, below_q)[..., None]
            plain.append(self.push(j, sigma[-1], plain) + self.scale(j) * (turned_q + turned_r))
        return plain, sigma

    def bent_twice(
        self, j: int, first: list[Tensor], triples: Triples, plain2: list[Tensor], plain3: Tensor
    ) -> Tensor:
        """∂_q ∂_r ∂_s σ(z) at node j from the tangents of z there: (S, t, N, n).

        Parameters
        ----------
        j : int
        first : list of Tensor, shape (S, k, N, n)
        triples : Triples
        plain2 : list of Tensor, shape (S, p, N, n)
        plain3 : Tensor, shape (S, t, N, n)
            Tangents of z: first, second and third.
        """
        trunk = self.trunk
        a, b, c = (first[j][:, i] for i in triples.members)
        total = trunk.derivative(j, 3)[:, None] * a * b * c + trunk.d[j][:, None] * plain3
        for one, rest in zip((a, b, c), triples.others, strict=True):
            total = total + trunk.derivative(j, 2)[:, None] * one * plain2[j][:, rest]
        return total

    def third(
        self, first: list[Tensor], triples: Triples, plain2: list[Tensor], sigma2: list[Tensor]
    ) -> Tensor:
        """∂_q ∂_r ∂_s z at the top node: (S, t, N, n).

        Parameters
        ----------
        first : list of Tensor, shape (S, k, N, n)
        triples : Triples
        plain2, sigma2 : list of Tensor, shape (S, p, N, n)
            Second tangents of z and of σ(z).
        """
        plain = [torch.zeros_like(first[0][:, triples.members[0]])]
        for j in range(1, self.top + 1):
            t = self.push(j, self.bent_twice(j - 1, first, triples, plain2, plain[-1]), plain)
            for one, rest in zip(triples.members, triples.others, strict=True):
                dot = self.inner(j - 1, one, sigma2[j - 1][:, rest])
                t = t + self.scale(j) * self.delta[j][:, one, None] * dot[..., None]
            plain.append(t)
        return plain[-1]

    def moved(self, j: int, first: list[Tensor], k: int) -> Tensor:
        """∂_q z of node j at input a_p: (S, p, q, n).

        Parameters
        ----------
        j : int
            Node.
        first : list of Tensor, shape (S, k, N, n)
            First tangents.
        k : int
            So many functionals.
        """
        return first[j][:, :k][:, :, self.samples[:k]].transpose(1, 2)

    def gradient_gram(self, first: list[Tensor], k: int, turned: Tensor) -> Tensor:
        """⟨∂_q∇z_p, λ ∂_s∇z_r⟩ for the first k functionals: (S, k, k, k, k), slots p, q, r, s.

        ``turned``, (S, p, q, n), is ∂_q of the derivative δ_p at the top node; what its own map
        and those above it add is left out.

        Parameters
        ----------
        first : list of Tensor, shape (S, k, N, n)
            First tangents.
        k : int
            So many functionals.
        turned : Tensor, shape (S, k, k, n)
        """
        trunk = self.trunk
        S, at, shape = turned.shape[0], self.samples[:k], (turned.shape[0], k, k, k, k)

        def gram(x: Tensor, y: Tensor) -> Tensor:
            return x.reshape(S, -1, x.shape[-1]) @ y.reshape(S, -1, y.shape[-1]).mT

        total = turned.new_zeros(shape)
        skipped: dict[int, Tensor] = {}
        for j in range(self.top, -1, -1):
            delta, m = self.delta[j][:, :k], trunk.maps[j]
            direct = trunk.direct[j][:, at][:, :, at]
            total = total + gram(turned, turned).view(shape) * direct[:, :, None, :, None]
            if not j:
                break
            s_dot = trunk.d[j - 1][:, at, None] * self.moved(j - 1, first, k)
            s = trunk.s[j - 1][:, at]
            mixed = gram(turned, delta).view(S, k, k, k)  # p, q, r
            across = gram(s, s_dot).view(S, k, k, k)  # p, r, s
            one = mixed[..., None] * across[:, :, None]  # δ̇_pq·δ_r  σ_p·σ̇_rs
            both = (delta @ delta.mT)[:, :, None, :, None] * gram(s_dot, s_dot).view(shape)
            total = total + self.scale(j) * (one + one.permute(0, 3, 4, 1, 2) + both)
            n = turned.shape[-1]
            pulled = self.op[j].transpose(turned.reshape(S, -1, n)).view(S, k, k, -1)
            pulled = pulled + self.scale(j) * (delta @ delta.mT)[..., None] * s[:, None]
            if m.gamma:
                skipped[j - m.back] = m.gamma * turned
            turned = trunk.d[j - 1][:, at, None] * pulled
            turned = turned + self.bend(j - 1, first, k, self.back[j - 1][:, :k])
            if j - 1 in skipped:
                turned = turned + skipped.pop(j - 1)
        return total

    def bend(self, j: int, first: list[Tensor], k: int, back: Tensor) -> Tensor:
        """σ'' part of ∂_q δ_p at node j, ``back`` (S, p, n) the derivative by σ: (S, p, q, n).

        Parameters
        ----------
        j : int
            Node.
        first : list of Tensor, shape (S, k, N, n)
            First tangents.
        k : int
            So many functionals.
        back : Tensor, shape (S, k, n)
        """
        at = self.samples[:k]
        return self.trunk.derivative(j, 2)[:, at, None] * self.moved(j, first, k) * back[:, :, None]
