"""The figures of docs/figures.md, from one run of one command: `python -m benchmarks`, or `make bench`.

    startup   how long commands take, beside the bare imports of what they need and beside DB-GPT's command
    wire      requests a second over the embedded registry, beside DB-GPT's controller and a bare ASGI application
    flat      heartbeats at 100 and at 100,000 instances
    mysql     the same over one MariaDB
    soak      100,000 instances beat for minutes, with `make soak`

Both sides run on the same machine at the same time in turns, each with its own defaults, its log in a file; figures
are medians, ratios are medians of the ratios of each round. Only ratios carry over to another machine. Nothing is
pinned to a core: server and load generator share them, on both sides alike.
"""
