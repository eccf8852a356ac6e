"""The figures of docs/figures.md, from one run of one command: `python -m benchmarks`, or `make bench`.

    startup   how long commands take, beside the bare imports that they need and beside DB-GPT's command
    wire      requests a second over the embedded registry, beside DB-GPT's controller and a bare ASGI application
    sizes     heartbeats and lists with 100 to 100,000 instances, in memory and in SQLite
    tracing   registers while the endpoint of the traces does not answer
    metrics   how long heartbeats take while a Prometheus scrapes the metrics of a thousand models
    console   how soon the console page shows, how fast it answers, and its memory; in Chromium, beside static pages
    mysql     the same as wire and sizes over one MariaDB
    watch     how long a change takes to reach a thousand watchers
    soak      100,000 instances send heartbeats for minutes; also `make soak`

Both sides run on the same machine and are measured in turns, with their own defaults and their logs in files. Figures
are medians; ratios are medians of the ratios of all rounds. Only ratios carry over to another machine. Nothing is
pinned to a core: on both sides the server and the load generator share the cores.

`python -m benchmarks.compare` measures two checkouts of this project. `python -m benchmarks.charts` draws the charts of
docs/figures.md again.
"""
