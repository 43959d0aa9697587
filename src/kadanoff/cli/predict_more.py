"""Further views of ``kadanoff predict``: depths by evidence, the loss curve of real networks."""

from __future__ import annotations

import math
from typing import Any

from kadanoff.cli.output import Output
from kadanoff.errors import UsageError

__all__ = ["compare_depths", "measured_loss", "show_loss"]

_LONGEST = 10_000


def compare_depths(
    nets: list[Any], X: Any, y: Any, noise: float, seed: int, report: Any, output: Output
) -> None:
    """Print the evidence of each network and the ratio of maximal information."""
    from rich.table import Table

    from kadanoff.learning import choose_depth
    from kadanoff.learning.prediction import MAX_TRAIN_ORDER_1
    from kadanoff.report.numbers import short, uncertain
    from kadanoff.report.progress import console

    if len(X) > MAX_TRAIN_ORDER_1:
        raise UsageError(
            f"--depths compares at order 1/n, which takes at most {MAX_TRAIN_ORDER_1} points; "
            f"--train is {len(X)}.",
            f"Pass --train {MAX_TRAIN_ORDER_1}.",
        )
    choice = choose_depth(nets, X, y, noise, seed=seed, progress=report)
    if output.as_json:
        rows = [
            {
                "hidden_layers": len(c.arch.widths),
                "ratio": c.ratio,
                "log_evidence_infinite_width": c.infinite_width,
                "log_evidence_order_1": c.order_1,
                "log_evidence": c.drawn,
                "log_evidence_stderr": c.stderr,
                "effective_draws": c.effective,
                "information_ratio": r,
            }
            for c, r in zip(choice.candidates, choice.information_ratio, strict=True)
        ]
        found = {
            "candidates": rows,
            "best_by_evidence": choice.by_evidence,
            "undecided": choice.undecided,
            "best_by_information": choice.by_information,
        }
        output.write(found)
        output.say_where()
    if not output.for_people:
        return
    out = console()
    table = Table(
        "hidden layers", "L/n", "log p, wide", "order 1/n", "this width", "draws that count",
        "L/n of most information", box=None, header_style="bold",
    )  # fmt: skip
    for k, (c, r) in enumerate(zip(choice.candidates, choice.information_ratio, strict=True)):
        style = "bold" if k == choice.by_evidence else None
        table.add_row(
            str(len(c.arch.widths)), short(c.ratio), short(c.infinite_width, 5),
            short(c.order_1, 5), uncertain(c.drawn, c.stderr), short(c.effective), short(r),
            style=style,
        )  # fmt: skip
    out.print(table)
    near = [str(len(choice.candidates[k].arch.widths)) for k in choice.undecided]
    out.print(
        f"\nThe labels are most probable with {', '.join(near)} hidden layers"
        + (" (not told apart)." if len(near) > 1 else ".")
    )
    chosen = choice.candidates[choice.by_information]
    out.print(
        f"Closest to the ratio at which outputs share the most information: "
        f"{len(chosen.arch.widths)} hidden layers."
    )


def measured_loss(
    arch: Any,
    X: Any,
    y: Any,
    eta: float | None,
    time: float,
    ridge: float,
    networks: int,
    seed: int,
    edge: float,
    report: Any,
) -> dict[str, Any]:
    """Predicted loss beside that of real networks; half the largest stable step by default."""
    from kadanoff.learning import loss_curve

    step = 0.5 * edge if eta is None else eta
    length = time if eta is not None else time / step
    steps = 1000 if math.isinf(length) else max(1, round(length))
    if steps > _LONGEST:
        raise UsageError(
            f"{steps} steps of {networks} networks would take long.", f"Pass --time <= {_LONGEST}."
        )
    curve = loss_curve(
        arch, X, y, eta=step, steps=steps, networks=networks, ridge=ridge, seed=seed,
        points=12, progress=report,
    )  # fmt: skip
    assert curve.measured is not None
    assert curve.stderr is not None
    return {
        "eta": step,
        "networks": networks,
        "steps": curve.steps.tolist(),
        "predicted": curve.predicted.tolist(),
        "measured": curve.measured.tolist(),
        "stderr": curve.stderr.tolist(),
    }


def show_loss(console: Any, curve: dict[str, Any]) -> None:
    """Print the curve as a table."""
    from rich.table import Table

    from kadanoff.report.numbers import short, uncertain

    console.print(
        f"\nTraining loss of {curve['networks']} networks, step {short(curve['eta'])}:",
        highlight=False,
    )
    table = Table("step", "predicted", "measured", box=None, header_style="bold")
    for row in zip(curve["steps"], curve["predicted"], curve["measured"], curve["stderr"]):
        table.add_row(str(row[0]), short(row[1]), uncertain(row[2], row[3]))
    console.print(table)
