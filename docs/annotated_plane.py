"""The endless plane in one file: a seed and a tile's number → its pixels. numpy and torch, nothing of alis.

    python docs/annotated_plane.py alis/demo --seed 7 --tile -3 -o tile.ppm

Read it from top to bottom. The generator paints one endless landscape, and can paint any part of it alone: everything
that a pixel depends on (the codes of the nearest scenes, the coordinate waves, random noise) is a pure function of its
column, so nothing has to be painted first. The code is simple on purpose; `alis/` computes the same, faster, and a test
checks that the two agree to one grey level (tests/alis/painting/test_annotated_plane.py).

The method is ALIS (Skorokhodov, Sotnikov, Elhoseiny 2021, arXiv 2104.06954) on top of StyleGAN2 (arXiv 1912.04958).
Shapes: C channels, H rows, w columns of the part being painted, Z and S the widths of z and w.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, pad


# ---- 1. A model: a few settings, and tensors by name ---------------------------------------------------------------
# A safetensors file: the length of a JSON table, the table, and the numbers of all tensors.
def read_model(folder):
    settings = json.loads((Path(folder) / "config.json").read_text())["model"]
    data = (Path(folder) / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    table, numbers, tensors = json.loads(data[8 : 8 + size]), data[8 + size :], {}
    for name, entry in table.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            values = np.frombuffer(numbers[first:last], {"F16": "<f2", "F32": "<f4"}[entry["dtype"]])
            tensors[name] = torch.from_numpy(values.astype(np.float32).reshape(entry["shape"]))
    return settings, tensors


# ---- 2. Randomness without a state ---------------------------------------------------------------------------------
# An endless picture can't use a sequential random generator: tile 10^12 would have to wait for all tiles before it.
# So every random number is a hash of its position.
def anchor_z(seed, anchor, size):
    """The z of an anchor, [size]: normal numbers from a counter-based generator (Philox), by Box–Muller."""
    counter = np.array([0, 0, 0, anchor % 2**64], np.uint64)
    words = np.random.Philox(key=seed | 0x616C6973 << 64, counter=counter).random_raw(2 * ((size + 1) // 2))
    unit = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log(unit[: len(unit) // 2])), 2 * np.pi * unit[len(unit) // 2 :]
    z = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
    return torch.from_numpy(z.astype(np.float32))


WORD, GOLDEN = 0xFFFFFFFF, 0x9E3779B1


def mix(x):
    """A hash of 32-bit words (stored as int64): Wellons' lowbias32."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & WORD
    x = ((x ^ (x >> 15)) * 0x846CA68B) & WORD
    return x ^ (x >> 16)


def column_keys(seed, stream, columns):
    """A 32-bit word for each absolute column; each layer has its own stream."""
    seed = torch.tensor(seed)
    key = mix(mix((seed & WORD) ^ (stream * GOLDEN & WORD)) ^ (seed >> 32))
    return mix(mix(key ^ (columns & WORD)) ^ (columns >> 32 & WORD))


