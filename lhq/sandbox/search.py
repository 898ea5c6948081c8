"""Query → pictures: matches of words and tags, then loosely related ones, as real search engines do.

Every query has results, many queries share pictures, and the order is always the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from lhq.sandbox.papers import Papers

# Words in queries → the tag of scenes.
_SAME = {
    "alpine": "mountain",
    "alp": "mountain",
    "peak": "mountain",
    "summit": "mountain",
    "range": "mountain",
    "highland": "mountain",
    "massif": "mountain",
    "andes": "mountain",
    "himalaya": "mountain",
    "ridge": "mountain",
    "ocean": "sea",
    "wave": "sea",
    "bay": "coast",
    "shore": "coast",
    "shoreline": "coast",
    "seashore": "coast",
    "beach": "coast",
    "cliff": "coast",
    "island": "sea",
    "seascape": "sea",
    "headland": "coast",
    "cape": "coast",
    "wood": "forest",
    "woodland": "forest",
    "tree": "forest",
    "taiga": "forest",
    "jungle": "forest",
    "pine": "forest",
    "rainforest": "forest",
    "spruce": "forest",
    "dune": "desert",
    "sand": "desert",
    "canyon": "desert",
    "badland": "desert",
    "mesa": "desert",
    "sahara": "desert",
    "butte": "desert",
    "gorge": "canyon",
    "glacier": "ice",
    "iceberg": "ice",
    "arctic": "ice",
    "antarctic": "ice",
    "polar": "ice",
    "frozen": "ice",
    "winter": "snow",
    "snowy": "snow",
    "frost": "snow",
    "tundra": "snow",
    "sunrise": "sunset",
    "dawn": "sunset",
    "dusk": "sunset",
    "twilight": "sunset",
    "golden": "sunset",
    "evening": "sunset",
    "afterglow": "sunset",
    "pond": "lake",
    "loch": "lake",
    "reservoir": "lake",
    "lagoon": "lake",
    "stream": "river",
    "creek": "river",
    "waterfall": "river",
    "delta": "river",
    "marsh": "wetland",
    "swamp": "wetland",
    "bog": "wetland",
    "volcanic": "volcano",
    "lava": "volcano",
    "crater": "volcano",
    "caldera": "volcano",
    "fuji": "volcano",
    "farm": "field",
    "farmland": "field",
    "meadow": "field",
    "countryside": "field",
    "crop": "field",
    "vineyard": "field",
    "wheat": "field",
    "lavender": "field",
    "tulip": "field",
    "terrace": "field",
    "rice": "field",
    "prairie": "savanna",
    "steppe": "savanna",
    "grassland": "savanna",
    "plain": "savanna",
    "pampa": "savanna",
    "hill": "hills",
    "rolling": "hills",
    "moor": "hills",
    "dale": "valley",
    "fog": "mist",
    "foggy": "mist",
    "misty": "mist",
    "cloud": "clouds",
    "cloudscape": "clouds",
    "sky": "clouds",
    "storm": "clouds",
    "aurora": "night",
    "star": "night",
    "starry": "night",
    "moonlight": "night",
    "milky": "night",
    "galaxy": "night",
    "moon": "night",
    "northern": "night",
}


def words(text: str) -> set[str]:
    """The words of a query or a tag: small letters, singular, synonyms folded."""
    found = set()
    for word in re.findall(r"[a-z]+", text.lower()):
        single = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        found |= {single, _SAME.get(single, single)}
    return found - {"the", "and", "over", "of", "in", "at", "with", "a", "on", "landscape", "nature", "photo"}


class Search:
    """The pictures of one service under any query."""

    def __init__(self, papers: Sequence[Papers]) -> None:
        self._papers = [(one, frozenset(words(" ".join(one.picture.tags)))) for one in papers]
        self._known: dict[str, tuple[Papers, ...]] = {}

    def find(self, query: str) -> tuple[Papers, ...]:
        """Best first: pictures that share most words with the query, then one in eight of the others."""
        folded = " ".join(sorted(words(query)))
        if folded not in self._known:
            if len(self._known) > 2000:
                self._known.clear()
            wanted = words(query)
            ranked = []
            for one, tags in self._papers:
                draw = int.from_bytes(hashlib.sha256(f"{folded}|{one.flickr_id}".encode()).digest()[:4], "big")
                shared = len(wanted & tags)
                if shared or draw % 8 == 0:
                    ranked.append((-shared, draw, one))
            ranked.sort(key=lambda row: row[:2])
            self._known[folded] = tuple(one for _, _, one in ranked)
        return self._known[folded]
