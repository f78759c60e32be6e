"""OUT/study.html and OUT/study.json from the points of a study."""

import glob
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from page import COLOURS, Page, line
from queue_of_points import read, write

TALL = {"height": 440, "legend": {"orientation": "h", "y": -0.3}}  # room for a line for each variant
SPARSE = 0.3  # the greatest share of kept tiles that the summary calls sparse


def spread(values):
    return f"{statistics.mean(values):.1%} ± {statistics.stdev(values):.1%}" if len(values) > 1 else f"{values[0]:.1%}"


def summarised(points):
    """Seeds together: an entry for each mode, task, length, variant, share and evaluated length."""
    keys = ("mode", "task", "length", "variant", "share", "evaluated")
    groups = {}
    for point in points:
        groups.setdefault(tuple(point[key] for key in keys), []).append(point)
    for key, own in sorted(groups.items()):
        mean = lambda name: statistics.mean(point[name] for point in own)
        yield {**dict(zip(keys, key)), "recipe": own[0]["recipe"], "seeds": [point["seed"] for point in own], "accuracies": [point["accuracy"] for point in own], "accuracy": mean("accuracy"),
               "kept": mean("kept"), "attention_flops": mean("attention_flops"), "seconds": mean("seconds")}


def pareto(entries, cost):
    """Those that no other is at least as right as at a lower cost."""
    best, front = -1.0, []
    for entry in sorted(entries, key=lambda own: (own[cost], -own["accuracy"])):
        if entry["accuracy"] > best:
            best = entry["accuracy"]
            front.append(entry)
    return front


def command(entry, defaults):
    """What makes the points of an entry: options of the recipe where they are not the defaults."""
    recipe = "".join(f" --{key} {value}" for key, value in entry["recipe"].items() if value != defaults[key])
    return (f"study.py run --modes {entry['mode']} --tasks {entry['task']} --lengths {entry['length']} --evaluated {entry['evaluated']} --variants {entry['variant']} "
            f"--shares {entry['share']} --seeds {','.join(map(str, entry['seeds']))}{recipe}")


def curves(entries, x, scale=1.0):
    """A line a variant."""
    names = list(dict.fromkeys(own["variant"] for own in entries))
    lines = []
    for at, name in enumerate(names):
        own = sorted((entry for entry in entries if entry["variant"] == name), key=lambda entry: entry[x])
        lines.append(line(name, [scale * entry[x] for entry in own], [100 * entry["accuracy"] for entry in own], COLOURS[at % len(COLOURS)]))
    return lines


def report(out, defaults):
    """`defaults`: of the options that are part of a recipe."""
    points = [read(path) for path in sorted(glob.glob(os.path.join(glob.escape(out), "points", "*.json")))]
    if not points:
        sys.exit(f"no points in {out}: study.py run makes some")
    entries = list(summarised(points))
    whole = {(own["task"], own["evaluated"]): own["kept"] for own in entries if own["variant"] == "causal"}
    for own in entries:
        own["kept_of_causal"] = own["kept"] / whole.get((own["task"], own["evaluated"]), 1.0)
    page = Page("Weft: what sparse attention costs in quality")
    page.text(f"{len(points)} points: small models that learned each task from scratch; the share of tokens, of those that can be known, that a model gives first place. "
              "free: trained with dense attention, evaluated with another; trained: trained and evaluated with it. Kept: of all tiles of 64 x 64; dense causal attention keeps a little more than half.")
    for mode in dict.fromkeys(own["mode"] for own in entries):
        of_mode = [own for own in entries if own["mode"] == mode]
        tasks = list(dict.fromkeys(own["task"] for own in of_mode))
        page.heading(f"{mode}: which variant for which task")
        rows = []
        for task, length in dict.fromkeys((entry["task"], entry["length"]) for entry in of_mode):
            own = [entry for entry in of_mode if (entry["task"], entry["length"], entry["evaluated"]) == (task, length, length)]
            dense = [entry for entry in own if entry["variant"] == "causal"]
            sparse = sorted((entry for entry in own if dense and entry["kept_of_causal"] <= SPARSE), key=lambda entry: -entry["accuracy"])
            rows.append([task, (str(length), length), spread(dense[0]["accuracies"]) if dense else "", *([f"{sparse[0]['variant']} {sparse[0]['share']:g}", spread(sparse[0]["accuracies"]),
                        f"{sparse[0]['kept_of_causal']:.0%}"] if sparse else ["", "", ""])])
        page.table(["task", "length", "dense", f"best that keeps up to {SPARSE:.0%} of causal's tiles", "right", "kept of causal's"], rows)
        for task in tasks:
            own = [entry for entry in of_mode if entry["task"] == task]
            same = [entry for entry in own if entry["length"] == entry["evaluated"]]
            page.heading(f"{mode}: {task}")
            figures = []
            for length in dict.fromkeys(entry["length"] for entry in same):
                here = [entry for entry in same if entry["length"] == length]
                figures.append((f"length {length}: right against kept tiles", curves(here, "kept", 100), {**TALL, "xaxis": {"title": {"text": "kept tiles, % of all"}}, "yaxis": {"title": {"text": "right, %"}}}))
                front = pareto(here, "seconds")
                figures.append((f"length {length}: right against the time of a text", [line(entry["variant"], [1e3 * entry["seconds"]], [100 * entry["accuracy"]], COLOURS[at % len(COLOURS)], mode="markers")
                                                                                       for at, entry in enumerate(here)]
                                + [line("no better one is faster", [1e3 * entry["seconds"] for entry in front], [100 * entry["accuracy"] for entry in front], "#888888")],
                                {"xaxis": {"title": {"text": "ms of a forward pass, measured"}}, "yaxis": {"title": {"text": "right, %"}}, "showlegend": False}))
            for length in dict.fromkeys(entry["length"] for entry in own):
                longer = [entry for entry in own if entry["length"] == length]
                if len({entry["evaluated"] for entry in longer}) > 1:
                    middle = sorted({entry["share"] for entry in longer if entry["share"] < 1}) or [1.0]
                    share = middle[len(middle) // 2]
                    figures.append((f"trained at {length}: right against the length of the text, share {share:g}", curves([entry for entry in longer if entry["share"] in (share, 1.0)], "evaluated"),
                                    {**TALL, "xaxis": {"title": {"text": "tokens"}, "type": "log"}, "yaxis": {"title": {"text": "right, %"}}}))
            page.charts(figures)
            page.table(["variant", "share", "length", "evaluated", "right", "kept", "MFLOP of attention", "ms", "command"],
                       [[entry["variant"], (f"{entry['share']:g}", entry["share"]), (str(entry["length"]), entry["length"]), (str(entry["evaluated"]), entry["evaluated"]),
                         (spread(entry["accuracies"]), entry["accuracy"]), (f"{entry['kept']:.0%}", entry["kept"]), (f"{entry['attention_flops'] / 1e6:.1f}", entry["attention_flops"]),
                         (f"{1e3 * entry['seconds']:.1f}", entry["seconds"]), command(entry, defaults)] for entry in own])
    page.write(os.path.join(out, "study.html"))
    write(os.path.join(out, "study.json"), {"points": points, "summary": entries})
    print(os.path.join(out, "study.html"))
