"""``kadanoff predict`` in the terminal."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from kadanoff.learning import DepthChoice
from kadanoff.style.numbers import percent, short, uncertain
from kadanoff.style.progress import console

__all__ = ["depth_choice", "show_depths", "show_prediction"]

_SHOWN = 10


def show_prediction(result: dict[str, Any]) -> None:
    """Print the first points, the errors, the time scales and what was measured beside them."""
    screen = console()
    screen.print(f"[bold]{result['architecture']}[/bold]", soft_wrap=True)
    when = "at the end of training" if math.isinf(result["t"]) else f"at t = {result['t']:g}"
    how = "posterior" if result["method"] == "bayes" else f"trained by gradient, {when}"
    screen.print(
        f"{result['data']}: {result['train']} training, {result['test']} test points; {how}; "
        f"order {result['order']}\n"
    )
    screen.print(_points(result["points"]))
    if len(result["points"]) > _SHOWN:
        screen.print(f"… and {len(result['points']) - _SHOWN} more (all with --json)")
    screen.print()
    _lines(screen, _errors(result))
    if result["method"] == "gradient":
        _lines(screen, _speed(result))
    if "loss_curve" in result:
        _loss(screen, result["loss_curve"])
    for note in result["notes"]:
        screen.print(note, style="dim", markup=False)


def _lines(screen: Console, lines: list[tuple[str, str]]) -> None:
    for name, value in lines:
        screen.print(f"{name:<40}{value}", markup=False)


def _points(points: list[dict[str, Any]]) -> Table:
    table = Table("test point", "prediction", "target", box=None, header_style="bold")
    for i, point in enumerate(points[:_SHOWN]):
        if "class" in point:
            table.add_row(str(i), f"class {point['class']}", f"class {point['target_class']}")
            continue
        shown = ", ".join(uncertain(mean, point["std"]) for mean in point["mean"])
        table.add_row(str(i), shown, ", ".join(short(target) for target in point["target"]))
    return table


def _errors(result: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    if "accuracy" in result:
        accuracy = uncertain(result["accuracy"], result["accuracy_stderr"])
        lines.append(("accuracy of the mean network", accuracy))
    lines.append(
        ("squared error of the mean", uncertain(result["mse_of_mean"], result["mse_stderr"]))
    )
    if "correction" in result:
        size = f"{short(result['correction'])} ± {short(result['numerical_error'])} (numerical)"
        lines.append(("order 1/n in the mean, rms", size))
    lines += [
        ("variance between networks", short(result["variance"])),
        ("expected error of one network", short(result["mse_of_one_network"])),
        ("error of predicting zero", short(result["mse_of_zero"])),
        ("targets within two std (noise included)", percent(result["inside_two_std"])),
        ("leave-one-out squared error", short(result.get("leave_one_out_mse"))),
    ]
    if result.get("log_evidence") is not None:
        lines.append(("log evidence", short(result["log_evidence"], 6)))
    return lines


def _speed(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Stability and time scales."""
    eta, batch = result["eta"], result["batch"]
    unit = "of gradient flow" if eta is None else f"in steps of {short(eta)}"
    learned = [f"{percent(r['share'])} in {short(r['time'])}" for r in result["labels_learned"]]
    lines = [("largest stable step, full batch", short(result["largest_stable_eta"]))]
    if batch is not None:
        edge = short(result["largest_stable_eta_of_batch"])
        lines.append((f"largest stable step, batch {batch}", edge))
    span = f"{short(result['fastest_time'])} to {short(result['slowest_time'])}"
    return [
        *lines,
        ("the same as lr of SGD on MSELoss", short(result["largest_stable_torch_lr"])),
        (f"time scales {unit}", span),
        ("labels fitted, of their square", ", ".join(learned)),
    ]


def _loss(screen: Console, curve: dict[str, Any]) -> None:
    screen.print(f"\nTraining loss of {curve['networks']} networks, step {short(curve['eta'])}:")
    table = Table("step", "predicted", "measured", box=None, header_style="bold")
    for step, predicted, measured, stderr in zip(
        curve["steps"], curve["predicted"], curve["measured"], curve["stderr"]
    ):
        table.add_row(str(step), short(predicted), uncertain(measured, stderr))
    screen.print(table)


def depth_choice(choice: DepthChoice) -> dict[str, Any]:
    """The comparison of depths, as it goes into the JSON."""
    rows = [
        {
            "hidden_layers": len(c.arch.widths),
            "ratio": c.ratio,
            "log_evidence_infinite_width": c.infinite_width,
            "log_evidence_order_1": c.order_1,
            "log_evidence": c.drawn,
            "log_evidence_stderr": c.stderr,
            "effective_draws": c.effective,
            "information_ratio": ratio,
        }
        for c, ratio in zip(choice.candidates, choice.information_ratio, strict=True)
    ]
    return {
        "candidates": rows,
        "best_by_evidence": choice.by_evidence,
        "undecided": choice.undecided,
        "best_by_information": choice.by_information,
    }


def show_depths(choice: DepthChoice) -> None:
    """Print the evidence of each network and the ratio of maximal information."""
    table = Table(
        "hidden layers",
        "L/n",
        "log p, wide",
        "order 1/n",
        "this width",
        "draws that count",
        "L/n of most information",
        box=None,
        header_style="bold",
    )
    for k, (c, ratio) in enumerate(zip(choice.candidates, choice.information_ratio, strict=True)):
        table.add_row(
            str(len(c.arch.widths)),
            short(c.ratio),
            short(c.infinite_width, 5),
            short(c.order_1, 5),
            uncertain(c.drawn, c.stderr),
            short(c.effective),
            short(ratio),
            style="bold" if k == choice.by_evidence else None,
        )
    screen = console()
    screen.print(table)
    near = [str(len(choice.candidates[k].arch.widths)) for k in choice.undecided]
    screen.print(
        f"\nThe labels are most probable with {', '.join(near)} hidden layers"
        + (" (not told apart)." if len(near) > 1 else ".")
    )
    chosen = choice.candidates[choice.by_information]
    screen.print(
        "Closest to the ratio at which outputs share the most information: "
        f"{len(chosen.arch.widths)} hidden layers."
    )
