"""Activation sparsity: measure it, train it in, and turn it into speed.

``backends``    Ways to read only the weight rows that are needed; all offer the same operations
``blocks``      The MLP blocks of a model as data: their matrices, the function between
``calibrate``   Timing dense against sparse on this machine
``convert``     Turn a trained model into one whose hidden activations are mostly exact zeros
``inputs``      What a user may pass as data, brought to one form
``keep``        Keeping few activations: Top-k and magnitude thresholds, as functions
``page``        The HTML report of `kadanoff sparsity`
``plans``       For each MLP block: the ways in which it could run, and why it may not
``predictor``   A low-rank guess of the active set, so that the first matrix can be skipped too
``profiles``    How few neurons fire: the activation profile of a model on data
``report``      Everything about a model's sparsity on given data at once
``screen``      Find out which neurons cannot fire from a quarter of the first matrix
``skip``        Forward passes that read only the weight rows they need
``speed``       Swap MLP blocks for ones that skip what is inactive
``statistics``  Counts of active neurons, gathered batch by batch
``structure``   Finding hidden activations by data flow: no module's name or class is looked at
``theory``      What theory says about sparsity: the fraction active at initialisation
``traffic``     FLOPs and bytes that a token, or a batch, could skip
"""

from __future__ import annotations

from kadanoff.sparsity.calibrate import bandwidth as bandwidth
from kadanoff.sparsity.convert import Sparsification as Sparsification
from kadanoff.sparsity.convert import relufy as relufy
from kadanoff.sparsity.convert import sparsification_of as sparsification_of
from kadanoff.sparsity.convert import sparsify as sparsify
from kadanoff.sparsity.keep import Threshold as Threshold
from kadanoff.sparsity.keep import TopK as TopK
from kadanoff.sparsity.keep import TopKMLP as TopKMLP
from kadanoff.sparsity.keep import threshold as threshold
from kadanoff.sparsity.keep import topk as topk
from kadanoff.sparsity.profiles import LayerProfile as LayerProfile
from kadanoff.sparsity.profiles import Profile as Profile
from kadanoff.sparsity.profiles import profile as profile
from kadanoff.sparsity.profiles import profile_checkpoints as profile_checkpoints
from kadanoff.sparsity.speed import Acceleration as Acceleration
from kadanoff.sparsity.speed import BlockChoice as BlockChoice
from kadanoff.sparsity.speed import accelerate as accelerate
from kadanoff.sparsity.speed import acceleration_of as acceleration_of
from kadanoff.sparsity.speed import restore as restore
from kadanoff.sparsity.theory import drift as drift
from kadanoff.sparsity.theory import drift_monte_carlo as drift_monte_carlo
from kadanoff.sparsity.theory import fraction_at_init as fraction_at_init
from kadanoff.sparsity.theory import measure_drift as measure_drift
from kadanoff.sparsity.traffic import BytesReport as BytesReport
from kadanoff.sparsity.traffic import bytes_report as bytes_report

__all__ = [
    "Acceleration",
    "BlockChoice",
    "BytesReport",
    "LayerProfile",
    "Profile",
    "Sparsification",
    "Threshold",
    "TopK",
    "TopKMLP",
    "accelerate",
    "acceleration_of",
    "bandwidth",
    "bytes_report",
    "drift",
    "drift_monte_carlo",
    "fraction_at_init",
    "measure_drift",
    "profile",
    "profile_checkpoints",
    "relufy",
    "restore",
    "sparsification_of",
    "sparsify",
    "threshold",
    "topk",
]
