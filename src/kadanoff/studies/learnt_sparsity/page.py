"""What the page says, in order: each section asks for its parts, decides, shows."""

from __future__ import annotations

from kadanoff.studies.lab import Lab
from kadanoff.studies.learnt_sparsity import decisions, figures, parts
from kadanoff.studies.learnt_sparsity.claims import BITS, KEPT

__all__ = ["run"]


def run(lab: Lab) -> None:
    """Run the study."""
    seeds = range(lab.seed, lab.seed + lab.pick(quick=3, full=8))
    lab.plan(2 * len(seeds))
    steps = lab.pick(quick=150, full=1000)
    on_bits = [lab.part(f"bits {s}", parts.function_on_bits, BITS, KEPT, steps, s) for s in seeds]
    decisions.functions(lab, on_bits)
    lab.say(
        "The learnt function in the basis of parities",
        rf"""
        Digits, {BITS} pixels of each as bits, even or odd: a network that has learnt them is a
        function on $2^{{{BITS}}}$ corners, and its Walsh transform is the Hamiltonian of a spin
        system with that many possible couplings. The effective number of couplings,
        $\exp$ of the entropy of the squared spectrum, is counted for the network at random, after
        training on real labels, and after it has memorised the same labels shuffled. Most corners
        are no image at all: what a network says there is its own.
        """,
    )
    rows = [
        [
            str(k),
            *(r["couplings"][name] for name in ("random", "real labels", "shuffled labels")),
            *(r[name] for name in ("accuracy", "accuracy few", "one class", "linear")),
            r["15 neighbours"],
        ]
        for k, r in enumerate(on_bits)
    ]
    lab.table(
        "Effective couplings and held-out accuracy, seed by seed",
        [
            "seed",
            "random",
            "real labels",
            "shuffled",
            "accuracy",
            f"with {KEPT} couplings",
            "one class",
            "linear rule",
            "15 neighbours",
        ],
        rows,
    )
    lab.figure(
        "spectra.svg",
        figures.spectra(on_bits),
        "Walsh spectra of one network at random, trained on real labels and on shuffled ones.",
    )
    depth, width = lab.pick(quick=(4, 48), full=(6, 64))
    layers = [
        lab.part(f"classifier {s}", parts.classifier, depth, width, 2 * steps, s) for s in seeds
    ]
    decisions.flow(lab, layers)
    lab.say(
        "From layer to layer",
        """
        Depth as the scale of a renormalisation group: each layer of a classifier of all ten digits
        keeps some directions of the images and drops others. The effective number of dimensions
        of the Gram matrix on held-out images, layer by layer, before and after training.
        """,
    )
    lab.figure(
        "flow.svg",
        figures.flow(layers),
        "Effective dimensions of held-out images, layer by layer: a random critical network and "
        "the same one trained.",
    )
    lab.say(
        "The kernel before and after",
        """
        At infinite width the tangent kernel does not move. Here it does, and it turns: a larger
        share of the labels lies in its leading eigenvectors after training.
        """,
    )
