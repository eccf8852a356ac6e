"""A client of any DB-GPT model controller, this package's or DB-GPT's own, blocking and asynchronous.

The calls are described once, in `calls`; `sync` and `aio` run them, `responses` tells what an answer means, and
`results` holds what they return. What DB-GPT's own controller does not have raises NotSupported. Importing `sync` is
cheap: httpx is imported when a client is made, asyncio with `aio` only.
"""
