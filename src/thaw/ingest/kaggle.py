"""A data set of Kaggle -> one archive file, by way of the official client."""

import contextlib
import io
import multiprocessing
from functools import partial
from pathlib import Path

import requests

from thaw.errors import DataError
from thaw.ingest.archive_reader import verify_archive
from thaw.ingest.download import Interrupted, Remote, download_file, wait_before_retry
from thaw.params import KaggleSource
from thaw.paths import DOWNLOADS

START_UP_S = 30.0
"""What the client may take to start, on top of the time-out."""
HOW_TO = (
    "make a token at https://www.kaggle.com/settings/api and put it into ~/.kaggle/access_token or the environment "
    "variable KAGGLE_API_TOKEN, or set data.source to microsoft, which needs none"
)


def fetch_kaggle(destination: Path, *, data: KaggleSource, partials: Path = DOWNLOADS) -> None:
    """Download the data set `data.kaggle_dataset` as one zip.

    The official client logs in and finds the file. The bytes then come through `download_file`, because the client
    compares nothing but the length. Kaggle publishes no hash, so the checksums inside the zip are compared.

    Raises:
        DataError: there is no token, Kaggle refuses it or does not answer, or the archive arrives damaged.
    """
    remote = _locate_patiently(data)
    download_file(
        remote,
        destination,
        timeout_s=data.timeout_s,
        attempts=data.attempts,
        check=partial(verify_archive, name=remote.shown),
        partials=partials,
    )


def _locate_patiently(data: KaggleSource) -> Remote:
    for failures in range(1, data.attempts + 1):
        try:
            return _locate(data.kaggle_dataset, limit_s=data.timeout_s + START_UP_S)
        except Interrupted as interruption:
            if failures == data.attempts:
                raise DataError(
                    f"Kaggle did not say where {data.kaggle_dataset} is ({interruption}, {failures} times in a row); "
                    "try again later, or set data.source to microsoft"
                ) from None
            wait_before_retry(failures)
    raise AssertionError("attempts is at least 1")


def _locate(dataset: str, *, limit_s: float) -> Remote:
    """Ask Kaggle where the archive is, in a process of its own, which is ended after `limit_s` seconds.

    The client has no time-out, already talks to the network while it is imported, and prints and exits as it likes.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            return pool.apply_async(ask_kaggle, (dataset,)).get(limit_s)
        except multiprocessing.TimeoutError:
            raise Interrupted(f"it was silent for {limit_s:g} s") from None


def ask_kaggle(dataset: str) -> Remote:
    """Log in, and ask for the download of `dataset` (owner/name); runs in a process of its own.

    Raises:
        DataError: Kaggle refuses.
        Interrupted: Kaggle cannot be reached now.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            response = _request_download(dataset)
        except SystemExit:  # the client's way to say that it found no token, or an expired one
            raise DataError(f"Kaggle's client found no valid token; {HOW_TO}") from None
        except requests.HTTPError as error:
            raise explain_refusal(dataset, error) from None
        except requests.RequestException as error:
            raise Interrupted(f"the connection failed: {type(error).__name__}") from None
    response.close()  # the body comes through `download_file`
    # requests has dropped the token from the headers if the file lies on another host, as it does at Kaggle.
    token = {name: value for name, value in response.request.headers.items() if name == "Authorization"}
    return Remote(url=response.url, headers=token, key=f"kaggle:{dataset}")


def _request_download(dataset: str) -> requests.Response:
    """The first four lines of KaggleApi.dataset_download_files (kaggle 2.2.4)."""
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    api = KaggleApi()
    api.authenticate()
    with api.build_kaggle_client() as client:
        request = ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug = dataset.split("/")
        response: requests.Response = client.datasets.dataset_api_client.download_dataset(request)
    return response


def explain_refusal(dataset: str, error: requests.HTTPError) -> DataError | Interrupted:
    """Whether a refusal by Kaggle may pass, and what to do about one that will not."""
    status = error.response.status_code
    if status == 429 or status >= 500:
        return Interrupted(f"it answered {status}")
    if status == 404:
        return DataError(f"Kaggle has no data set {dataset} (404); correct data.kaggle_dataset in params.yaml")
    return DataError(f"Kaggle refused {dataset} ({status}: {error}); {HOW_TO}")
