"""The endpoints: DB-GPT's own (`dbgpt`) and those under /api/v1 (`v1`), and what they share."""
