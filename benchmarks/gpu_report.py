"""./dev gpu: what this machine's NVIDIA GPU makes of Weft, the most telling first, within a time budget: right numbers,
then speed beside SDPA's kernels and FlexAttention, with schedules tuned here, time against kept share, compute-sanitizer.
One JSON and one page. What is known of the same GPU and library is not asked again: run it again to go on.
"""

import argparse
import hashlib
import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
import time

import page

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SUITES = ("sines", "same_bits", "graphs", "dropout_in_graphs", "streams", "decode", "deterministic_mode", "training")
SANITIZED = ("span_periodic", "content_weight", "stick_breaking")
TYPES = ("bf16", "f16", "f32")
TUNING = 40  # seconds that a call may be tuned for, both ways
HOPPER = "sm_90a"  # code of WEFT_GPU, for GPUs of compute capability 9.0; other code is for every GPU


class Workers:
    """Processes of gpu_worker.py. After stop() none runs and none starts."""

    def __init__(self):
        self.lock, self.all, self.stopped = threading.Lock(), [], False

    def worker(self, environment):
        own = Worker(environment, self)
        with self.lock:
            self.all.append(own)
        return own

    def stop(self):
        with self.lock:
            self.stopped = True
            for own in self.all:
                own.stop()


class Worker:
    """A process of gpu_worker.py, started anew after it dies or takes too long."""

    def __init__(self, environment, workers):
        self.environment, self.workers, self.process = environment, workers, None

    def ask(self, work, seconds):
        with self.workers.lock:
            if self.workers.stopped:
                return {"late": True}
            if not self.process or self.process.poll() is not None:
                self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "gpu_worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                stderr=subprocess.PIPE, env=self.environment, start_new_session=True)
                self.said = b""
                self.listener = threading.Thread(target=self.listen, args=(self.process,), daemon=True)
                self.listener.start()
        try:
            self.process.stdin.write(json.dumps(work).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self.lost()
        if not select.select([self.process.stdout], [], [], max(seconds, 0))[0]:
            self.stop()
            return {"late": True}
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else self.lost()

    def listen(self, process):
        for line in process.stderr:
            self.said = (self.said + line)[-2000:]

    def lost(self):
        self.process.wait()
        self.listener.join(10)  # its last words; what it started may hold the pipe open
        return {"error": f"the process died ({self.process.returncode}): {self.said.decode(errors='replace')[-500:]}"}

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Report:
    """Results by name of step, in a file that always holds all of them."""

    def __init__(self, folder, identity):
        self.path, self.lock = os.path.join(folder, "gpu.json"), threading.Lock()
        os.makedirs(folder, exist_ok=True)
        self.data = {"identity": identity, "machine": {}, "steps": {}}
        try:
            with open(self.path) as file:
                old = json.load(file)
            if old["identity"] == identity:
                self.data = old
        except (OSError, ValueError, KeyError):
            pass

    def known(self, name):
        return name in self.data["steps"] and not self.data["steps"][name].get("unfinished")

    def add(self, name, result):
        with self.lock:
            self.data["steps"][name] = result
            self.save()

    def save(self):
        with open(self.path + ".tmp", "w") as file:
            json.dump(self.data, file, indent=1)
        os.replace(self.path + ".tmp", self.path)


def seconds_of(text):
    number, unit = (text[:-1], text[-1]) if text[-1:] in "smh" else (text, "s")
    try:
        return float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seconds or a number with s, m or h, as in 8m, got {text!r}")


def identity_of(library, device):
    """Of the build: its libraries' bytes, which are few."""
    digest = hashlib.sha256(device.encode())
    folder = os.path.dirname(os.path.abspath(library))
    for name in sorted(os.listdir(folder)):
        if name.startswith("libweft") and name.endswith(".so"):
            with open(os.path.join(folder, name), "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()[:16]


SAMPLE = """
import sys, torch, test_cuda
test_cuda.both(sys.argv[1], test_cuda.on_gpu(test_cuda.tensors(sys.argv[1], torch.bfloat16, T=200)))
torch.cuda.synchronize()
"""


def run_test(command, environment, seconds):
    """Beside the operator's tests."""
    try:
        done = subprocess.run(command, cwd=os.path.join(ROOT, "tests", "operator"), env=environment, capture_output=True, text=True, timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        return {"late": True}
    return {} if done.returncode == 0 else {"error": (done.stdout + done.stderr)[-2000:]}


def tune(program, work, environment, seconds):
    """Better schedules for a call, in a cache of their own: what is measured without them stays as it is. A search that runs out of time
    goes on where it was."""
    command = [program, "tune", work["variant"], "--shapes", ",".join(map(str, work["shape"])), "--dtype", work["dtype"], "--budget", f"{min(TUNING, seconds) * 0.8:.0f}s"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        return {"late": True}
    if done.returncode == 0:
        return {"tuned": done.stdout.splitlines(), **({"unfinished": True} if "ran out of budget" in done.stdout else {})}
    said = done.stderr.strip().splitlines()[-1:] or ["failed without a word"]
    # The emulator tunes nothing, and says so: a rehearsal goes on.
    return {"tuned": said} if work["rehearsal"] else {"error": said[0]}


def of_hopper(steps, types):
    """The same steps for Hopper's own code."""
    return [(f"{name} {HOPPER}", {**work, "code": HOPPER}) for name, work in steps if work.get("dtype", types[0]) in types]


def steps_of(device, names, hopper):
    """(name, what to do) of what runs side by side, and of what must be alone."""
    small = device != "cuda"
    together = [(f"right {v} {t}", {"ask": "right", "variant": v, "dtype": t}) for t in TYPES for v in names]
    if not small:
        together = [(f"suite {name}", {"command": [sys.executable, "-m", "unittest", f"test_cuda.Cuda.test_{name}"]}) for name in SUITES] + together
    if hopper:
        together += of_hopper(together, TYPES[:2])
    alone = []

    def speed(variant, dtype, shape, span=None):
        step = (f"speed {variant} {dtype} {','.join(map(str, shape))}" + (f" span {span}" if span else ""),
                {"ask": "speed", "variant": variant, "dtype": dtype, "shape": shape, "span": span})
        alone.extend([step] + (of_hopper([step], TYPES[:2]) if hopper else []))

    def tuned(variant, dtype, shape):
        step = (f"tuned {variant} {dtype} {','.join(map(str, shape))}",
                {"ask": "speed", "variant": variant, "dtype": dtype, "shape": shape, "span": None, "tune": True, "rehearsal": small})
        alone.extend([step] + (of_hopper([step], TYPES[:2]) if hopper else []))

    if small:
        speed("causal", "bf16", (1, 1, 128, 64))
        tuned("causal", "bf16", (1, 1, 128, 64))
        speed("span_periodic", "f32", (1, 1, 128, 64))
        return together, alone
    for variant in ("causal", "sliding_window", "adaptive_span", "span_periodic", "soft_cap"):
        for D in (64, 128):
            speed(variant, "bf16", (2, 16, 4096, D))
    for variant in ("causal", "span_periodic", "sliding_window", "adaptive_span", "soft_cap"):
        for D in (64, 128):
            tuned(variant, "bf16", (2, 16, 4096, D))
    # One share of the tiles after another.
    for span in (16384, 8192, 4096, 1024, 256):
        speed("sliding_window", "bf16", (1, 16, 16384, 128), span)
    if shutil.which("compute-sanitizer"):
        for v in SANITIZED:
            for tool in ("memcheck", "racecheck"):
                alone.append((f"sanitizer {tool} {v}", {"command": ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", SAMPLE, v]}))
    for shape in ((1, 16, 16384, 64), (1, 16, 16384, 128), (16, 16, 1024, 64), (16, 16, 1024, 128)):
        speed("causal", "bf16", shape)
    for D in (64, 128):
        speed("causal", "f16", (2, 16, 4096, D))
        speed("causal", "f32", (2, 16, 4096, D))
    return together, alone


def write_page(report, folder, left):
    data = report.data
    steps, name = data["steps"], data["machine"].get("name", "no GPU")
    own = page.Page(f"Weft on {name}")
    own.text(", ".join(f"{key} {value:.0f}" if isinstance(value, float) else f"{key} {value}" for key, value in data["machine"].items()), "soft")
    if data["machine"].get("capability") is None:
        own.text("A rehearsal without a GPU: the numbers are the emulator's, its times say nothing of any GPU.", "bad")
    if left:
        own.text("Not all steps were reached: run it again to go on.", "bad")
    own.heading("Right numbers")
    own.text("Output and gradients, within twice the error of PyTorch's own math against float64.", "soft")
    names = list(dict.fromkeys(key.split()[1] for key in steps if key.startswith("right ")))

    def verdict(step):
        if step not in steps:
            return "not reached"
        return ("wrong", 1, "bad") if "error" in steps[step] else ("right", 0, "good")

    kinds = [*TYPES, *(f"{t} {HOPPER}" for t in TYPES if any(key.endswith(f" {t} {HOPPER}") for key in steps))]
    own.table(["variant", *kinds], [[v, *(verdict(f"right {v} {kind}") for kind in kinds)] for v in names])
    others = [key for key in steps if key.startswith(("suite ", "sanitizer "))]
    if others:
        own.heading("Behaviour")
        own.table(["check", "found"], [[key, verdict(key)] for key in others])
    own.heading("Speed")
    rows = []
    for key, result in steps.items():
        if not key.startswith("speed ") or key.endswith(HOPPER):
            continue
        of = lambda step: step.get("rows", [{"method": "Weft", "reason": step.get("error", "")}])
        measured = of(result)
        base = measured[0]
        own_rows = [base]
        for other, words in ((f"{key} {HOPPER}", HOPPER), (key.replace("speed", "tuned", 1), "tuned"), (f"{key} {HOPPER}".replace("speed", "tuned", 1), f"{HOPPER}, tuned")):
            if other in steps:
                own_rows.append({**of(steps[other])[0], "method": f"Weft, {words}" + (" (search not ended)" if steps[other].get("unfinished") else "")})
        measured = [*own_rows, *measured[1:]]
        for row in measured:
            if "forward_ms" not in row:
                rows.append([key[6:], row["method"], row["reason"], "", "", ""])
                continue
            ratio = lambda way: (f"{row[way] / base[way]:.2f}x", row[way] / base[way]) if way in base else ""
            rows.append([key[6:], row["method"], (f"{row['forward_ms']:.3f}", row["forward_ms"]), ratio("forward_ms"),
                         (f"{row['backward_ms']:.3f}", row["backward_ms"]), ratio("backward_ms")])
    own.table(["case", "method", "forward ms", "of Weft's", "backward ms", "of Weft's"], rows)
    found = [(key, line) for key, result in steps.items() for line in result.get("tuned", [])]
    if found:
        own.heading("Schedules tuned here")
        own.text("Rows named tuned above are in these; all others in the default ones.", "soft")
        own.quote("weft tune", "\n".join(f"{key[6:]}: {line}" for key, line in found))
    for key, result in steps.items():
        if "error" in result:
            own.quote(key, result["error"] or "failed without a word")
    own.write(os.path.join(folder, "gpu.html"))


def main():
    parser = argparse.ArgumentParser(prog="./dev gpu", description=__doc__)
    parser.add_argument("library", help=argparse.SUPPRESS)
    parser.add_argument("program", help=argparse.SUPPRESS)
    parser.add_argument("--budget", type=seconds_of, default=480, help="time to spend, as in 90s or 8m (default: 8m)")
    parser.add_argument("--out", default="runs/gpu", help="folder of gpu.json and gpu.html (default: runs/gpu)")
    parser.add_argument("--device", choices=("cuda", "ptx-emulator"), default="cuda", help="ptx-emulator: a rehearsal without a GPU")
    parser.add_argument("--only", default="", help="steps whose names begin so, as in 'right causal' or speed")
    args = parser.parse_args()
    deadline = time.monotonic() + args.budget
    environment = {**os.environ, "WEFT_LIBRARY": os.path.abspath(args.library), "WEFT_PROGRAM": os.path.abspath(args.program), "WEFT_SOURCE": ROOT}
    if args.device != "cuda":
        environment["WEFT_DEVICE"] = args.device
    report = Report(args.out, identity_of(args.library, args.device))
    left, interrupted, workers = 0, False, Workers()

    def environment_of(code):
        if code != HOPPER:
            return environment
        return {**environment, "WEFT_GPU": code, **({} if args.device == "cuda" else {"WEFT_DEVICE": args.device + ":sm_90"})}

    def one_each():
        """A worker for each code."""
        return {code: workers.worker(environment_of(code)) for code in ("", HOPPER)}

    def say(name, result, begun):
        words = "not in the time given" if "late" in result else (result["error"].splitlines() or ["failed without a word"])[-1][:150] if "error" in result else "ok"
        print(f"{time.monotonic() - begun:6.1f} s  {name:44} {words}", flush=True)

    def do(name, work, own):
        """Whether the step is known now."""
        begun = time.monotonic()
        seconds = deadline - begun
        if seconds <= 0 or workers.stopped:
            return False
        if "command" in work:
            result = run_test(work["command"], environment_of(work.get("code")), seconds)
        elif work.get("tune"):
            result = tune_and_measure(work, seconds)
        else:
            result = own[work.get("code", "")].ask({"device": "cuda" if args.device == "cuda" else "cpu", **work}, seconds)
        if workers.stopped:  # who was asked was stopped, too
            return False
        say(name, result, begun)
        if "late" in result:
            return False
        report.add(name, result)
        for row in result.get("rows", []):
            if "forward_ms" in row:
                print(f"          {row['method']:18} forward {row['forward_ms']:9.3f} ms   backward {row['backward_ms']:9.3f} ms", flush=True)
        return not result.get("unfinished")

    def tune_and_measure(work, seconds):
        begun = time.monotonic()
        place = {**environment_of(work.get("code")), "WEFT_CACHE_DIR": os.path.abspath(os.path.join(args.out, "tuned"))}
        found = tune(args.program, work, {**place, "WEFT_DEVICE": "cuda"} if args.device == "cuda" else place, seconds)
        if "tuned" not in found:
            return found
        # A process that has not looked for schedules before.
        own = workers.worker(place)
        answer = own.ask({"device": "cuda" if args.device == "cuda" else "cpu", **work}, seconds - (time.monotonic() - begun))
        own.stop()
        return {**found, **answer} if "rows" in answer else answer

    first = one_each()
    try:
        machine = first[""].ask({"ask": "machine", "device": args.device}, 120)
        if "error" in machine or "late" in machine:
            sys.exit(f"./dev gpu: {machine.get('error', 'the machine did not answer in two minutes')}. --device ptx-emulator rehearses it without a GPU")
        if report.data["machine"].get("name") != machine["name"]:
            report.data.update(machine=machine, steps={})
        together, alone = steps_of(args.device, first[""].ask({"ask": "variants"}, 60)["names"], machine.get("capability", "sm_90") == "sm_90")
        chosen = lambda steps: [step for step in steps if step[0].startswith(args.only) and not report.known(step[0])]
        waiting = queue.SimpleQueue()
        for step in chosen(together):
            waiting.put(step)

        def serve():
            nonlocal left
            own = one_each()
            while True:
                try:
                    name, work = waiting.get_nowait()
                except queue.Empty:
                    return
                if not do(name, work, own):
                    left += 1

        threads = [threading.Thread(target=serve) for _ in range(min(16, os.cpu_count(), max(waiting.qsize(), 1)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name, work in chosen(alone):
            if not do(name, work, first):
                left += 1
    except KeyboardInterrupt:
        interrupted = True
    finally:
        workers.stop()
    report.save()
    write_page(report, args.out, left or int(interrupted))
    wrong = [name for name, result in report.data["steps"].items() if "error" in result]
    print(f"{len(report.data['steps'])} steps known, {len(wrong)} of them wrong{': ' + ', '.join(wrong) if wrong else ''}; {left} not reached"
          + ("; interrupted" if interrupted else "") + (": run it again to go on" if left or interrupted else ""))
    print(f"{args.out}/gpu.json   {args.out}/gpu.html")
    sys.exit(1 if wrong else 130 if interrupted else 0)


if __name__ == "__main__":
    main()
