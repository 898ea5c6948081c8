"""Model → a folder that any web server can serve: the live page, painted in the browser, with no external requests.

    site/
      index.html *.js app.css icon.svg      the page, the same files that `alis serve` shows
      model.json                            as from `alis serve`, but "painter": "browser", and with the graphs' inputs
      model/                                two ONNX graphs and the tables around them
      ort/                                  onnxruntime-web, from its pinned npm package
      README.md                             what it is; as a Space of the Hugging Face Hub, also how it is served

The folder gets its name only when it is complete; only a folder made by this module is ever replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from alis import formats
from alis.errors import InputError
from alis.painting.panorama import Panorama, precision_of
from alis.web.app import PAGE
from alis.web.npm import RUNTIME, files, tarball
from alis.web.page_info import page_info
from alis.web.static import onnx_graphs

MAX_SIDE = 16_384  # of a canvas, in every browser
_WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; img-src 'self' blob: data:; "
    "base-uri 'none'; form-action 'none'"
)
README = """---
title: {title}
emoji: 🏞️
colorFrom: blue
colorTo: yellow
sdk: static
app_file: index.html
pinned: false
custom_headers:
  cross-origin-embedder-policy: require-corp
  cross-origin-opener-policy: same-origin
  cross-origin-resource-policy: cross-origin
---

# {title}

An endless panorama that your browser paints as you go, by the method of
[Aligning Latent and Image Spaces to Connect the Unconnectable](https://arxiv.org/abs/2104.06954).
Nothing is sent anywhere. To show it elsewhere, put this folder on any web server, e.g. `python -m http.server`.

`ort/` holds files of [{runtime}](https://www.npmjs.com/package/{package}) (MIT, Microsoft), as published.
"""


@dataclass(frozen=True)
class Site:
    """The folder, its size, and how many bytes a browser without WebGPU loads before its first tile."""

    folder: Path
    size_bytes: int
    first_load_bytes: int


def write(
    panorama: Panorama,
    out: str | Path,
    *,
    name: str = "alis",
    runtime: str | Path | None = None,
    webgpu: bool = True,
    overwrite: bool = False,
) -> Site:
    """Write the static page of a plane; the page starts with the plane's sketch.

    Args:
        name: the model's name on the page.
        runtime: onnxruntime-web's tarball, if it is not to be downloaded (`alis.web.npm.tarball`).
        webgpu: include the runtime for GPUs, 27 MB that only browsers with WebGPU load.

    Raises:
        InputError: the folder can't be replaced, no runtime, or a precision other than float32.
    """
    folder = Path(out)
    _check_place(folder, overwrite=overwrite)
    if precision_of(panorama.g) != "float32":
        raise InputError(
            f"precision {precision_of(panorama.g)}: the browser paints in float32", hint="leave --precision out"
        )
    parts = files(tarball(RUNTIME, runtime), [f"dist/{part}" for part in (*_WASM, *(_WEBGPU if webgpu else ()))])
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.absolute().parent) as scratch:
        made = Path(scratch) / "site"
        made.mkdir()
        _write_page(made)
        _write_model(panorama, made, name, webgpu)
        for part, data in parts.items():
            _put(made / "ort" / Path(part).name, data)
        text = README.format(title=name, runtime=f"{RUNTIME.name} {RUNTIME.version}", package=RUNTIME.name)
        _put(made / "README.md", text.encode())
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        later = sum(len(data) for part, data in parts.items() if Path(part).name in _WEBGPU)
        later += sum(path.stat().st_size for path in (made / "model").glob("stored-*"))
        _swap(made, folder, Path(scratch))
    return Site(folder, size, size - later)


def _check_place(folder: Path, *, overwrite: bool) -> None:
    """Raises: InputError: the folder can't be written, was not made by this module, or may not be replaced."""
    formats.check_writable(folder)
    if folder.is_dir() and any(folder.iterdir()):
        if not is_site(folder):
            raise InputError(f"{folder}: is not a page made by alis export-web", hint="give another -o")
        if not overwrite:
            raise InputError(f"{folder}: exists", hint="remove it, or overwrite it with --force")
    elif folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file", hint="give a folder's name")


def is_site(folder: Path) -> bool:
    """Whether a folder was made by `write`."""
    try:
        return json.loads((folder / "model.json").read_text(encoding="utf-8")).get("painter") == "browser"
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _swap(made: Path, folder: Path, scratch: Path) -> None:
    """Move the finished folder to its name; the folder it replaces is deleted with the temporary folder `scratch`."""
    made.chmod(0o755)
    if folder.exists():
        os.replace(folder, scratch / "before")
    os.replace(made, folder)


def _write_page(made: Path) -> None:
    for path in PAGE.iterdir():
        if path.is_file():
            shutil.copyfile(path, made / path.name)
    index = made / "index.html"
    mark = '<meta charset="utf-8">'
    text = index.read_text(encoding="utf-8")
    assert mark in text
    policy = f'{mark}\n  <meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    index.write_text(text.replace(mark, policy), encoding="utf-8")


def _write_model(panorama: Panorama, made: Path, name: str, webgpu: bool) -> None:
    g, folder = panorama.g, made / "model"
    folder.mkdir()
    plan = onnx_graphs.export(g, folder)
    anchor_codes = panorama.anchor_codes
    _put_floats(folder / "mean.f32", g.mapping.w_avg)
    if anchor_codes.centres_KS is not None:
        _put_floats(folder / "centres.f32", anchor_codes.centres_KS)
    if plan.latents:
        _put_floats(folder / "quantiles.f32", onnx_graphs.quantiles())
    for code, w in anchor_codes.saved.items():
        _put_floats(folder / f"code-{code}.f32", w)
    for layer, stored in enumerate(onnx_graphs.stored_noise(g)):
        _put_floats(folder / f"stored-{layer}.f32", stored)
    most = max(1, min(128, MAX_SIDE // panorama.height))
    info = page_info(panorama, name=name, max_frames=most, painter="browser")
    codes = sorted((code, w.numel()) for code, w in anchor_codes.saved.items())
    table = json.loads(info.json_text) | {"network": onnx_graphs.as_json(plan) | {"webgpu": webgpu, "codes": codes}}
    _put(made / "model.json", (json.dumps(table, indent=1) + "\n").encode())


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def _put_floats(path: Path, values: Tensor) -> None:
    _put(path, values.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4").tobytes())
