"""What sparse attention costs in quality, on tasks that small models learn from scratch.

study.py run [--tasks recall,needle] [--lengths 512] [--evaluated 512,1024] [--variants ...] [--shares 0.5,0.25,0.1] [--modes free,trained] ...
study.py report [--out runs/study]

`free`: a model is trained with dense attention and evaluated with every variant and share. `trained`: each variant and share has a
model of its own. Points that are there are not made again; one that was interrupted begins anew; several processes with one --out
share the work, but for their times, which then say little. Writes OUT/points/*.json, and with `report` OUT/study.html and OUT/study.json.
"""

import argparse
import itertools
import os
import statistics
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import torch.nn.functional as F
from dials import DIALS, FIXED
from model import Model
from queue_of_points import claimed, path_of, read, write
from tasks import NONE, SHORTEST, TASKS, VOCABULARY, make

# Batches of a task from these numbers on are no training text: those that say when a model knows its task, and those of the points.
LOOKED_AT, HELD_OUT = 1 << 40, 1 << 41
NEARLY = 0.9  # share of right tokens at which texts become longer


def batch_of(task, seed, number, batch, length):
    return tuple(map(torch.from_numpy, make(task, seed, number, batch, length)))


@torch.no_grad()
def accuracy(model, task, seed, length, texts, first, batch):
    """The share of known tokens that the model gives first place, of how many, and seconds of each forward pass."""
    right = count = 0
    seconds = []
    for number in range((texts + batch - 1) // batch):
        tokens, targets = batch_of(task, seed, first + number, batch, length)
        start = time.perf_counter()
        guessed = model(tokens).argmax(-1)
        seconds.append(time.perf_counter() - start)
        known = targets != NONE
        right += int((guessed[known] == targets[known]).sum())
        count += int(known.sum())
    return right / count, count, seconds


def train(options, task, length, seed, variant, share):
    """A model that has learned a task, and how it went. Texts are short at first, and twice as long where it nearly knows the task; it stops
    where it knows it at the full length."""
    torch.manual_seed(seed)
    model = Model(VOCABULARY, options.width, options.layers)
    model.variant, model.share = variant, share
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, betas=(0.9, 0.98), weight_decay=0.1)
    shares = lambda step: min(1.0, (step + 1) / 50) * (1 - 0.9 * step / options.steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shares)
    start, curve, known, own = time.monotonic(), [], 0.0, min(options.shortest, length)
    for step in range(options.steps):
        more = length // own  # as many tokens of shorter texts
        tokens, targets = batch_of(task, seed, step, options.batch * more, own)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten(), ignore_index=NONE)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % options.check == 0 or step + 1 == options.steps:
            known = accuracy(model, task, seed, own, 32 * more, LOOKED_AT, 8 * more)[0]
            curve.append([step + 1, own, loss.item(), known])
            print(f"\r  step {step + 1}/{options.steps}  length {own}  loss {loss.item():.3f}  right {known:.1%}  {time.monotonic() - start:.0f} s ", end="", file=sys.stderr, flush=True)
            if own == length and known >= options.enough:
                break
            if own < length and known >= NEARLY:
                own = min(2 * own, length)
    print(file=sys.stderr)
    if curve[-1][1] < length:
        known = accuracy(model, task, seed, length, 32, LOOKED_AT, 8)[0]
    return model, {"curve": curve, "steps_made": curve[-1][0], "accuracy": known, "seconds": time.monotonic() - start}


def recipe_of(options):
    return {key: getattr(options, key) for key in RECIPE}


# What says of a model how it was trained.
RECIPE = ("steps", "check", "enough", "shortest", "batch", "width", "layers", "lr")


def trained(options, task, length, seed, variant="causal", share=1.0):
    """The model of such a point, trained now or before; None while another process trains it."""
    recipe = recipe_of(options)
    path = path_of(os.path.join(options.out, "models"), {"task": task, "length": length, "seed": seed, "variant": variant, "share": share})
    weights = path.removesuffix(".json") + ".pt"
    with claimed(path) as mine:
        if not mine:
            return None
        if not os.path.exists(path):
            print(f"training: {task}, length {length}, seed {seed}, {variant} {share:g}", file=sys.stderr)
            model, told = train(options, task, length, seed, variant, share)
            torch.save(model.state_dict(), weights + ".tmp")
            os.replace(weights + ".tmp", weights)
            write(path, {**recipe, **told})
        told = read(path)
        if any(told.get(key) != value for key, value in recipe.items()):
            sys.exit(f"{path} is of another recipe; give another --out")
        model = Model(VOCABULARY, options.width, options.layers)
        model.load_state_dict(torch.load(weights, weights_only=True))
        model.variant, model.share = variant, share
        return model, told


