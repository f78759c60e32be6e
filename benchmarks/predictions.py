"""What the timing model expects, as a page: predictions.py PREDICTIONS.json PAGE.html"""

HOPPER = ("h100", "h200")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        predictions = json.load(file)
    rows = [row for row in predictions["rows"] if "error" not in row]
    page = Page(f"Weft on {predictions['product']}: predicted, not measured")
    preface(page, predictions)
    if rows:
        beside_published(page, predictions, rows)
        times(page, rows)
    all_rows(page, predictions)
    if rows:
        kernels(page, rows)
    page.write(sys.argv[2])


def preface(page, predictions):
    if not predictions["complete"]:
        page.text(f"Not complete: the run was stopped, or died, after {len(predictions['rows'])} rows.", "bad")
    page.text(f"No kernel has run for this page. A model of {predictions['product']} has taken the machine code of each kernel and the tiles that a call on random tensors "
              f"keeps, and says how long it would take ({predictions['date']}). Schedules are the default ones.")
    page.text("Against kernels that were measured on an H200 it is off by 5 to 8 % in the mean and by up to 22 % (docs/timeline.md). Launches and what lies between kernels are left "
              "out. TFLOP/s count the products of kept 64 x 64 tiles, of a backward pass 2.5 times as many.", "soft")
    guessed = [row for row in predictions["rows"] if any(kernel["from"] != "SASS" for kernel in row.get("kernels", []))]
    if guessed:
        page.text(f"{len(guessed)} of {len(predictions['rows'])} rows are from PTX, not from machine code: no ptxas or no disassembler was found.", "bad")


def name_of(row):
    return f"{row['variant']} {row['direction']} {row['dtype']}"


def shape_of(row):
    return f"{row['B']} x {row['H']} x {row['T']:,}, D = {row['D']}"


def method_of(row):
    return f"Weft, {row['code']}"


def beside_published(page, predictions, rows):
    """Bars of the longest calls of causal and full attention, ours predicted, others' published."""
    if predictions["gpu"] not in HOPPER:
        return
    figures, table = [], []
    for variant, direction, D, speeds in PUBLISHED:
        own = [row for row in rows if (row["variant"], row["direction"], row["D"]) == (variant, direction, D) and row["dtype"] != "f32"]
        own = [row for row in own if row["T"] == 16384]
        if not own:
            continue
        bars = [(f"{method_of(row)}", row["predicted_tflops"], "predicted") for row in own] + [(method, speed, "published") for method, speed in speeds.items()]
        data = [{"type": "bar", "name": kind, "x": [name for name, _, of in bars if of == kind], "y": [value for *_, value, of in bars if of == kind],
                 "text": [f"{value:.0f}" for *_, value, of in bars if of == kind], "textposition": "outside", "cliponaxis": False,
                 "marker": {"color": COLOURS[0] if kind == "predicted" else COLOURS[7], **({"pattern": {"shape": "/"}} if kind == "predicted" else {})}}
                for kind in ("predicted", "published")]
        figures.append((f"{variant} {direction}, D = {D}: TFLOP/s", data, {"yaxis": {"title": {"text": "TFLOP/s"}, "rangemode": "tozero"}, "xaxis": {"type": "category"}, "height": 360}))
        for method, value, kind in bars:
            table.append([f"{variant} {direction}", (str(D), D), method, kind, (f"{value:.0f}", value), (f"{100 * value / own[0]['peak_tflops']:.0f} %", value)])
    if not figures:
        return
    page.heading("Beside published speeds")
    page.text(f"Predicted: Weft, {rows[0]['dtype']}, T = 16,384, on {predictions['product']}. Published: {PUBLISHED_SOURCE}. One is a model and the other a measurement, "
              "of another GPU where this is an H200 (the same chip with other memory): a difference of a fifth says nothing.", "soft")
    page.charts(figures)
    page.table(["case", "D", "method", "kind", "TFLOP/s", "of peak"], table)


def times(page, rows):
    """Of each shape: bars of all variants, a colour for each code."""
    page.heading("Predicted times")
    figures = []
    codes = list(dict.fromkeys(row["code"] for row in rows))
    for dtype, direction, shape in dict.fromkeys((row["dtype"], row["direction"], shape_of(row)) for row in rows):
        own = [row for row in rows if (row["dtype"], row["direction"], shape_of(row)) == (dtype, direction, shape)]
        data = [{"type": "bar", "name": f"{code}, predicted", "x": [row["variant"] for row in own if row["code"] == code],
                 "y": [row["predicted_ms"] for row in own if row["code"] == code], "text": [f"{row['predicted_ms']:.2f}" for row in own if row["code"] == code],
                 "textposition": "outside", "cliponaxis": False, "marker": {"color": COLOURS[codes.index(code)]}} for code in codes]
        figures.append((f"{direction}, {dtype}, {shape}: predicted ms", [bars for bars in data if bars["x"]],
                        {"barmode": "group", "yaxis": {"title": {"text": "ms, predicted"}, "rangemode": "tozero"}, "height": 340}))
    page.charts(figures)


