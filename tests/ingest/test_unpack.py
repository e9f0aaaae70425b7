"""Archives unpack to what they hold, or are refused with one sentence: nothing half, nothing outside the folder.

Run with `pytest tests/ingest/test_unpack.py`.
"""

import bz2
import gzip
import io
import lzma
import os
import random
import re
import resource
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT
from thaw.errors import DataError
from thaw.ingest.archive_reader import archive_kind
from thaw.ingest.unpack import unpack_archive
from thaw.params import UnzipParams
from thaw.params_file import load_params
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
    tmp_path.mkdir(exist_ok=True)
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


def unpack_odd(tmp_path: Path, content: bytes) -> tuple[dict[str, bytes], list[tuple[str, str, str]]]:
    """The files, and name, path and reason of each odd entry."""
    (tmp_path / "archive").write_bytes(content)
    odd = unpack_archive(tmp_path / "archive", tmp_path / "out" / "images", limits=LIMITS).odd
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "out"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["images"]
    return read_folder(tmp_path / "out" / "images"), [(entry.name, entry.path, entry.why) for entry in odd]


@both_kinds
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../evil.jpg", "leads out of the folder with '..'"),
        ("a/../../evil.jpg", "leads out of the folder with '..'"),
        ("a\\..\\..\\evil.jpg", "leads out of the folder with '..'"),
        ("/etc/evil.jpg", "an absolute path"),
        ("//server/evil.jpg", "an absolute path"),
        ("\\\\server\\evil.jpg", "an absolute path"),
        ("C:/evil.jpg", "starts with a drive letter"),
        ("C:\\evil.jpg", "starts with a drive letter"),
        ("C:evil.jpg", "starts with a drive letter"),
        ("a/" + "x" * 256, "has too long a name"),
        ("a/" + "猫" * 100, "has too long a name"),
        ("a/" * 600 + "x.jpg", "has too long a name"),
        (".", "has no name"),
    ],
)
def test_a_name_that_leads_astray_costs_that_entry(tmp_path: Path, make: Maker, name: str, why: str) -> None:
    files, odd = unpack_odd(tmp_path, make({"a/good.jpg": b"good", name: b"evil", "b/good.jpg": b"better"}))
    assert files == {"a/good.jpg": b"good", "b/good.jpg": b"better"}
    assert odd == [(name.replace("\\", "/"), "", why)]


@both_kinds
@pytest.mark.parametrize(
    ("name", "path", "why"),
    [
        ("Cat\\x.jpg", "Cat/x.jpg", "backslashes read as slashes"),
        ("a/new\nline.jpg", "a/new\u240aline.jpg", "a control character in its name"),
        ("a/Icon\r", "a/Icon\u240d", "a control character in its name"),
    ],
)
def test_a_name_that_cannot_be_written_everywhere_is_replaced(
    tmp_path: Path, make: Maker, name: str, path: str, why: str
) -> None:
    files, odd = unpack_odd(tmp_path, make({"a/good.jpg": b"good", name: b"odd"}))
    assert files == {"a/good.jpg": b"good", path: b"odd"}
    assert odd == [(path, path, why)]


def test_a_nul_in_a_name_is_replaced(tmp_path: Path) -> None:
    packed = make_zip({"a/evil.jpg~.txt": b"evil"}).replace(b"evil.jpg~", b"evil.jpg\0")
    assert unpack_odd(tmp_path, packed)[0] == {"a/evil.jpg\u2400.txt": b"evil"}


def test_a_name_in_a_tar_that_is_not_utf8_is_read_as_windows_has_it(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.GNU_FORMAT, encoding="cp1252") as archive:
        archive.addfile(tarfile.TarInfo("K\u00e4tzchen \u20ac/1.jpg"))
    files, odd = unpack_odd(tmp_path, packed.getvalue())
    assert list(files) == ["K\u00e4tzchen \u20ac/1.jpg"]
    assert [why for _, _, why in odd] == ["a name that is not UTF-8"]


