"""Opt-outs in a photo's file: the data-mining fields of IPTC and PLUS in XMP, and C2PA's training assertion."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from lhq.rights.reservations.statements import SILENT, Statement, Statements

# Such as http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-AIMLTRAINING. Source: IPTC Photo Metadata Standard 2023.1,
# "Data Mining"; the vocabulary is ns.useplus.org/LDF/ldf-XMPSpecification.
_MINING = re.compile(r"\bDMI-[A-Z]+(?:-[A-Z]+)*", re.IGNORECASE)
_TDM = re.compile(r"tdm(?:rep)?:reservation(?:\s*=\s*[\"']|\s*>)\s*([01])", re.IGNORECASE)
# CBOR of an assertion: key, map, its key "use", and the value. Source: C2PA and CAWG training-and-data-mining.
_C2PA = re.compile(
    rb"(?:c2pa|cawg)\.(ai_generative_training|ai_training|data_mining).{1,8}?use.{1,2}?(notAllowed|constrained|allowed)",
    re.DOTALL,
)
_RAW = b"DMI-PROHIBITED"


def from_file(data: bytes | bytearray | memoryview, packets: Sequence[bytes] = ()) -> Statements:
    """The statement of the signal `metadata`.

    Args:
        data: the file; uncompressed fields are found wherever they are.
        packets: its XMP, from `lhq.images.metadata.xmp_packets`.
    """
    raw = bytes(data)
    words: list[str] = []

    texts = [html.unescape(packet.replace(b"\0", b"").decode("utf-8", "replace")) for packet in packets]
    if not any(_RAW.decode() in text.upper() for text in texts) and (at := raw.find(_RAW)) >= 0:
        texts.append(raw[at : at + 64].decode("latin-1"))
    for text in texts:
        words += [word.upper() for word in _MINING.findall(text)]
        words += [f"tdm:reservation {value}" for value in _TDM.findall(text)]
    for kind, use in _C2PA.findall(raw) if b".training-mining" in raw else []:
        words.append(f"C2PA {kind.decode()} {use.decode()}")
    words = list(dict.fromkeys(words))
    reserves = any(
        word.startswith("DMI-PROHIBITED")
        or word == "tdm:reservation 1"
        or word.endswith((" notAllowed", " constrained"))
        for word in words
    )
    return {"metadata": Statement.of(", ".join(words), reserves=reserves) if words else SILENT}
