"""Configurations of transformers that reach for code: nothing of it is given to transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from prefect_hone.ray_workers.model.transformers_folder import write_checked
from prefect_hone.recipe.errors import InputError
from safetensors.torch import save_file

PLAIN: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "hidden_size": 8,
    "hidden_act": "gelu",
    "id2label": {"0": "a/b: c", "1": "https://here"},
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "text_config": {"model_type": "bert", "layer_norm_eps": 1e-12},
}


def checked(tmp_path: Path, config: Any, index: Any = None) -> Path:
    folder, target = tmp_path / "given", tmp_path / "checked"
    folder.mkdir()
    target.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / "modeling_own.py").write_text("raise SystemExit")
    (folder / "adapter_config.json").write_text("{}")
    if index is None:
        save_file({"a": torch.zeros(2)}, folder / "model.safetensors")
    else:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        save_file({"a": torch.zeros(2)}, folder / "model-1.safetensors")
    write_checked(folder, target, "model")
    return target


def test_a_plain_configuration_is_kept_and_no_other_file(tmp_path: Path) -> None:
    target = checked(tmp_path, PLAIN)
    assert json.loads((target / "config.json").read_text()) == PLAIN
    assert {p.name for p in target.iterdir()} == {"config.json", "model.safetensors"}


REACHING: list[dict[str, Any]] = [
    {"attn_implementation": "owner/kernel"},
    {"_attn_implementation": "owner/kernel@main:f"},
    {"_attn_implementation_internal": "owner/kernel"},
    {"attn_implementation": "flash_attention_2"},
    {"attn_implementation": {"text_config": "owner/kernel"}},
    {"attn_implementation": ["owner/kernel"]},
    {"experts_implementation": "owner/kernel"},
    {"text_config": {"attn_implementation": "owner/kernel"}},
    {"a": [{"b": {"_experts_implementation": "owner/kernel"}}]},
    {"quantization_config": {"quant_method": "own"}},
    {"text_config": {"quantization_config": {"quant_method": "own"}}},
    {"use_kernels": True},
    {"use_pretrained_backbone": True},
]


@pytest.mark.parametrize("changed", REACHING, ids=json.dumps)
def test_code_from_elsewhere_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"its config\.json (asks for|has)"):
        checked(tmp_path, {**PLAIN, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"auto_map": {"AutoModel": "modeling_own.Own"}},
        {"_name_or_path": "owner/model"},
        {"transformers_weights": "../../secret.safetensors"},
        {"backbone": "https://somewhere/x"},
        {"text_config": {"auto_map": {"AutoConfig": "own.Own"}, "model_type": "bert",
                         "layer_norm_eps": 1e-12}},
        {"tokenizer_file": "/etc/passwd"},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_names_of_files_and_repositories_are_left_out(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    target = checked(tmp_path, {**PLAIN, **changed})
    assert json.loads((target / "config.json").read_text()) == PLAIN


@pytest.mark.parametrize(
    "file", ["../secret.safetensors", "/etc/passwd", "model.bin", "a/b.safetensors", 3, "..", ""]
)
def test_an_index_that_leads_out_of_the_folder_is_refused(tmp_path: Path, file: Any) -> None:
    with pytest.raises(InputError, match="no safetensors file of the same folder"):
        checked(tmp_path, PLAIN, {"weight_map": {"a": file}})


def test_an_index_of_files_in_the_folder_is_kept(tmp_path: Path) -> None:
    target = checked(tmp_path, PLAIN, {"weight_map": {"a": "model-1.safetensors"}})
    assert (target / "model-1.safetensors").is_file()


@pytest.mark.parametrize("config", ["[" * 100_000, "{", "[]", "3", '{"a":' * 50 + "1" + "}" * 50])
def test_what_is_no_configuration_ends_in_a_sentence(tmp_path: Path, config: str) -> None:
    with pytest.raises(InputError, match="this is not a transformers model"):
        checked(tmp_path, config)
