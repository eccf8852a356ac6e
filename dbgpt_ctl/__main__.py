"""`python -m dbgpt_ctl` is `ctl`."""

from dbgpt_ctl.cli import main

main()
