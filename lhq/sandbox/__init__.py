"""The services in a box: an offline server that speaks the Unsplash and Flickr APIs over painted landscapes.

`with Sandbox(port=0) as box:` gives `box.url`; see docs/sandbox.md. The painter is numpy and pillow; torch
is needed by `lhq.sandbox.detector` alone.
"""

from lhq.sandbox.scenes import Scene
from lhq.sandbox.server import Sandbox

__all__ = ["Sandbox", "Scene"]
