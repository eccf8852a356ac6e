"""What a controller writes about itself and its instances."""
