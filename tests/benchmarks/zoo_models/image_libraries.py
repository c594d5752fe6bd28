"""Architectures of timm and torchvision, which are installed for this benchmark only."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from zoo_inputs import SAMPLES

#: timm's name, and the options with which it takes images of 64 pixels.
TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "timm-vit": ("test_vit", {"img_size": 64}),
    "timm-vit-relpos": ("test_vit_relpos", {"img_size": 64}),
    "timm-resnet": ("test_resnet", {}),
    "timm-byobnet": ("test_byobnet", {}),
    "timm-convnext": ("test_convnext", {}),
    "timm-efficientnet": ("test_efficientnet", {}),
    "timm-mambaout": ("test_mambaout", {}),
    "timm-nfnet": ("test_nfnet", {}),
    "timm-maxvit": ("test_maxvit", {"img_size": 64}),
    "timm-mobilenetv3": ("mobilenetv3_small_050", {}),
    "timm-lcnet": ("lcnet_035", {}),
    "timm-ghostnet": ("ghostnet_050", {}),
    "timm-mobilevit": ("mobilevit_xxs", {}),
    "timm-edgenext": ("edgenext_xx_small", {}),
    "timm-efficientvit": ("efficientvit_b0", {}),
}
#: torchvision's function and its options.
TORCHVISION: dict[str, tuple[str, dict[str, Any]]] = {
    "torchvision-squeezenet": ("squeezenet1_1", {}),
    "torchvision-shufflenet": ("shufflenet_v2_x0_5", {}),
    "torchvision-mobilenet": ("mobilenet_v3_small", {}),
    "torchvision-mnasnet": ("mnasnet0_5", {}),
    "torchvision-regnet": ("regnet_y_400mf", {}),
    "torchvision-vit": ("VisionTransformer", {
        "image_size": 64, "patch_size": 16, "num_layers": 2, "num_heads": 2, "hidden_dim": 32,
        "mlp_dim": 64}),
    "torchvision-swin": ("SwinTransformer", {
        "patch_size": [4, 4], "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2],
        "window_size": [4, 4]}),
    "torchvision-lraspp": ("segmentation.lraspp_mobilenet_v3_large", {"weights_backbone": None}),
}  # fmt: skip


def images() -> torch.Tensor:
    """Images (N, 3, 64, 64)."""
    return torch.randn(SAMPLES, 3, 64, 64)


def import_torchvision() -> Any:
    """torchvision, also where its build is for another build of torch: its models need no
    operators of its own.
    """
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(
                f"torchvision::{name}",
                "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            )
    import torchvision

    return torchvision


def image_model(name: str) -> nn.Module:
    """An architecture with three classes.

    Raises:
        ModuleNotFoundError: Its library is not installed.
    """
    torchvision = import_torchvision()
    if name in TIMM:
        import timm

        kind, options = TIMM[name]
        made: nn.Module = timm.create_model(kind, num_classes=3, **options)
        return made
    kind, options = TORCHVISION[name]
    home = torchvision.models
    *folders, kind = kind.split(".")
    for folder in folders:
        home = getattr(home, folder)
    built: nn.Module = getattr(home, kind)(num_classes=3, **options)
    return built
