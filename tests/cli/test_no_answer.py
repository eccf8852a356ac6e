"""Each way in which no controller answers, as every command tells it: over real servers."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
import trustme

from dbgpt_ctl.failure_causes import FailureCause
from tests.client.servers import closed_port
from tests.client.test_failure_causes import NOT_TLS, WAITED_OUT, serving_tls

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

REFERENCE = "qwen/10.0.0.4:8001"
VERBS = {
    "models list": (),
    "models register": (REFERENCE,),
    "models deregister": (REFERENCE,),
    "models heartbeat": (REFERENCE,),
    "models get": (REFERENCE,),
    "models drain": (REFERENCE,),
    "models prune": ("--older-than", "1d", "--yes"),
    "events": (),
    "export": (),
    "status": (),
    "assert": ("qwen", "--min-healthy", "1"),
}


def check(run: Run, url: str, cause: FailureCause, timeout: str = "30s") -> None:
    """Every command ends with one line that has the fix; the diagnoses and health have the code too."""
    fix = "set --address" if cause is FailureCause.REFUSED else cause.fix
    where = ("-a", url, "--request-timeout", timeout)
    for verb, arguments in VERBS.items():
        done = run(*verb.split(), *arguments, *where, expect=3)
        assert len(done.err.splitlines()) == 1
        assert url in done.err
        assert fix in done.err
        assert done.out == ""
    for verb in ("why qwen", "doctor"):
        report = json.loads(run(*verb.split(), "--no-probe", "-o", "json", *where, expect=3).out)
        [finding] = report["findings"]
        assert (finding["code"], finding["severity"], finding["fix"]) == (cause.value, "error", cause.fix)
        assert finding["evidence"][0].startswith(f"{url}: ")
        assert [controller["cause"] for controller in report["controllers"]] == [cause.value]
    health = run("health", *where, expect=3)
    assert f"{url}: {cause.fix} [{cause.value}]" in health.err
    [found] = json.loads(run("health", "-o", "json", *where, expect=3).out)
    assert found["cause"] == cause.value


@pytest.mark.parametrize("name", NOT_TLS)
def test_a_controller_that_cannot_be_reached(run: Run, name: str) -> None:
    server, cause, _says = NOT_TLS[name]
    seconds = "1s" if cause is FailureCause.NOT_A_CONTROLLER else "300ms"
    with server() as url:
        check(run, url, cause, seconds if name in WAITED_OUT else "30s")


def test_a_closed_port(run: Run) -> None:
    check(run, closed_port(), FailureCause.REFUSED)


@pytest.mark.parametrize(
    ("name", "cause"),
    [("127.0.0.1", FailureCause.CERTIFICATE_UNTRUSTED), ("10.0.0.1", FailureCause.CERTIFICATE_NAME)],
)
def test_a_certificate_that_is_refused(
    run: Run, name: str, cause: FailureCause, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca = trustme.CA()
    with serving_tls(ca.issue_cert(name)) as url:
        if cause is not FailureCause.CERTIFICATE_UNTRUSTED:
            ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_DIR", os.devnull)
        check(run, url, cause)
        check(run, url.replace("https:", "http:"), FailureCause.NEEDS_HTTPS)


def test_several_controllers_each_with_its_own_cause(run: Run) -> None:
    refused, unknown = closed_port(), "http://ctl.invalid:8000"
    for verb in ("models list", "status"):
        done = run(*verb.split(), "-a", f"{refused},{unknown}", expect=3)
        assert done.err.startswith(
            f"ctl: no controller answers: {refused}: Connection refused; {unknown}: its host name"
        )
        assert done.err.endswith("; ctl doctor says what to do about each\n")
    report = json.loads(run("doctor", "-o", "json", "-a", f"{refused},{unknown}", expect=3).out)
    assert [finding["code"] for finding in report["findings"]] == ["connection-refused", "name-lookup"]
