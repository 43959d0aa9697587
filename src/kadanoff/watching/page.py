"""The film as one HTML page: every signal by step and depth, findings as events."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kadanoff.style.html import (
    Raw,
    Section,
    callout,
    cards,
    details,
    figure_block,
    grid,
    table,
)
from kadanoff.style.html import (
    page as whole,
)
from kadanoff.style.json import versions
from kadanoff.style.numbers import short
from kadanoff.watching.pictures import SIGNALS, courses, heat

if TYPE_CHECKING:
    from kadanoff.watching.film import Event, Film, Series

__all__ = ["film_page", "lazy_or_learning", "noise_scale"]

_KINDS = {"critical": "bad", "warning": "warn", "note": "info"}
AVERAGED = 10  # looks over which the noise scale is taken


def film_page(film: Film) -> str:
    """The film as HTML, without a single outside reference.

    Parameters
    ----------
    film : Film
    """
    loud = [e for e in film.events if e.finding.severity != "note"]
    sections = [Section("Key numbers", _cards(film))]
    if film.events:
        sections.append(Section("Events", Raw("".join(map(_event, film.events)))))
    sections.append(Section("The loss", _loss(film)))
    pictures = [_heat(film, signal) for signal in SIGNALS if film.names(signal)]
    if pictures:
        sections.append(Section("By step and depth", grid(pictures)))
    whole_model = list(_whole(film))
    if whole_model:
        sections.append(Section("The model as a whole", grid(whole_model)))
    sections.append(Section("All looks", details("Numbers of each look", _numbers(film))))
    for note in film.notes:
        sections[0] = Section(sections[0].title, Raw(sections[0].body + callout("info", note)))
    steps = f"{film.step:,} steps, a look every {film.every:,}"
    made = versions()
    return whole(
        f"{film.model} while it trained",
        sections,
        subtitle=", ".join(part for part in (film.recipe, film.precision, steps) if part),
        verdict=_verdict(film, loud),
        footer=f"kadanoff {made['kadanoff']}, torch {made['torch']}. On the dashed lines something "
        "was found.",
    )


def noise_scale(film: Film) -> float:
    """tr Σ / |G|² of the latest looks: the batch at which noise and signal are equal.

    Parameters
    ----------
    film : Film

    Returns
    -------
    float
        NaN where the gradient does not stand out from its noise.
    """
    variances = film.scalar("gradient_variance", 2 * AVERAGED)[1][-AVERAGED:]
    squares = film.scalar("gradient_squared", 2 * AVERAGED)[1][-AVERAGED:]
    if not squares or not sum(squares) > 0:
        return math.nan
    return sum(variances) / sum(squares)


def lazy_or_learning(radii: float) -> str:
    """Lazy or learning features, in words.

    Parameters
    ----------
    radii : float
        Distance from initialisation in units of the kernel regime.
    """
    if math.isnan(radii):
        return ""
    return "lazy" if radii < 0.1 else "learns features" if radii > 1 else "between"


def _verdict(film: Film, loud: list[Event]) -> str:
    if not loud:
        return callout("good", f"nothing was found in {film.step:,} steps")
    worst = next((e for e in loud if e.finding.severity == "critical"), loud[0])
    more = f"{len(loud) - 1} more below" if len(loud) > 1 else ""
    return callout(
        _KINDS[worst.finding.severity],
        str(worst),
        more,
        worst.finding.remedy,
        worst.finding.severity,
    )


def _last(film: Film, name: str) -> float:
    values = film.scalar(name)[1]
    return values[-1] if values else math.nan


def _cards(film: Film) -> str:
    _, losses = film.losses()
    radii, over = _last(film, "kernel_radii"), _last(film, "sharpness_over_edge")
    fell = f"{short(losses[0])} → {short(losses[-1])}" if losses else "-"
    found = [
        ("steps", f"{film.step:,}", f"{len(film.frames)} looks"),
        ("training loss", fell, "first and last pulse"),
        ("findings", sum(e.finding.severity != "note" for e in film.events), "beyond notes"),
        ("sharpness over edge", short(over), "1: the largest stable rate"),
        ("noise scale", short(noise_scale(film)), "samples at which noise equals signal"),
        ("kernel radii", short(radii), lazy_or_learning(radii)),
        ("drift of the NTK", short(_last(film, "ntk_drift")), "over its first norm"),
    ]
    return cards(item for item in found if item[1] != "-")


def _event(event: Event) -> str:
    finding = event.finding
    follows = f", follows from {', '.join(finding.because_of)}" if finding.because_of else ""
    return callout(
        _KINDS[finding.severity],
        str(event),
        "" if follows else finding.cause,
        "" if follows else finding.remedy,
        f"{finding.severity} · {finding.id} {finding.code}{follows}",
    )


def _loss(film: Film) -> str:
    series = {"training, mean since the last pulse": film.losses()}
    watched = film.scalar("loss")
    if watched[0] and film.pulses:
        series["on the watched batch"] = watched
    svg = courses(film, series, "Loss", "Loss against step.", logarithm=True, unit="loss")
    return figure_block(svg, "Training loss, and the loss on the batch that is watched.")


def _heat(film: Film, signal: str) -> str:
    title, said, _ = SIGNALS[signal]
    return figure_block(heat(film, signal), f"{said[0].upper()}{said[1:]}.", title)


def _whole(film: Film) -> Iterator[str]:
    """Courses of what belongs to the model as a whole, where they were measured."""
    ratio = film.scalar("sharpness_over_edge")
    if ratio[0]:
        svg = courses(
            film,
            {"sharpness / edge": ratio},
            "Sharpness over edge",
            "Above 1 steps overshoot.",
            level=1.0,
        )
        yield figure_block(
            svg,
            "Largest curvature met over the one at which the optimiser becomes unstable: 2/η, "
            "2(1+β)/η, or preconditioned for Adam. Training often goes on at 1.",
            "Sharpness over the edge",
        )
    groups = {
        name: film.layer("group_update_ratio", name) for name in film.names("group_update_ratio")
    }
    if groups:
        svg = courses(film, groups, "Updates", "Update over weight of each group.", logarithm=True)
        yield figure_block(svg, "|Δw|/|w| of each parameter group.", "Update over weight")
    gradient = _gradients(film)
    if gradient[0]:
        svg = courses(
            film, {"gradient": gradient}, "Gradient", "Norm of the gradient.", logarithm=True
        )
        yield figure_block(svg, "Norm of the gradient the optimiser saw.", "Gradient")
    distance = {
        "distance in kernel radii": film.scalar("kernel_radii"),
        "drift of the NTK": film.scalar("ntk_drift"),
        "|θ − θ₀|/|θ₀|": film.scalar("moved"),
    }
    positive = {n: _positive(s) for n, s in distance.items() if _positive(s)[0]}
    if positive:
        svg = courses(
            film, positive, "Distance", "Distance from initialisation.", logarithm=True, level=1.0
        )
        yield figure_block(
            svg,
            "Far below 1 the net is lazy; from 1 on it learns features.",
            "Distance from initialisation",
        )
    rate = film.scalar("rate")
    if len(set(rate[1])) > 1:
        svg = courses(film, {"rate": rate}, "Learning rate", "Learning rate against step.")
        yield figure_block(svg, "Of the first parameter group.", "Learning rate")


def _positive(series: Series) -> Series:
    kept = [(s, v) for s, v in zip(*series) if v > 0 and math.isfinite(v)]
    return [s for s, _ in kept], [v for _, v in kept]


def _gradients(film: Film) -> Series:
    kept = [(p.step, p.gradient) for p in film.pulses if math.isfinite(p.gradient)]
    return [s for s, _ in kept], [v for _, v in kept]


def _numbers(film: Film) -> str:
    names = list(dict.fromkeys(name for frame in film.frames for name in frame.scalars))
    rows = [[f"{f.step:,}", *(short(f.scalars.get(name)) for name in names)] for f in film.frames]
    return table(["step", *(n.replace("_", " ") for n in names)], rows, "Numbers of each look")
