"""What is looked at besides quality and speed, each part with its switch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .strict import Strict

#: What an input is, for corruptions and explanations.
InputKind = Literal["images", "tokens", "features"]

#: What can be turned off, as a recipe names it, and what a report calls it.
SWITCHES: dict[str, str] = {
    "robustness": "quality under corrupted inputs",
    "explanation": "what the answers depend on",
    "layer_parity": "parity layer by layer",
    "flips": "flipped answers",
    "groups": "quality by group",
}


class Proofs(Strict):
    """What is looked at besides quality and speed. What is off is told as 'not looked at'."""

    robustness: bool = Field(
        True,
        description="Quality under corrupted inputs at three strengths, of the trained model and "
        "of each candidate: noise, blur and contrast of images; dropped and replaced tokens; noise "
        "on features.",
    )
    explanation: bool = Field(
        True,
        description="What answers depend on, by occlusion through the runtime: how far each "
        "candidate agrees with the trained model.",
    )
    layer_parity: bool = Field(
        True, description="Where along the graph a compressed candidate departs."
    )
    flips: bool = Field(
        True, description="Answers that flipped, and agreement with the trained model's answers."
    )
    groups: bool = Field(True, description="Quality by group, if `quality.groups` names any.")
    kind: Literal["auto"] | InputKind = Field(
        "auto",
        description="What the input is, for robustness and explanation. 'auto': 4-D floats (and "
        "uint8) are images, 2-D integers tokens, 2-D floats features. 'features' takes floats of "
        "any shape.",
    )
    input: str | None = Field(
        None,
        description="Name of the input that is corrupted and occluded; default: the only one that "
        "is of that kind.",
    )
    padding_token: int | None = Field(
        None,
        ge=0,
        description="Token that stands for nothing (padding or mask): it takes the place of "
        "dropped and occluded tokens, and is itself left alone. Default: 0.",
    )
    corrupted_samples: int = Field(
        512,
        ge=1,
        description="At most so many samples of the test split are corrupted, evenly chosen (a "
        "count).",
    )
    explained_samples: int = Field(
        16, ge=1, description="At most so many samples are explained, evenly chosen (a count)."
    )
    show_samples: bool = Field(
        True,
        description="Whether the report shows a few samples of the test split (flipped ones, and "
        "those that were explained). Never if `registry.proof` keeps the data back.",
    )

    @property
    def of_inputs(self) -> bool:
        """Whether anything is on that changes inputs."""
        return self.robustness or self.explanation

    @property
    def is_asked(self) -> bool:
        """Whether it says itself what the input is, and so has to be right."""
        return self.kind != "auto" or self.input is not None or self.padding_token is not None

    def for_robustness(self) -> Proofs:
        """Only what the corruption of inputs depends on; the rest has its defaults."""
        return self._only("kind", "input", "padding_token", "corrupted_samples")

    def for_explanation(self) -> Proofs:
        """Only what explanations depend on; the rest has its defaults."""
        return self._only("kind", "input", "padding_token", "explained_samples", "show_samples")

    def for_input(self) -> Proofs:
        """Only what says which input is changed; the rest has its defaults."""
        return self._only("kind", "input", "padding_token")

    def _only(self, *fields: str) -> Proofs:
        return Proofs.model_validate(self.model_dump(include=set(fields)))

    def off(self) -> tuple[str, ...]:
        """Names of what is turned off."""
        return tuple(name for name in SWITCHES if not getattr(self, name))
