"""The architectures of the zoo: small, with seeded random weights, and a few random inputs each.

Those of transformers are made from its configuration classes, so nothing is downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from prefect_hone import Data
from torch import nn

SAMPLES = 12
VOCABULARY, LENGTH = 99, 16

_TEXT = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 37, "max_position_embeddings": 64, "num_labels": 3,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
_LLAMA = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 37, "max_position_embeddings": 64,
    "use_cache": False, "pad_token_id": 0,
}  # fmt: skip
_VISION = {
    "image_size": 32, "patch_size": 8, "num_channels": 3, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37, "num_labels": 3,
}  # fmt: skip


def _ids() -> torch.Tensor:
    return torch.randint(1, VOCABULARY, (SAMPLES, LENGTH))


def _text() -> dict[str, torch.Tensor]:
    return {"input_ids": _ids(), "attention_mask": torch.ones(SAMPLES, LENGTH, dtype=torch.long)}


def _only_ids() -> dict[str, torch.Tensor]:
    return {"input_ids": _ids()}


def _pair() -> dict[str, torch.Tensor]:
    return {"input_ids": _ids(), "decoder_input_ids": _ids()}


def _image(size: int = 32, channels: int = 3) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {"pixel_values": torch.randn(SAMPLES, channels, size, size)}


def _sound(length: int = 1600) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {"input_values": torch.randn(SAMPLES, length)}


def _series() -> dict[str, torch.Tensor]:
    return {"past_values": torch.randn(SAMPLES, 32, 2)}


Inputs = Callable[[], Any]
#: Of transformers: the model's class, its configuration's, the configuration, and the inputs.
TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any], Inputs]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", _TEXT, _text),
    "bert-masked-lm": ("BertForMaskedLM", "BertConfig", _TEXT, _text),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", _TEXT, _text),
    "distilbert": ("DistilBertForSequenceClassification", "DistilBertConfig", {
        "vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 37,
        "num_labels": 3}, _text),
    "albert": ("AlbertForSequenceClassification", "AlbertConfig",
               {**_TEXT, "embedding_size": 16}, _text),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig",
                {**_TEXT, "embedding_size": 16}, _text),
    "deberta": ("DebertaForSequenceClassification", "DebertaConfig",
                {**_TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, _text),
    "deberta-v2": ("DebertaV2ForSequenceClassification", "DebertaV2Config",
                   {**_TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}, _text),
    "mpnet": ("MPNetForSequenceClassification", "MPNetConfig", _TEXT, _text),
    "camembert": ("CamembertForTokenClassification", "CamembertConfig", _TEXT, _text),
    "layoutlm": ("LayoutLMForSequenceClassification", "LayoutLMConfig", _TEXT, _text),
    "mobilebert": ("MobileBertForSequenceClassification", "MobileBertConfig",
                   {**_TEXT, "embedding_size": 32, "true_hidden_size": 32,
                    "intra_bottleneck_size": 32}, _text),
    "squeezebert": ("SqueezeBertForSequenceClassification", "SqueezeBertConfig",
                    {**_TEXT, "embedding_size": 32, "intermediate_size": 64}, _text),
    "convbert": ("ConvBertForSequenceClassification", "ConvBertConfig",
                 {**_TEXT, "embedding_size": 32}, _text),
    "roformer": ("RoFormerForSequenceClassification", "RoFormerConfig",
                 {**_TEXT, "embedding_size": 32}, _text),
    "fnet": ("FNetForSequenceClassification", "FNetConfig", _TEXT, _only_ids),
    "funnel": ("FunnelForSequenceClassification", "FunnelConfig", {
        "vocab_size": VOCABULARY, "block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8,
        "d_inner": 37, "num_labels": 3}, _text),
    "longformer": ("LongformerForSequenceClassification", "LongformerConfig",
                   {**_TEXT, "attention_window": 8}, _text),
    "bigbird": ("BigBirdForSequenceClassification", "BigBirdConfig",
                {**_TEXT, "attention_type": "original_full"}, _text),
    "nystromformer": ("NystromformerForSequenceClassification", "NystromformerConfig",
                      {**_TEXT, "num_landmarks": 8, "segment_means_seq_len": 16}, _text),
    "yoso": ("YosoForSequenceClassification", "YosoConfig",
             {**_TEXT, "use_expectation": True}, _text),
    "canine": ("CanineForSequenceClassification", "CanineConfig",
               {**_TEXT, "num_hash_buckets": 64, "local_transformer_stride": 8}, _text),
    "xlnet": ("XLNetForSequenceClassification", "XLNetConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 37,
        "num_labels": 3, "use_mems_eval": False}, _text),
    "xlm": ("XLMForSequenceClassification", "XLMConfig", {
        "vocab_size": VOCABULARY, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "num_labels": 3,
        "max_position_embeddings": 64}, _text),
    "modernbert": ("ModernBertForSequenceClassification", "ModernBertConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 37, "num_labels": 3, "pad_token_id": 0,
        "reference_compile": False}, _text),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
        "use_cache": False}, _text),
    "gpt-neo": ("GPTNeoForCausalLM", "GPTNeoConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
        "attention_types": [[["global", "local"], 1]], "window_size": 7, "use_cache": False,
        "max_position_embeddings": 64}, _text),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _LLAMA, _text),
    "gptj": ("GPTJForCausalLM", "GPTJConfig", {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4,
        "n_positions": 64, "use_cache": False}, _text),
    "opt": ("OPTForCausalLM", "OPTConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 37,
        "num_attention_heads": 4, "max_position_embeddings": 64, "word_embed_proj_dim": 32,
        "use_cache": False}, _text),
    "bloom": ("BloomForCausalLM", "BloomConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4,
        "use_cache": False}, _text),
    "falcon": ("FalconForCausalLM", "FalconConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "use_cache": False}, _text),
    "llama": ("LlamaForCausalLM", "LlamaConfig", _LLAMA, _text),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**_LLAMA, "sliding_window": 8}, _text),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig",
                {**_LLAMA, "intermediate_size": 48, "num_local_experts": 4, "num_experts_per_tok": 2}, _text),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", _LLAMA, _text),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", {**_LLAMA, "head_dim": 8}, _text),
    "phi": ("PhiForCausalLM", "PhiConfig", _LLAMA, _text),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", _LLAMA, _text),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", _LLAMA, _text),
    "mamba": ("MambaForCausalLM", "MambaConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8,
        "use_cache": False}, _only_ids),
    "rwkv": ("RwkvForCausalLM", "RwkvConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "attention_hidden_size": 32, "intermediate_size": 37, "context_length": 64,
        "use_cache": False}, _only_ids),
    "t5": ("T5ForConditionalGeneration", "T5Config", {
        "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2,
        "num_heads": 4, "use_cache": False}, _pair),
    "t5-encoder": ("T5EncoderModel", "T5Config", {
        "vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2,
        "num_heads": 4, "use_cache": False}, _only_ids),
    "bart": ("BartForSequenceClassification", "BartConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "max_position_embeddings": 64, "use_cache": False,
        "num_labels": 3}, "bart"),  # type: ignore[dict-item]
    "marian": ("MarianMTModel", "MarianConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "max_position_embeddings": 64, "use_cache": False,
        "pad_token_id": 0, "decoder_start_token_id": 0}, _pair),
    "vit": ("ViTForImageClassification", "ViTConfig", _VISION, _image()),
    "deit": ("DeiTForImageClassification", "DeiTConfig", _VISION, _image()),
    "beit": ("BeitForImageClassification", "BeitConfig", _VISION, _image()),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", _VISION, _image()),
    "swin": ("SwinForImageClassification", "SwinConfig", {
        "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
        "window_size": 4, "num_labels": 3}, _image()),
    "swinv2": ("Swinv2ForImageClassification", "Swinv2Config", {
        "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
        "window_size": 4, "num_labels": 3}, _image()),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", {
        "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3}, _image(64)),
    "convnextv2": ("ConvNextV2ForImageClassification", "ConvNextV2Config", {
        "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3}, _image(64)),
    "resnet": ("ResNetForImageClassification", "ResNetConfig", {
        "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 3},
        _image()),
    "regnet": ("RegNetForImageClassification", "RegNetConfig", {
        "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 8,
        "num_labels": 3}, _image()),
    "mobilenet-v2": ("MobileNetV2ForImageClassification", "MobileNetV2Config",
                     {"image_size": 32, "num_labels": 3, "depth_multiplier": 0.25}, _image(64)),
    "efficientnet": ("EfficientNetForImageClassification", "EfficientNetConfig", {
        "image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.25,
        "hidden_dim": 64, "num_labels": 3}, _image(64)),
    "poolformer": ("PoolFormerForImageClassification", "PoolFormerConfig", {
        "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3}, _image(64)),
    "bit": ("BitForImageClassification", "BitConfig", {
        "embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1],
        "num_groups": 1, "num_labels": 3}, _image(64)),
    "mobilevit": ("MobileViTForImageClassification", "MobileViTConfig", {
        "image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16],
        "num_labels": 3}, _image(64)),
    "segformer": ("SegformerForSemanticSegmentation", "SegformerConfig", {
        "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 16], "decoder_hidden_size": 16,
        "num_attention_heads": [1, 2, 2, 2], "num_labels": 3}, _image(64)),
    "pvt": ("PvtForImageClassification", "PvtConfig", {
        "image_size": 64, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 2], "num_labels": 3}, _image(64)),
    "yolos": ("YolosForObjectDetection", "YolosConfig",
              {**_VISION, "image_size": [32, 32], "num_detection_tokens": 5}, _image()),
    "vitmae": ("ViTMAEModel", "ViTMAEConfig", _VISION, _image()),
    "clip-text": ("CLIPTextModel", "CLIPTextConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 37, "max_position_embeddings": 64,
        "eos_token_id": 2}, _text),
    "clip-vision": ("CLIPVisionModel", "CLIPVisionConfig", _VISION, _image()),
    "siglip-vision": ("SiglipVisionModel", "SiglipVisionConfig", _VISION, _image()),
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", {
        **_TEXT, "conv_dim": [16, 16], "conv_stride": [4, 4], "conv_kernel": [8, 8],
        "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16}, _sound()),
    "hubert": ("HubertForSequenceClassification", "HubertConfig", {
        **_TEXT, "conv_dim": [16, 16], "conv_stride": [4, 4], "conv_kernel": [8, 8],
        "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16}, _sound()),
    "whisper-encoder": ("WhisperForAudioClassification", "WhisperConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "num_mel_bins": 16, "max_source_positions": 30,
        "classifier_proj_size": 16, "num_labels": 3, "pad_token_id": 0, "bos_token_id": 0,
        "eos_token_id": 0, "decoder_start_token_id": 0},
        lambda: {"input_features": torch.randn(SAMPLES, 16, 60)}),
    "audio-spectrogram": ("ASTForAudioClassification", "ASTConfig", {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 37, "num_labels": 3, "max_length": 32, "num_mel_bins": 16,
        "patch_size": 8, "frequency_stride": 8, "time_stride": 8},
        lambda: {"input_values": torch.randn(SAMPLES, 32, 16)}),
    "sew": ("SEWForSequenceClassification", "SEWConfig", {
        **_TEXT, "conv_dim": [16, 16], "conv_stride": [4, 4], "conv_kernel": [8, 8],
        "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16}, _sound()),
    "patchtst": ("PatchTSTForPrediction", "PatchTSTConfig", {
        "num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8,
        "prediction_length": 4, "d_model": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "ffn_dim": 32}, _series),
    "patchtsmixer": ("PatchTSMixerForPrediction", "PatchTSMixerConfig", {
        "num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8,
        "prediction_length": 4, "d_model": 16, "num_layers": 2}, _series),
    "detr": ("DetrForObjectDetection", "DetrConfig", {
        "use_timm_backbone": False, "backbone_config": "resnet", "backbone": None,
        "use_pretrained_backbone": False, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "num_queries": 5, "num_labels": 3}, _image(64)),
}  # fmt: skip


class Lstm(nn.Module):
    """A classifier of token sequences by an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.recurrent = nn.LSTM(16, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.recurrent(self.embed(x))[0][:, -1])
        return found


