#!/usr/bin/env python3
"""Makes the wheel: the Python package, the compiler and the runtime of a bundle (./dev bundle), and the operator for several torch
versions, each built against the headers of that torch's own wheel. `./dev wheel` calls it."""

import argparse
import base64
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import zipfile

root = pathlib.Path(__file__).resolve().parent.parent
NEEDED = ("torch/lib/libtorch.so", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/version.py")


def run(*command, **options):
    print("+", *command, flush=True)
    subprocess.run([str(own) for own in command], check=True, **options)


def unpacked(version: str, cache: pathlib.Path) -> pathlib.Path:
    """The folder torch/ of a version's wheel: headers, and the libraries to link against."""
    folder = cache / version
    if not (folder / "torch" / "version.py").is_file():
        download = cache / "download"
        shutil.rmtree(download, ignore_errors=True)
        run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", download, f"torch=={version}")
        part = cache / f"{version}.part"
        shutil.rmtree(part, ignore_errors=True)
        with zipfile.ZipFile(next(download.glob("torch-*.whl"))) as wheel:
            wheel.extractall(part, [name for name in wheel.namelist() if name.startswith("torch/include/") or name in NEEDED])
        shutil.rmtree(download)
        part.rename(folder)
    return folder / "torch"


def build(version: str, torch: pathlib.Path, bundle: pathlib.Path) -> pathlib.Path:
    """The operator and the command line for one torch: the folder they are in."""
    folder = root / f"build-wheel-{version}"
    run("cmake", "-S", root, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", f"-DWEFT_BUNDLE={bundle}", "-DWEFT_TESTS=OFF", "-DWEFT_ARCHIVES=OFF",
        f"-DTorch_DIR={root / 'python' / 'cmake'}", f"-DWEFT_TORCH_FOLDER={torch}", "-DWEFT_PYTHON=python3", stdout=subprocess.DEVNULL)
    run("cmake", "--build", folder, "--target", "weft_torch", "weft")
    return taken(folder, folder / "out")


def taken(folder: pathlib.Path, out: pathlib.Path) -> pathlib.Path:
    """Operator and command line of a build, as they lie in a wheel, and beside them in `package` what C and C++ include and find."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, rpath in (("lib/libweft_torch.so", "$ORIGIN/.."), ("bin/weft", "$ORIGIN:$ORIGIN/..:$ORIGIN/../../../torch/lib")):
        own = out / pathlib.Path(name).name
        shutil.copy2(folder / name, own)
        run("strip", "--strip-unneeded", own)
        run("cmake", f"-DFILE={own}", f"-DRPATH={rpath}", "-P", root / "python" / "cmake" / "rpath.cmake")
    run("cmake", "--install", folder, "--component", "package", "--prefix", out / "package", stdout=subprocess.DEVNULL)
    return out


def libc_tag() -> str:
    """manylinux of the C library that this machine builds against; older ones may not have what is called."""
    name, version = platform.libc_ver()
    if name != "glibc":
        raise SystemExit(f"expected glibc, got {name or 'another C library'}: no wheel tag stands for it")
    return f"manylinux_{version.replace('.', '_')}_{platform.machine()}"


LARGEST = 40_000_000  # bytes of a wheel

METADATA = """Metadata-Version: 2.1
Name: weft
Version: {version}
Summary: Attention variants, compiled forward and backward for the machine they run on
Requires-Python: >=3.10
Requires-Dist: torch ({torches})
License: {license}
Classifier: Programming Language :: Python :: 3
Classifier: Operating System :: POSIX :: Linux
Description-Content-Type: text/markdown

{readme}
"""


def torches(versions) -> str:
    """From the first minor version that there is a build for to the last one."""
    minors = sorted(tuple(int(part) for part in own.split(".")[:2]) for own in versions)
    return f">={minors[0][0]}.{minors[0][1]},<{minors[-1][0]}.{minors[-1][1] + 1}"


def assemble(bundle: pathlib.Path, builds: dict, target: pathlib.Path) -> pathlib.Path:
    package = root / "python" / "weft"
    version = re.search(r'__version__ = "(.*)"', (package / "__init__.py").read_text()).group(1)
    tag = f"py3-none-{libc_tag()}"
    info = f"weft-{version}.dist-info"
    files = {}
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".typed", ".pyi"):
            files[f"weft/{path.relative_to(package)}"] = path
    for name in ("libweft_compiler.so", "libweft_runtime.so"):
        files[f"weft/lib/{name}"] = bundle / "lib" / name
    for torch, out in builds.items():
        minor = ".".join(torch.split(".")[:2])
        for name in ("libweft_torch.so", "weft"):
            files[f"weft/lib/torch-{minor}/{name}"] = out / name
    for folder, place in (("variants", root / "ops" / "variants"), ("configs", root / "models" / "configs")):
        for path in sorted(place.iterdir()):
            files[f"weft/{folder}/{path.name}"] = path
    shown = next(iter(builds.values())) / "package"  # the same in all
    for path in sorted(shown.rglob("*")):
        if path.is_file():
            files[f"weft/{path.relative_to(shown)}"] = path
    license_file = root / "python" / "LICENSE"
    readme = (root / "README.md").read_text()
    texts = {
        f"{info}/METADATA": METADATA.format(version=version, readme=readme, license="Apache-2.0", torches=torches(builds)),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: weft\nRoot-Is-Purelib: false\nTag: {tag}\n",
        f"{info}/entry_points.txt": "[console_scripts]\nweft = weft.__main__:main\n",
        f"{info}/top_level.txt": "weft\n",
        f"{info}/licenses/LICENSE": license_file.read_text(),
    }
    # Of what is inside the libraries.
    for name in ("libllvm22", "nlohmann-json3-dev", "libcli11-dev", "libspdlog-dev", "libfmt9", "libzstd1"):
        own = pathlib.Path("/usr/share/doc", name, "copyright")
        if not own.is_file():
            raise SystemExit(f"{own} is missing: what is inside the libraries goes with its licence")
        texts[f"{info}/licenses/{name}"] = own.read_text()
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("weft-*.whl"):
        old.unlink()
    wheel = target / f"weft-{version}-{tag}.whl"
    record = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        def add(name: str, data: bytes, mode: int):
            own = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            own.external_attr = mode << 16
            own.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(own, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")

        for name, path in files.items():
            add(name, path.read_bytes(), 0o100755 if os.access(path, os.X_OK) else 0o100644)
        for name, text in texts.items():
            add(name, text.encode(), 0o100644)
        record.append(f"{info}/RECORD,,")
        archive.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return wheel


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=pathlib.Path, default=root / "dist" / "weft")
    parser.add_argument("--torch", nargs="+", default=["2.11.0", "2.12.1", "2.13.0", "2.14.1"], help="versions to build for, one a minor version")
    parser.add_argument("--own", action="store_true", help="for the torch of this Python alone, from where it is installed")
    parser.add_argument("--built", type=pathlib.Path, help="take operator, compiler and runtime of this build folder, for this machine's LLVM and the torch of this Python (for tests)")
    parser.add_argument("--cache", type=pathlib.Path, default=root / ".cache" / "torch", help="where unpacked torch wheels are kept")
    parser.add_argument("--out", type=pathlib.Path, default=root / "dist")
    options = parser.parse_args()
    if options.own or options.built:
        import torch

        versions = {torch.__version__.split("+")[0]: pathlib.Path(torch.__file__).parent}
    else:
        versions = {version: unpacked(version, options.cache) for version in options.torch}
    if options.built:
        builds = {version: taken(options.built, options.out / "taken") for version in versions}
        wheel = assemble(options.built, builds, options.out)
    else:
        libraries = ";".join(str(options.bundle / "lib" / name) for name in ("libweft_compiler.so", "libweft_runtime.so"))
        run("cmake", "-DNM=nm", f"-DLIBRARIES={libraries}", "-P", root / "tests" / "symbols.cmake")
        builds = {version: build(version, folder, options.bundle.resolve()) for version, folder in versions.items()}
        wheel = assemble(options.bundle, builds, options.out)
    if not options.built and wheel.stat().st_size > LARGEST:
        raise SystemExit(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, expected at most {LARGEST / 1e6:.0f}")
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, for torch {', '.join(versions)}")


if __name__ == "__main__":
    main()