def busy_of(row, pipe):
    """Of a call: its kernels' shares, by their time."""
    total = sum(kernel["predicted_us"] for kernel in row["kernels"])
    share = lambda kernel: kernel["predicted_issue"] if pipe == "issue slots" else kernel["predicted_busy"].get(pipe, 0)
    return sum(kernel["predicted_us"] * share(kernel) for kernel in row["kernels"]) / total if total else 0


def pipes_of(rows):
    """Those that are used, the busiest first."""
    busiest = {name: max(busy_of(row, name) for row in rows) for name in {pipe for row in rows for kernel in row["kernels"] for pipe in kernel["predicted_busy"]}}
    return ["issue slots", *sorted((name for name, busy in busiest.items() if busy >= 0.005), key=lambda name: (-busiest[name], name))]


def percent(share):
    return (f"{100 * share:.0f} %", share)


def all_rows(page, predictions):
    page.heading("All rows, predicted")
    good = [row for row in predictions["rows"] if "error" not in row]
    pipes = pipes_of(good)
    table = []
    for row in predictions["rows"]:
        name = [name_of(row), shape_of(row), row["code"]]
        if "error" in row:
            table.append([*name, "not predicted", ("", "x"), "", "", "", row["error"], *("" for _ in pipes), ""])
            continue
        longest = max(row["kernels"], key=lambda kernel: kernel["predicted_us"])
        sm80 = next((other for other in good if other["code"] == "sm_80" and (name_of(other), shape_of(other)) == (name_of(row), shape_of(row))), None)
        gain = sm80["predicted_ms"] / row["predicted_ms"] if sm80 and sm80 is not row else None
        table.append([*name, "predicted", (f"{row['predicted_ms']:.3f}" + (f" ({gain:.2f}x)" if gain else ""), row["predicted_ms"]),
                      (f"{row['predicted_tflops']:.0f}", row["predicted_tflops"]), percent(row["predicted_tflops"] / row["peak_tflops"]), percent(row["kept_tiles"]),
                      f"{longest['kernel']}: {longest['predicted_bound']}", *(percent(busy_of(row, pipe)) for pipe in pipes), row["schedule"]])
    page.text("In brackets: how many times as fast as the code that every GPU gets (sm_80). The bound is that of the longest kernel. Shares are of all cycles of the call.", "soft")
    page.table(["call", "shape", "code", "kind", "ms, predicted", "TFLOP/s, predicted", "of peak", "kept tiles", "bound, predicted", *(f"{pipe} busy" for pipe in pipes), "schedule"], table)


def kernels(page, rows):
    page.heading("Kernels, predicted")
    page.text("How busy each pipe of an SM would be over a kernel, with its waves and its tail.", "soft")
    pipes = pipes_of(rows)
    table, figures = [], []
    for direction in dict.fromkeys(row["direction"] for row in rows):
        labels, shares = [], []
        for row in rows:
            total = sum(kernel["predicted_us"] for kernel in row["kernels"])
            for kernel in row["kernels"]:
                if row["direction"] != direction:
                    continue
                busy = [kernel["predicted_issue"], *(kernel["predicted_busy"].get(pipe, 0) for pipe in pipes[1:])]
                table.append([f"{row['variant']} {kernel['kernel']} {row['dtype']}", shape_of(row), row["code"], "predicted", (f"{kernel['predicted_us']:.1f}", kernel["predicted_us"]),
                              percent(kernel["predicted_us"] / total), kernel["predicted_bound"], *(percent(share) for share in busy),
                              (str(kernel["registers"]), kernel["registers"]), (str(kernel["warps"]), kernel["warps"]), "; ".join(kernel["notes"])])
                if kernel["predicted_us"] > 0.1 * total and row["T"] == max(other["T"] for other in rows):
                    labels.append(f"{row['variant']} {kernel['kernel']}, D = {row['D']}, {row['code']}")
                    shares.append([100 * share for share in busy])
        if labels:
            figures.append((f"{direction}, T = {max(row['T'] for row in rows):,}: predicted share of cycles, %",
                            [{"type": "heatmap", "x": pipes, "y": labels[::-1], "z": shares[::-1], "colorscale": [[0, "rgba(128,128,128,0.06)"], [1, COLOURS[0]]], "zmin": 0, "zmax": 100,
                              "texttemplate": "%{z:.0f}", "showscale": False, "hovertemplate": "%{y}: %{x} %{z:.0f} %, predicted<extra></extra>"}],
                            {"height": 120 + 26 * len(labels), "xaxis": {"side": "top", "tickangle": -30}, "margin": {"l": 8, "r": 14, "t": 110, "b": 14}}))
    for figure in figures:
        page.charts([figure])
    page.table(["kernel", "shape", "code", "kind", "us, predicted", "of the call", "bound, predicted", *pipes, "registers", "warps", "notes"], table)


main()
