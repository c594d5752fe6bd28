"""What is wrong with splits as a whole: samples in two of them, NaN, other data at each call."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...recipe.errors import InputError
from .calling import call_model
from .fetching import Fetcher, Part, fields, place_of
from .splits import Seen, Splits, batches, bytes_of, look_through, split_name

#: How long a split besides test is looked at (s).
LOOKING = 20.0
#: Samples of the test split that are compared between two calls of the factory.
_COMPARED = 64


def look_at_all(splits: Splits) -> tuple[dict[str, Seen], int]:
    """What is in each split, and how many of train's samples are also in test.

    Raises:
        InputError: A sample can't be read, a target is NaN, or a validation or calibration split of
            the factory's shares samples with test.
    """
    seen = {"test": look_through("test", splits.test)}
    for name in sorted(splits.given):
        seen[name] = look_through(name, getattr(splits, name))
        shared = len(seen[name].digests & seen["test"].digests)
        if shared:
            raise InputError(
                f"{shared} samples of the {name} split are also in the test split",
                where=f"data.factory: Data.{name}",
                do=f"remove them, or omit {name}: it is then taken from train",
            )
    if isinstance(splits.validation, Part):
        seen["validation"] = look_through("train", splits.validation, LOOKING)
    seen["train"] = look_through("train", splits.head, LOOKING)
    return seen, len(seen["train"].digests & seen["test"].digests)


def check_finite(model: torch.nn.Module, splits: Splits, seen: Mapping[str, Seen]) -> None:
    """Refuse a sample with NaN, if the model makes NaN of it.

    Raises:
        InputError: With split, index and field.
    """
    model.eval()
    for name, looked_at in seen.items():
        if looked_at.not_finite is None:
            continue
        index, part = looked_at.not_finite
        dataset = splits.head if name == "train" else getattr(splits, name)
        inputs, _ = next(batches(splits, dataset, [[index]]))
        with torch.no_grad():
            outputs = call_model(model, inputs)
        if not outputs.isfinite().all():
            raise InputError(
                f"sample {place_of(dataset, index)} has NaN in {part}, and the model's output for "
                "it is not finite",
                where=f"data.factory: Data.{split_name(splits, dataset)}",
                do="remove the sample, fill in a number, or let the model take NaN",
            )


def check_repeats(splits: Splits, again: Splits) -> list[str]:
    """Refuse a factory that returns other data at another call: what one step trains on would be
    another's test.

    Args:
        splits: Of the first call.
        again: Of the second.

    Returns:
        Notes on inputs that differ, as of random transforms.

    Raises:
        InputError: With the split.
    """
    do = "let it return the same data at each call, by a seed of its own"
    for name in ("train", "validation", "calibration", "test"):
        counts = [len(getattr(which, name)) for which in (splits, again)]
        if counts[0] != counts[1]:
            raise InputError(
                f"the factory gave {counts[0]} samples at one call and {counts[1]} at the next",
                where=f"data.factory: Data.{split_name(splits, getattr(splits, name))}",
                do=do,
            )
    readers = [Fetcher(which.test, None, "test") for which in (splits, again)]
    changed = ""
    for index in range(min(_COMPARED, len(splits.test))):
        pairs = zip(*(fields(reader.sample(index)) for reader in readers), strict=False)
        for (part, value), (_, other) in pairs:
            if bytes_of(value) == bytes_of(other):
                continue
            if part.startswith("the target"):
                raise InputError(
                    f"the factory gave sample {index} another {part.removeprefix('the ')} at "
                    "the next call",
                    where="data.factory: Data.test",
                    do=do,
                )
            changed = changed or f"sample {index} differs in {part}"
    if not changed:
        return []
    return [f"the test split is another at each call ({changed}): measured quality varies with it"]
