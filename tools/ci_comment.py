"""Post the text that CI wrote about a pull request as one comment, and replace it when there is a newer one.

    python tools/ci_comment.py FILE

Run by .github/workflows/comment.yaml, on the main branch's own code, with a token that may write comments. The text
comes from a run of anyone's code: it is data, cut to a length, robbed of mentions, pictures and HTML, and nothing in it
says where it goes. That is found by the commit that GitHub says the run was of. Needs Python's library alone.

Reads GITHUB_TOKEN, GITHUB_API_URL, GITHUB_REPOSITORY and, of the run that wrote the text, HEAD_OWNER, HEAD_BRANCH and
HEAD_SHA.
"""

import json
import os
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

MARK = "<!-- thaw: the report of CI -->"
"""Begins the comment; GitHub does not show it."""
LIMIT = 30_000
"""Characters; GitHub takes 65,536 bytes of UTF-8 or so."""
AUTHOR = "github-actions[bot]"

_ZERO_WIDTH_SPACE = "\u200b"


def main() -> None:
    """Post the comment."""
    (file,) = sys.argv[1:]
    if Path(file).is_symlink():
        sys.exit(
            f"error: {file} is a link, and what it leads to is not for the public; the run that made it is not CI's"
        )
    with Path(file).open("rb") as stream:
        text = clean(stream.read(4 * LIMIT).decode("utf-8", errors="replace"))
    numbers = pull_requests(os.environ["HEAD_OWNER"], os.environ["HEAD_BRANCH"], os.environ["HEAD_SHA"])
    if not numbers:
        print("No open pull request has this commit at its head: nothing to say.")
    for number in numbers:
        print(f"#{number}: {post(number, text)}")


def clean(text: str) -> str:
    """The text without what could do more than be read: HTML, mentions, pictures, control characters."""
    readable = "".join(char for char in text if char == "\n" or char.isprintable())[:LIMIT]
    for written, harmless in (("<", "&lt;"), ("@", f"@{_ZERO_WIDTH_SPACE}"), ("![", f"!{_ZERO_WIDTH_SPACE}[")):
        readable = readable.replace(written, harmless)
    return f"{MARK}\n{readable}\n"


def pull_requests(owner: str, branch: str, commit: str) -> list[int]:
    """The numbers of the open pull requests whose head is this very commit."""
    query = urllib.parse.urlencode({"state": "open", "head": f"{owner}:{branch}", "per_page": 100})
    found = _call("GET", f"pulls?{query}")
    return [pull["number"] for pull in found if pull["head"]["sha"] == commit]


def post(number: int, text: str) -> str:
    """Change the comment that is there, or write the first; say which."""
    page = 1
    while comments := _call("GET", f"issues/{number}/comments?per_page=100&page={page}"):
        for comment in comments:
            if comment["user"]["login"] == AUTHOR and comment["body"].startswith(MARK):
                _call("PATCH", f"issues/comments/{comment['id']}", {"body": text})
                return "updated"
        page += 1
    _call("POST", f"issues/{number}/comments", {"body": text})
    return "written"


def _call(method: str, path: str, body: dict[str, str] | None = None) -> Any:
    """What GitHub's interface answers about this repository."""
    address = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    request = urllib.request.Request(
        address,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Content-Type": "application/json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.loads(reply.read())


if __name__ == "__main__":
    main()
