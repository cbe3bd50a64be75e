"""Write docs/study.md and docs/study_published.md from finished studies.

    python benchmarks/study_page.py RESULTS --data-dir DATA --out docs

RESULTS holds the folders of `hpcembed study`, named DATASET-RECIPE (mnist-default,
mnist-published, ...). The first page has the headlines and tables of the recipe `default`, the
second one the recipe `published` beside the published accuracies. A data set whose folder does not
exist is left out, and the page names it; a page without any of its studies is not written. The
numbers are read from the files `study.json`, the published ones from
`reference/published_accuracy.json` under DATA; the convergence of the published eigenvectors is
measured by this script.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
from published_subspaces import covariance, leading_sines

from hpcembed.data.tables.matrix_market import read_matrix
from hpcembed.jobs.report.tables import TextTable
from hpcembed.jobs.report.wording import percent, points

SETS = ("mnist", "cifar10", "date_fruit", "fetal_health")
#: Target accuracies: data set, network, k, target, published accuracy.
TARGETS = (
    ("mnist", "32-32", 50, 0.970, 0.955),
    ("mnist", "32-32", 20, 0.960, 0.939),
    ("mnist", "64-64", 50, 0.977, 0.974),
    ("mnist", "512-512", 20, 0.983, 0.983),
    ("mnist", "512-512", 50, 0.987, 0.987),
    ("cifar10", "512-512", 50, 0.555, 0.532),
    ("cifar10", "64-64", 50, 0.510, 0.476),
    ("cifar10", "32-32", 50, 0.490, 0.437),
)
#: Largest sine of a converged published subspace.
CONVERGED = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder that holds the folders of the studies")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--note", default="", help="a sentence about the runs")
    arguments = parser.parse_args()
    published = json.loads(
        (arguments.data_dir / "reference" / "published_accuracy.json").read_text()
    )
    written = [write_default(arguments, published), write_published(arguments, published)]
    if not any(written):
        raise SystemExit(f"{arguments.results}: holds no finished study of {', '.join(SETS)}")


def load(arguments: argparse.Namespace, recipe: str) -> dict[str, Any]:
    """Read the finished studies of a recipe, by data set."""
    return {
        name: json.loads(path.read_text())
        for name in SETS
        if (path := arguments.results / f"{name}-{recipe}" / "study.json").exists()
    }


def write_default(arguments: argparse.Namespace, published: dict[str, Any]) -> bool:
    """Write the page of the recipe `default`; False if none of its studies exists."""
    studies = load(arguments, "default")
    if studies:
        parts = [
            f"{HEAD} {omitted(studies)} {arguments.note}".rstrip(),
            "## Headlines\n\n" + headlines(studies),
            "## One row for each data set\n\n" + compression_table(studies, published),
            "## The default recipe and the published accuracies\n\n" + target_table(studies),
            "## Smallest number of components without loss\n\n"
            + smallest_table(studies, published),
            "## Figures\n\n" + figures(studies, "default", arguments),
        ]
        (arguments.out / "study.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return bool(studies)


def write_published(arguments: argparse.Namespace, published: dict[str, Any]) -> bool:
    """Write the page of the recipe `published`; False if none of its studies exists."""
    studies = load(arguments, "published")
    if studies:
        parts = [
            f"{HEAD_PUBLISHED} {omitted(studies)} {arguments.note}".rstrip(),
            "## Compared with the published accuracies\n\n"
            + reproduction(studies, published, arguments),
            "## Smallest number of components without loss\n\n"
            + smallest_table(studies, published),
            "## Figures\n\n" + figures(studies, "published", arguments),
        ]
        text = "\n\n".join(parts) + "\n"
        (arguments.out / "study_published.md").write_text(text, encoding="utf-8")
    return bool(studies)


HEAD = """# Results of the compression studies

Made by `benchmarks/study_page.py` from the folders of `hpcembed study jobs/study_*.toml`, with the
recipe `default` and networks and k by `--set` (commands: `benchmarks/README.md`).
Accuracies are means over seeds with their standard deviation; differences are paired by seed and
have their 95 % Student-t interval, in points. Each k, and the chosen model, was selected on
validation rows; test rows were read once for each trained network. Published: Petit, Li, Emad,
Dongarra, E2IDEP (ScalAH 2025), and the poster by Petit, Li and Emad; one seed each. The published
recipe: [study_published.md](study_published.md)."""

HEAD_PUBLISHED = """# The published recipe repeated