def zip_with_raw_names(names: list[tuple[bytes, bytes]]) -> bytes:
    """A zip whose names are these bytes, without the flag for UTF-8; each with the extra field that it has."""
    packed = io.BytesIO()
    placeholder = "{:0{}}"
    with zipfile.ZipFile(packed, "w") as archive:
        for number, (name, extra) in enumerate(names, start=1):
            info = zipfile.ZipInfo(placeholder.format(number, len(name)))
            info.extra = extra
            archive.writestr(info, b"%d" % number)
    content = packed.getvalue()
    for number, (name, _) in enumerate(names, start=1):
        content = content.replace(placeholder.format(number, len(name)).encode(), name)
    return content


def unicode_path(raw: bytes, name: str) -> bytes:
    """The extra field 0x7075."""
    field = struct.pack("<BL", 1, zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


@pytest.mark.parametrize(
    ("raw", "extra", "name"),
    [
        ("Ka\u0308tzchen/1.jpg".encode(), b"", "Ka\u0308tzchen/1.jpg"),  # as Finder writes
        ("猫猫/1.jpg".encode(), b"", "猫猫/1.jpg"),
        (b"__a/1.jpg", unicode_path(b"__a/1.jpg", "猫/1.jpg"), "猫/1.jpg"),
        (b"__b/1.jpg", unicode_path(b"another", "犬/1.jpg"), "__b/1.jpg"),  # the field is of an earlier name
        (b"__c/1.jpg", struct.pack("<HHB", 0x7075, 1, 1), "__c/1.jpg"),
        ("K\u00e4tzchen/1.jpg".encode("cp437"), b"", "K\u00e4tzchen/1.jpg"),
    ],
)
def test_names_in_a_zip_come_out_as_they_were_meant(tmp_path: Path, raw: bytes, extra: bytes, name: str) -> None:
    files, odd = unpack_odd(tmp_path, zip_with_raw_names([(raw, extra)]))
    assert files == {name: b"1"}
    assert odd == []


def test_a_name_that_is_flagged_as_utf8_and_is_not_costs_one_name(tmp_path: Path) -> None:
    content = bytearray(zip_with_raw_names([(b"Cat/1.jpg", b""), (b"K\xe4tzchen/2.jpg", b""), (b"Dog/3.jpg", b"")]))
    for header, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(header), bytes(content)):
            content[found.start() + flags_at + 1] |= 0x08
    files, odd = unpack_odd(tmp_path, bytes(content))
    assert files == {"Cat/1.jpg": b"1", "K\u00e4tzchen/2.jpg": b"2", "Dog/3.jpg": b"3"}
    assert odd == [("K\u00e4tzchen/2.jpg", "K\u00e4tzchen/2.jpg", "a name that is not UTF-8")]


