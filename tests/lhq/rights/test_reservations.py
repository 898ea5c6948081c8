"""Seven ways to say no, each read as its source defines it; silence and noise are no reservation."""

from __future__ import annotations

import io
import json
import struct
import zlib

import pytest
from PIL import Image, PngImagePlugin

from lhq.images.metadata import metadata_bytes, xmp_packets
from lhq.rights import reservations
from lhq.rights.reservations import Evidence, Statement, from_file, from_headers, from_robots, from_tdmrep, from_words
from lhq.rights.reservations.host_files import matches
from tests.lhq.making import scene

AGENT = "lhq/0.1 (landscape dataset builder)"


@pytest.mark.parametrize(
    ("name", "value", "reserves"),
    [
        ("x-robots-tag", "noai", True),
        ("x-robots-tag", "noindex, NoImageAI", True),
        ("x-robots-tag", "otherbot: noai", True),
        ("x-robots-tag", "googlebot: nofollow, noml", True),
        ("x-robots-tag", "none", True),
        ("x-robots-tag", "noai;noimageai", True),
        ("x-robots-tag", "max-image-preview:none", False),
        ("x-robots-tag", "max-image-preview: none, max-snippet:-1", False),
        ("x-robots-tag", "googlebot: max-image-preview : none", False),
        ("x-robots-tag", "max-image-preview:none, noai", True),
        ("x-robots-tag", "unavailable_after: Wed, 03 Dec 2025 13:09:53 GMT", False),
        ("x-robots-tag", "nofollow, noarchive", False),
        ("x-robots-tag", "nonehere, snoai", False),
        ("tdm-reservation", "1", True),
        ("tdm-reservation", " 1 ", True),
        ("tdm-reservation", "0, 1", True),
        ("tdm-reservation", "0", False),
        ("tdm-reservation", "10", False),
        ("tdm-reservation", '"1"', True),
        ("tdm-reservation", "?1", True),
        ("tdm-reservation", "True; policy=x", True),
        ("tdm-reservation", "false", False),
        ("content-usage", "train-ai=?0", True),
        ("content-usage", "ai-train=no", True),
        ("x-robots-tag", "no-ai, No-Image-AI", True),
        ("x-robots-tag", '"noai", "noimageai"', True),
        ("x-robots-tag", "bot: 'noimageai'", True),
        ("content-usage", "train-ai=n", True),
        ("content-usage", "train-genai=n, search=y", True),
        ("content-usage", "search=y, bots=n", True),
        ("content-usage", 'TRAIN-AI="n";x=1', True),
        ("content-usage", "bots=n, train-ai=y", False),
        ("content-usage", "train-ai=y, train-genai=n", True),
        ("content-usage", "train-ai=y", False),
        ("content-usage", "search=n", False),
        ("content-usage", "genai=n", True),
        ("content-usage", "train-ai=n, train-ai=y", False),
        ("content-usage", "!!, =n, train-ai", False),
    ],
)
def test_headers_that_opt_out(name: str, value: str, reserves: bool) -> None:
    answers = from_headers({name: value})
    assert answers[name].reserves is reserves
    assert answers[name].words is not None
    silent = [one for other, one in answers.items() if other != name]
    assert len(silent) == 2
    assert silent == [Statement(None)] * 2


def test_a_policy_is_part_of_the_evidence() -> None:
    said = from_headers({"tdm-reservation": "1", "tdm-policy": "https://h/policy.json"})["tdm-reservation"]
    assert said == Statement("1 (policy https://h/policy.json)", reserves=True)


@pytest.mark.parametrize(
    ("text", "usage", "signal"),
    [
        ("", None, None),
        ("User-agent: *\nDisallow: /private", None, None),
        ("User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /", None, True),
        ("User-agent: *\nContent-signal: ai-train=yes", None, False),
        ("user-agent: *\ncontent-signal: ai-input=no", None, False),
        ("User-Agent: *\nContent-Usage: train-ai=n", True, None),
        ("User-Agent: *\nContent-Usage: / train-ai=n\nContent-Usage: /photos/ train-ai=y", False, None),
        ("User-Agent: *\nContent-Usage: train-ai=y\nContent-Usage: /photos/*.jpg$ train-ai=n", True, None),
        ("User-Agent: *\nContent-Usage: /other/ train-ai=n", None, None),
        ("User-Agent: GPTBot\nContent-Usage: train-ai=n", None, None),
        ("User-Agent: GPTBot\nUser-Agent: *\nContent-Usage: train-ai=n # all", True, None),
        ("User-agent: lhq\nContent-Usage: train-ai=y\n\nUser-agent: *\nContent-Usage: train-ai=n", False, None),
        ("User-agent: *\nAllow: /\n\nUser-agent: *\nContent-Signal: ai-train=no", None, True),
        ("\ufeffContent-Signal: ai-train=no\nUser-agent: *\nAllow: /", None, True),
        ("User-agent: *\nContent-Usage: *.jpg train-ai=?0", True, None),
        ("User-agent: *\nContent-Usage: *.png train-ai=n", None, None),
        ("User-agent: *\nContent-Signal: train-ai=no", None, True),
        ("<html>Content-Usage</html>", None, None),
    ],
)
def test_robots_txt_lines_that_opt_out(text: str, usage: bool | None, signal: bool | None) -> None:
    found = from_robots(text, "/photos/a.jpg", AGENT)
    for name, expected in (("robots-content-usage", usage), ("content-signal", signal)):
        assert (found[name].words is None) is (expected is None)
        assert found[name].reserves is bool(expected)


