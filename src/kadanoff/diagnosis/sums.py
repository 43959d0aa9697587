"""Sums inside branches: streams beside the main chain, as in a decoder or under a U-Net's skips."""

from __future__ import annotations

from kadanoff.diagnosis.result import Estimate, LayerReport
from kadanoff.diagnosis.surveying import Survey
from kadanoff.trace.layers import Call
from kadanoff.trace.statistics import mean_and_error

__all__ = ["branch_sums", "residual"]


def branch_sums(found: Survey) -> tuple[LayerReport, ...]:
    """Residual sums that do not carry the whole signal of the model.

    ``index`` is that of the report before which nothing lies between: they stand after it.
    """
    reports, index = [], 0
    for position, call in enumerate(found.calls):
        if call.kind not in ("linear", "recurrent", "add") or call.statistics is None:
            continue
        if call.kind != "add" or call.on_chain:
            index += 1
            continue
        if not residual(call):
            continue
        statistics = call.statistics
        back = found.to_output.get(position)
        correlated = statistics.correlation.numel() > 1
        reports.append(
            LayerReport(
                index=index,
                path=call.path,
                op=call.op,
                call_index=call.call_index,
                role="stream",
                parameter=None,
                fan_in=0,
                fan_out=statistics.shape[call.channel],
                activation=call.activation,
                normalised=call.normalised,
                residual=True,
                mean=Estimate(*mean_and_error(statistics.mean)),
                second_moment=Estimate(*mean_and_error(statistics.second_moment)),
                correlation=Estimate(*mean_and_error(statistics.correlation, True))
                if correlated
                else None,
                jacobian_to_output=None if back is None else Estimate(*mean_and_error(back)),
            )
        )
    return tuple(reports)


def residual(call: Call) -> bool:
    """Whether a sum joins two ways: not the one inside an activation or a rotation."""
    shapes = [source.shape for source in call.sources]
    return len(shapes) > 1 and call.shape in shapes
