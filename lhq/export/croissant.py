"""Rows → `croissant.json`: the dataset described in Croissant 1.1, with its responsible-AI fields.

Every file is listed with its sha256, so anyone can check a copy. The only dates are those of the rows.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html,
https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc

from lhq.export import layout, previous
from lhq.export.card import LIMITS
from lhq.export.rows import Rows
from lhq.export.settings import ExportSettings
from lhq.export.shard_writer import Written
from lhq.rights.licences import LICENCES
from lhq.store.atomic_file import write_atomically

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_PARQUET = "application/x-parquet"
_LISTED = {
    layout.MANIFEST: _PARQUET,
    layout.CREDITS: _PARQUET,
    layout.CREDITS_SAMPLE: "text/markdown",
    layout.LICENCES_PAGE: "text/markdown",
}


def write(folder: str, table: pa.Table, rows: Rows, settings: ExportSettings, written: Sequence[Written]) -> None:
    """Write `croissant.json` into a folder that is complete but for the card.

    Raises:
        StoreError: it can't be written.
    """
    text = json.dumps(describe(folder, table, rows, settings.name, written), indent=2, ensure_ascii=False) + "\n"
    path = os.path.join(folder, layout.CROISSANT)
    write_atomically(fsspec.filesystem("file"), path, lambda sink: sink.write(text.encode()))


def describe(folder: str, table: pa.Table, rows: Rows, name: str, written: Sequence[Written]) -> dict[str, Any]:
    """The JSON-LD of a folder; reads its files for their sha256."""
    files = [_file(folder, one, kind) for one, kind in _LISTED.items()]
    sets, records = [], []
    for one in written:
        for sub in sorted(os.listdir(os.path.join(folder, one.folder))):
            files.append(_file(folder, f"{one.folder}/{sub}", _PARQUET))
        sets.append(
            {
                "@type": "cr:FileSet",
                "@id": f"files-{one.variant.name}",
                "name": f"files-{one.variant.name}",
                "description": f"The data files of the variant {one.variant.name}.",
                "encodingFormat": _PARQUET,
                "includes": f"{one.folder}/*.parquet",
            }
        )
        schema = layout.row_schema(rows.columns, {})
        records.append(_records(one.variant.name, {"fileSet": {"@id": f"files-{one.variant.name}"}}, schema))
    if not written:
        source = {"fileObject": {"@id": layout.MANIFEST}}
        records.append(_records("manifest", source, pa.schema([*layout.PAPER_FIELDS, *rows.columns])))
    fetched = [one(table["fetched_at"]).as_py()[:10] for one in (pc.min, pc.max)]
    version = next(file["sha256"] for file in files if file["@id"] == layout.MANIFEST)[:12]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": _name(name),
        "description": f"{len(table):,} landscape photographs with their sources, authors, licences and scores.",
        "license": sorted({LICENCES[id].url or LICENCES[id].name for id in table["licence"].to_pylist()}),
        "version": f"1.0.0+{version}",
        "datePublished": fetched[1],
        "citeAs": f"@misc{{landscapes, title = {{{name}}}, note = {{version {version}}}}}",
        **_responsible(rows, fetched, written),
        "distribution": [*files, *sets],
        "recordSet": records,
    }


def _name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)


def _file(folder: str, name: str, kind: str) -> dict[str, Any]:
    path = os.path.join(folder, name)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name.replace("/", "-"),
        "contentUrl": name,
        "contentSize": f"{os.path.getsize(path)} B",
        "encodingFormat": kind,
        "sha256": previous.sha256_of(path),
    }


def _records(name: str, source: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"One photograph a record, variant {name}.",
        "key": {"@id": f"{name}/id"},
        "field": [_field(name, source, field) for field in schema],
    }


def _field(records: str, source: Mapping[str, Any], field: pa.Field) -> dict[str, Any]:
    described: dict[str, Any] = {"@type": "cr:Field", "@id": f"{records}/{field.name}", "name": field.name}
    extract: dict[str, Any] = {**source, "extract": {"column": field.name}}
    if field.type == layout.IMAGE_TYPE:
        return {**described, "dataType": "sc:ImageObject", "source": {**extract, "transform": {"jsonPath": "bytes"}}}
    kind = field.type.value_type if pa.types.is_list(field.type) else field.type
    if pa.types.is_list(field.type):
        described |= {"isArray": True, "arrayShape": "-1"}
    return {**described, "dataType": _data_type(kind, field.name), "source": extract}


def _data_type(kind: pa.DataType, name: str) -> str:
    if name == layout.FETCHED_AT.name:
        return "sc:Date"
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:Text"


def _responsible(rows: Rows, fetched: Sequence[str], written: Sequence[Written]) -> dict[str, Any]:
    dropped = ", ".join(f"{count:,} by {reason}" for reason, count in rows.funnel.items()) or "none"
    shapes = [
        f"Variant {one.variant.name}: centre square of {one.variant.side_px} px, Lanczos, sRGB, upright, no metadata."
        for one in written
        if one.variant.side_px
    ]
    return {
        "rai:dataCollection": "Photographs that public sources offered for landscape queries; the sources, queries, "
        "authors and licences of each are in its record.",
        "rai:dataCollectionType": ["Web API"],
        "rai:dataCollectionTimeframe": list(fetched),
        "rai:dataCollectionMissingData": "A photo without source, author where its licence asks for one, or licence "
        "is no record. A score is null where it was not measured.",
        "rai:dataPreprocessingProtocol": [f"Of {rows.num_photos:,} photographs dropped: {dropped}.", *shapes],
        "rai:machineAnnotationTools": sorted({field.name for field in rows.scores}),
        "rai:dataLimitations": list(LIMITS),
        "rai:dataBiases": [
            "Photographers who publish, places that are photographed, and words of the queries' "
            "language are over-represented."
        ],
        "rai:personalSensitiveInformation": [
            "Names of authors, as their licences ask. Photographs were chosen to show "
            "no people; distant ones may remain."
        ],
        "rai:dataUseCases": ["Training and measuring generative models of landscapes."],
        "rai:dataReleaseMaintenancePlan": "Photos are taken down when asked; later versions keep every split.",
    }


def problems(folder: str, rows: pa.Table, name: str) -> Iterator[str]:
    """How a folder differs from its `croissant.json`: missing or changed files, a licence other than that of its
    `rows`, a name other than the card's."""
    path = os.path.join(folder, layout.CROISSANT)
    found = previous.listed(path)
    if not found:
        yield f"{layout.CROISSANT}: missing or not Croissant"
        return
    with open(path, encoding="utf-8") as file:
        described = json.load(file)
    if name and described.get("name") != _name(name):
        yield f"{layout.CROISSANT}: name is {described.get('name')!r}, on the card {name!r}"
    given = described.get("license")
    said = {str(one) for one in (given if isinstance(given, list) else [given])}
    names: dict[str, set[str]] = {}
    for id, url in zip(rows["licence"].to_pylist(), rows["licence_url"].to_pylist(), strict=True):
        known = {LICENCES[id].url, LICENCES[id].name} if id in LICENCES else set()
        names.setdefault(id, {url, id} - {""}).update(known - {""})
    if not all(name & said for name in names.values()) or not said <= set[str]().union(*names.values()):
        yield f"{layout.CROISSANT}: license is {given!r}, not that of the rows ({', '.join(sorted(names))})"
    for name, sha256 in sorted(found.items()):
        path = os.path.join(folder, name)
        if not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep):
            yield f"{layout.CROISSANT}: {name} lies outside the folder"
        elif not os.path.isfile(path):
            yield f"{name}: missing"
        elif previous.sha256_of(path) != sha256:
            yield f"{name}: its sha256 is not the one in {layout.CROISSANT}"
