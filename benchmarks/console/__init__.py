"""The console page in a real browser: how soon it shows, how fast it answers, and whether its memory stays flat.

static     pages of the same size without any program, served by a plain file server
visit      a page in a browser that has nothing of it yet, and scripts that note when something is painted
loading    from navigation to the first table, beside the static pages
use        a keystroke in the filter, a click that sorts, and a change of an instance
growth     memory while ten thousand changes arrive
start      the start of `ctl serve` with and without the console

All times are taken in the page. A frame counts as painted when the task after its rendering begins.
"""