@pytest.mark.parametrize(
    ("rules", "reserves"),
    [
        ([{"location": "/", "tdm-reservation": 1}], True),
        ([{"location": "/photos/*", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}], False),
        ([{"location": "/", "tdm-reservation": 1}, {"location": "/photos/", "tdm-reservation": 0}], True),
        ([{"location": "/", "tdm-reservation": 0}, {"location": "/photos/", "tdm-reservation": 1}], True),
        ([{"location": "/", "tdm-reservation": 0}, {"location": "/other/", "tdm-reservation": 1}], False),
        ([{"location": "photos/*", "tdm-reservation": 1.0}], True),
        ([{"location": "https://h/photos/", "tdm-reservation": "true"}], True),
        ([{"location": "https://h", "tdm-reservation": 1}], True),
        ([{"location": "", "tdm-reservation": 1}], True),
        ([{"location": "/", "tdm-reservation": None}], False),
        ([{"location": "/other", "tdm-reservation": 1}], False),
        ([{"location": "/*.jpg$", "tdm-reservation": "1", "tdm-policy": "https://h/p"}], True),
        ([{"tdm-reservation": True}], True),
        ({"location": "/", "tdm-reservation": 1}, True),
        ([{"Location": "/", "TDM-Reservation": 1}], True),
        ([{"location": ["/other/", "/photos/"], "tdm-reservation": 1}], True),
        ([{"location": ["/other/", 3, []], "tdm-reservation": 1}], False),
        ([{"location": None, "tdm-reservation": 1}], True),
        ([{"location": 3, "tdm-reservation": 1}, "x", None], False),
        ([], False),
    ],
)
def test_tdmrep_rules_that_opt_out(rules: object, reserves: bool) -> None:
    assert from_tdmrep(json.dumps(rules).encode(), "/photos/a.jpg")["tdmrep"].reserves is reserves


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 200_000, b"\xff\xfe", b"null"])
def test_a_broken_tdmrep_is_evidence_but_no_reservation(body: bytes) -> None:
    assert not from_tdmrep(body, "/")["tdmrep"].reserves


def test_no_tdmrep_is_silence() -> None:
    assert from_tdmrep(None, "/") == {"tdmrep": Statement(None)}


@pytest.mark.parametrize(
    ("pattern", "path", "does"),
    [
        ("/", "/a", True),
        ("/a", "/ab", True),
        ("/a$", "/ab", False),
        ("/a$", "/a", True),
        ("/*.jpg$", "/a.jpg/b.jpg", True),
        ("/*.jpg$", "/a.jpg?x", False),
        ("/*a*b", "/xxaxxbxx", True),
        ("/*a*b", "/xxbxxa", False),
        ("/%7Euser", "/~user/x", True),
        ("", "/a", True),
        ("/" + "*a" * 5000 + "$", "/" + "a" * 4999 + "b", False),
    ],
)
def test_robots_txt_patterns(pattern: str, path: str, does: bool) -> None:
    assert matches(pattern, path) is does


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" {}>'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def attribute(word: str) -> bytes:
    return XMP.format(f'plus:DataMining="http://ns.useplus.org/ldf/vocab/{word}"').encode()


def jpeg(*segments: bytes) -> bytes:
    data = scene(1, 64, 64)
    parts = b"".join(b"\xff\xe1" + struct.pack(">H", len(one) + 2) + one for one in segments)
    return data[:2] + parts + data[2:]


