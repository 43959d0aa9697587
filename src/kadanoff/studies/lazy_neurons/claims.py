"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim

__all__ = ["CLAIMS"]

CLAIMS = (
    Claim("init", "At initialisation half of the hidden units fire, in percent.", 50.0),
    Claim("emergence", "Training makes MLP blocks of Transformers sparse."),
    Claim("few", "In trained Transformers a few percent of the hidden units fire.", 3.0),
    Claim("alive", "The rest is not dead: every neuron fires for some input.", 0.0),
    Claim("unseen", "The active fraction is the same on training and on unseen data.", 0.0),
    Claim("middle", "The first and last blocks are denser than those between."),
    Claim("wider", "A wider MLP has a smaller percentage of active neurons."),
    Claim("count", "A wider MLP has a larger number of active neurons."),
    Claim("deeper", "A deeper Transformer is sparser."),
    Claim("labels", "Sparsity emerges with random labels."),
    Claim("images", "Sparsity emerges with random images."),
    Claim("symbols", "Sparsity emerges on random inputs that can only be memorised."),
    Claim("endless", "Sparsity emerges with endless data, where nothing is seen twice."),
    Claim("mlp", "Sparsity emerges in plain MLPs as well.", source="secondary"),
    Claim("drift", "At initialisation the mean gradient lowers every active neuron."),
    Claim("drift-ce", "Its size for cross-entropy, over the closed form.", 1.0, "derived"),
    Claim("drift-mse", "Its size for the squared error, over the closed form.", 1.0, "derived"),
    Claim("parity", "Top-k training loses no quality on text.", 0.0),
    Claim("clean", "Top-k training loses no accuracy on images, in points.", -0.02),
    Claim("noise-40", "Top-k is more accurate after 40% label noise, in points.", 2.69),
    Claim("noise-80", "Top-k is more accurate after 80% label noise, in points.", 5.45),
    Claim("gaussian", "Top-k is more robust to Gaussian corruption, in points.", 2.75),
    Claim("impulse", "Top-k is more robust to impulse corruption, in points.", 2.70),
    Claim("ece", "Top-k has a lower calibration error, in points.", -0.94),
    Claim("time", "Top-k shortens decoding, in percent of the time a token.", 10.0),
)
