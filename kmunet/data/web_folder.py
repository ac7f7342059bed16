"""A folder on the web: a page of links, those below it being its files and folders."""

from collections.abc import Callable
from urllib.parse import unquote

from kmunet.data.address import Address
from kmunet.data.archive import MAX_FILES
from kmunet.errors import RemoteError

DEPTH = 16  # of folders: links may lead on without end


def web_files(address: Address, links: Callable[[str], list[str]]) -> dict[str, str]:
    """The files below a folder, relative name to URL; `links` reads one page.

    Links elsewhere, and those that only sort the page, are passed over. Raises
    RemoteError where it does not end.
    """
    root = address.url.rstrip("/") + "/"
    files: dict[str, str] = {}
    level, seen = [root], {root}
    for _ in range(DEPTH):
        below: list[str] = []
        for page in level:
            for url in links(page):
                if url in seen or not _is_below(url, page):
                    continue
                seen.add(url)
                if url.endswith("/"):
                    below.append(url)
                else:
                    files[unquote(url.removeprefix(root))] = url
        if len(seen) > MAX_FILES:
            break
        if not below:
            return dict(sorted(files.items()))
        level = below
    raise RemoteError(
        f"{address.shown}: more than {DEPTH} levels of folders or {MAX_FILES} files; "
        "name the folder with the data"
    )


def _is_below(url: str, page: str) -> bool:
    """Whether a link leads down; `../` and pages that only sort do not."""
    rest = url.removeprefix(page)
    return rest != url and not {"?", "#"} & set(rest) and ".." not in rest.split("/")
