"""Archives unpack to what they hold, or are refused with one sentence: nothing half, nothing outside the folder.

Run with `pytest tests/ingest/test_unpack.py`.
"""

import gzip
import io
import random
import resource
import signal
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from thaw.errors import DataError
from thaw.ingest.unpack import unpack_archive
from thaw.params import UnzipParams, load_params
from thaw.utils.atomic import partial_path

LIMITS = UnzipParams(max_files=50, max_bytes=1_000_000, max_ratio=100)
NOISE = random.Random(0).randbytes(3000)
FILES = {"PetImages/Cat/0.jpg": NOISE, "PetImages/Cat/empty.jpg": b"", "PetImages/Dog/1.jpg": b"dog" * 200}

Files = Mapping[str, bytes] | list[tuple[str, bytes]]
"""Contents by name; a list where a name comes twice."""
Maker = Callable[[Files], bytes]


def make_zip(files: Files) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            # Not by name: ZipFile would straighten it.
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(info, content)
    return packed.getvalue()


def make_tar(files: Files) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4777
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


both_kinds = pytest.mark.parametrize("make", [make_zip, make_tar])


def read_folder(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(tmp_path: Path, content: bytes, limits: UnzipParams = LIMITS) -> dict[str, bytes]:
    (tmp_path / "archive").write_bytes(content)
    unpack_archive(tmp_path / "archive", tmp_path / "out" / "images", limits=limits)
    return read_folder(tmp_path / "out" / "images")


def refusal(tmp_path: Path, content: bytes, limits: UnzipParams = LIMITS) -> str:
    with pytest.raises(DataError) as caught:
        unpack(tmp_path, content, limits)
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "out"}
    assert list((tmp_path / "out").glob("*")) == []
    sentence = str(caught.value)
    assert str(tmp_path / "archive") in sentence
    assert "\n" not in sentence
    return sentence


@both_kinds
def test_files_are_unpacked_with_plain_permissions(tmp_path: Path, make: Maker) -> None:
    assert unpack(tmp_path, make(FILES)) == FILES
    modes = {path.stat().st_mode & 0o7111 for path in (tmp_path / "out").rglob("*.jpg")}
    assert modes == {0}


@both_kinds
def test_an_earlier_folder_is_replaced_as_a_whole(tmp_path: Path, make: Maker) -> None:
    unpack(tmp_path, make({"a/old.jpg": b"old"}))
    assert unpack(tmp_path, make(FILES)) == FILES


def test_an_earlier_folder_survives_a_refusal(tmp_path: Path) -> None:
    unpack(tmp_path, make_zip(FILES))
    with pytest.raises(DataError):
        unpack(tmp_path, make_zip(FILES)[:-10])
    assert read_folder(tmp_path / "out" / "images") == FILES
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images"]


@both_kinds
def test_harmless_oddities_are_fine(tmp_path: Path, make: Maker) -> None:
    odd = {"./a/readme[1].txt": b"x", "a//MSR-LA - 3467.docx": b"y", "a/.hidden": b"z", "a/Ünï-猫.jpg": b"u"}
    assert unpack(tmp_path, make(odd)) == {
        "a/readme[1].txt": b"x",
        "a/MSR-LA - 3467.docx": b"y",
        "a/.hidden": b"z",
        "a/Ünï-猫.jpg": b"u",
    }


@both_kinds
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("../evil.jpg", "leads out"),
        ("a/../../evil.jpg", "leads out"),
        ("/etc/evil.jpg", "absolute"),
        ("//server/evil.jpg", "absolute"),
        ("C:/evil.jpg", "drive letter"),
        ("C:evil.jpg", "drive letter"),
        ("a\\..\\..\\evil.jpg", "backslash"),
        ("a/new\nline.jpg", "control character"),
        ("a/" + "x" * 256, "too long"),
        ("a/" + "猫" * 100, "too long"),
        ("a/" * 600 + "x.jpg", "too long"),
    ],
)
def test_names_that_lead_astray_are_refused(tmp_path: Path, make: Maker, name: str, complaint: str) -> None:
    sentence = refusal(tmp_path, make({"a/good.jpg": b"good", name: b"evil"}))
    assert complaint in sentence
    assert repr(name) in sentence


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    packed = make_zip({"a/evil.jpg~.txt": b"evil"}).replace(b"evil.jpg~", b"evil.jpg\0")
    assert "control character" in refusal(tmp_path, packed)
    assert "control character" in refusal(tmp_path, make_zip({"~": b"evil"}).replace(b"~", b"\0"))


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    plain = gzip.decompress(make_tar({"a/evil.jpg": b"evil"}))
    broken = bytearray(plain)
    broken[2] = 0xFF
    checksum = sum(broken[:148]) + 8 * 32 + sum(broken[156:512])
    broken[148:156] = b"%06o\0 " % checksum
    assert "not UTF-8" in refusal(tmp_path, gzip.compress(bytes(broken)))


