"""Attacks by exported programs: nothing of them runs, and each ends in a sentence."""

from __future__ import annotations

import importlib
import json
import pickle
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.model.incoming import program, read
from prefect_hone.ray_workers.model.program_file import write_checked
from prefect_hone.ray_workers.torch_private import DECOMPOSED
from prefect_hone.recipe.errors import InputError
from torch import nn

Change = Callable[[dict[str, bytes]], None]


class Sized(nn.Module):
    """A module whose graph has symbolic sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.linear(x), self.linear(x)])
        return x[: x.shape[0] // 3 + x.shape[0] % 4 + 1]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Members of a program's archive, without the name of its folder."""
    path = tmp_path_factory.mktemp("good") / "model.pt2"
    axes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(Sized(), (torch.randn(8, 4),), dynamic_shapes=axes), path)
    with zipfile.ZipFile(path) as archive:
        return {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}


def packed(files: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name[1:] if name.startswith("/") else f"model/{name}", content)
    return path


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def changed_program(files: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> None:
    said = json.loads(files["models/model.json"])
    change(said)
    files["models/model.json"] = json.dumps(said).encode()


def a_symbolic_size(files: dict[str, bytes], mark: Path) -> None:
    """`sympify` evaluates any Python."""
    code = f"__import__('pathlib').Path({str(mark)!r}).touch() or Symbol('s0')"

    def change(said: dict[str, Any]) -> None:
        for value in said["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = code

    changed_program(files, change)


def an_older_format(files: dict[str, bytes], mark: Path) -> None:
    """torch reads it where the newer format is missing, with pickles under the names of JSON."""
    program_json = files["models/model.json"]
    files.clear()
    files.update({
        "/serialized_state_dict.json": pickle.dumps(Bomb(mark)),
        "/serialized_constants.json": pickle.dumps(Bomb(mark)),
        "/serialized_exported_program.json": program_json,
        "/serialized_example_inputs.pt": torch_pickle(()),
        "/version": b"8.20",
    })  # fmt: skip


def a_padded_list_of_pickles(files: dict[str, bytes], mark: Path) -> None:
    """A list of weights of more than 64 MB, which says `use_pickle`."""
    name = "data/weights/model_weights_config.json"
    said = json.loads(files[name])
    first = next(iter(said["config"].values()))
    first["use_pickle"] = True
    files[f"data/weights/{first['path_name']}"] = torch_pickle(Bomb(mark))
    files[name] = json.dumps(said).encode() + b" " * (2**26 + 1)


def torch_pickle(value: Any) -> bytes:
    import io

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def a_compiled_library(files: dict[str, bytes], mark: Path) -> None:
    """torch loads a package of AOTInductor, whose library runs code when it is loaded."""
    compiler = shutil.which("cc")
    library = b"\x7fELF"
    if compiler is not None:
        source, built = mark.with_suffix(".c"), mark.with_suffix(".so")
        source.write_text(
            "#include <fcntl.h>\n__attribute__((constructor)) static void run(void) "
            f'{{ open("{mark}", O_CREAT | O_WRONLY, 0600); }}\n'
        )
        subprocess.run([compiler, "-shared", "-fPIC", source, "-o", built], check=True)
        library = built.read_bytes()
    files["data/aotinductor/model/model.wrapper.so"] = library
    files["data/aotinductor/model/model.wrapper_metadata.json"] = b'{"AOTI_DEVICE_KEY": "cpu"}'


def a_pickled_constant(files: dict[str, bytes], mark: Path) -> None:
    files["data/constants/model_constants_config.json"] = json.dumps(
        {"config": {"c": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False,
                          "tensor_meta": None}}}
    ).encode()  # fmt: skip
    files["data/constants/opaque_obj_0"] = pickle.dumps(Bomb(mark))


def a_pickle_of_sample_inputs(files: dict[str, bytes], mark: Path) -> None:
    files["data/sample_inputs/model.pt"] = torch_pickle((Bomb(mark),))


def a_name_that_is_source(files: dict[str, bytes], mark: Path) -> None:
    """torch writes names of nodes into Python source, which it executes."""
    code = f"x=__import__('pathlib').Path({str(mark)!r}).touch()"
    text = files["models/model.json"].decode()
    files["models/model.json"] = text.replace('"name": "x"', f'"name": {json.dumps(code)}').encode()


def a_function_of_torch(files: dict[str, bytes], mark: Path) -> None:
    """Any attribute of torch is found, also the modules that it imports."""

    def change(said: dict[str, Any]) -> None:
        node = said["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "command", "arg": {"as_string": f"touch {mark}"}, "kind": 1}]

    changed_program(files, change)


def an_operator_that_opens_files(files: dict[str, bytes], mark: Path) -> None:
    def change(said: dict[str, Any]) -> None:
        node = said["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.ops.aten.from_file.default"
        node["inputs"] = [
            {"name": "filename", "arg": {"as_string": str(mark)}, "kind": 1},
            {"name": "shared", "arg": {"as_bool": True}, "kind": 1},
            {"name": "size", "arg": {"as_int": 8}, "kind": 1},
        ]

    changed_program(files, change)


def an_imported_enum(files: dict[str, bytes], mark: Path) -> None:
    """The structure of arguments names a class, whose module torch imports."""
    (mark.parent / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    context = json.dumps([{"__enum__": True, "fqn": "evil:X", "name": "Y"}])
    spec = json.dumps([1, {"type": "builtins.dict", "context": context, "children_spec": []}])

    def change(said: dict[str, Any]) -> None:
        said["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = spec

    changed_program(files, change)


def a_key_that_is_source(files: dict[str, bytes], mark: Path) -> None:
    """Without names of its arguments, a program's keys are written into generated source."""
    leaf = {"type": None, "context": None, "children_spec": []}
    key = f"x=__import__('pathlib').Path({str(mark)!r}).touch()"
    keywords = {"type": "builtins.dict", "context": json.dumps([key]), "children_spec": [leaf]}
    empty = {"type": "builtins.tuple", "context": "null", "children_spec": []}
    tree = {"type": "builtins.tuple", "context": "null", "children_spec": [empty, keywords]}

    def change(said: dict[str, Any]) -> None:
        signature = said["graph_module"]["module_call_graph"][0]["signature"]
        signature.update(in_spec=json.dumps([1, tree]), forward_arg_names=None)

    changed_program(files, change)


def a_factory_of_a_dictionary(files: dict[str, bytes], mark: Path) -> None:
    (mark.parent / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    context = {"default_factory_module": "evil", "default_factory_name": "X", "dict_context": []}
    tree = {"type": "collections.defaultdict", "context": context, "children_spec": []}

    def change(said: dict[str, Any]) -> None:
        signature = said["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = json.dumps([1, tree])

    changed_program(files, change)


ATTACKS = [
    (a_symbolic_size, "the symbolic size '__import__"),
    (an_older_format, "is no part of an exported program|it is a pickle"),
    (a_padded_list_of_pickles, "it asks for pickled tensors"),
    (a_compiled_library, "is compiled code, which is not run"),
    (a_pickled_constant, "it is a pickle, and no part of an exported program"),
    (a_name_that_is_source, "which is no name"),
    (a_function_of_torch, "it calls 'torch.os.system', which is no operator"),
    (an_operator_that_opens_files, "it uses the operator aten.from_file.default"),
    (an_imported_enum, "the keys '.*' of arguments"),
    (a_key_that_is_source, "the keys '.*' of arguments"),
    (a_factory_of_a_dictionary, "of the type 'collections.defaultdict'"),
]


@pytest.mark.parametrize(("attack", "said"), ATTACKS, ids=[a.__name__ for a, _ in ATTACKS])
def test_nothing_of_a_hostile_program_runs(
    good: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    attack: Callable[[dict[str, bytes], Path], None],
    said: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    mark, files = tmp_path / "ran", dict(good)
    attack(files, mark)
    path = packed(files, tmp_path / "model.pt2")
    try:
        with pytest.raises(InputError, match=said):
            read(str(path))
    finally:
        assert not mark.exists(), "it ran"


def without(name: str) -> Change:
    return lambda files: files.pop(name) and None


def guards(files: dict[str, bytes]) -> None:
    changed_program(files, lambda said: said.update(guards_code=["__import__('os')"]))


def samples(files: dict[str, bytes]) -> None:
    files["data/sample_inputs/model.pt"] = pickle.dumps(print)


@pytest.mark.parametrize("change", [guards, samples], ids=["guards", "samples"])
def test_what_torch_can_do_without_is_not_given_to_it(
    good: dict[str, bytes], tmp_path: Path, change: Change
) -> None:
    files = dict(good)
    change(files)
    write_checked(packed(files, tmp_path / "model.pt2"), tmp_path / "checked.pt2", "model")
    with zipfile.ZipFile(tmp_path / "checked.pt2") as archive:
        assert archive.read("model/data/sample_inputs/model.pt") == b""
        assert json.loads(archive.read("model/models/model.json"))["guards_code"] == []


def bare(files: dict[str, bytes]) -> None:
    """A tensor of 10^12 numbers without bytes, which torch would fill with zeros."""
    name = "data/weights/model_weights_config.json"
    said = json.loads(files[name])
    for entry in said["config"].values():
        files[f"data/weights/{entry['path_name']}"] = b""
        entry["tensor_meta"]["sizes"] = [{"as_int": 10**12}]
    files[name] = json.dumps(said).encode()


def deep(files: dict[str, bytes]) -> None:
    files["models/model.json"] = b"[" * 200_000


def outside(files: dict[str, bytes]) -> None:
    name = "data/weights/model_weights_config.json"
    files[name] = files[name].replace(b"weight_0", b"../../x")


def counting(files: dict[str, bytes]) -> None:
    """torch counts up to the number of a symbol."""
    changed_program(
        files,
        lambda said: said["range_constraints"].update(u99999999999={"min_val": 0, "max_val": 9}),
    )


def power(files: dict[str, bytes]) -> None:
    text = files["models/model.json"].decode()
    files["models/model.json"] = text.replace("Integer(3)", "Pow(Integer(9), Pow(9, 99))").encode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("archive_format"), "it is not a program of torch.export"),
        (bare, "without its bytes"),
        (deep, "nested too deeply"),
        (outside, "which is no name"),
        (counting, "'u99999999999', which is no symbol"),
        (power, "a power is not a small number"),
        (lambda f: f.update({"notes.txt": b"x"}), "'model/notes.txt' is no part of"),
        (lambda f: f.update({"archive_format": b"x"}), "another archive_format than 'pt2'"),
        (lambda f: f.update({"models/other.json": b"{}"}), "'model/models/other.json' is no part"),
    ],
)  # fmt: skip
def test_a_broken_program_ends_in_a_sentence(
    good: dict[str, bytes], tmp_path: Path, change: Change, said: str
) -> None:
    files = dict(good)
    change(files)
    with pytest.raises(InputError, match=said):
        program(str(packed(files, tmp_path / "model.pt2")))


def test_symbolic_sizes_are_kept(good: dict[str, bytes], tmp_path: Path) -> None:
    loaded = program(str(packed(good, tmp_path / "model.pt2")))
    for count in (5, 9):
        x = torch.randn(count, 4)
        assert loaded(x).shape[0] == 2 * count // 3 + 2 * count % 4 + 1


class Quantized(nn.Module):
    """As PT2E leaves a linear layer: integers, and operators that a library registers."""

    def __init__(self) -> None:
        super().__init__()
        importlib.import_module(DECOMPOSED)
        self.register_buffer("weight", torch.randint(-8, 8, (3, 4), dtype=torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        quantized = torch.ops.quantized_decomposed
        x = quantized.quantize_per_tensor.default(x, 0.1, 3, -128, 127, torch.int8)
        x = quantized.dequantize_per_tensor.default(x, 0.1, 3, -128, 127, torch.int8)
        weight = quantized.dequantize_per_tensor.default(self.weight, 0.5, 0, -128, 127, torch.int8)
        return torch.nn.functional.linear(x, weight)


def test_a_quantized_program_is_read(tmp_path: Path) -> None:
    model, x = Quantized().eval(), torch.randn(5, 4)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    assert torch.equal(program(str(tmp_path / "model.pt2"))(x), model(x))


def test_the_same_program_is_the_same_file(
    good: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, written = packed(good, tmp_path / "model.pt2"), set()
    for year in (2020, 2021):
        monkeypatch.setattr(time, "localtime", lambda *_, year=year: (year, 1, 1, 0, 0, 0, 0, 1, 0))
        write_checked(path, tmp_path / "checked.pt2", "model")
        written.add((tmp_path / "checked.pt2").read_bytes())
    assert len(written) == 1
