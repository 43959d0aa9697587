"""Further views of ``kadanoff predict``: depths by evidence, the loss curve of real networks."""

from __future__ import annotations

import math
from typing import Any

from kadanoff.cli.output import Output
from kadanoff.errors import UsageError

__all__ = ["compare_depths", "measured_loss", "show_loss", "show_speed", "speed"]

_LONGEST = 10_000


def compare_depths(
    nets: list[Any], X: Any, y: Any, noise: float, seed: int, report: Any, output: Output
) -> None:
    """Print the evidence of each network and the ratio of maximal information."""
    from rich.table import Table

    from kadanoff.learning import choose_depth
    from kadanoff.learning.prediction import MAX_TRAIN_ORDER_1
    from kadanoff.style.numbers import short, uncertain
    from kadanoff.style.progress import console

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

    from kadanoff.style.numbers import short, uncertain

    console.print(
        f"\nTraining loss of {curve['networks']} networks, step {short(curve['eta'])}:",
        highlight=False,
    )
    table = Table("step", "predicted", "measured", box=None, header_style="bold")
    for row in zip(curve["steps"], curve["predicted"], curve["measured"], curve["stderr"]):
        table.add_row(str(row[0]), short(row[1]), uncertain(row[2], row[3]))
    console.print(table)


def speed(theta: Any, y: Any, eta: float | None, batch: int | None) -> dict[str, Any]:
    """Stability and time scales of training, read off the NTK of the training points."""
    from kadanoff.learning import largest_stable_rate, modes, torch_rate

    found = modes(theta, y, eta)
    result: dict[str, Any] = {
        "largest_stable_eta": found.largest_stable_rate,
        "largest_stable_torch_lr": torch_rate(
            largest_stable_rate(theta, batch, reduction="mean"), y.shape[1]
        ),
        "batch": batch,
        "fastest_time": float(found.time[0]),
        "slowest_time": float(found.time[-1]),
        "labels_learned": [],
    }
    if batch is not None:
        result["largest_stable_eta_of_batch"] = largest_stable_rate(theta, batch)
    assert found.label_share is not None
    for share in (0.5, 0.9, 0.99):
        time = _learned(found.time, found.label_share, share)
        result["labels_learned"].append({"share": share, "time": time})
    return result


def _learned(times: Any, shares: Any, wanted: float) -> float:
    """When so much of the labels' square is fitted: a mode's error falls by e in its time."""
    if float(shares[times < math.inf].sum()) < wanted:
        return math.inf
    finite = times[(times > 0) & (times < math.inf)]
    if not len(finite):
        return 0.0
    low, high = math.log(float(finite.min())) - 10, math.log(float(finite.max())) + 5
    for _ in range(50):
        middle = 0.5 * (low + high)
        left = float((shares * (-2 * math.exp(middle) / times).exp()).sum())
        low, high = (middle, high) if left > 1 - wanted else (low, middle)
    return math.exp(high)


def show_speed(console: Any, result: dict[str, Any], eta: float | None) -> None:
    """Print stability and time scales."""
    from kadanoff.style.numbers import percent, short

    unit = "of gradient flow" if eta is None else f"in steps of {short(eta)}"
    batch = result["batch"]
    learned = [f"{percent(r['share'])} in {short(r['time'])}" for r in result["labels_learned"]]
    lines = [("largest stable step, full batch", short(result["largest_stable_eta"]))]
    if batch is not None:
        lines.append(
            (f"largest stable step, batch {batch}", short(result["largest_stable_eta_of_batch"]))
        )
    lines += [
        ("the same as lr of SGD on MSELoss", short(result["largest_stable_torch_lr"])),
        (
            f"time scales {unit}",
            f"{short(result['fastest_time'])} to {short(result['slowest_time'])}",
        ),
        ("labels fitted, of their square", ", ".join(learned)),
    ]
    for name, value in lines:
        console.print(f"{name:<40}{value}", highlight=False)
