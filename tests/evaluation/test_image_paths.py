"""What is named becomes images: files as they are, folders' images sorted, lists; no loops and no pipes.

Run with: pytest tests/evaluation/test_image_paths.py
"""

import os
from pathlib import Path

import pytest

from thaw.errors import DataError
from thaw.evaluation.image_paths import find_images


def find(*names: str, listed: bytes = b"") -> list[str]:
    return [str(path) for path in find_images(names, read_list=lambda: listed)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.JPG", "b/10.jpg", "a.webp", "photo.heic", "notes.txt", "b/._2.JPG", "__MACOSX/1.jpg", "none/x"):
        Path("set", name).parent.mkdir(parents=True, exist_ok=True)
        Path("set", name).touch()
    return tmp_path


IN_SET = ["set/a.webp", "set/b/10.jpg", "set/b/2.JPG", "set/photo.heic"]


@pytest.mark.usefixtures("folder")
def test_a_folder_is_its_images_and_a_file_is_itself() -> None:
    assert find("set") == IN_SET
    assert find("set/notes.txt", "set", "nowhere.jpg") == ["set/notes.txt", *IN_SET, "nowhere.jpg"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (b"x.jpg\n\nset\r\ny z.png", ["x.jpg", *IN_SET, "y z.png"]),
        (b"x\ny.jpg\0set/b\0", ["x\ny.jpg", *IN_SET[1:3]]),
        (b"\xff.jpg\n", [os.fsdecode(b"\xff.jpg")]),
        (b"-\n", ["-"]),
    ],
    ids=["lines", "as find -print0", "a name that is no UTF-8", "a list does not name itself"],
)
def test_a_list_names_files_and_folders(listed: bytes, expected: list[str]) -> None:
    assert find("first.jpg", "-", listed=listed) == ["first.jpg", *expected]


@pytest.mark.usefixtures("folder")
def test_links_have_an_end_and_nothing_waits_for_a_pipe() -> None:
    Path("set/b/loop").symlink_to("..")
    Path("set/b/loop.jpg").symlink_to("loop.jpg")
    Path("set/b/gone.jpg").symlink_to("nowhere")
    Path("set/b/up.png").symlink_to("..")
    os.mkfifo("set/b/pipe.jpg")
    Path("set/b/folder.jpg").mkdir()
    assert find("set") == sorted([*IN_SET, "set/b/gone.jpg", "set/b/loop.jpg"])
    assert find("set/b/loop.jpg", "x" * 300) == ["set/b/loop.jpg", "x" * 300]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["set/none"], "the folder set/none holds no image"),
        (["-"], "standard input names no image"),
    ],
)
def test_what_names_no_image_is_one_sentence(names: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        find(*names)
