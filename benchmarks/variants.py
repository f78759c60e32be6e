"""./dev bench variants: what sparsity costs in quality. The same small model with each attention, several seeds.

variants.py WEFT TEXT [--contexts 512,2048] [--seeds 1,2,3] [--steps 1500] [--only NAME,...] [--out runs/variants]

Each model reads the same bytes in the same order for a seed. Then each is trained once more for the FLOPs that dense attention
took: a sparse variant reads more bytes. Runs that are there, in OUT or in a file of known ones, are not run again; one that was
interrupted goes on. How fast each trains is measured apart, at the end and in turns, so that the long runs may share the machine.
Writes OUT.json, OUT.html and a Markdown table.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

from known_runs import KnownRuns
from page import COLOURS, Page, line

BYTES_A_STEP = 8192
CONFIG = os.path.join(os.path.dirname(__file__), "..", "models", "configs", "small_dense.json")

# What each is: settings for a context of T.
VARIANTS = {
    "dense": lambda T: {"attention": "causal"},
    "sliding window": lambda T: {"attention": "sliding_window", "inputs.window": T // 8},
    "adaptive span": lambda T: {"attention": "adaptive_span"},
    "span and period": lambda T: {"attention": "span_periodic"},
    "content weight": lambda T: {"attention": "content_weight"},
    "content sparse": lambda T: {"attention": "content_sparse", "inputs.tiles": max(2, T // 512)},
    "block sparse (MoBA)": lambda T: {"attention": "block_sparse", "inputs.tiles": max(2, T // 512)},
    "ALiBi": lambda T: {"attention": "alibi", "positions": "none"},
    "sink": lambda T: {"attention": "attention_sink"},
    "stick-breaking": lambda T: {"attention": "stick_breaking", "positions": "none"},
}


def settings_of(name, context):
    return {"context": context, "batch": max(1, BYTES_A_STEP // context), **VARIANTS[name](context)}


def train(options, folder, settings, steps, *more, **streams):
    """Exits as the training does, where that fails."""
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = [options.weft, "train", "--config", options.config, "--data", options.text, "--out", folder, *words, "--steps", str(steps), *more]
    if code := subprocess.run(command, **streams).returncode:
        sys.exit(code)


def run(options, known, folder, settings, steps):
    """Trains to `steps` and evaluates on the test set; what both measured."""
    with open(options.config) as file:
        asked = {"config": json.load(file), "settings": settings, "steps": steps, "text_bytes": os.path.getsize(options.text), "eval_bytes": options.eval_bytes}
    if result := known.find(asked):
        return {"settings": settings, "steps": steps, **result}
    result = run_here(options, folder, settings, steps)
    result["data"] = result["data"].replace(options.text, os.path.basename(options.text))
    known.add(asked, {name: result[name] for name in ("bpc", "bytes", "data", "kept", "flops")})
    return result


def run_here(options, folder, settings, steps):
    done = os.path.join(folder, "done.json")
    if os.path.exists(done):
        with open(done) as file:
            result = json.load(file)
        if result["steps"] == steps and result["settings"] == settings:
            return result
        sys.exit(f"{folder} holds a run of other settings; move it away, or give another --out")
    resume = ["--resume"] if os.path.exists(os.path.join(folder, "checkpoint.pt")) else []
    train(options, folder, settings, steps, *resume)
    evaluated = subprocess.run([options.weft, "eval", "--checkpoint", folder, "--data", options.text, "--split", "test", "--limit", str(options.eval_bytes)], stdout=subprocess.DEVNULL)
    if evaluated.returncode:
        sys.exit(evaluated.returncode)
    with open(os.path.join(folder, "eval_test.json")) as file:
        evaluation = json.load(file)
    with open(os.path.join(folder, "metrics.jsonl")) as file:
        last = json.loads(file.readlines()[-1])
    result = {"settings": settings, "steps": steps, "bpc": evaluation["bpc"], "bytes": evaluation["bytes"], "data": evaluation["data"], "kept": evaluation["kept_tiles"],
              "flops": last["flops"]}
    with open(done + ".tmp", "w") as file:
        json.dump(result, file)
    os.replace(done + ".tmp", done)
    return result


def speeds(options, rounds=3):
    """Bytes a second that each (context, name) trains with: the median over rounds in which all take their turn. Kept in OUT.speed.json."""
    path = options.out + ".speed.json"
    with open(options.config) as file:
        recipe = {"steps": options.timed_steps, "config": json.load(file)}
    rates, found = {}, {}
    if os.path.exists(path):
        with open(path) as file:
            known = json.load(file)
        if known["recipe"] == recipe:
            rates = {(context, name): rate for context, name, rate in known["rates"]}
    for _ in range(rounds):
        for context in map(int, options.contexts.split(",")):
            for name in options.only.split(","):
                if (context, name) in rates:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    settings = {**settings_of(name, context), "train.log_every": 1, "train.validate_every": 0}
                    train(options, folder, settings, options.timed_steps, stdout=subprocess.DEVNULL)
                    with open(os.path.join(folder, "metrics.jsonl")) as file:
                        steps = [entry["tokens_per_second"] for entry in map(json.loads, file) if "tokens_per_second" in entry]
                found.setdefault((context, name), []).append(statistics.median(steps[len(steps) // 3 :]))  # the first steps compile
    if not found:
        return rates
    rates.update({key: statistics.median(own) for key, own in found.items()})
    with open(path + ".tmp", "w") as file:
        json.dump({"recipe": recipe, "rates": [[*key, rate] for key, rate in rates.items()]}, file)
    os.replace(path + ".tmp", path)
    return rates


def spread(values):
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def all_runs(options):
    """Rows by equal bytes and by equal FLOPs, as they come."""
    rows, known = [], KnownRuns(options.known)
    for context in map(int, options.contexts.split(",")):
        dense = {}
        for name in options.only.split(","):
            for seed in map(int, options.seeds.split(",")):
                settings = {**settings_of(name, context), "seed": seed}
                place = os.path.join(options.out, f"{name.replace(' ', '_')}_{context}_{seed}")
                same = run(options, known, place, settings, options.steps)
                rows.append({"name": name, "context": context, "seed": seed, "equal": "bytes", **same})
                if name == "dense":
                    dense[seed] = same["flops"]
                    if not options.bytes_only:
                        rows.append({**rows[-1], "equal": "FLOPs"})
                elif not options.bytes_only:
                    steps = max(1, round(options.steps * dense[seed] / same["flops"] / 10) * 10)
                    again = run(options, known, place + "_flops", settings, steps)
                    rows.append({"name": name, "context": context, "seed": seed, "equal": "FLOPs", **again})
                write(options, rows, {})
    return rows


def summarised(rows, rates):
    """A line for each variant, context and kind of budget; `rates`: as `speeds` gives them."""
    keys = list(dict.fromkeys((r["context"], r["equal"], r["name"]) for r in rows))
    for context, equal, name in sorted(keys, key=lambda key: (key[0], key[1] == "FLOPs")):
        own = [r for r in rows if (r["context"], r["equal"], r["name"]) == (context, equal, name)]
        mean = lambda key: statistics.mean(r[key] for r in own)
        read, rate = mean("steps") * BYTES_A_STEP, rates.get((context, name))
        yield {"context": context, "equal": equal, "name": name, "bpc": [r["bpc"] for r in own], "kept": mean("kept"), "flops": mean("flops"), "read": read,
               "rate": rate, "seconds": rate and read / rate}


def write(options, rows, rates):
    with open(options.out + ".json.tmp", "w") as file:
        json.dump(rows, file, indent=1)
    os.replace(options.out + ".json.tmp", options.out + ".json")
    page = Page("Weft: what sparsity costs in quality")
    page.text(f"{rows[0]['data']}. One small model ({os.path.basename(options.config)}) with each attention, {len(options.seeds.split(','))} seeds; bits per byte on {rows[0]['bytes']:,} bytes of the test set, mean "
              "and standard deviation. Once every model reads the same bytes, once each is trained for the FLOPs of the dense one. Seconds are the bytes at the speed "
              "of the first steps, measured apart: of learned spans before they have learned.")
    lines = list(summarised(rows, rates))
    for context in dict.fromkeys(entry["context"] for entry in lines):
        for equal in ("bytes", "FLOPs"):
            own = [entry for entry in lines if (entry["context"], entry["equal"]) == (context, equal)]
            if not own:
                continue
            page.heading(f"Context {context}, equal {equal}")
            page.table(["attention", "bpc", "kept tiles", "TFLOP", "MB read", "bytes a second", "seconds"],
                       [[e["name"], (spread(e["bpc"]), statistics.mean(e["bpc"])), (f"{100 * e['kept']:.0f} %", e["kept"]), (f"{e['flops'] / 1e12:.1f}", e["flops"]),
                         (f"{e['read'] / 1e6:.1f}", e["read"]),
                         *((f"{e[key]:,.0f}", e[key]) if e[key] else "" for key in ("rate", "seconds"))] for e in own])
    figures = []
    for context in dict.fromkeys(entry["context"] for entry in lines):
        own = [entry for entry in lines if entry["context"] == context and entry["equal"] == "bytes"]
        figures.append((f"context {context}, equal bytes: bpc against kept tiles",
                        [line(e["name"], [100 * e["kept"]] * len(e["bpc"]), e["bpc"], COLOURS[at % 8], mode="markers") for at, e in enumerate(own)],
                        {"xaxis": {"title": {"text": "kept tiles, % of all"}}, "yaxis": {"title": {"text": "bpc, a point a seed"}}}))
    page.charts(figures)
    page.write(options.out + ".html")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weft")
    parser.add_argument("text")
    parser.add_argument("--config", default=CONFIG, help="of the model, but for its attention and context")
    parser.add_argument("--contexts", default="512,2048")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--steps", type=int, default=1500, help=f"of {BYTES_A_STEP} bytes")
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--eval-bytes", type=int, default=500000, help="of the test set")
    parser.add_argument("--timed-steps", type=int, default=30, help="of each run that only measures the speed of training")
    parser.add_argument("--bytes-only", action="store_true", help="no runs of equal FLOPs")
    parser.add_argument("--known", help="a file of runs that are known, which new ones are added to")
    parser.add_argument("--untimed", action="store_true", help="how fast each trains is not measured")
    parser.add_argument("--out", default="runs/variants")
    options = parser.parse_args()
    unknown = [name for name in options.only.split(",") if name not in VARIANTS]
    if unknown:
        parser.error(f"unknown attention '{unknown[0]}'; expected some of {', '.join(VARIANTS)}")
    if options.only.split(",")[0] != "dense":
        options.only = ",".join(["dense"] + [name for name in options.only.split(",") if name != "dense"])
    os.makedirs(options.out, exist_ok=True)
    rows = all_runs(options)
    rates = {} if options.untimed else speeds(options)
    write(options, rows, rates)
    print("\n| context | equal | attention | bpc | kept | TFLOP | MB read | seconds |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    for e in summarised(rows, rates):
        print(f"| {e['context']} | {e['equal']} | {e['name']} | {spread(e['bpc'])} | {100 * e['kept']:.0f} % | {e['flops'] / 1e12:.1f} | {e['read'] / 1e6:.1f} | {format(e['seconds'], '.0f') if e['seconds'] else ''} |")
    print(f"\n{options.out}.html")


main()
