"""Stored colours → 8-bit sRGB, as a browser shows them."""

from __future__ import annotations

import functools
import io

from PIL import Image, ImageCms


def to_srgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; an embedded profile other than sRGB is applied (Adobe RGB and Display P3 are common on Flickr)."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":
        # 16-bit grey: Pillow's own conversion clips instead of scaling.
        image = image.point(lambda value: value / 257).convert("L") if image.mode != "F" else image.convert("L")
    if image.mode in {"P", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(ground, image).convert("RGB")
    if profile and image.mode in {"RGB", "CMYK", "L"}:
        transform = _transform(bytes(profile), image.mode)
        if transform is not None:
            return ImageCms.applyTransform(image, transform) or image
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Profile → sRGB; None where it is sRGB already, or too broken to use (browsers ignore such too)."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(opened).lower():
            return None
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