def test_xmp_is_found_in_every_container() -> None:
    packet = attribute("DMI-PROHIBITED-AIMLTRAINING")
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
    files = {"jpeg": jpeg(b"http://ns.adobe.com/xap/1.0/\0" + packet)}
    for kind, more in (("PNG", {"pnginfo": text}), ("WEBP", {"xmp": packet})):
        out = io.BytesIO()
        Image.new("RGB", (64, 64)).save(out, kind, **more)
        files[kind] = out.getvalue()
    for name, is_compressed in (("Raw profile type xmp", True), ("Raw profile type APP1", False)):
        raw = PngImagePlugin.PngInfo()
        head = b"http://ns.adobe.com/xap/1.0/\0" if "APP1" in name else b""
        hexes = (head + packet).hex()
        lines = "\n".join(hexes[at : at + 72] for at in range(0, len(hexes), 72))
        raw.add_text(name, f"\nxmp\n{len(hexes) // 2:8}\n{lines}\n", zip=is_compressed)
        out = io.BytesIO()
        Image.new("RGB", (64, 64)).save(out, "PNG", pnginfo=raw)
        files[name] = out.getvalue()
    for kind, data in files.items():
        assert [one.strip() for one in xmp_packets(data)] == [packet], kind
        said = from_file(data, xmp_packets(data))["metadata"]
        assert said == Statement("DMI-PROHIBITED-AIMLTRAINING", reserves=True), kind


def test_compressed_png_text_is_decompressed_whatever_its_keyword() -> None:
    word = "DMI-PROHIBITED-AIMLTRAINING"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Description", word, zip=True)
    assert from_file(b"", xmp_packets(png(text)))["metadata"].reserves
    text = PngImagePlugin.PngInfo()
    text.add(b"zTXt", b"Comment\0\0no deflate")
    text.add(b"tEXt", b"Raw profile type xmp\0\nxmp\n 2\nxx")
    text.add_text("Comment", word.lower(), zip=True)
    assert from_file(b"", xmp_packets(png(text)))["metadata"] == Statement(word, reserves=True)


def test_decompressed_metadata_is_limited() -> None:
    text = PngImagePlugin.PngInfo()
    for _ in range(20):
        text.add(b"zTXt", b"Comment\0\0" + zlib.compress(b" " * 8 * 2**20))
    assert sum(map(len, xmp_packets(png(text)))) == 16 * 2**20


def png(text: PngImagePlugin.PngInfo) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=text)
    return out.getvalue()


def test_a_corrupt_segment_hides_no_earlier_packet() -> None:
    head = b"http://ns.adobe.com/xap/1.0/\0"
    whole = jpeg(head + attribute("DMI-PROHIBITED"))
    data = whole[: whole.index(b"\xff\xe1")] + whole[whole.index(b"\xff\xe1") :][: 4 + len(head) + 300] + b"\xff\xe1"
    assert from_file(b"", xmp_packets(data))["metadata"].reserves


def test_extended_xmp_is_joined() -> None:
    packet = attribute("DMI-PROHIBITED")
    cut = packet.index(b"DMI-PROH") + 6
    head = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32
    pieces = [(cut, packet[cut:]), (0, packet[:cut])]
    data = jpeg(*[head + struct.pack(">II", len(packet), at) + part for at, part in pieces])
    assert xmp_packets(data) == [packet]
    assert from_file(data, xmp_packets(data))["metadata"].reserves


def test_only_pixels_are_left_out_of_the_metadata_search() -> None:
    word = b"DMI-PROHIBITED-AIMLTRAINING"
    plain, progressive = jpeg(b"words " + word), io.BytesIO()
    Image.open(io.BytesIO(plain)).save(progressive, "JPEG", progressive=True)
    assert len(metadata_bytes(plain)) < len(plain) / 2
    end = len(plain) - 2
    files = {
        "before the scan": plain,
        "junk between segments": jpeg()[: (scan := jpeg().index(b"\xff\xda"))] + b"\0" + word + jpeg()[scan:],
        "after the end": jpeg() + word,
        "a second picture": jpeg()[:2] + b"\xff\xe2\0\6MPF\0" + jpeg()[2:] + plain,
        "between scans": progressive.getvalue()[:-2] + b"\xff\xfe\0\x1d" + word + b"\xff\xd9",
        "no end": plain[:end] + word,
    }
    for where, data in files.items():
        assert from_file(metadata_bytes(data))["metadata"].reserves, where


