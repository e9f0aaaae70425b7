"""Runs that show a training while it happens: one for each candidate, of which the chosen one becomes the cell's."""

import time
from collections import defaultdict

from mlflow import MlflowClient

from thaw.params import Params
from thaw.paths import Cell
from thaw.tracking.content import NOTE, curve_points, live_content
from thaw.tracking.runs import delete_interrupted, log_points, start
from thaw.tracking.saved_view import save_view
from thaw.training.live_jsonl import LiveLine, LiveReader
from thaw.training.provenance import describe_provenance
from thaw.utils.dvc_lock import read_dvc_lock
from thaw.utils.words import count


class LiveRuns:
    """The runs of one training, by candidate."""

    def __init__(self, client: MlflowClient, experiment_id: str, cell: Cell, params: Params) -> None:
        self._client, self._experiment_id, self._cell, self._params = client, experiment_id, cell, params
        self._reader = LiveReader(path=cell.live)
        self._provenance = describe_provenance()
        self.run_ids: dict[int, str] = {}
        self.rows: dict[int, int] = defaultdict(int)
        """How many rows of its history a candidate's run shows."""

        self._notes: dict[int, str] = {}
        delete_interrupted(client, experiment_id, cell=cell)
        # Under the parent run of the last report this training is not.
        save_view(client, experiment_id, parent=None, saved_ms=round(time.time() * 1000))

    def update(self) -> None:
        """Show what is new: at most one batch of metrics for each candidate."""
        lines: dict[int, list[LiveLine]] = defaultdict(list)
        for line in self._reader.read_new():
            lines[line.candidate].append(line)
        for candidate, new in lines.items():
            run_id = self._run_of(candidate)
            epochs = [(epoch, round(line.unix_s * 1000)) for line in new for epoch in line.epochs]
            log_points(
                self._client,
                run_id,
                curve_points([epoch for epoch, _ in epochs], [at for _, at in epochs], first=self.rows[candidate]),
            )
            self.rows[candidate] += len(epochs)
            self._client.set_tag(run_id, NOTE, f"{self._notes[candidate]}\n\n{_say_where(new[-1])}")

    def keep(self, candidate: int) -> None:
        """Delete all others."""
        for number in self.run_ids.keys() - {candidate}:
            self._client.delete_run(self.run_ids[number])

    def interrupt(self) -> None:
        """Say that the training has ended before its time; the next one of this cell starts anew."""
        for run_id in self.run_ids.values():
            self._client.set_terminated(run_id, "KILLED")

    def _run_of(self, candidate: int) -> str:
        if candidate not in self.run_ids:
            content = live_content(
                self._cell,
                params=self._params,
                stages=read_dvc_lock(),
                candidate=candidate,
                provenance=self._provenance,
            )
            self.run_ids[candidate] = start(self._client, self._experiment_id, content)
            self._notes[candidate] = content.tags[NOTE]
        return self.run_ids[candidate]


def _say_where(line: LiveLine) -> str:
    return f"Now in phase {line.phase + 1}, epoch {line.epoch}, {count(line.images, 'image')} learnt from in it."
