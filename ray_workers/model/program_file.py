"""A `torch.export` program (`.pt2`) as it is given to torch: a new archive of checked parts.

`torch.export.load` unpickles, evaluates expressions, loads libraries and executes generated source,
as the archive says. So it never gets a stranger's archive, but one written here: the program's JSON
rebuilt from what is known of it, the lists of tensors, and the tensors' bytes. Nothing in it is
pickled. That the archive is new also means that torch's reader and Python's can't disagree on what
it contains.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from ...recipe.errors import InputError
from .archive import opened
from .operators import registrars
from .program_schema import rebuilt_payloads, rebuilt_program
from .symbolic import NotAllowed

_PROGRAM = "models/model.json"
_WEIGHTS = "data/weights/model_weights_config.json"
_CONSTANTS = "data/constants/model_constants_config.json"
#: Members below the archive's root folder. Those of the second pattern are not given to torch.
_KNOWN = re.compile(
    r"archive_format|archive_version|byteorder|models/model\.json"
    r"|data/(weights/(weight_\d{1,7}|model_weights_config\.json)"
    r"|constants/(tensor_\d{1,7}|model_constants_config\.json))",
    re.ASCII,
)
_UNUSED = re.compile(
    r"\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
    r"|data/sample_inputs/model\.pt|extra/[\w./-]{1,200}",
    re.ASCII,
)
_PLAIN = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
_LARGEST_JSON = 512 * 2**20


def write_checked(path: Path, target: Path, where: str) -> list[str]:
    """Write a program's archive again, of checked parts.

    Args:
        path: The stranger's archive.
        target: The new one.
        where: What an error calls it.

    Returns:
        Modules to import before it is loaded: they register its operators.

    Raises:
        InputError: It is no such archive, or has something that `torch.export.save` does not write.
    """
    with opened(path, where, _refusal) as (archive, members):
        root = {name.partition("/")[0] for name in members}
        by_name = {name.partition("/")[2]: entry for name, entry in members.items()}
        if len(root) != 1 or not {_PROGRAM, _WEIGHTS, _CONSTANTS, *_PLAIN} <= set(by_name):
            raise InputError(
                "it is not a program of torch.export, or of an older version of it",
                where=where,
                do="save it again with torch.export.save",
            )
        try:
            return _write(archive, by_name, target)
        except NotAllowed as error:
            raise InputError(
                f"it holds {error}" if not str(error).startswith("it ") else str(error),
                where=where,
                do="save the program again with torch.export.save, as a model of plain tensors "
                "and of operators of torch",
            ) from error


def _write(
    archive: zipfile.ZipFile, by_name: dict[str, zipfile.ZipInfo], target: Path
) -> list[str]:
    for name, content in _PLAIN.items():
        if by_name[name].file_size > 64 or archive.read(by_name[name]) != content:
            raise NotAllowed(f"another {name} than '{content.decode()}'")
    weights = rebuilt_payloads(_json(archive, by_name[_WEIGHTS]), "weight_")
    constants = rebuilt_payloads(_json(archive, by_name[_CONSTANTS]), "tensor_")
    program = rebuilt_program(_json(archive, by_name[_PROGRAM]))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as made:
        for name, content in _PLAIN.items():
            made.writestr(zipfile.ZipInfo(f"model/{name}"), content)
        made.writestr(zipfile.ZipInfo("model/.data/version"), b"6\n")
        made.writestr(zipfile.ZipInfo("model/data/sample_inputs/model.pt"), b"")
        made.writestr(zipfile.ZipInfo(f"model/{_PROGRAM}"), program)
        for folder, listed in (("weights", weights), ("constants", constants)):
            made.writestr(
                zipfile.ZipInfo(f"model/data/{folder}/model_{folder}_config.json"),
                json.dumps(listed),
            )
            for file in sorted({entry["path_name"] for entry in listed["config"].values()}):
                member = by_name.get(f"data/{folder}/{file}")
                if member is None:
                    raise NotAllowed(f"no data/{folder}/{file}")
                _check_size(
                    member, [e for e in listed["config"].values() if e["path_name"] == file]
                )
                with archive.open(member) as source, made.open(
                    zipfile.ZipInfo(f"model/data/{folder}/{file}"), "w", force_zip64=True
                ) as sink:  # fmt: skip
                    shutil.copyfileobj(source, sink, 2**20)
    return registrars(program)


def _check_size(member: zipfile.ZipInfo, entries: list[dict[str, Any]]) -> None:
    """Without bytes there are no numbers: torch would make zeros, of any size."""
    for entry in entries:
        sizes = [size.get("as_int", -1) for size in entry["tensor_meta"]["sizes"]]
        if any(size < 0 for size in sizes):
            raise NotAllowed("a tensor without a size")
        if member.file_size == 0 and math.prod(sizes) > 0:
            raise NotAllowed(f"a tensor of {math.prod(sizes):,} numbers without its bytes")


def _json(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    if entry.file_size > _LARGEST_JSON:
        raise NotAllowed(f"'{entry.filename}' of {entry.file_size:,} bytes")
    return archive.read(entry)


def _refusal(name: str, start: bytes) -> str | None:
    """Why a member is refused."""
    inner = name.partition("/")[2]
    if _KNOWN.fullmatch(inner) or _UNUSED.fullmatch(inner):
        return None
    if inner.endswith("data.pkl"):
        return (
            "shows that torch.save or TorchScript wrote it, with a pickle that could hold any code"
        )
    if inner.startswith("data/aotinductor/"):
        return "is compiled code, which is not run: give the program before its compilation"
    if start.startswith((b"\x80", b"PK")):
        return "holds more than plain tensors: it is a pickle, and no part of an exported program"
    return "is no part of an exported program that torch.export.save writes"
