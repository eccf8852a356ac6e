from __future__ import annotations

import pytest

from dbgpt_ctl.client.aio import AsyncControllerClient
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.addresses import Address, parse_addresses


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://127.0.0.1:8000", ["http://127.0.0.1:8000"]),
        ("127.0.0.1:8000", ["http://127.0.0.1:8000"]),
        ("ctl", ["http://ctl"]),
        (" http://a:1 , https://b.example:2/ ,c:3,", ["http://a:1", "https://b.example:2", "http://c:3"]),
        ("http://a:1/prefix//", ["http://a:1/prefix"]),
        ("HTTP://A:1/Prefix", ["http://a:1/Prefix"]),
        ("http://a:1,http://a:1/", ["http://a:1"]),
        ("[::1]:8000", ["http://[::1]:8000"]),
        ("http://[2001:DB8::1]:8000/x", ["http://[2001:db8::1]:8000/x"]),
        ("http://my_host-1:8000", ["http://my_host-1:8000"]),
        ("http://bücher:8000", ["http://xn--bcher-kva:8000"]),
        ("http://localhost.:8000", ["http://localhost.:8000"]),
    ],
)
def test_addresses_in_every_accepted_spelling(text: str, urls: list[str]) -> None:
    assert [address.url for address in parse_addresses(text)] == urls
    ControllerClient(text).close()


@pytest.mark.parametrize(
    ("text", "credentials"),
    [
        ("http://user:token@h:1", ("user", "token")),
        ("user:token@h:1", ("user", "token")),
        ("http://user@h", ("user", "")),
        ("http://:token@h", ("", "token")),
        ("http://us%40er:to%2Fk%3Aen%2C@h", ("us@er", "to/k:en,")),
        ("http://user:to:ken@h", ("user", "to:ken")),
        ("http://user:gehé@h", ("user", "gehé")),
    ],
)
def test_credentials_are_decoded_and_not_shown(text: str, credentials: tuple[str, str]) -> None:
    (address,) = parse_addresses(text)
    assert address.credentials == credentials
    assert address.url in {"http://h:1", "http://h"}
    assert "to" not in repr(address) + str(address)
    assert "us" not in repr(address) + str(address)


def test_the_same_controller_with_other_credentials_is_another_address() -> None:
    assert parse_addresses("http://h,http://u:t@h") == (Address("http://h"), Address("http://h", ("u", "t")))


WRONG = [
    ("", "empty"),
    (" , ,", "empty"),
    ("ftp://h:1", "scheme"),
    ("http://", "no host"),
    ("http://:8000", "no host"),
    ("http:///path", "no host"),
    ("http://h:0", "port is 0"),
    ("http://h:65536", "host or port"),
    ("http://h:-1", "host or port"),
    ("http://h:80a", "host or port"),
    ("http://::1:8000", "in brackets"),
    ("http://[::1", "in brackets"),
    ("http://[1.2.3]", "in brackets"),
    ("http://a b", "blanks"),
    ("http://a\x1b[31m", "control"),
    ("http://a/\tb", "control"),
    ("http://h?x=1", "query"),
    ("http://h#x", "fragment"),
    ("http://h?", "query"),
    ("http://h..de", "host name"),
    ("http://-h", "host name"),
    ("http://h%41", "host name"),
    ("http://h<", "host name"),
    (f"http://{'a' * 64}", "host name"),
    ("http://" + "bü" * 40, "host name"),
    ("http://user:secret@", "no host"),
    ("ftp://user:secret@h", "'ftp://********@h'"),
    ("http://user:secret@h:0", "'http://********@h:0'"),
    ("user:secret@h:99999", "'********@h:99999'"),
    ("http://user:sec/secret@h", "%2F"),
    ("http://user:1/secret@h", "%2F"),
    ("http://user:1?secret@h", "%2F"),
    ("http://user:1#secret@h", "%2F"),
    ("http://user:secret@secret@h:0", "'http://********@h:0'"),
    ("http://user:1,secret@h", "%2C"),
    ("http://user:secret,x@h", "%2C"),
    ("http://ok:1,http://user:secret@h:0", "'http://********@h:0'"),
    (f"http://h:1/dctl_secret{'x' * 37}", "'http://h:1/********' cannot be used: a token stands in its host or path"),
    (f"dctl_secret{'x' * 37}", "'********' cannot be used: a token stands in its host or path"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
@pytest.mark.parametrize("client", [ControllerClient, AsyncControllerClient])
def test_a_wrong_address_is_named_without_its_secret(
    client: type[ControllerClient | AsyncControllerClient], text: str, says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        client(text)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "user:" not in str(caught.value).replace("NAME:TOKEN@", "")
    assert str(caught.value).isprintable()


def test_a_newline_at_the_end_is_blank() -> None:
    assert parse_addresses("http://a\n")[0].url == "http://a"