def evaluated(options, model, task, seed, variant, share, length):
    """Text by text: some variants choose by what is in a text."""
    model.variant, model.share = variant, share
    right, count, seconds = accuracy(model, task, seed, length, options.texts, HELD_OUT, 1)
    model.told, looked_at = [], min(8, options.texts)
    accuracy(model, task, seed, length, looked_at, HELD_OUT, 1)
    told, model.told = model.told, None
    return {"accuracy": right, "count": count, "kept": statistics.mean(own.kept_share for own in told), "attention_flops": sum(own.flops for own in told) / looked_at,
            "seconds": statistics.median(seconds[len(seconds) // 4 :])}  # the first ones compile


def points(options):
    """All that is asked for; those of one model one behind the other."""
    for task, length, seed in itertools.product(options.tasks, options.lengths, options.seeds):
        for mode, (variant, share) in itertools.product(options.modes, dials(options)):
            for evaluated_length in options.evaluated or [length]:
                yield {"mode": mode, "task": task, "length": length, "seed": seed, "variant": variant, "share": share, "evaluated": evaluated_length}


def dials(options):
    for variant in options.variants:
        yield from [(variant, 1.0)] if variant in FIXED else [(variant, share) for share in options.shares]


def run(options):
    for folder in ("models", "points"):
        os.makedirs(os.path.join(options.out, folder), exist_ok=True)
    wanted = list(points(options))
    waiting = list(wanted)
    models, recipe = {}, {**recipe_of(options), "texts": options.texts}
    while waiting:
        later = []
        for point in waiting:
            path = path_of(os.path.join(options.out, "points"), point)
            if os.path.exists(path):
                if read(path)["recipe"] != recipe:
                    sys.exit(f"{path} is of another recipe; give another --out")
                continue
            of = (point["task"], point["length"], point["seed"], *((point["variant"], point["share"]) if point["mode"] == "trained" else ()))
            if of not in models:
                models = {of: trained(options, *of)}  # one at a time
            if models[of] is None:
                models.clear()
                later.append(point)  # another process is at it
                continue
            with claimed(path) as mine:
                if not mine:
                    later.append(point)
                elif not os.path.exists(path):
                    model, told = models[of]
                    result = evaluated(options, model, point["task"], point["seed"], point["variant"], point["share"], point["evaluated"])
                    write(path, {**point, **result, "recipe": recipe, "trained_accuracy": told["accuracy"], "trained_steps": told["steps_made"]})
                    done = sum(os.path.exists(path_of(os.path.join(options.out, "points"), own)) for own in wanted)
                    print(f"[{done}/{len(wanted)}] {point['task']} {point['evaluated']} {point['variant']} {point['share']:g}: {result['accuracy']:.1%} of {result['count']}, kept {result['kept']:.1%}", flush=True)
        if later:
            time.sleep(2)
        waiting = later
    print(f"{len(wanted)} points in {options.out}; study.py report --out {options.out} shows them")


def listed(kind, known=None):
    def parse(text):
        values = [kind(word) for word in text.split(",") if word]
        unknown = [own for own in values if known is not None and own not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown '{unknown[0]}'; expected some of {', '.join(known)}")
        return values

    return parse


def share(text):
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and up to 1, got {text}")
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    shows = argparse.ArgumentDefaultsHelpFormatter
    own = commands.add_parser("run", help="make the points that are not there", formatter_class=shows)
    own.add_argument("--tasks", type=listed(str, TASKS), default="recall,recall_in_noise,induction,needle", help=", ".join(TASKS))
    own.add_argument("--lengths", type=listed(int), default="2048", help="that models are trained with")
    own.add_argument("--evaluated", type=listed(int), default="", help="lengths of the texts that they are evaluated on (default: the same)")
    own.add_argument("--variants", type=listed(str, DIALS), default=",".join(DIALS))
    own.add_argument("--shares", type=listed(share), default="0.5,0.25,0.1,0.05", help="of causal attention's pairs, that a variant should keep")
    own.add_argument("--seeds", type=listed(int), default="1,2,3")
    own.add_argument("--modes", type=listed(str, ("free", "trained")), default="free", help="free: trained dense; trained: each with its own variant and share")
    own.add_argument("--steps", type=int, default=1500, help="at most, of batches of --batch texts of the full length, or as many tokens")
    own.add_argument("--shortest", type=int, default=SHORTEST, help="length of the first texts of a training")
    own.add_argument("--check", type=int, default=25, help="steps from one look at what is known to the next")
    own.add_argument("--enough", type=float, default=0.99, help="share of right tokens at which training stops")
    own.add_argument("--batch", type=int, default=4)
    own.add_argument("--width", type=int, default=64)
    own.add_argument("--layers", type=int, default=2)
    own.add_argument("--lr", type=float, default=3e-3)
    own.add_argument("--texts", type=int, default=64, help="that a point is evaluated on")
    page = commands.add_parser("report", help="write the page")
    for command in (own, page):
        command.add_argument("--out", default="runs/study")
    options = parser.parse_args()
    if options.command == "run":
        return run(options)
    from report_of_study import report

    defaults = own.parse_args([])
    report(options.out, {key: getattr(defaults, key) for key in (*RECIPE, "texts")})


if __name__ == "__main__":
    main()
