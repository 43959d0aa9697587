"""A model and a batch in, a diagnosis out: measurements, predictions, findings."""

from __future__ import annotations

from kadanoff.diagnosis.measure import diagnose as diagnose
from kadanoff.diagnosis.result import Diagnosis as Diagnosis
from kadanoff.diagnosis.result import Estimate as Estimate
from kadanoff.diagnosis.result import Finding as Finding
from kadanoff.diagnosis.result import LayerReport as LayerReport
from kadanoff.diagnosis.result import ParameterReport as ParameterReport

__all__ = [
    "Diagnosis",
    "Estimate",
    "Finding",
    "LayerReport",
    "ParameterReport",
    "diagnose",
]
