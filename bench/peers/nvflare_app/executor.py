"""What a client of NVFlare does at its fastest: an Executor in place of a script of its Client API,
which looks for a model, and for the script's answer, every half second."""

from __future__ import annotations

import time
from pathlib import Path

from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal


class ReturnWhatCame(Executor):
    """Answers each task with the weights that came with it; the first client notes the times."""

    def __init__(self, marks: str) -> None:
        """marks: a file, to which a line is added for each task."""
        super().__init__()
        self._marks = marks

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        if fl_ctx.get_identity_name() == "site-1":
            with Path(self._marks).open("a") as file:
                file.write(f"{time.time()}\n")
        weights = from_shareable(shareable).data
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}
        answer: Shareable = DXO(DataKind.WEIGHTS, weights, meta).to_shareable()
        return answer