def noise(seed, layer, columns, height):
    """The noise of a layer, [height, w]: two rows from each pair of words."""
    first = mix(column_keys(seed, layer, columns) ^ (torch.arange(height // 2)[:, None] * GOLDEN & WORD))
    radius = torch.sqrt(-2 * torch.log((first.float() + 0.5) * 2.0**-32))
    angle = mix(first ^ 0x68E31DA4).float() * (2 * math.pi * 2.0**-32)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1).flatten(0, 1)


def local_latents(seed, resolution, columns, channels, height):
    """Normal noise that never repeats, [channels, height, w]: each half of a word picks one of 65,536 quantiles."""
    quantiles = torch.special.ndtri((torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)).float()
    counter = torch.arange(channels * height // 2).view(channels, height // 2, 1) * GOLDEN & WORD
    word = mix(column_keys(seed, 0x4C617400 + resolution, columns) ^ counter)
    return quantiles[torch.stack([word & 0xFFFF, word >> 16], dim=2)].flatten(1, 2)


# ---- 3. Positional encoding: waves of x and y ----------------------------------------------------------------------
# x grows by 2 per frame and all waves repeat after two frames, so the column is reduced as an integer: precision is the
# same at any distance. y runs from top to bottom. In seamless models local latents replace some of the waves of x.
def wave_vectors(settings, resolution):
    """The waves that a block sees, [K, 2] in radians, and how many channels of latents replace the others."""
    quarter, octaves = math.pi / 2, int(math.log2(resolution))
    directions = [(0.0, quarter), (quarter, 0.0), (-quarter / 2, quarter / 2), (quarter / 2, quarter / 2)]
    narrow = min(settings["channel_base"] // 4, settings["channel_max"])
    limit = {4: narrow, 8: 32, 16: 32, 32: 64, 64: 128, 128: 128}.get(resolution, 64)
    while octaves * len(directions) > limit and len(directions) > 2:
        directions.pop()
    kept, across, gone = [], 0, 0
    for x, y in directions:
        for octave in range(1, octaves):
            across += x != 0
            if math.floor(across * settings.get("local_latents", 0)) > gone:
                gone += 1
            else:
                kept.append((x * 2**octave, y * 2**octave))
    return torch.tensor(kept, dtype=torch.float64).view(-1, 2), 2 * gone


def waves(settings, vectors, columns, height):
    """Sines and cosines at every row and column, [2K, height, w]; at this resolution a frame has `height` columns."""
    x = 2 * (columns % (2 * height)).double() / height - settings["w_coord_dist"]
    y = 1 - 2 * (torch.arange(height, dtype=torch.float64) + 1) / height
    turn = vectors[:, 0, None, None] * x + vectors[:, 1, None, None] * y[:, None]
    return torch.cat([turn.sin(), turn.cos()]).float()


# ---- 4. The plane --------------------------------------------------------------------------------------------------
class Plane:
    def __init__(self, folder, seed):
        self.settings, self.tensors = read_model(folder)
        self.seed, self.codes = seed, {}
        self.grid, self.resolution = self.settings["grid_size"], self.settings["resolution"]
        self.sees_plane = self.settings["padding"] == "plane"

    def w(self, anchor):
        """The mapping network: normalised z, through a few layers, gives w [S], the code of the scene at an anchor."""
        if anchor not in self.codes:
            x = anchor_z(self.seed, anchor, self.settings["z_dim"])
            x = x * (x.square().mean() + 1e-8).rsqrt()
            for k in range(self.settings["mapping_layers"]):
                weight, bias = (self.tensors[f"mapping.fc{k}.{part}"] * 0.01 for part in ("weight", "bias"))
                x = leaky_relu(weight @ x / math.sqrt(len(x)) + bias, 0.2) * math.sqrt(2)
            self.codes[anchor] = x
        return self.codes[anchor]

    def styled(self, x, name, columns, height, *, gain=1.0, normalise=False):
        """x [C, H, w] times its columns' styles. This is the central idea of the method (SA-AdaIN).

        Anchors are `between` columns apart. A column's style is a linear interpolation of the styles of the anchors to
        its left and right, so one scene changes gradually into the next.
        """
        between = int(self.settings["w_coord_dist"] * height / 2)
        left = columns.div(between, rounding_mode="floor")
        share = ((columns - left * between).double().add(0.5) / between).float()
        weight, bias = (self.tensors[f"{name}.affine.{part}"] for part in ("weight", "bias"))

        def style(anchor):
            y = weight @ self.w(int(anchor)) / math.sqrt(weight.shape[1]) + bias
            return (y / y.abs().max() if normalise else y) * gain

        first = int(left.min())
        table = torch.stack([style(anchor) for anchor in range(first, int(left.max()) + 2)])
        mixed = (1 - share)[:, None] * table[left - first] + share[:, None] * table[left - first + 1]
        return x * mixed.T[:, None, :]

    # Horizontal padding: a seamless model reads the plane's real neighbouring columns, painted together with it;
    # in the published models each patch is padded alone, with zeros or its border. The rows are always padded.
    def padded(self, x):
        if self.sees_plane:
            return torch.cat([x[:, :1], x, x[:, -1:]], dim=1)
        rows = pad(x, [0, 0, 1, 1])
        return pad(rows, [1, 1], mode="replicate" if self.settings["padding"] == "replicate" else "constant")

    def layer(self, x, name, layer, a, b, height, styled_at, *, up):
        """A modulated 3×3 convolution of StyleGAN2, with noise and activation: columns a … b − 1 at `height`."""
        half = self.settings["num_half_res"]
        is_half = half > 0 and height >= max(2 * self.resolution >> half, 8)
        x = self.padded(self.styled(x, name, styled_at, x.shape[1], normalise=is_half))
        weight = self.tensors[f"{name}.weight"]
        weight = weight * (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        if up:  # twice the size: transposed 3×3 convolution, then the filter [1, 3, 3, 1] in both directions
            x = conv_transpose2d(x[None], weight.transpose(0, 1), stride=2)
            tap = torch.tensor([1.0, 3, 3, 1]) / 4
            x = conv2d(x, (tap[:, None] * tap).expand(x.shape[1], 1, 4, 4), groups=x.shape[1])[0, :, 1:-1]
            first = 2 * int(styled_at[0]) + (1 if self.sees_plane else -1)  # padded() added a column to patches
            x = x[:, :, a - first : b - first]
        else:
            x = conv2d(x[None], weight)[0]
        x = x + noise(self.seed, layer, torch.arange(a, b), height) * self.tensors[f"{name}.noise_strength"]
        x = leaky_relu(x + self.tensors[f"{name}.bias"][:, None, None], 0.2) * math.sqrt(2)
        return self.clamped(x)

    def clamped(self, x):
        most = self.settings["conv_clamp"] or math.inf
        return x.clamp(-most, most)

    def with_waves(self, x, resolution, columns):
        """The features, with the coordinate waves and the local latents as further channels."""
        if resolution > self.settings["wave_limit"]:
            return x
        vectors, num = wave_vectors(self.settings, resolution)
        parts = [x, waves(self.settings, vectors, columns, x.shape[1])]
        return torch.cat([*parts, local_latents(self.seed, resolution, columns, num, x.shape[1])] if num else parts)

    def block(self, r, a, b):
        """Features and picture of columns a … b − 1 at height r, from the block below it at half the height.

        A 3×3 convolution needs one more column on each side, and the upsampling one a few more of its input: each block
        requests a slightly wider part from the block below, and needs nothing else.
        """
        name, beside = f"synthesis.b{r}", 1 if self.sees_plane else 0
        wide_a, wide_b = a - beside, b + beside
        if r == 4:
            columns = torch.arange(wide_a, wide_b)
            x = self.tensors[f"{name}.column"][:, :, None].expand(-1, -1, len(columns))
            x = self.with_waves(self.styled(x, f"{name}.input", columns, 4), 4, columns)
            x, picture = self.layer(x, f"{name}.conv1", 0, a, b, 4, columns, up=False), 0
        else:
            below_a, below_b = ((wide_a - 2) // 2, (wide_b + 1) // 2 + 1) if self.sees_plane else (a // 2, b // 2)
            below, small = self.block(r // 2, below_a, below_b)
            columns, number = torch.arange(below_a, below_b), 2 * int(math.log2(r)) - 5
            x = self.with_waves(below, r, columns)
            x = self.layer(x, f"{name}.conv0", number, wide_a, wide_b, r, columns, up=True)
            x = self.layer(x, f"{name}.conv1", number + 1, a, b, r, torch.arange(wide_a, wide_b), up=False)
            picture = self.upsampled(small)[:, :, a - 2 * below_a : b - 2 * below_a]
        columns = torch.arange(a, b)
        rgb = self.styled(x, f"{name}.torgb", columns, r, gain=1 / math.sqrt(len(x)))
        rgb = conv2d(rgb[None], self.tensors[f"{name}.torgb.weight"])[0]
        return x, picture + self.clamped(rgb + self.tensors[f"{name}.torgb.bias"][:, None, None])

    def upsampled(self, picture):
        """The picture so far at twice the size: each new pixel is ¾ of its own old pixel and ¼ of the nearest other."""
        for dim, sides in ((1, [0, 0, 1, 1]), (2, [1, 1])):
            is_repeated = self.sees_plane or (dim == 2 and self.settings["padding"] == "replicate")
            wide = pad(picture, sides, mode="replicate" if is_repeated else "constant")
            before, here, after = (wide.narrow(dim, k, picture.shape[dim]) for k in range(3))
            picture = torch.stack([0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after], dim + 1).flatten(
                dim, dim + 1
            )
        return picture

    @torch.no_grad()
    def tile(self, k):
        """Tile k, any whole number: uint8 [R, R/g, 3]."""
        width = self.resolution // self.grid
        _, picture = self.block(self.resolution, k * width, (k + 1) * width)
        return (picture * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def main():
    parser = argparse.ArgumentParser(description="Paint one tile of an endless plane.")
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tile", type=int, default=0)
    parser.add_argument("-o", "--out", default="tile.ppm")
    args = parser.parse_args()
    pixels = Plane(args.model, args.seed).tile(args.tile)
    Path(args.out).write_bytes(b"P6 %d %d 255\n" % pixels.shape[1::-1] + pixels.tobytes())


if __name__ == "__main__":
    main()