@both_kinds
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/x.jpg", "a/x.jpg"),
        ("a/x.jpg", "a/./x.jpg"),
        ("a/x.jpg", "a/X.JPG"),
        ("Cat/x.jpg", "cat/y.jpg"),
        ("a/caf\u00e9.jpg", "a/cafe\u0301.jpg"),
        ("a/x", "a/x/y.jpg"),
        ("a/x/y.jpg", "a/x"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_paths_that_collide_are_refused(tmp_path: Path, make: Maker, first: str, second: str) -> None:
    assert "overwrite each other" in refusal(tmp_path, make([(first, b"1"), (second, b"2")]))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = zipfile.ZipInfo("a/link.jpg")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    expected = "is a link" if kind == stat.S_IFLNK else "is a special file"
    assert expected in refusal(tmp_path, packed.getvalue())


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("a/link.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    expected = "is a link" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else "is a special file"
    assert expected in refusal(tmp_path, packed.getvalue())


@both_kinds
def test_a_bomb_is_stopped_while_it_goes_off(tmp_path: Path, make: Maker) -> None:
    bomb = make({"a/bomb.jpg": bytes(900_000)})
    assert len(bomb) * LIMITS.max_ratio < 900_000
    assert "unzip.max_ratio" in refusal(tmp_path, bomb)


@both_kinds
def test_more_bytes_than_allowed_are_refused(tmp_path: Path, make: Maker) -> None:
    noise = {f"a/{index}.jpg": random.Random(index).randbytes(600_000) for index in range(2)}
    sentence = refusal(tmp_path, make(noise))
    assert "unzip.max_bytes" in sentence
    assert "'a/1.jpg'" in sentence


def test_a_bomb_whose_headers_lie_is_stopped(tmp_path: Path) -> None:
    """Sizes in headers are not believed: this one says 10 bytes and inflates to a megabyte."""
    size = (1_000_000).to_bytes(4, "little")
    lying = make_zip({"a/bomb.jpg": bytes(1_000_000)}).replace(size, (10).to_bytes(4, "little"))
    assert "'a/bomb.jpg'" in refusal(tmp_path, lying)


def test_a_giant_header_in_a_tar_is_not_read_into_memory(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    assert "a header of 8589934592 bytes" in refusal(tmp_path, gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))


def test_a_tar_that_runs_backwards_ends(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a/x.jpg")
    info.size = -1024
    assert "a negative size" in refusal(tmp_path, gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))


@both_kinds
def test_too_many_files_are_refused(tmp_path: Path, make: Maker) -> None:
    many = {f"a/{index}.jpg": b"" for index in range(51)}
    assert "more than 50 entries (unzip.max_files)" in refusal(tmp_path, make(many))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    packed = bytearray(make_zip(FILES))
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    assert "is encrypted (its member 'PetImages/Cat/0.jpg' is)" in refusal(tmp_path, bytes(packed))


def test_an_unusual_method_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a/x.jpg", NOISE)
    assert "method 14" in refusal(tmp_path, packed.getvalue())


def test_a_wrong_checksum_names_the_member(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    flipped = packed.getvalue().replace(NOISE, NOISE[:-1] + bytes([NOISE[-1] ^ 1]))
    assert "'PetImages/Cat/0.jpg' (Bad CRC-32" in refusal(tmp_path, flipped)


def test_the_checksum_at_the_end_of_a_tar_is_compared(tmp_path: Path) -> None:
    # Large enough for the end to lie beyond what tarfile reads.
    packed = bytearray(make_tar({"a/x.jpg": NOISE}) + gzip.compress(bytes(100_000)))
    assert unpack(tmp_path, bytes(packed)) == {"a/x.jpg": NOISE}
    packed[-8] ^= 1
    with pytest.raises(DataError, match="CRC check failed"):
        unpack(tmp_path, bytes(packed))


@both_kinds
def test_an_archive_cut_anywhere_is_refused(tmp_path: Path, make: Maker) -> None:
    whole = make(FILES)
    for length in range(0, len(whole), 97):
        refusal(tmp_path, whole[:length])


def test_a_tar_that_was_cut_before_it_was_compressed_is_refused(tmp_path: Path) -> None:
    plain = gzip.decompress(make_tar(FILES))
    end = 512 + 3072 + 512 + 512 + 1024  # three headers, and contents in blocks of 512 bytes
    for length in (512, 1000, 3584, 3600, 4096, 4608, 5000, end):
        refusal(tmp_path, gzip.compress(plain[:length]))
    assert unpack(tmp_path, gzip.compress(plain[: end + 1024])) == FILES


@both_kinds
def test_an_archive_without_files_is_refused(tmp_path: Path, make: Maker) -> None:
    assert "holds no file" in refusal(tmp_path, make({}))


@both_kinds
def test_an_archive_of_archives_is_refused(tmp_path: Path, make: Maker) -> None:
    sentence = refusal(tmp_path, make({"train.zip": b"PK", "test.zip": b"PK"}))
    assert "holds only other archives ('train.zip' first)" in sentence


def test_a_disk_without_room_is_noticed_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    (tmp_path / "archive").write_bytes(make_zip(FILES))
    with pytest.raises(DataError, match="10 bytes free, but 3,600 are needed"):
        unpack_archive(tmp_path / "archive", tmp_path / "out" / "images", limits=LIMITS)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_refuses_a_write_is_one_sentence(tmp_path: Path) -> None:
    """The kernel's limit on the size of files stands in for a disk that fills up half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    archive = make_zip({"a/big.jpg": NOISE * 100})
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (tmp_path / "archive").write_bytes(archive)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(DataError, match=r"big\.jpg cannot be written \(File too large\)"):
            unpack_archive(tmp_path / "archive", tmp_path / "out" / "images", limits=LIMITS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_archive_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone does not exist"):
        unpack_archive(tmp_path / "gone", tmp_path / "out", limits=LIMITS)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data(), make=st.sampled_from([make_zip, make_tar]))
def test_mutated_archives_unpack_rightly_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, make: Maker
) -> None:
    tmp_path = tmp_path_factory.mktemp("mutated")
    files = {"Cat/0.jpg": NOISE[:60], "Dog/1.jpg": b"dog" * 9}
    mutated = bytearray(make(files))
    if make is make_tar and data.draw(st.booleans(), label="under gzip's checksum"):
        mutated = bytearray(gzip.decompress(mutated)[:4096])
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(mutated) - 1), st.integers(0, 255)), max_size=5), label="mutations"
    ):
        mutated[place] = value
    if make is make_tar and mutated[:2] != b"\x1f\x8b":
        mutated = bytearray(gzip.compress(mutated))
    try:
        found = unpack(tmp_path, bytes(mutated))
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 - the right content is as good an outcome
        assert list((tmp_path / "out").glob("*")) == []
    else:
        # A name has no checksum in a zip, and one that can be met by chance in a tar: contents have better ones.
        if make is make_zip:
            assert set(found.values()) <= {NOISE[:60], b"dog" * 9}
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "out"}


def test_kill_9_in_the_middle_leaves_nothing_that_looks_done(tmp_path: Path) -> None:
    many = {f"a/{index}.jpg": NOISE for index in range(3000)}
    (tmp_path / "archive").write_bytes(make_zip(many))
    code = (
        "import sys; from pathlib import Path; from thaw.ingest.unpack import unpack_archive; "
        "from thaw.params import load_params; "
        "unpack_archive(Path(sys.argv[1]), Path(sys.argv[2]), limits=load_params(Path(sys.argv[3])).unzip)"
    )
    folder = tmp_path / "out" / "images"
    params = ROOT / "params.yaml"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "archive"), str(folder), str(params)], stderr=subprocess.PIPE
    ) as victim:
        while victim.poll() is None and not (partial_path(folder) / "a" / "99.jpg").exists():
            time.sleep(0.001)
        victim.kill()
        victim.wait()
    assert victim.returncode == -signal.SIGKILL
    assert not folder.exists()
    unpack_archive(tmp_path / "archive", folder, limits=load_params(params).unzip)
    assert read_folder(folder) == many
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images"]


def test_the_real_photos(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "cats_vs_dogs_2002.zip"
    unpack_archive(archive, tmp_path / "images", limits=load_params().unzip)
    with zipfile.ZipFile(archive) as package:
        expected = {info.filename: package.read(info) for info in package.infolist() if not info.is_dir()}
    assert read_folder(tmp_path / "images") == expected
