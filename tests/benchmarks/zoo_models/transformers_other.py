"""Models of transformers for images, audio, time series, and several of them at once."""

from __future__ import annotations

from typing import Any

import torch
from transformers_text import TEXT_FIELDS as _TEXT
from zoo_inputs import (
    SAMPLES,
    VOCABULARY,
    Inputs,
    forecast,
    ids,
    image,
    series,
    sound,
    text,
    text_and_image,
)

_VISION = {
    "image_size": 32, "patch_size": 8, "num_channels": 3, "hidden_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37, "num_labels": 3,
}  # fmt: skip


_AUDIO = {
    **_TEXT, "conv_dim": [16, 16], "conv_stride": [4, 4], "conv_kernel": [8, 8],
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16,
}  # fmt: skip
_FORECAST = {
    "prediction_length": 4, "context_length": 12, "lags_sequence": [1, 2], "num_time_features": 2,
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "use_cache": False,
}  # fmt: skip
#: As in `transformers_text`.
OTHER: dict[str, tuple[str, str, dict[str, Any], Inputs]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", _VISION, image()),
    "deit": ("DeiTForImageClassification", "DeiTConfig", _VISION, image()),
    "beit": ("BeitForImageClassification", "BeitConfig", _VISION, image()),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", _VISION, image()),
    "swin": ("SwinForImageClassification", "SwinConfig", {
        "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
        "window_size": 4, "num_labels": 3}, image()),
    "swinv2": ("Swinv2ForImageClassification", "Swinv2Config", {
        "image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
        "window_size": 4, "num_labels": 3}, image()),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig", {
        "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3}, image(64)),
    "convnextv2": ("ConvNextV2ForImageClassification", "ConvNextV2Config", {
        "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3}, image(64)),
    "resnet": ("ResNetForImageClassification", "ResNetConfig", {
        "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 3},
        image()),
    "regnet": ("RegNetForImageClassification", "RegNetConfig", {
        "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 8,
        "num_labels": 3}, image()),
    "mobilenet-v2": ("MobileNetV2ForImageClassification", "MobileNetV2Config",
                     {"image_size": 32, "num_labels": 3, "depth_multiplier": 0.25}, image(64)),
    "efficientnet": ("EfficientNetForImageClassification", "EfficientNetConfig", {
        "image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.25,
        "hidden_dim": 320, "num_labels": 3}, image(64)),
    "poolformer": ("PoolFormerForImageClassification", "PoolFormerConfig", {
        "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "num_labels": 3}, image(64)),
    "bit": ("BitForImageClassification", "BitConfig", {
        "embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1],
        "num_groups": 1, "num_labels": 3}, image(64)),
    "mobilevit": ("MobileViTForImageClassification", "MobileViTConfig", {
        "image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16],
        "num_labels": 3}, image(64)),
    "segformer": ("SegformerForSemanticSegmentation", "SegformerConfig", {
        "depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 16], "decoder_hidden_size": 16,
        "num_attention_heads": [1, 2, 2, 2], "num_labels": 3}, image(64)),
    "pvt": ("PvtForImageClassification", "PvtConfig", {
        "image_size": 64, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 2], "num_labels": 3}, image(64)),
    "yolos": ("YolosForObjectDetection", "YolosConfig",
              {**_VISION, "image_size": [32, 32], "num_detection_tokens": 5}, image()),
    "vitmae": ("ViTMAEModel", "ViTMAEConfig", _VISION, image()),
    "clip-text": ("CLIPTextModel", "CLIPTextConfig", {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 37, "max_position_embeddings": 64,
        "eos_token_id": 2}, text),
    "clip-vision": ("CLIPVisionModel", "CLIPVisionConfig", _VISION, image()),
    "siglip-vision": ("SiglipVisionModel", "SiglipVisionConfig", _VISION, image()),
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", _AUDIO, sound()),
    "hubert": ("HubertForSequenceClassification", "HubertConfig", _AUDIO, sound()),
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
    "sew": ("SEWForSequenceClassification", "SEWConfig", _AUDIO, sound()),
    "patchtst": ("PatchTSTForPrediction", "PatchTSTConfig", {
        "num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8,
        "prediction_length": 4, "d_model": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "ffn_dim": 32}, series),
    "patchtsmixer": ("PatchTSMixerForPrediction", "PatchTSMixerConfig", {
        "num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8,
        "prediction_length": 4, "d_model": 16, "num_layers": 2}, series),
    "detr": ("DetrForObjectDetection", "DetrConfig", {
        "use_timm_backbone": False, "backbone_config": "resnet", "backbone": None,
        "use_pretrained_backbone": False, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "num_queries": 5, "num_labels": 3}, image(64)),
    "clip": ("CLIPModel", "CLIPConfig", {
        "projection_dim": 16, "text_config": {
            "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 37, "max_position_embeddings": 64,
            "eos_token_id": 2},
        "vision_config": _VISION}, text_and_image),
    "vilt": ("ViltModel", "ViltConfig", {**_TEXT, **_VISION, "max_image_length": -1},
             text_and_image),
    "blip": ("BlipModel", "BlipConfig", {
        "projection_dim": 16, "text_config": {
            **_TEXT, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0,
            "encoder_hidden_size": 32},
        "vision_config": _VISION}, text_and_image),
    "clipseg": ("CLIPSegForImageSegmentation", "CLIPSegConfig", {
        "projection_dim": 16, "reduce_dim": 16, "extract_layers": [1], "decoder_num_attention_heads":
        2, "decoder_intermediate_size": 32, "text_config": {
            "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 37, "max_position_embeddings": 64,
            "eos_token_id": 2},
        "vision_config": _VISION}, text_and_image),
    "wavlm": ("WavLMForSequenceClassification", "WavLMConfig", _AUDIO, sound()),
    "data2vec-audio": ("Data2VecAudioForSequenceClassification", "Data2VecAudioConfig",
                       {**_AUDIO, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
                       sound()),
    "wav2vec2-ctc": ("Wav2Vec2ForCTC", "Wav2Vec2Config",
                     {**_AUDIO, "feat_extract_norm": "layer"}, sound()),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig", {
        "vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 37,
        "decoder_ffn_dim": 37, "num_mel_bins": 16, "max_source_positions": 30,
        "max_target_positions": 64, "pad_token_id": 0, "bos_token_id": 0, "use_cache": False,
        "eos_token_id": 0, "decoder_start_token_id": 0},
        lambda: {"input_features": torch.randn(SAMPLES, 16, 60), "decoder_input_ids": ids()}),
    "informer": ("InformerModel", "InformerConfig", _FORECAST, forecast),
    "autoformer": ("AutoformerModel", "AutoformerConfig",
                   {**_FORECAST, "moving_average": 5, "label_length": 4}, forecast),
    "time-series-transformer": ("TimeSeriesTransformerModel",
                                "TimeSeriesTransformerConfig", _FORECAST, forecast),
    "focalnet": ("FocalNetForImageClassification", "FocalNetConfig", {
        "image_size": 32, "embed_dim": 16, "depths": [1, 1], "focal_levels": [1, 1],
        "focal_windows": [3, 3], "hidden_sizes": [16, 32], "num_labels": 3}, image()),
    "levit": ("LevitForImageClassification", "LevitConfig", {
        "image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4],
        "depths": [1, 1, 1], "key_dim": [8, 8, 8], "num_labels": 3}, image(64)),
    "cvt": ("CvtForImageClassification", "CvtConfig", {
        "embed_dim": [8, 16, 16], "num_heads": [1, 2, 2], "depth": [1, 2, 3], "num_labels": 3},
        image(64)),
    "dpt": ("DPTForDepthEstimation", "DPTConfig", {
        **_VISION, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16, "is_hybrid": False,
        "reassemble_factors": [4, 2, 1, 0.5]}, image()),
    "videomae": ("VideoMAEForVideoClassification", "VideoMAEConfig",
                 {**_VISION, "num_frames": 4, "tubelet_size": 2},
                 lambda: {"pixel_values": torch.randn(SAMPLES, 4, 3, 32, 32)}),
    "mobilevit-v2": ("MobileViTV2ForImageClassification", "MobileViTV2Config",
                     {"image_size": 64, "width_multiplier": 0.25, "num_labels": 3}, image(64)),
    "upernet": ("UperNetForSemanticSegmentation", "UperNetConfig", {
        "backbone_config": "resnet", "hidden_size": 16, "pool_scales": [1, 2],
        "auxiliary_in_channels": 8, "use_auxiliary_head": False, "num_labels": 3}, image(64)),
    "rt-detr": ("RTDetrForObjectDetection", "RTDetrConfig", {
        "backbone_config": "rt-detr-resnet", "use_pretrained_backbone": False, "d_model": 32,
        "encoder_hidden_dim": 32, "encoder_in_channels": [16, 16, 32], "encoder_ffn_dim": 37,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_ffn_dim": 37,
        "decoder_in_channels": [32, 32, 32], "num_queries": 5, "decoder_layers": 1,
        "num_denoising": 0, "num_labels": 3, "encode_proj_layers": [2]}, image(64)),
    "decision-transformer": ("DecisionTransformerModel", "DecisionTransformerConfig", {
        "state_dim": 5, "act_dim": 3, "hidden_size": 32, "n_layer": 2, "n_head": 4,
        "max_ep_len": 64, "n_positions": 64},
        lambda: {"states": torch.randn(SAMPLES, 6, 5), "actions": torch.randn(SAMPLES, 6, 3),
                 "rewards": torch.randn(SAMPLES, 6, 1),
                 "returns_to_go": torch.randn(SAMPLES, 6, 1),
                 "timesteps": torch.arange(6).repeat(SAMPLES, 1),
                 "attention_mask": torch.ones(SAMPLES, 6)}),
}  # fmt: skip
