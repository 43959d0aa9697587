"""``kadanoff predict``: what the trained networks will say, before any is trained."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonFile, JsonFlag, Output
from kadanoff.cli.predict_more import (
    compare_depths,
    measured_loss,
    show_loss,
    show_speed,
    speed,
)
from kadanoff.errors import DataError, UsageError


def command(
    data: opt.Data = "diabetes",
    train: Annotated[int, typer.Option(help="Training points.", min=1)] = 200,
    test: Annotated[int, typer.Option(help="Test points.", min=1)] = 50,
    activation: opt.Activation = "relu",
    depth: opt.Depth = 3,
    width: opt.Width = 256,
    C_b: opt.Bias = None,
    C_W: opt.Weight = None,
    order: Annotated[int, typer.Option(help="0: infinite width; 1: adds 1/n (<= 64 points).")] = 0,
    method: Annotated[str, typer.Option(help="gradient or bayes.")] = "gradient",
    time: Annotated[float, typer.Option(help="Steps or time of training; inf is the end.")] = (
        math.inf
    ),
    eta: Annotated[float | None, typer.Option(help="Step of descent; flow if absent.")] = None,
    ridge: Annotated[float, typer.Option(help="Regulariser of the descent.")] = 0.0,
    noise: Annotated[float, typer.Option(help="Label noise variance, for bayes.")] = 0.0,
    algorithm: Annotated[
        str, typer.Option(help="gradient or giant_leap; at order 1 they differ.")
    ] = "gradient",
    batch: Annotated[
        int | None, typer.Option(help="Mini-batch for the largest stable step.", min=1)
    ] = None,
    networks: Annotated[
        int, typer.Option(help="Also train this many networks: measured loss beside predicted.")
    ] = 0,
    depths: Annotated[
        str | None,
        typer.Option(help="Hidden layers to compare by evidence and information, e.g. 1,2,4."),
    ] = None,
    seed: opt.Seed = 0,
    progress: opt.Progress = "auto",
    as_json: JsonFlag = False,
    json_file: JsonFile = None,
) -> None:
    """Predict the outputs of trained networks on test points, with error bars, beside the targets.

    Example: `kadanoff predict --activation relu --depth 3 --data diabetes --train 200 --test 50`
    """
    from kadanoff.learning import predict
    from kadanoff.learning.prediction import blocks
    from kadanoff.style.progress import reporting

    output = Output("predict", as_json, json_file)
    X, y, names = _data(data, train + test, seed)
    if depths is not None:
        nets = [
            _architecture(X.shape[1], y, activation, d + 1, width, C_b, C_W)
            for d in opt.integers(depths, "--depths")
        ]
        with reporting(progress, "comparing depths") as report:
            compare_depths(nets, X[:train], y[:train], noise, seed, report, output)
        return
    arch = _architecture(X.shape[1], y, activation, depth, width, C_b, C_W)
    with reporting(progress, "evaluating the 1/n tensors") as report:
        found = predict(
            arch,
            X[:train],
            y[:train],
            X[train:],
            order=order,
            method=method,
            t=time,
            eta=eta,
            ridge=ridge,
            noise=noise,
            algorithm=algorithm,
            progress=report,
        )
    target = y[train:]
    result: dict[str, Any] = {
        "architecture": repr(arch),
        "data": data,
        "train": train,
        "test": test,
        "order": order,
        "method": method,
        "t": time,
        "eta": eta,
        "notes": [*names, *found.notes],
    }
    scored = target
    if found.classes is not None:
        scored = (target[:, None] == found.classes[None]).double()
        result["accuracy"] = float((found.labels == target).double().mean())
        share = result["accuracy"]
        result["accuracy_stderr"] = math.sqrt(share * (1 - share) / test)
    result |= _errors(found, scored)
    b = blocks(arch, arch.inputs(X[:train]), _onehot(y[:train], arch.n_out), arch.inputs(X[train:]))
    result |= speed(b.Theta_AA, b.y, eta, batch)
    if method == "bayes":
        result["log_evidence"] = found.log_evidence
    if found.leave_one_out is not None:
        result["leave_one_out_mse"] = found.leave_one_out.mean_squared_error
    if networks:
        if method == "bayes":
            raise UsageError("The posterior is not trained.", "Leave --networks out.")
        with reporting(progress, "training networks") as report:
            result["loss_curve"] = measured_loss(
                arch, X[:train], y[:train], eta, time, ridge, networks, seed,
                result["largest_stable_eta"], report,
            )  # fmt: skip
    result["points"] = [
        {"mean": m, "std": s, "target": t}
        for m, s, t in zip(found.mean.tolist(), found.std.tolist(), scored.tolist())
    ]
    if order == 1:
        result |= _order_1(found, width)
    output.write(result)
    if output.for_people:
        _show(result, found.labels.tolist() if found.classes is not None else None, target)
    output.say_where()


def _data(name: str, count: int, seed: int) -> tuple[Any, Any, list[str]]:
    batch = opt.table(name, count, seed)
    X, y = batch.inputs.double(), batch.targets
    if y is None:
        raise DataError(f"{name!r} has no targets to predict.", "Give a file with X and y.")
    if X.shape[0] < count:
        raise DataError(
            f"{name!r} has {X.shape[0]} points, fewer than train + test = {count}.",
            "Lower --train or --test.",
        )
    notes = list(batch.notes)
    if y.dtype.is_floating_point:
        y = y.double().reshape(count, -1)
        mean, std = y.mean(0), y.std(0)
        if float((mean.abs() / std.clamp_min(1e-12)).max()) > 0.5 or float(std.max()) > 3:
            y = (y - mean) / std.clamp_min(1e-12)
            notes.append("targets standardised")
    return X, y, notes


def _onehot(y: Any, n_out: int) -> Any:
    from kadanoff.learning import as_targets

    return as_targets(y, y.shape[0], n_out).y


def _architecture(n_in, y, activation, depth, width, C_b, C_W) -> Any:
    C_b, C_W = opt.variances(activation, C_b, C_W)
    n_out = y.shape[1] if y.ndim > 1 else int(y.max()) + 1
    return opt.network(n_in, width, depth, n_out, activation, C_b=C_b, C_W=C_W)


def _order_1(found: Any, width: int) -> dict[str, Any]:
    """Size of the correction, of each of its terms, and its numerical error."""
    names = ("mean_1",) if found.method == "bayes" else ("Delta_H", "dH", "ddI", "ddII", "H1")
    whole = (
        found.mean - found.terms["infinite_width" if "infinite_width" in found.terms else "mean_0"]
    )
    return {
        "width": width,
        "correction": float(whole.norm() / whole.numel() ** 0.5),
        "correction_terms": {
            name: float(found.terms[name].norm() / whole.numel() ** 0.5) for name in names
        },
        "numerical_error": float(found.terms["quadrature_error"].max()),
    }


def _errors(found: Any, target: Any) -> dict[str, float]:
    squares = ((found.mean - target.reshape(found.mean.shape)) ** 2).mean(1)
    bias, variance = found.expected_error(target)
    inside = (found.mean - target.reshape(found.mean.shape)).abs() <= 2 * found.std[:, None]
    return {
        "mse_of_mean": bias,
        # one test point has no spread
        "mse_stderr": float(squares.std()) / math.sqrt(len(squares))
        if len(squares) > 1
        else math.nan,
        "variance": variance,
        "mse_of_one_network": bias + variance,
        "mse_of_zero": float((target**2).mean()),
        "inside_two_std": float(inside.double().mean()),
    }


def _show(result: dict[str, Any], labels: Any, target: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from kadanoff.style.numbers import percent, short, uncertain

    console = Console()
    console.print(f"[bold]{result['architecture']}[/bold]", highlight=False)
    when = "at the end of training" if math.isinf(result["t"]) else f"at t = {result['t']:g}"
    how = "posterior" if result["method"] == "bayes" else f"trained by gradient, {when}"
    console.print(
        f"{result['data']}: {result['train']} training, {result['test']} test points; {how}; "
        f"order {result['order']}\n",
        highlight=False,
    )
    table = Table("test point", "prediction", "target", box=None, header_style="bold")
    for i, point in enumerate(result["points"][:10]):
        if labels is not None:
            table.add_row(str(i), f"class {labels[i]}", f"class {int(target[i])}")
        else:
            shown = ", ".join(uncertain(m, point["std"]) for m in point["mean"])
            table.add_row(str(i), shown, ", ".join(short(t) for t in point["target"]))
    console.print(table)
    if len(result["points"]) > 10:
        console.print(f"… and {len(result['points']) - 10} more (all with --json)")
    console.print()
    if "accuracy" in result:
        console.print(
            f"{'accuracy of the mean network':<40}"
            + uncertain(result["accuracy"], result["accuracy_stderr"]),
            highlight=False,
        )
    lines = [
        ("squared error of the mean", uncertain(result["mse_of_mean"], result["mse_stderr"])),
        ("variance between networks", short(result["variance"])),
        ("expected error of one network", short(result["mse_of_one_network"])),
        ("error of predicting zero", short(result["mse_of_zero"])),
        ("targets within two std", percent(result["inside_two_std"])),
        ("leave-one-out squared error", short(result.get("leave_one_out_mse"))),
    ]
    if "correction" in result:
        size = f"{short(result['correction'])} ± {short(result['numerical_error'])} (numerical)"
        lines.insert(1, ("order 1/n in the mean, rms", size))
    if result.get("log_evidence") is not None:
        lines.append(("log evidence", short(result["log_evidence"], 6)))
    for name, value in lines:
        console.print(f"{name:<40}{value}", highlight=False)
    if result["method"] == "gradient":
        show_speed(console, result, result["eta"])
    if "loss_curve" in result:
        show_loss(console, result["loss_curve"])
    for note in result["notes"]:
        console.print(f"[dim]{note}[/dim]", highlight=False)
