"""Addresses of servers, as they may be printed and recorded."""

import re

_LOGIN = re.compile(r"(?<=://)[^/?#\s]*@")


def shown(text: str) -> str:
    """An address, or a message in which there are some, without user:password@."""
    return _LOGIN.sub("", text)
