"""A format of splits: a Parquet file by its path. One column holds lists of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from prefect_hone import Data, InputError, SplitFormat
from prefect_hone.ray_workers.data.split_format import Rows


class Parquet(SplitFormat):
    name = "the path of a Parquet file"

    def claims(self, split: Any) -> bool:
        return isinstance(split, str | Path) and str(split).endswith(".parquet")

    def read(self, splits: dict[str, Any], data: Data) -> dict[str, Any]:
        import pyarrow.parquet as pq

        read: dict[str, Any] = {}
        for name, path in splits.items():
            table = pq.read_table(path)
            missing = [c for c in (data.inputs, data.target) if c not in table.column_names]
            if missing:
                raise InputError(
                    f"{path} has no column '{missing[0]}'", where=f"data.factory: Data.{name}"
                )
            x = np.array(table[data.inputs].to_pylist(), dtype=np.float32)
            y = np.array(table[data.target].to_pylist(), dtype=np.int64)
            read[name] = Rows({data.inputs: x, data.target: y}, data.inputs, data.target)
        return read
