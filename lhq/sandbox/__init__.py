"""A local stand-in for Unsplash and Flickr: an offline server that speaks both APIs and serves painted landscapes.

`with Sandbox(port=0) as box:` gives `box.url`; see docs/sandbox.md. The painter needs numpy and pillow; only
`lhq.sandbox.detector` needs torch.
"""

from lhq.sandbox.scenes import Scene
from lhq.sandbox.server import Sandbox

__all__ = ["Sandbox", "Scene"]