class Gru(Lstm):
    """The same by a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(16, 32, batch_first=True)  # type: ignore[assignment]


class Rnn(Lstm):
    """The same by a plain recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.RNN(16, 32, batch_first=True)  # type: ignore[assignment]


class UNet(nn.Module):
    """An encoder and decoder with skip connections; images (N, 3, 32, 32) to masks."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.merge = nn.Conv2d(24, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.down1(x)
        two = self.up(self.down2(self.pool(one)))
        found: torch.Tensor = self.last(torch.relu(self.merge(torch.cat([one, two], 1))))
        return found


class Siamese(nn.Module):
    """Two images through the same encoder; their distance and both embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8)
        )

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, ...]:
        one, two = self.encoder(left), self.encoder(right)
        return nn.functional.cosine_similarity(one, two).unsqueeze(1), one, two


class Autoencoder(nn.Module):
    """Reconstruction and code."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(20, 12), nn.GELU(), nn.Linear(12, 4))
        self.decode = nn.Sequential(nn.Linear(4, 12), nn.GELU(), nn.Linear(12, 20))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        code = self.encode(x)
        return {"reconstruction": self.decode(code), "code": code}


class Detector(nn.Module):
    """A single-shot head: classes and boxes of every cell."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.SiLU()
        )
        self.classes, self.boxes = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.backbone(x)
        height, width = x.shape[2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([columns, rows], 2).reshape(1, -1, 2)
        boxes = self.boxes(x).flatten(2).transpose(1, 2)
        centers = (boxes[..., :2].sigmoid() + grid) * 4
        return {
            "scores": self.classes(x).flatten(2).transpose(1, 2),
            "boxes": torch.cat([centers, boxes[..., 2:].exp()], 2),
        }


class Tabular(nn.Module):
    """Embeddings of categories beside numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, 4) for size in (10, 20, 5))
        self.body = nn.Sequential(
            nn.Linear(12 + 6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2)
        )

    def forward(self, categories: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        parts = [table(categories[:, i]) for i, table in enumerate(self.tables)]
        found: torch.Tensor = self.body(torch.cat([*parts, numbers.float()], 1))
        return found


class Graph(nn.Module):
    """A graph network by adjacency matrices; the mean over the nodes that a mask lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, nodes: torch.Tensor, edges: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        edges = edges.float()
        degree = edges.sum(2, keepdim=True).clamp(min=1)
        x = torch.relu(self.one(edges @ nodes / degree))
        x = torch.relu(self.two(edges @ x / degree)) * mask.unsqueeze(2)
        found: torch.Tensor = self.head(x.sum(1) / mask.sum(1, keepdim=True))
        return found


class Attention(nn.Module):
    """torch's own transformer encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.encoder(self.embed(x)).mean(1))
        return found


class Temporal(nn.Module):
    """Dilated causal convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(4, 4, 3, dilation=2**i) for i in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, layer in enumerate(self.layers):
            x = x + torch.tanh(layer(nn.functional.pad(x, (2 * 2**i, 0))))
        found: torch.Tensor = self.head(x[..., -1])
        return found


class Spectral(nn.Module):
    """The spectrum of a signal, as keyword spotting does it."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(64), persistent=False)
        self.head = nn.Linear(33, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames = x.unfold(1, 64, 32) * self.window
        found: torch.Tensor = self.head(torch.fft.rfft(frames).abs().log1p().mean(1))
        return found


#: Written by hand: the class, and the inputs.
BY_HAND: dict[str, tuple[type[nn.Module], Inputs]] = {
    "lstm": (Lstm, _ids),
    "gru": (Gru, _ids),
    "rnn": (Rnn, _ids),
    "u-net": (UNet, lambda: torch.randn(SAMPLES, 3, 32, 32)),
    "siamese": (Siamese, lambda: (torch.randn(SAMPLES, 3, 16, 16),) * 2),
    "autoencoder": (Autoencoder, lambda: torch.randn(SAMPLES, 20)),
    "detector": (Detector, lambda: torch.randn(SAMPLES, 3, 32, 32)),
    "tabular": (Tabular, lambda: {"categories": torch.randint(0, 5, (SAMPLES, 3)),
                                  "numbers": torch.randn(SAMPLES, 6).double()}),
    "graph": (Graph, lambda: {"nodes": torch.randn(SAMPLES, 7, 6),
                              "edges": torch.rand(SAMPLES, 7, 7) > 0.5,
                              "mask": torch.ones(SAMPLES, 7)}),
    "attention": (Attention, _ids),
    "temporal": (Temporal, lambda: torch.randn(SAMPLES, 4, 20)),
    "spectral": (Spectral, lambda: torch.randn(SAMPLES, 400)),
}  # fmt: skip


def _bart() -> dict[str, torch.Tensor]:
    ids = _ids() % 90 + 3
    ids[:, -1] = 2  # the end of a sentence, at which BART classifies
    return {"input_ids": ids}


def model(name: str) -> nn.Module:
    """An architecture, in evaluation mode."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        if name in BY_HAND:
            return BY_HAND[name][0]().eval()
        import transformers

        kind, configuration, fields, _ = TRANSFORMERS[name]
        if fields.get("backbone_config") == "resnet":
            small = transformers.ResNetConfig(
                embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], out_features=["stage2"]
            )
            fields = {**fields, "backbone_config": small}
        config = getattr(transformers, configuration)(**fields)
        made: nn.Module = getattr(transformers, kind)(config).eval()
        return made