@pytest.mark.parametrize(
    ("word", "reserves"),
    [
        ("DMI-PROHIBITED", True),
        ("DMI-PROHIBITED-GENAIMLTRAINING", True),
        ("DMI-PROHIBITED-EXCEPTSEARCHENGINEINDEXING", True),
        ("DMI-PROHIBITED-SEECONSTRAINT", True),
        ("DMI-ALLOWED", False),
        ("DMI-UNSPECIFIED", False),
    ],
)
def test_terms_of_the_plus_vocabulary(word: str, reserves: bool) -> None:
    assert from_file(b"", [attribute(word)])["metadata"] == Statement(word, reserves)
    element = XMP.format("").replace("></rdf:D", f"><plus:DataMining>http://x/{word}</plus:DataMining></rdf:D").encode()
    assert from_file(b"", [element])["metadata"] == Statement(word, reserves)
    assert from_file(b"", [attribute(word).decode().encode("utf-16-be")])["metadata"].reserves is reserves


def test_tdm_and_c2pa_fields_of_a_file() -> None:
    assert from_file(scene(1, 64, 64)) == {"metadata": Statement(None)}
    iptc = b"\xff\xed junk 8BIM DMI-PROHIBITED-AIMLTRAINING junk"
    assert from_file(iptc)["metadata"].reserves
    assert from_file(b"", [b'<x tdm:reservation="1">'])["metadata"] == Statement("tdm:reservation 1", reserves=True)
    assert not from_file(b"", [b"<tdm:reservation>0<"])["metadata"].reserves
    c2pa = b"jumb c2pa.training-mining \xa1gentries\xa1x\x1bc2pa.ai_generative_training\xa1cusejnotAllowed"
    assert from_file(c2pa)["metadata"] == Statement("C2PA ai_generative_training notAllowed", reserves=True)
    assert not from_file(c2pa.replace(b"jnotAllowed", b"gallowed"))["metadata"].reserves


@pytest.mark.parametrize("cut", range(0, 700, 23))
def test_readable_metadata_of_a_truncated_file_counts(cut: int) -> None:
    whole = attribute("DMI-ALLOWED")
    found = xmp_packets(jpeg(b"http://ns.adobe.com/xap/1.0/\0" + whole)[:cut])
    assert all(whole.startswith(packet) for packet in found), "nothing is read that was not in it"
    packed = zlib.compress(attribute("DMI-ALLOWED"))[: cut // 4]
    chunk = b"XML:com.adobe.xmp\0\1\0\0\0" + packed
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", len(chunk), b"iTXt") + chunk + b"\0" * 30
    assert all(whole.startswith(packet) for packet in xmp_packets(data)), "what was unpacked is what was packed"


@pytest.mark.parametrize(
    ("tags", "title", "reserves"),
    [
        (["noai"], "", True),
        (["#NoAI"], "", True),
        ([], "Dawn (noimageai)", True),
        (["No AI"], "", True),
        (["no-image-ai"], "", True),
        (["no_ai_training"], "", True),
        ([], "ｎｏａｉ", True),
        ([], "A no-AI picture", False),
        (["no aim", "piano ai"], "", False),
        (["piano-noai"], "", False),
        (["snoaid"], "Noa in the hills", False),
        (["no", "ai"], "No AI was used", False),
    ],
)
def test_words_of_the_author_that_opt_out(tags: list[str], title: str, reserves: bool) -> None:
    assert from_words(title, "", tags)["words"].reserves is reserves


def test_evidence_records_what_was_checked_and_when() -> None:
    host = Evidence(
        from_robots("User-agent: *\nContent-Signal: ai-train=no", "/", AGENT), host_asked_at="2026-05-01T00:00:00Z"
    )
    own = Evidence(from_headers({"tdm-reservation": "1"}), asked_at="2026-05-01T09:00:00Z")
    both = host.merge(own)
    assert both.reserved == ("content-signal", "tdm-reservation")
    assert both.binding(reservations.SIGNALS) == "content-signal: ai-train=no"
    assert both.binding(["tdm-reservation"]) == "tdm-reservation: 1"
    assert both.binding(["metadata"]) == ""
    papers = both.papers()
    assert papers["reserved"] == ["content-signal", "tdm-reservation"]
    assert json.loads(papers["reservations"]) == {
        "asked_at": "2026-05-01T09:00:00Z",
        "host_asked_at": "2026-05-01T00:00:00Z",
        "answers": {
            "robots-content-usage": None,
            "content-signal": "ai-train=no",
            "x-robots-tag": None,
            "tdm-reservation": "1",
            "content-usage": None,
        },
    }
    assert reservations.answers_of(papers["reservations"])["content-signal"] == "ai-train=no"
    assert Evidence({}).papers() == {"reserved": [], "reservations": ""}


def test_remote_text_is_kept_short_and_on_one_line() -> None:
    said = from_headers({"x-robots-tag": "noai\x00\x1b[31m" + "x" * 5000})["x-robots-tag"]
    assert said.words is not None
    assert len(said.words) == 500
    assert said.words.isprintable()
