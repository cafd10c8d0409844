"""The figure of experiments/many_values: gain over the start against the number of values.

python -m benchmarks.many_values_figure experiments/many_values/record
"""

import sys
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.many_values import read
from benchmarks.paired import paired
from hypergrad.figures import style

__all__ = ["draw"]

NAMES = {
    "averaged": ("hypergradients, averaged", "#56B4E9", "s"),
    "hypergradients": ("hypergradients, signs", style.METHOD_COLOURS["ours"], "o"),
    "tpe": ("Optuna's TPE", "#E69F00", "D"),
    "random_directions": ("random directions", style.GREY, "v"),
    "oracle": ("oracle: wrong groups left out", "#009E73", "^"),
}


def draw(folder: Path) -> Path:
    """Draw a panel a record, and return the picture."""
    paths = [path for path in (folder / "signs.csv", folder / "averaged.csv") if path.exists()]
    with style.house_style():
        figure, panels = style.panel_grid(3.1, 1, len(paths))
        for place, (axes, path) in enumerate(zip(panels, paths, strict=True)):
            seeds = _draw(axes, path)
            style.letter_panel(axes, style.letter_of(place), f"seeds {seeds}")
            axes.set_ylim(-9, 19)
        panels[0].set_ylabel("test accuracy over the start, points")
        handles = {
            h.get_label(): h for own in panels for h in own.get_lines() if h.get_label()[0] != "_"
        }
        style.legend_above(figure, list(handles.values()), 3)
        figure.supxlabel(
            "Weights of N groups of 1,000 digits with wrong labels; 86 trainings a search. "
            "Means of five fresh trainings a seed; bars: 95 %, paired.",
            fontsize=style.SMALL,
            color=style.GREY,
        )
        target = folder / "many_values.png"
        figure.savefig(target, metadata={"Software": None})
    return target


def _draw(axes: Axes, path: Path) -> str:
    found = {int(setting[3]): own for setting, own in read(path).items() if setting[:2] == WEIGHTS}
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    for order, (name, (label, colour, marker)) in enumerate(NAMES.items()):
        sizes = [size for size in sorted(found) if name in found[size]]
        if not sizes:
            continue
        gains = []
        for size in sizes:
            start, own = found[size]["uniform"], found[size][name]
            seeds = [seed for seed in start if seed in own]
            gains.append(paired([own[seed] for seed in seeds], [start[seed] for seed in seeds]))
        shift = 1.05 ** (order - 2)  # bars beside each other
        axes.errorbar(
            [size * shift for size in sizes],
            [each.mean for each in gains],
            [each.half() for each in gains],
            color=colour,
            marker=marker,
            linestyle=":" if name == "oracle" else "-",
            capsize=2,
            linewidth=1.1,
        )
        axes.plot([], [], color=colour, marker=marker, label=label)
    axes.set_xscale("log")
    axes.set_xticks(sorted(found), [str(size) for size in sorted(found)])
    axes.minorticks_off()
    axes.set_xlabel("values N")
    seeds = sorted({int(seed) for own in found.values() for seed in own["uniform"]})
    return f"{seeds[0]} to {seeds[-1]}"


WEIGHTS = ("weights", "digits")

if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
