"""The description of a published network → our settings and weights, or an error that names what is not supported.

In the pickle, a network is `_reconstruct_persistent_obj(meta)`. meta contains Python source, which is ignored, and the
`__dict__` of the module, whose `_modules` are described in the same way. Only that dict is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from alis.config import ModelConfig
from alis.errors import InputError, UnsafePickle
from alis.import_published.pickles import InertCall
from alis.import_published.storages import tensor
from alis.ops.resample import TAPS
from alis.plane import coords

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
MAX_MODULES, MAX_SETTINGS = 10_000, 100_000

# Settings of research variants: with other values, a network computes something that ours can't.
FIXED: Mapping[str, object] = {
    "num_modes": 1,
    "force_zero_padding": False,
    "modulated_second_conv": True,
    "upsampling_mode": None,
    "style.is_spatial": True,
    "style.fallback_to_mean": False,
    "patchwise.enabled": True,
    "patchwise.w_lerp_multiplier": 1,
    "patchwise.instance_norm": False,
    "input.type": "grid",
    "coords.enabled": True,
    "coords.fallback": False,
    "coords.no_fourier_fallback": False,
    "coords.use_cips_embs": False,
    "coords.logarithmic": True,
    "coords.remove_lowest_freq": True,
    "coords.growth_schedule.enabled": False,
    "fmm.enabled": False,
}
_OUR_NAMES = (("b4.input.input.input_column", "b4.column"), ("b4.input.input.affine", "b4.input.affine"))
# The ramp of the shift in training, and buffers that follow from the settings.
_DERIVED = ("max_shift_strength", "resample_filter", "basis")

State = Mapping[object, object]


def state_of(value: object, where: str) -> State:
    """The `__dict__` of a described module.

    Raises:
        UnsafePickle: it is not such a description.
    """
    meta = value.args[0] if isinstance(value, InertCall) and value.name == PERSISTENT and len(value.args) == 1 else None
    state = meta.get("state") if isinstance(meta, dict) else None
    if not isinstance(state, dict):
        raise UnsafePickle(
            f"{where} is not the description of a network", hint="only published ALIS checkpoints can be read"
        )
    return state


def entries(state: State, key: str) -> Mapping[object, object]:
    """`_modules`, `_parameters` or `_buffers` as a dict, whichever kind of dict they are."""
    found = state.get(key)
    if isinstance(found, InertCall) and found.name in {"collections.OrderedDict", "builtins.dict"}:
        found = found.items
    return found if isinstance(found, dict) else {}


def modules(value: object, where: str) -> Iterator[tuple[str, State]]:
    """All modules of a network by their dotted names; first the network itself, as ''.

    Raises:
        UnsafePickle: a module contains itself, or there are more modules than any network has.
    """
    waiting: list[tuple[str, object]] = [("", value)]
    seen: set[int] = set()
    while waiting:
        path, described = waiting.pop()
        if id(described) in seen or len(seen) > MAX_MODULES:
            raise UnsafePickle(
                f"{where}: {path or 'the network'} contains itself", hint="no published checkpoint does so"
            )
        seen.add(id(described))
        state = state_of(described, f"{where}: {path or 'the network'}")
        yield path, state
        for name, child in entries(state, "_modules").items():
            if child is not None:
                waiting.append((f"{path}.{name}".lstrip("."), child))


def weights_of(value: object, where: str) -> dict[str, Tensor]:
    """All parameters and buffers by their dotted names, as stored.

    Raises:
        UnsafePickle: one is not a tensor.
    """
    found = {}
    for path, state in modules(value, where):
        for name, described in (*entries(state, "_parameters").items(), *entries(state, "_buffers").items()):
            if described is not None:
                full = f"{path}.{name}".lstrip(".")
                found[full] = tensor(described, f"{where}: {full}")
    return found


def settings_of(value: object, where: str) -> dict[str, object]:
    """A configuration tree as flat dotted names → plain values; other values are left out.

    Raises:
        UnsafePickle: more settings than a configuration has.
    """
    flat: dict[str, object] = {}
    waiting: list[tuple[str, object]] = [("", value)]
    count = 0
    while waiting:
        path, node = waiting.pop()
        count += 1
        if count > MAX_SETTINGS or len(path) > 1000:
            raise UnsafePickle(f"{where}: the configuration is endless", hint="no published checkpoint has one")
        if isinstance(node, InertCall):
            inner = node.state if isinstance(node.state, dict) else node.items
            node = inner.get("_content", inner.get("_val", inner))
        if isinstance(node, dict):
            waiting.extend((f"{path}.{key}".lstrip("."), child) for key, child in node.items())
        elif node is None or isinstance(node, (str, int, float, bool)):
            flat[path] = node
    return flat


def config_of(generator: object, discriminator: object | None, where: str) -> ModelConfig:
    """The settings that a described generator (and discriminator) was built from.

    Raises:
        InputError: a setting that our networks don't know.
        UnsafePickle: a description that lacks what it must have.
    """
    parts = dict(modules(generator, where))
    try:
        first, synthesis, mapping = parts["synthesis.b4.conv1"], parts["synthesis"], parts["mapping"]
    except KeyError as error:
        raise UnsafePickle(f"{where}: no {error.args[0]}", hint="only published ALIS checkpoints can be read") from None
    settings = settings_of(first.get("cfg"), where)
    for name, wanted in FIXED.items():
        if name in settings and settings[name] != wanted:
            raise _unknown(where, name, settings[name], wanted)
    for path, state in parts.items():
        for name, wanted in (("architecture", "skip"), ("c_dim", 0), ("img_channels", 3), ("use_noise", True)):
            if name in state and state[name] != wanted:
                raise _unknown(where, f"{path}.{name}", state[name], wanted)
    resolution = synthesis.get("img_resolution")
    blocks = {path: state for path, state in parts.items() if path.startswith("synthesis.b") and path.count(".") == 1}
    half = sorted(int(path.removeprefix("synthesis.b")) for path, state in blocks.items() if state.get("use_fp16"))
    if half and [f"synthesis.b{half[0] << k}" for k in range(len(half))] != [f"synthesis.b{r}" for r in half]:
        raise _unknown(where, "resolutions in float16", half, "the highest ones")
    init_kwargs = settings_of(synthesis.get("_init_kwargs"), where) | settings_of(mapping.get("_init_kwargs"), where)
    group = 4
    if discriminator is not None:
        found = dict(modules(discriminator, where))
        epilogue = found.get("b4.mbstd", {})
        group = _number(epilogue.get("group_size", 4), f"{where}: minibatch group")
        for path, state in found.items():
            if state.get("architecture", "resnet") != "resnet":
                raise _unknown(where, f"{path}.architecture", state["architecture"], "resnet")
    clamp = first.get("conv_clamp")
    return ModelConfig(
        resolution=_number(resolution, f"{where}: resolution"),
        channel_base=_number(init_kwargs.get("channel_base", 32768), f"{where}: channel_base"),
        channel_max=_number(init_kwargs.get("channel_max", 512), f"{where}: channel_max"),
        z_dim=_number(mapping.get("z_dim"), f"{where}: z_dim"),
        w_dim=_number(mapping.get("w_dim"), f"{where}: w_dim"),
        mapping_layers=_number(mapping.get("num_layers"), f"{where}: mapping layers"),
        grid_size=_number(settings.get("patchwise.grid_size"), f"{where}: grid_size"),
        w_coord_dist=_number(settings.get("patchwise.w_coord_dist"), f"{where}: w_coord_dist"),
        num_half_res=len(half),
        conv_clamp=None if clamp is None else _number(clamp, f"{where}: conv_clamp"),
        mbstd_group_size=group,
    )


def convert_weights(weights: Mapping[str, Tensor], config: ModelConfig, where: str) -> dict[str, Tensor]:
    """Published names → our names, float32; what follows from the settings is compared and left out.

    Raises:
        InputError: a filter or a basis of waves that our networks don't compute.
    """
    taps = torch.tensor(TAPS)
    named = {}
    for name, value in weights.items():
        last = name.rpartition(".")[2]
        if last == "resample_filter" and not _close(value, taps[:, None] * taps):
            raise InputError(f"{where}: {name} is not the [1, 3, 3, 1] filter", hint="no other filter is supported")
        if last == "basis":
            resolution = int(name.split(".")[1].removeprefix("b"))
            if not _close(value, torch.tensor(coords.block_basis(config, resolution))):
                raise InputError(f"{where}: {name} is not the basis of ALIS", hint="no other basis is supported")
        if last not in _DERIVED:
            if not value.is_floating_point():
                raise InputError(f"{where}: {name} is {value.dtype}, not weights", hint="the file is damaged")
            for theirs, our in _OUR_NAMES:
                name = name.replace(theirs, our)
            named[name] = value.float()
    return named


def _close(value: Tensor, wanted: Tensor) -> bool:
    return value.shape == wanted.shape and torch.allclose(value.double(), wanted.double(), rtol=1e-5, atol=1e-6)


def _number(value: object, where: str) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int):
        raise UnsafePickle(f"{where} is missing", hint="only published ALIS checkpoints can be read")
    return value


def _unknown(where: str, name: str, value: object, wanted: object) -> InputError:
    return InputError(
        f"{where}: trained with {name} = {value!r}; only {wanted!r} is supported",
        hint="variants of the method can't be imported",
    )
