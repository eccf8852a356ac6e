"""The console page: what a browser loads from /console. All its data comes from /api/v1, like that of any client."""
