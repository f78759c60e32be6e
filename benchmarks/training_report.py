"""Runs of weft train side by side: training_report.py PAGE.html SECONDS RUN...; the page loads itself anew after so many seconds, of 0 never"""


def whole(line):
    """An entry; None of a line that a run was killed at."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def load(folder, live):
    """None, for a live page, of a run that is about to begin."""
    path = os.path.join(folder, "metrics.jsonl")
    if not os.path.exists(path):
        if live:
            return None
        sys.exit(f"{folder} holds no metrics.jsonl: expected a folder of weft train")
    with open(path, encoding="utf-8") as file:
        metrics = [entry for entry in map(whole, file) if entry]
    if not metrics:
        if live:
            return None
        sys.exit(f"{path} is empty: the run has not logged a step yet")
    run = {"name": os.path.basename(os.path.normpath(folder)), "metrics": metrics, "eval": None, "sample": None, "masks": None}
    for split in ("test", "val"):
        path = os.path.join(folder, f"eval_{split}.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                run["eval"] = json.load(file)
    for key, name in (("sample", "sample.txt"), ("masks", "masks.svg")):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                run[key] = file.read()
    return run


def utilisation(metrics):
    """The median of the entries that say of which peak it is a share: before, it was of a matrix product."""
    shares = sorted(m["mfu"] for m in metrics if "peak_gflops" in m)
    return (f"{100 * shares[len(shares) // 2]:.0f} %", shares[len(shares) // 2]) if shares else ("", "x")


def smooth(values, width=9):
    """Mean of the last few: single batches are noisy."""
    return [sum(values[max(0, i - width + 1): i + 1]) / len(values[max(0, i - width + 1): i + 1]) for i in range(len(values))]


def validated(run):
    """The least bits per character of validation while it trained, and its step."""
    found = [(m["val_bpc"], m["step"]) for m in run["metrics"] if "val_bpc" in m]
    if not found:
        return ("", "x")
    bpc, step = min(found)
    return (f"{bpc:.3f} (step {step:,})", bpc)


def main():
    seconds, folders = float(sys.argv[2]), sys.argv[3:]
    if seconds:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # who starts this again and again ends it
    loaded = [(folder, load(folder, seconds > 0)) for folder in folders]
    runs = [run for _, run in loaded if run]
    page = Page("Weft: training runs compared")
    page.reload = seconds
    if seconds:
        page.text(f"As of {time.strftime('%H:%M:%S')}; loads itself anew every {seconds:g} s.", "soft")
    for folder, run in loaded:
        if not run:
            page.text(f"{folder} has not logged a step yet.", "soft")
    if not runs:
        page.write(sys.argv[1])
        return
    data = next((r["eval"]["data"] for r in runs if r["eval"]), None)
    if data:
        page.text(data + ".")
    page.heading("Results")
    rows = []
    for run in runs:
        last, e = run["metrics"][-1], run["eval"]
        rows.append([run["name"], e["attention"] if e else "", (f"{e['bpc']:.3f} ({e['split']}, {e['bytes']:,} bytes)", e["bpc"]) if e else ("not evaluated", "x"), validated(run),
                     (f"{100 * last['kept_tiles']:.0f} %", last["kept_tiles"]), (f"{last['mean_span']:.0f}", last["mean_span"]),
                     (f"{sorted(m['tokens_per_second'] for m in run['metrics'])[len(run['metrics']) // 2]:,.0f}", last["tokens_per_second"]),
                     (f"{last.get('seconds', 0):.0f}", last.get("seconds", 0)), (f"{last.get('flops', 0) / 1e12:.3g}", last.get("flops", 0)), utilisation(run["metrics"]), (str(last["step"]), last["step"])])
    page.table(["run", "attention", "bpc", "best val bpc", "kept tiles", "mean span", "tokens/s", "seconds", "TFLOP", "MFU", "steps"], rows)

    page.heading("Bits per character")
    figures = []
    for key, words in (("step", "steps"), ("seconds", "seconds of training"), ("flops", "FLOPs")):
        have = [r for r in runs if key in r["metrics"][-1]]
        data = []
        for i, r in enumerate(have):
            data.append(line(r["name"], [m[key] for m in r["metrics"]], smooth([m["bpc"] for m in r["metrics"]]), COLOURS[i % 8], mode="lines"))
            val = [m for m in r["metrics"] if "val_bpc" in m]
            if val:
                data.append(line(f"{r['name']}, validation", [m[key] for m in val], [m["val_bpc"] for m in val], COLOURS[i % 8], "dot"))
        figures.append((f"bpc of training batches against {words}", data, {"xaxis": {"title": {"text": words}, "exponentformat": "SI"}, "yaxis": {"title": {"text": "bpc (mean of 9 entries)"}}}))
    page.charts(figures)

    page.heading("Kept tiles and speed")
    page.charts([("share of dense tiles computed", [line(r["name"], [m["step"] for m in r["metrics"]], [m["kept_tiles"] for m in r["metrics"]], COLOURS[i % 8], mode="lines") for i, r in enumerate(runs)],
                  {"xaxis": {"title": {"text": "steps"}}, "yaxis": {"title": {"text": "share"}, "rangemode": "tozero"}}),
                 ("tokens a second", [line(r["name"], [m["step"] for m in r["metrics"]], smooth([m["tokens_per_second"] for m in r["metrics"]]), COLOURS[i % 8], mode="lines") for i, r in enumerate(runs)],
                  {"xaxis": {"title": {"text": "steps"}}, "yaxis": {"title": {"text": "tokens/s"}, "rangemode": "tozero"}})])

    learned = [(r, name) for r in runs for name in r["metrics"][-1].get("heads", {}) if name != "kept_tiles"]
    if learned:
        page.heading("What each head learned")
        page.text("A line a head, a colour a layer.", "soft")
        figures = []
        for run, name in learned:
            entries = [m for m in run["metrics"] if name in m.get("heads", {})]
            data = []
            for layer, heads in enumerate(entries[-1]["heads"][name]):
                for head in range(len(heads)):
                    data.append(line(f"layer {layer}", [m["step"] for m in entries], [m["heads"][name][layer][head] for m in entries], COLOURS[layer % 8], mode="lines",
                                     showlegend=head == 0, hovertemplate=f"layer {layer}, head {head}: %{{y:.3f}}<extra></extra>"))
            figures.append((f"{run['name']}: {name}", data, {"xaxis": {"title": {"text": "steps"}}, "yaxis": {"title": {"text": name}}}))
        page.charts(figures)

    counted = [r for r in runs if r["eval"] and r["eval"].get("heads") and "unmasked_keys" in r["eval"]["heads"][0]]
    if counted:
        page.heading("Unmasked keys a head")
        page.text("Keys with a weight above zero that an average query sees, heads sorted within each layer.", "soft")
        top = max(h["unmasked_keys"] for r in counted for h in r["eval"]["heads"])
        figures = []
        for run in counted:
            data = []
            for layer in sorted({h["layer"] for h in run["eval"]["heads"]}):
                own = sorted((h["unmasked_keys"] for h in run["eval"]["heads"] if h["layer"] == layer), reverse=True)
                data.append({"type": "bar", "name": f"layer {layer}", "x": [f"{layer}.{i}" for i in range(len(own))], "y": own, "marker": {"color": COLOURS[layer % 8]}})
            figures.append((f"{run['name']} ({run['eval']['attention']})", data, {"xaxis": {"title": {"text": "layer.rank"}, "type": "category"}, "yaxis": {"title": {"text": "keys"}, "range": [0, 1.05 * top]}}))
        page.charts(figures)

    pictures = [r for r in runs if r["masks"]]
    if pictures:
        page.heading("What each head sees")
        page.drawings([(r["name"], r["masks"]) for r in pictures])
    samples = [r for r in runs if r["sample"]]
    if samples:
        page.heading("Samples")
        for run in samples:
            page.quote(run["name"], run["sample"])
    page.write(sys.argv[1])


main()