Made by `benchmarks/study_page.py` from the folders of `hpcembed study jobs/study_*.toml` with the
recipe `published` (commands: `benchmarks/README.md`). Accuracies are means over seeds with their
standard deviation. Published: Petit, Li, Emad, Dongarra, E2IDEP (ScalAH 2025); one seed."""


def omitted(studies: dict[str, Any]) -> str:
    """Name the data sets whose study does not exist; empty if there are none."""
    missing = [name for name in SETS if name not in studies]
    return f"Not measured for this version of the page: {', '.join(missing)}." if missing else ""


def headlines(studies: dict[str, Any]) -> str:
    """List the sentences that the studies themselves report."""
    parts = []
    for name, study in studies.items():
        if study["compression"] is not None:
            lines = [
                f"- {text[:1].upper()}{text[1:]}." for text in study["compression"]["headline"]
            ]
            parts.append("\n".join([f"**{name}**\n", *lines]))
    return "\n\n".join(parts)


def compression_table(studies: dict[str, Any], published: dict[str, Any]) -> str:
    rows = [
        compression_row(name, study)
        for name, study in studies.items()
        if study["compression"] is not None
    ]
    radar = published["poster_radar"]
    base, model = radar["baseline"], radar["embedding"]
    stored = model["parameters"] + model["input_dim"] * base["input_dim"]
    rows.append((
        "radar, as published",
        change(base["input_dim"], model["input_dim"]),
        f"{short(base['network'])} -> {short(model['network'])}",
        change(base["parameters"], stored, ","),
        "-",
        f"{model['parameters']:,} ({base['parameters'] / model['parameters']:.1f}x)",
        change(base["train_seconds"], model["train_seconds"]),
        f"{percent(base['test_accuracy'])} -> {percent(model['test_accuracy'])}",
        points(model["test_accuracy"] - base["test_accuracy"]),
        "-",
        "-",
        "-",
        "-",
    ))  # fmt: skip
    headings = (
        "data set", "inputs", "network", "parameters with the projection",
        "by the network x by the embedding", "without the projection",
        "seconds, embedding included", "test %", "difference to the baseline",
        "same network on all features, test %", "effect of the embedding", "margin",
        "kept on validation rows",
    )  # fmt: skip
    text = (
        "The baseline is the best network on all features by validation accuracy; the model is the "
        "one with the fewest parameters (projection included) whose accuracy is within the margin, "
        "or, if there is none, the one with the highest lower end of the interval. The whole "
        "saving is the product of the factor of the smaller network on all features and that of "
        "the embedding. Radar was not run; its row is taken from the poster, which has no network "
        "of the same size on all features."
    )
    return f"{text}\n\n{TextTable(headings, rows, (0, 1, 2)).markdown()}"


def compression_row(name: str, study: dict[str, Any]) -> tuple[str, ...]:
    """Return the row of a study: its chosen model beside both networks on all features."""
    one, d = study["compression"], study["dataset"]["n_features"]
    base, model, same, saving = one["baseline"], one["model"], one["same_network"], one["saving"]
    seconds = sum(study["seconds"].get(stage, 0.0) for stage in ("operator", "solve", "project"))
    return (
        name,
        change(d, model["n_inputs"], ","),
        f"{base['hidden']} -> {model['hidden']}",
        change(base["parameters"], model["parameters_with_projection"], ","),
        f"{saving['of_network']:.2f} x {saving['of_embedding']:.2f}",
        f"{model['parameters']:,} ({base['parameters'] / model['parameters']:.1f}x)",
        change(base["train_seconds"], model["train_seconds"] + seconds, ".2f"),
        f"{percent(base['test_mean'], base['test_deviation'])} -> "
        f"{percent(model['test_mean'], model['test_deviation'])}",
        interval(one["test_difference"]),
        percent(same["test_mean"], same["test_deviation"]),
        interval(one["test_difference_same_network"]),
        f"{study['study']['margin']:g}",
        "yes" if one["holds"] else "no",
    )


def change(before: float, after: float, form: str = "") -> str:
    """Return both numbers and their ratio."""
    return f"{before:{form}} -> {after:{form}} ({before / after:.1f}x)"


def short(network: str) -> str:
    """Return the hidden layers of a network that is written with its inputs and classes."""
    return "-".join(network.split("-")[1:-1])


def interval(difference: dict[str, float] | None) -> str:
    if difference is None:
        return "-"
    return points(difference["mean"], difference["low"], difference["high"])


def target_table(studies: dict[str, Any]) -> str:
    rows = []
    for name, network, k, wanted, theirs in TARGETS:
        point = find(studies.get(name), network, k)
        if point is None:
            continue
        reached = "yes" if point["test_mean"] >= wanted else "no"
        rows.append(
            (
                name, network, str(k), percent(theirs), percent(wanted),
                percent(point["test_mean"], point["test_deviation"]), str(point["n_seeds"]),
                reached,
            )
        )  # fmt: skip
    headings = (
        "data set", "network", "k", "published %", "target %", "hpcembed %", "seeds", "reached",
    )  # fmt: skip
    return TextTable(headings, rows, (0, 1)).markdown()


def find(study: dict[str, Any] | None, network: str, k: int) -> dict[str, Any] | None:
    found = (
        point
        for point in (study or {"points": []})["points"]
        if (point["input"], point["hidden"], point["n_inputs"]) == ("spectral", network, k)
    )
    return next(found, None)


def smallest_table(studies: dict[str, Any], published: dict[str, Any]) -> str:
    rows = []
    for name, study in studies.items():
        hidden = published["sets"][name]["protocol"]["hidden"]
        for one in study["smallest"]:
            if one["input"] != "spectral":
                continue
            size = next((key for key, w in hidden.items() if dashed(w) == one["hidden"]), None)
            rows.append((
                name, one["hidden"], studied(study, one["hidden"]),
                f"{one['n_inputs']}" if one["holds"] else "none",
                "yes" if one["confirmed"] else "no", f"{study['study']['margin']:g}",
                first_reached(published["sets"][name], size),
            ))  # fmt: skip
    text = (
        "Smallest k: the smallest k studied at which the lower end of the interval, on validation "
        'rows, is above minus the margin; "test agrees" if that of the test rows is too. Published '
        "k: the smallest k whose accuracy was at least that of the same network on all features; "
        "one seed, on test rows."
    )
    headings = (
        "data set", "network", "k studied", "smallest k", "test agrees", "margin",
        "published k",
    )  # fmt: skip
    return f"{text}\n\n{TextTable(headings, rows, (0, 1)).markdown()}"


def studied(study: dict[str, Any], network: str) -> str:
    k = [
        p["n_inputs"] for p in study["points"] if (p["input"], p["hidden"]) == ("spectral", network)
    ]
    return ", ".join(map(str, k)) if len(k) <= 3 else f"{k[0]} to {k[-1]}, {len(k)} of them"


def first_reached(published: dict[str, Any], size: str | None) -> str:
    if size is None:
        return "-"
    base = published["baseline_accuracy"][size]
    accuracies = published["embedded_accuracy"][size]
    return str(next((k for k, a in enumerate(accuracies, 1) if a >= base), "never"))


def dashed(widths: list[int]) -> str:
    return "-".join(map(str, widths))


def reproduction(
    studies: dict[str, Any], published: dict[str, Any], arguments: argparse.Namespace
) -> str:
    parts, rows, lost, sines = [], [], [], []
    for name, study in studies.items():
        file = next((arguments.data_dir / "reference").glob(f"{name}_eigen_*.mtx"), None)
        bad: list[int] = []
        if file is not None:
            folder = arguments.results / f"{name}-published"
            W = np.asarray(read_matrix(file))
            found = leading_sines(covariance(folder, arguments.data_dir), W)
            bad = [k for k, sine in found.items() if sine > CONVERGED]
            worst = max(found, key=lambda k: found[k])
            sines.append(f"{name}: largest {found[worst]:.0e}, at k = {worst}")
        settings = [p for p in study["points"] if p["published"] is not None]
        compared = [p for p in settings if p["input"] == "full" or p["n_inputs"] not in bad]
        below = [p for p in compared if p["test_mean"] < p["published"] - 0.01]
        share = 1.0 - len(below) / len(compared)
        rows.append(
            (
                name, str(len(study["study"]["seeds"])), str(len(compared)),
                f"{len(compared) - len(below)} ({100 * share:.0f} %)",
                str(sum(p["published"] <= next_seed(p) for p in compared)),
                str(len(settings) - len(compared)),
            )
        )  # fmt: skip
        lost += [
            (
                name, p["hidden"], str(p["n_inputs"]) if p["input"] != "full" else "all",
                percent(p["test_mean"], p["test_deviation"]), percent(p["published"]),
                points(p["test_mean"] - p["published"]),
            )
            for p in below
        ]  # fmt: skip
    headings = (
        "data set", "seeds", "settings compared", "within 1.0 point or above",
        "not above one more seed", "unconverged",
    )  # fmt: skip
    parts.append(
        "Networks, epochs, batch size, dropout and optimiser as published; a setting is a network "
        "at one k (or on all features). Published accuracies are of one seed: on 180 test rows "
        "(date fruit) and 426 (fetal health) the accuracy of one seed varies by one to three "
        "points. The page therefore also counts the settings in which the published accuracy is "
        "not above the 95 % prediction interval of one more seed of hpcembed.\n\n"
        + TextTable(headings, rows).markdown()
    )
    parts.append(
        "Released eigenvectors, sine of the largest angle between their leading k and the dominant "
        f"subspace ({'; '.join(sines)}). A setting with a sine above {CONVERGED} counts as "
        "unconverged."
    )
    if lost:
        headings = ("data set", "network", "k", "hpcembed %", "published %", "difference")
        parts.append("Not reached:\n\n" + TextTable(headings, lost, (0, 1)).markdown())
    return "\n\n".join(parts)


def next_seed(point: dict[str, Any]) -> float:
    """Return the upper end of the 95 % prediction interval of the accuracy of one more seed."""
    n = point["n_seeds"]
    spread = scipy.special.stdtrit(n - 1, 0.975) * np.sqrt(1 + 1 / n)
    return float(point["test_mean"] + spread * point["test_deviation"])


def figures(studies: dict[str, Any], recipe: str, arguments: argparse.Namespace) -> str:
    lines = []
    target = arguments.out / "study"
    target.mkdir(parents=True, exist_ok=True)
    for name in studies:
        source = arguments.results / f"{name}-{recipe}" / "figures" / "accuracy.svg"
        if source.exists():
            shutil.copyfile(source, target / f"{name}-{recipe}.svg")
            lines.append(f"![{name}, recipe {recipe}](study/{name}-{recipe}.svg)")
    return "\n\n".join(lines)


if __name__ == "__main__":
    main()
