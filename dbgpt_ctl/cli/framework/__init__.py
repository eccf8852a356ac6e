"""What every command shares: how it is found and built, its options, its client, and how its errors end."""