@both_kinds
@pytest.mark.parametrize(
    ("first", "second", "free"),
    [
        ("a/x.jpg", "a/x.jpg", "a/x (2).jpg"),
        ("a/x.jpg", "a/./x.jpg", "a/x (2).jpg"),
        ("a/x.jpg", "a/X.JPG", "a/X (2).JPG"),
        ("Cat/x.jpg", "cat/y.jpg", "Cat/y.jpg"),
        ("a/caf\u00e9.jpg", "a/cafe\u0301.jpg", "a/cafe\u0301 (2).jpg"),
        ("a/x", "a/x/y.jpg", "a/x (2)/y.jpg"),
        ("a/x/y.jpg", "a/x", "a/x (2)"),
        ("a/" + "x" * 251 + ".jpg", "a/" + "X" * 251 + ".jpg", "a/" + "X" * 215 + " (2).jpg"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_names_that_collide_the_later_gets_another(
    tmp_path: Path, make: Maker, first: str, second: str, free: str
) -> None:
    files, odd = unpack_odd(tmp_path, make([(first, b"1"), (second, b"2"), ("z.jpg", b"3")]))
    assert files == {first: b"1", free: b"2", "z.jpg": b"3"}
    assert odd == [(second, free, "another entry has this name (upper and lower case and Unicode form do not count)")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_many_entries_of_one_name_are_numbered(tmp_path: Path) -> None:
    files, _ = unpack_odd(tmp_path, make_tar([("a (2).jpg", b"0")] + [("a.jpg", b"%d" % i) for i in range(4)]))
    assert files == {"a (2).jpg": b"0", "a.jpg": b"0", "a (3).jpg": b"1", "a (4).jpg": b"2", "a (5).jpg": b"3"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_cost_that_entry(tmp_path: Path, kind: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        info = zipfile.ZipInfo("a/link.jpg")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("a/good.jpg", b"good")
    files, odd = unpack_odd(tmp_path, packed.getvalue())
    assert files == {"a/good.jpg": b"good"}
    expected = "symbolic link" if kind == stat.S_IFLNK else "special file"
    assert odd == [("a/link.jpg", "", f"a {expected}, not a file")]


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "special file"),
        (tarfile.BLKTYPE, "special file"),
        (tarfile.FIFOTYPE, "special file"),
    ],
)
def test_links_and_devices_in_a_tar_cost_that_entry(tmp_path: Path, kind: bytes, what: str) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("a/link.jpg", "a/x"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc"
            archive.addfile(info)
        # A link must not become a way out for what is below it.
        info = tarfile.TarInfo("a/x/evil.jpg")
        archive.addfile(info)
    files, odd = unpack_odd(tmp_path, packed.getvalue())
    assert files == {"a/x/evil.jpg": b""}
    assert odd == [("a/link.jpg", "", f"a {what}, not a file"), ("a/x", "", f"a {what}, not a file")]


def test_an_archive_of_nothing_but_odd_entries_is_one_sentence(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, make_zip({"/a.jpg": b"1", "/b.jpg": b"2"}))
    assert "of 2 entries, the first is '/a.jpg' (an absolute path); pack the images themselves" in sentence


def test_messages_name_what_the_user_knows(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(make_zip(FILES)[:-10])
    with pytest.raises(DataError, match=r"^the archive my\.zip is damaged or cut short"):
        unpack_archive(tmp_path / "archive", tmp_path / "out", limits=LIMITS, name="my.zip")


@pytest.mark.parametrize(
    ("kind", "compress"), [("tar", bytes), ("tar.bz2", bz2.compress), ("tar.xz", lzma.compress), ("tar.gz", None)]
)
def test_tars_of_all_kinds_are_unpacked(tmp_path: Path, kind: str, compress: Callable[[bytes], bytes] | None) -> None:
    packed = make_tar(FILES)
    content = packed if compress is None else compress(gzip.decompress(packed))
    assert unpack(tmp_path, content) == FILES
    assert archive_kind(tmp_path / "archive") == kind
    for length in range(0, min(len(content) - 10, 5000), 997):
        refusal(tmp_path / "cut", content[:length])


def test_a_folder_is_read_as_an_archive_is(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "PetImages/Cat/link.jpg").symlink_to(folder / "PetImages/Cat/0.jpg")
    (folder / "PetImages/loop").symlink_to(folder)
    (folder / "PetImages/gone.jpg").symlink_to(tmp_path / "gone")
    os.mkfifo(folder / "pipe")
    odd = unpack_archive(folder, tmp_path / "out", limits=LIMITS).odd
    assert read_folder(tmp_path / "out") == FILES | {"PetImages/Cat/link.jpg": NOISE}
    assert [(entry.name, entry.why) for entry in odd] == [
        ("pipe", "a special file, not a file"),
        ("PetImages/gone.jpg", "a symbolic link, not a file"),
        ("PetImages/loop", "a symbolic link, not a file"),
    ]


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07\x00", "a RAR archive"),
        (b"\x28\xb5\x2f\xfd", "Zstandard-compressed"),
    ],
)
def test_what_is_not_read_is_named_as_what_it_is(tmp_path: Path, start: bytes, what: str) -> None:
    assert what in refusal(tmp_path, start + bytes(600))


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


def test_a_path_that_cannot_be_looked_at_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^/.*x cannot be read \(File name too long\); correct its path$"):
        unpack_archive(tmp_path / ("x" * 300), tmp_path / "out", limits=LIMITS)


@settings(max_examples=150, derandomize=True)
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
        "from thaw.params_file import load_params; "
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
