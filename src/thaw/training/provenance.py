"""Whose work a training is: commit, user and data, under the names that MLflow's runs get as tags."""

import getpass
import subprocess
from contextlib import suppress

from thaw import paths
from thaw.errors import DataError
from thaw.utils.dvc_lock import hashes, locked_stage

IMAGES_MD5 = "dvc.images_md5"


def describe_provenance() -> dict[str, str]:
    """The commit of the code, who runs it, and DVC's hash of the images; what is not known is left out."""
    tags = {"mlflow.source.name": "stages/train.py", "mlflow.source.type": "LOCAL"}
    with suppress(KeyError, OSError):  # a container may run as a number without a name
        tags["mlflow.user"] = getpass.getuser()
    with suppress(OSError):  # and it may have no git
        tags |= _describe_commit()
    with suppress(DataError, KeyError):  # of a dvc.lock with conflicts DVC itself complains
        tags[IMAGES_MD5] = hashes(locked_stage("clean").get("outs"))[paths.IMAGES.as_posix()]
    return tags


def _describe_commit() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode != 0:
        return {}
    # DVC writes its lock at every stage: that is no change of a person's.
    status = ["git", "status", "--porcelain", "--", ".", ":(exclude)dvc.lock"]
    changed = subprocess.run(status, capture_output=True, text=True, check=False)
    return {
        "mlflow.source.git.commit": commit.stdout.strip(),
        "git.uncommitted_changes": str(bool(changed.stdout.strip())).lower(),
    }
