"""dvc.lock is read whole, though DVC writes it in place while other stages run.

Run with: pytest tests/utils/test_dvc_lock.py
"""

import threading
import time
from pathlib import Path

import pytest
from dvc.lock import Lock

from thaw.errors import DataError
from thaw.training.provenance import IMAGES_MD5, describe_provenance
from thaw.utils import dvc_lock
from thaw.utils.dvc_lock import LOCK, read_dvc_lock

HALF = "stages:\n  clean:\n    outs: [{path: data/clean/images.zip, md5: abc}]\n"
WHOLE = f"{HALF}  split: {{}}\n"


@pytest.fixture
def dvcs_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """DVC's own lock of the project in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path(".dvc/tmp").mkdir(parents=True)
    return Lock(".dvc/tmp/lock", tmp_dir=".dvc/tmp")


def test_a_reader_waits_while_dvc_writes(dvcs_lock: Lock) -> None:
    begun = threading.Event()

    def write() -> None:
        with dvcs_lock:
            LOCK.write_text(HALF)
            begun.set()
            time.sleep(0.3)
            LOCK.write_text(WHOLE)

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    assert read_dvc_lock().keys() == {"clean", "split"}
    writer.join()
    with dvcs_lock:  # no reader has kept it
        LOCK.write_text(HALF)


def test_a_dvc_that_is_stopped_holds_no_reader_up_for_ever(dvcs_lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    LOCK.write_text(WHOLE)
    monkeypatch.setattr(dvc_lock, "PATIENCE_S", 0.1)
    with dvcs_lock:
        assert read_dvc_lock().keys() == {"clean", "split"}


def test_conflicts_are_one_sentence_and_cost_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_dvc_lock() == {}
    LOCK.write_text(WHOLE)
    assert describe_provenance()[IMAGES_MD5] == "abc"
    LOCK.write_text(f"<<<<<<< HEAD\n{WHOLE}=======\n")
    with pytest.raises(DataError, match=r"dvc\.lock cannot be read.*resolve them"):
        read_dvc_lock()
    assert IMAGES_MD5 not in describe_provenance()