def inputs(name: str) -> Any:
    """A batch of random inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = BY_HAND[name][1] if name in BY_HAND else TRANSFORMERS[name][3]
        return _bart() if made == "bart" else made()


class _Samples(torch.utils.data.Dataset[Any]):
    def __init__(self, batch: Any, start: int, stop: int) -> None:
        self._batch, self._rows = batch, range(start, stop)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        row = self._rows[index]
        batch = self._batch
        if isinstance(batch, dict):
            return {name: value[row] for name, value in batch.items()}, 0
        if isinstance(batch, tuple):
            return tuple(value[row] for value in batch), 0
        return batch[row], 0


def data(name: str) -> Data:
    """The same inputs as a data set, each with the target 0."""
    batch = inputs(name)
    third = SAMPLES // 3
    return Data(
        train=_Samples(batch, third, 2 * third), test=_Samples(batch, 0, third),
        calibration=_Samples(batch, 2 * third, SAMPLES), name=name,
    )  # fmt: skip


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Of any output, whatever its shape."""
    return outputs.float().pow(2).mean()


class Size:
    """A metric of any output: how large it is."""

    @staticmethod
    def per_sample(outputs: np.ndarray[Any, Any], targets: Any) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = np.abs(outputs.reshape(len(outputs), -1)).mean(1)[:, None]
        return found

    @staticmethod
    def aggregate(statistics: np.ndarray[Any, Any]) -> float:
        return float(statistics.mean())
